//! Opens replication connections, and explains a server that refuses one. `doctor`, `init` and `run` use the same words.

use chunk_sync_engine::ports::{Fault, FaultClass};

use super::failure::{Cause, LinkFailure};
use super::link::Link;
use super::provider::Provider;
use super::wire::{Wire, WireLogin};

/// PgBouncer sends this code for all its errors.
const PROTOCOL_VIOLATION: &str = "08P01";
const SYNTAX: &str = "42601";
const DENIED: &str = "42501";
const TOO_MANY: &str = "53300";

/// A replication connection, and the identifier of the server's system.
pub(super) struct Replication {
    pub(super) wire: Wire,
    pub(super) system: String,
}

/// Why there is no replication connection or no slot, and the remedy.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) class: FaultClass,
    pub(super) text: String,
    pub(super) remedy: Option<String>,
}

impl Refusal {
    pub(super) fn into_fault(self, context: &'static str) -> Fault {
        let remedy = self.remedy.map(|remedy| format!("; {remedy}")).unwrap_or_default();
        Fault::new(self.class, context, format!("{}{remedy}", self.text))
    }

    fn with(class: FaultClass, text: String, remedy: String) -> Self {
        Self { class, text, remedy: Some(remedy) }
    }

    /// Whether the role lacks the right to replicate.
    pub(super) fn is_right(&self) -> bool {
        self.class == FaultClass::Denied && self.remedy.is_some()
    }
}

/// Opens a replication connection and asks the server for its system.
///
/// # Errors
/// [`Misconfigured`](FaultClass::Misconfigured) for a pooler, [`Denied`](FaultClass::Denied) for a role that may not
/// replicate, both with the remedy; else the fault of the connection.
pub(super) async fn connect(link: &Link, provider: Provider) -> Result<Replication, Refusal> {
    let login = WireLogin { is_replication: true, application: "chunk-sync capture" };
    let opened = link.open(&login).await;
    let mut wire = opened.map_err(|failure| refused(&failure, link, provider))?;
    match wire.query("IDENTIFY_SYSTEM").await {
        Ok(rows) => {
            let system = rows.first().and_then(|row| row.first().cloned().flatten()).unwrap_or_default();
            Ok(Replication { wire, system })
        }
        // A pooler that ignored the parameter `replication` passed the command on as SQL.
        Err(cause) if cause.code() == Some(SYNTAX) => {
            wire.close().await;
            Err(pooler(&cause.to_string(), provider))
        }
        Err(cause) => Err(Refusal { class: cause.class(), text: cause.to_string(), remedy: None }),
    }
}

fn refused(failure: &LinkFailure, link: &Link, provider: Provider) -> Refusal {
    let (class, text) = (failure.class, failure.to_string());
    match failure.code.as_deref() {
        // The one code of a pooler stands for what passes, too.
        Some(PROTOCOL_VIOLATION) if text.contains("startup parameter") => pooler(&text, provider),
        Some(DENIED) => Refusal::with(FaultClass::Denied, text, provider.grant(&link.info.user)),
        Some(TOO_MANY) => {
            Refusal::with(class, text, "raise max_wal_senders and restart, or end a replication".to_owned())
        }
        _ => Refusal { class, text, remedy: None },
    }
}

fn pooler(text: &str, provider: Provider) -> Refusal {
    Refusal::with(
        FaultClass::Misconfigured,
        format!("{text}: this is a pooler, which carries no replication"),
        format!("set postgres.replication_url to {}", provider.direct()),
    )
}

/// Why the server did not create the slot, with the remedy.
pub(super) fn slot_refused(cause: &Cause, user: &str, provider: Provider) -> Refusal {
    let (class, text) = (cause.class(), cause.to_string());
    match cause.code() {
        Some("55000") => Refusal::with(FaultClass::Misconfigured, text, provider.wal_level().to_owned()),
        Some("53400") => Refusal::with(FaultClass::Misconfigured, text, NO_SLOT.to_owned()),
        Some(DENIED) => Refusal::with(class, text, provider.grant(user)),
        // A lock time-out cannot occur; nothing here means that another process captures.
        _ if class == FaultClass::Busy => Refusal { class: FaultClass::Unavailable, text, remedy: None },
        _ => Refusal { class, text, remedy: None },
    }
}

/// What to do when every slot is in use.
pub(super) const NO_SLOT: &str = "raise max_replication_slots and restart, or drop an unused slot";
