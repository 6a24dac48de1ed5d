//! Creates the publication and the slot, and names the remedy if the server refuses.

use chunk_sync_engine::ports::{Fault, FaultClass};
use tracing::info;

use super::{CONTEXT, Plugin, PostgresCapture};
use crate::postgres::found_slot::{FoundSlot, RENAME_SLOT, SlotState};
use crate::postgres::publication::as_owner;
use crate::postgres::sql::literal;

/// The statements that are still to be run.
struct Missing {
    /// Creates or corrects the publication, in order.
    publication: Vec<String>,
    /// Creates the slot, if it does not exist.
    slot: Option<String>,
}

impl PostgresCapture {
    /// The statements that create or correct the publication and create the slot, as far as it is necessary.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) when publishing the table would break the writes of other programs,
    /// with the statement that prevents it; the fault of the query when the server is unreachable, refuses the login or
    /// denies access to its catalogue.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let Missing { mut publication, slot } = self.missing().await?;
        publication.extend(slot);
        Ok(publication)
    }

    async fn missing(&self) -> Result<Missing, Fault> {
        let publication = self.publication().await?.statements;
        let slot = match self.slot().await? {
            Some(found) if found.state(self.config.plugin.as_str()) == SlotState::Foreign => {
                return Err(Self::foreign(&self.config.slot, Some(&found)));
            }
            Some(_) => None,
            None => Some(self.slot_creation().await?),
        };
        Ok(Missing { publication, slot })
    }

    /// The fault of a slot of this name that belongs to another database or plugin.
    pub(super) fn foreign(name: &str, found: Option<&FoundSlot>) -> Fault {
        let text = found.map(|found| found.owner(name)).unwrap_or_default();
        Fault::new(FaultClass::Misconfigured, CONTEXT, format!("{text}; {RENAME_SLOT}"))
    }

    /// The statement that creates the slot. It is shown to the operator and run on a replication connection, which takes
    /// no parameters.
    async fn slot_creation(&self) -> Result<String, Fault> {
        const HAS_FAILOVER: &str = "SELECT current_setting('server_version_num')::integer >= 170000";
        // A standby that is promoted has such a slot as well, and capture goes on there without a gap.
        let failover = if self.value(HAS_FAILOVER, &[]).await? == Some(true) { ", failover => true" } else { "" };
        let (slot, plugin) = (literal(&self.config.slot), literal(self.config.plugin.as_str()));
        Ok(format!("SELECT pg_create_logical_replication_slot({slot}, {plugin}{failover})::text"))
    }

    pub(super) async fn create_missing(&self) -> Result<(), Fault> {
        let Missing { publication, slot } = self.missing().await?;
        for statement in publication {
            self.run(&statement).await.map_err(|fault| for_owner(fault, &statement))?;
            info!(statement, "created or changed the publication");
        }
        if let Some(statement) = slot {
            self.create_slot(&statement).await.map_err(|fault| self.for_plugin(fault))?;
            info!(statement, "created the slot");
        }
        Ok(())
    }

    /// Adds the remedy for a server that does not have the plugin or refuses to load it.
    fn for_plugin(&self, fault: Fault) -> Fault {
        if self.config.plugin == Plugin::Pgoutput {
            return fault;
        }
        let hint = "install wal2json on the server (Debian: postgresql-NN-wal2json), add it to output_plugin_libraries \
            if the server has that setting (a plain list: pgoutput, wal2json), or set postgres.plugin = \"pgoutput\"";
        Fault { class: FaultClass::Misconfigured, message: format!("{}; {hint}", fault.message), ..fault }
    }
}

/// Adds the remedy when the role may not run this statement on the publication.
fn for_owner(fault: Fault, statement: &str) -> Fault {
    if fault.class != FaultClass::Denied {
        return fault;
    }
    let message = format!("{}; {}", fault.message, as_owner(statement));
    Fault { message, ..fault }
}
