//! Hosts of PostgreSQL that differ from a server of one's own: how each is recognised, and which of its settings and
//! grants stand for PostgreSQL's.
//!
//! Source: the manuals of Amazon RDS, Cloud SQL, Azure Database, Supabase and Neon on logical replication.

use super::conninfo::Host;
use super::link::Link;
use super::sql::quoted;

/// A host of PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Provider {
    /// Amazon RDS and Aurora.
    Rds,
    CloudSql,
    Azure,
    Supabase,
    Neon,
    #[default]
    Other,
}

impl Provider {
    /// The query for the name of the provider, recognised by its settings and roles; NULL for none.
    pub(super) const ASK: &'static str = "SELECT CASE \
        WHEN current_setting('rds.logical_replication', true) IS NOT NULL \
            OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser') THEN 'rds' \
        WHEN current_setting('cloudsql.logical_decoding', true) IS NOT NULL \
            OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'cloudsqlsuperuser') THEN 'cloudsql' \
        WHEN current_setting('azure.extensions', true) IS NOT NULL \
            OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'azure_pg_admin') THEN 'azure' \
        WHEN current_setting('neon.timeline_id', true) IS NOT NULL \
            OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'neon_superuser') THEN 'neon' \
        WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'supabase_admin') THEN 'supabase' END";

    /// The provider by the answer to [`Self::ASK`], else by the name of the host.
    pub(super) fn of(answer: Option<&str>, link: &Link) -> Self {
        match answer {
            Some("rds") => Self::Rds,
            Some("cloudsql") => Self::CloudSql,
            Some("azure") => Self::Azure,
            Some("neon") => Self::Neon,
            Some("supabase") => Self::Supabase,
            _ => Self::of_link(link),
        }
    }

    fn of_link(link: &Link) -> Self {
        let host = link.info.endpoints.first().map(|endpoint| &endpoint.host);
        match host {
            Some(Host::Unix(directory)) if directory.starts_with("/cloudsql") => Self::CloudSql,
            Some(Host::Tcp { name, .. }) => Self::of_name(&name.to_ascii_lowercase()),
            _ => Self::Other,
        }
    }

    fn of_name(name: &str) -> Self {
        let is_below = |domain: &str| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
        if is_below("rds.amazonaws.com") {
            Self::Rds
        } else if is_below("postgres.database.azure.com") {
            Self::Azure
        } else if is_below("supabase.com") || is_below("supabase.co") {
            Self::Supabase
        } else if is_below("neon.tech") {
            Self::Neon
        } else {
            Self::Other
        }
    }

    /// How the role gets the right to replicate.
    pub(super) fn grant(self, user: &str) -> String {
        match self {
            Self::Rds => format!("GRANT rds_replication TO {}", quoted(user)),
            _ => format!("ALTER ROLE {} REPLICATION", quoted(user)),
        }
    }

    /// How `wal_level` becomes `logical`.
    pub(super) fn wal_level(self) -> &'static str {
        match self {
            Self::Rds => {
                "set rds.logical_replication = 1 in the parameter group of the instance (Aurora: of the cluster) and \
                restart it"
            }
            Self::CloudSql => "set the flag cloudsql.logical_decoding = on of the instance, which restarts it",
            Self::Azure => {
                "set the server parameter wal_level = logical (single server: azure.replication_support = \
                logical) and restart the server"
            }
            Self::Neon => "enable logical replication in the settings of the project",
            Self::Supabase | Self::Other => "set wal_level = logical in postgresql.conf and restart the server",
        }
    }

    /// Where the server itself is, past a pooler.
    pub(super) fn direct(self) -> &'static str {
        match self {
            Self::Neon => "the host of postgres.url without `-pooler`",
            Self::Supabase => "the direct connection, db.<project>.supabase.co:5432",
            Self::Azure => "the same host with port 5432, not 6432",
            Self::Rds => "the endpoint of the instance or cluster, not of the proxy",
            Self::CloudSql | Self::Other => "host and port of the server itself",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_recognised_by_the_domain_of_their_hosts() {
        for (name, expected) in [
            ("db.c1a2.eu-west-1.rds.amazonaws.com", Provider::Rds),
            ("db.proxy-c1a2.eu-west-1.rds.amazonaws.com", Provider::Rds),
            ("mine.postgres.database.azure.com", Provider::Azure),
            ("db.abcd.supabase.co", Provider::Supabase),
            ("aws-0-eu-central-1.pooler.supabase.com", Provider::Supabase),
            ("ep-a-b-123-pooler.eu-central-1.aws.neon.tech", Provider::Neon),
            ("evilneon.tech", Provider::Other),
            ("neon.tech.example", Provider::Other),
            ("localhost", Provider::Other),
        ] {
            assert_eq!(Provider::of_name(name), expected, "{name}");
        }
    }
}
