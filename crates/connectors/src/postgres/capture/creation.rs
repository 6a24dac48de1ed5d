//! Creates the publication and the slot, and names the remedy if the server refuses.

use chunk_sync_engine::ports::{Fault, FaultClass};
use tracing::info;

use super::{Plugin, PostgresCapture};
use crate::postgres::sql::literal;

impl PostgresCapture {
    /// The statements that create or correct the publication and create the slot, as far as it is necessary.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) when publishing the table would break the writes of other programs,
    /// with the statement that prevents it; the fault of the query when the server is unreachable, refuses the login or
    /// denies access to its catalogue.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let mut statements = self.publication().await?.statements;
        let slot = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {}", literal(&self.config.slot));
        if self.ask(&slot).await?.is_none() {
            // A standby that is promoted has such a slot as well, and capture goes on there without a gap.
            let newer = self.ask("SELECT 1 WHERE current_setting('server_version_num')::integer >= 170000").await?;
            let failover = if newer.is_some() { ", failover => true" } else { "" };
            statements.push(format!(
                "SELECT pg_create_logical_replication_slot({}, '{}'{failover})::text",
                literal(&self.config.slot),
                self.config.plugin.as_str()
            ));
        }
        Ok(statements)
    }

    pub(super) async fn create_missing(&self) -> Result<(), Fault> {
        for statement in self.statements().await? {
            let done = match statement.contains("pg_create_logical_replication_slot") {
                true => self.create_slot(&statement).await,
                false => self.ask(&statement).await.map(drop),
            };
            done.map_err(|fault| self.hinted(fault, &statement))?;
            info!(statement, "created or changed a publication or slot");
        }
        Ok(())
    }

    /// Adds the remedy when the server does not have the plugin or refuses to load it, or denies the statement.
    fn hinted(&self, fault: Fault, statement: &str) -> Fault {
        if fault.class == FaultClass::Denied && !statement.contains("replication_slot") {
            let message = format!("{}; run `{statement}` as the owner of the publication", fault.message);
            return Fault { message, ..fault };
        }
        if self.config.plugin == Plugin::Pgoutput || !statement.contains("replication_slot") {
            return fault;
        }
        let hint = "install wal2json on the server (Debian: postgresql-NN-wal2json), add it to output_plugin_libraries \
            if the server has that setting (a plain list: pgoutput, wal2json), or set postgres.plugin = \"pgoutput\"";
        Fault { class: FaultClass::Misconfigured, message: format!("{}; {hint}", fault.message), ..fault }
    }
}
