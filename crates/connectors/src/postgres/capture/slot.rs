//! Creation of the slot, on a replication connection: it passes no pooler, and shows at once whether the server permits
//! replication. The server waits for every transaction that is open at that moment; so it runs without our
//! timeouts, and the sessions that it waits for are named.
//!
//! # What a crash does
//! The server notices within [`CHECK`] that the session is gone and ends the creation. A slot that was created
//! nevertheless is found at the next start.

use std::time::Duration;

use chunk_sync_engine::ports::Fault;
use tracing::{info, warn};

use super::{CONTEXT, PostgresCapture};
use crate::postgres::failure::Cause;
use crate::postgres::link::Link;
use crate::postgres::replication::{connect, slot_refused};

/// The interval at which the blocking sessions are looked up.
const LOOK: Duration = Duration::from_secs(1);

/// The timeouts of the service do not apply, and the server ends the statement when this process is gone.
const CHECK: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
    SET client_connection_check_interval = '5s'";

/// The sessions and prepared transactions that block the session `$1`, oldest transaction first, as text; NULL for none.
const BLOCKERS: &str = "SELECT string_agg(text, '; ' ORDER BY began) FROM (
    SELECT xact_start AS began, format('the session with pid %s (user %s, application %s, open for %s s)', pid,
        usename, coalesce(nullif(application_name, ''), '-'),
        extract(epoch FROM clock_timestamp() - xact_start)::bigint) AS text
    FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids($1))
    UNION ALL SELECT prepared, format('the prepared transaction %L (user %s, open for %s s)', gid, owner,
        extract(epoch FROM clock_timestamp() - prepared)::bigint)
    FROM pg_prepared_xacts WHERE 0 = ANY(pg_blocking_pids($1))
    ) AS blocking";

impl PostgresCapture {
    /// Creates the slot by this statement, however long it takes.
    pub(super) async fn create_slot(&self, statement: &str) -> Result<(), Fault> {
        let link = Link::of(&self.config.link(&self.records.config))?;
        let provider = self.provider(&link).await?;
        let mut wire = connect(&link, provider).await.map_err(|refusal| refusal.into_fault(CONTEXT))?.wire;
        let fault = |cause: Cause| slot_refused(&cause, &link.info.user, provider).into_fault(CONTEXT);
        wire.query(CHECK).await.map_err(fault)?;
        let pid = wire.query("SELECT pg_backend_pid()").await.map_err(fault)?;
        let pid: i32 = pid.first().and_then(|row| row.first()?.as_deref()?.parse().ok()).unwrap_or_default();
        let created = {
            let creating = wire.query(statement);
            tokio::pin!(creating);
            let mut ticks = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    biased;
                    created = &mut creating => break created,
                    _ = ticks.tick() => self.name_obstacle(pid).await,
                }
            }
        };
        self.set_obstacle(None);
        wire.close().await;
        created.map(drop).map_err(fault)
    }

    async fn name_obstacle(&self, pid: i32) {
        match self.value(BLOCKERS, &[&pid]).await {
            Ok(obstacle) => self.set_obstacle(obstacle),
            Err(fault) => info!(%fault, "cannot look up what the creation of the slot waits for"),
        }
    }

    fn set_obstacle(&self, obstacle: Option<String>) {
        let before = std::mem::replace(&mut self.noted().obstacle, obstacle.clone());
        if let Some(obstacle) = obstacle.filter(|_| before.is_none()) {
            let slot = &self.config.slot;
            warn!("the creation of the slot {slot} waits for {obstacle}; end that transaction to let it go on");
        }
    }
}
