//! The rights of the service's role, as statements for an administrator.

use chunk_sync_engine::ports::Fault;

use super::PostgresCapture;
use crate::postgres::facts;
use crate::postgres::link::Link;
use crate::postgres::provider::Provider;
use crate::postgres::sql::quoted;

/// The role that the statements create. Not the name of the service's schema, so that a reader can tell them apart.
const ROLE: &str = "chunk_sync_service";

const DATABASE: &str = "SELECT quote_ident(current_database())";

const IS_TABLE: &str = "SELECT to_regclass($1) IS NOT NULL";

impl PostgresCapture {
    /// The statements that an administrator runs for a role that has the rights which the service needs, and no others. If
    /// the table exists, its owner publishes it, for the role does not own it. Otherwise the role creates it.
    ///
    /// # Errors
    /// The fault of a query.
    pub async fn rights(&self) -> Result<Vec<String>, Fault> {
        let config = &self.records.config;
        let provider = self.provider(&*Link::of(config)?).await?;
        let database = self.value::<String>(DATABASE, &[]).await?.unwrap_or_default();
        let table = facts::table(config);
        let exists = self.value(IS_TABLE, &[&table]).await? == Some(true);
        let mut statements = match provider {
            Provider::Rds => {
                vec![
                    format!("CREATE ROLE {ROLE} LOGIN PASSWORD 'PASSWORD'"),
                    format!("GRANT rds_replication TO {ROLE}"),
                ]
            }
            _ => vec![format!("CREATE ROLE {ROLE} LOGIN REPLICATION PASSWORD 'PASSWORD'")],
        };
        if !exists {
            statements.push(format!("GRANT CONNECT, CREATE ON DATABASE {database} TO {ROLE}"));
            return Ok(statements);
        }
        statements.push(format!("GRANT CONNECT ON DATABASE {database} TO {ROLE}"));
        statements.push(format!("CREATE SCHEMA IF NOT EXISTS chunk_sync AUTHORIZATION {ROLE}"));
        statements.push(format!("GRANT USAGE ON SCHEMA {} TO {ROLE}", quoted(&config.schema)));
        statements.push(format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {ROLE}"));
        statements.extend(self.publication().await?.statements);
        Ok(statements)
    }
}
