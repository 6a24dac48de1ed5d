//! The keywords of libpq: which variable stands for each, and which values are served.

use super::Refused;

/// A keyword of libpq.
pub(super) struct Keyword {
    pub(super) name: &'static str,
    /// The environment variable that holds its default.
    pub(super) variable: Option<&'static str>,
    served: Served,
}

enum Served {
    All,
    /// Only these values; else what to write instead.
    Only(&'static [&'static str], &'static str),
    /// No value; what to write instead.
    None(&'static str),
}

const fn all(name: &'static str, variable: Option<&'static str>) -> Keyword {
    Keyword { name, variable, served: Served::All }
}

const fn only(
    name: &'static str,
    variable: Option<&'static str>,
    values: &'static [&'static str],
    instead: &'static str,
) -> Keyword {
    Keyword { name, variable, served: Served::Only(values, instead) }
}

const fn none(name: &'static str, variable: Option<&'static str>, instead: &'static str) -> Keyword {
    Keyword { name, variable, served: Served::None(instead) }
}

const GSS: &str = "remove it: GSSAPI is not supported; use a password or a client certificate";
const OAUTH: &str = "remove it: OAuth is not supported; use a password or a client certificate";
const KEYS: &str = "remove it and write the password";
const REVOKED: &str = "remove it: lists of revoked certificates are not supported";

/// Every keyword of PostgreSQL 18.
pub(super) const KEYWORDS: &[Keyword] = &[
    all("host", Some("PGHOST")),
    all("hostaddr", Some("PGHOSTADDR")),
    all("port", Some("PGPORT")),
    all("dbname", Some("PGDATABASE")),
    all("user", Some("PGUSER")),
    all("password", Some("PGPASSWORD")),
    all("passfile", Some("PGPASSFILE")),
    all("service", Some("PGSERVICE")),
    all("servicefile", Some("PGSERVICEFILE")),
    all("connect_timeout", Some("PGCONNECT_TIMEOUT")),
    all("options", Some("PGOPTIONS")),
    all("application_name", Some("PGAPPNAME")),
    all("fallback_application_name", None),
    all("keepalives", None),
    all("keepalives_idle", None),
    all("keepalives_interval", None),
    all("keepalives_count", None),
    all("tcp_user_timeout", None),
    all("sslmode", Some("PGSSLMODE")),
    all("sslnegotiation", Some("PGSSLNEGOTIATION")),
    all("sslrootcert", Some("PGSSLROOTCERT")),
    all("sslcert", Some("PGSSLCERT")),
    all("sslkey", Some("PGSSLKEY")),
    all("sslsni", Some("PGSSLSNI")),
    all("ssl_min_protocol_version", Some("PGSSLMINPROTOCOLVERSION")),
    all("ssl_max_protocol_version", Some("PGSSLMAXPROTOCOLVERSION")),
    all("channel_binding", Some("PGCHANNELBINDING")),
    all("target_session_attrs", Some("PGTARGETSESSIONATTRS")),
    only("sslcertmode", Some("PGSSLCERTMODE"), &["allow", "disable"], "write sslcert and sslkey, without sslcertmode"),
    only("sslcompression", Some("PGSSLCOMPRESSION"), &["0"], "remove it: TLS is never compressed"),
    only(
        "client_encoding",
        Some("PGCLIENTENCODING"),
        &["auto", "UTF8", "utf8", "UTF-8", "utf-8", "UNICODE", "unicode"],
        "remove it: texts are always sent as UTF8",
    ),
    only(
        "load_balance_hosts",
        Some("PGLOADBALANCEHOSTS"),
        &["disable"],
        "remove it: the service works on one primary, which it finds in the list of hosts",
    ),
    only("gssencmode", Some("PGGSSENCMODE"), &["disable", "prefer"], "write sslmode=require instead"),
    only(
        "replication",
        None,
        &["false", "off", "no", "0"],
        "remove it: the service requests replication where it needs it",
    ),
    only("min_protocol_version", Some("PGMINPROTOCOLVERSION"), &["3.0"], "remove it: version 3.0 is used"),
    only(
        "max_protocol_version",
        Some("PGMAXPROTOCOLVERSION"),
        &["3.0", "3.2", "latest"],
        "remove it: version 3.0 is used",
    ),
    none(
        "require_auth",
        Some("PGREQUIREAUTH"),
        "remove it; channel_binding=require permits SCRAM with channel binding only",
    ),
    none(
        "requirepeer",
        Some("PGREQUIREPEER"),
        "remove it: the owner of a socket is not verified; use a private directory",
    ),
    none("sslpassword", None, "remove it and decrypt the key: openssl pkey -in client.key -out plain.key"),
    none("sslcrl", Some("PGSSLCRL"), REVOKED),
    none("sslcrldir", Some("PGSSLCRLDIR"), REVOKED),
    none("sslkeylogfile", None, "remove it: keys of sessions are not written to files"),
    none("krbsrvname", Some("PGKRBSRVNAME"), GSS),
    none("gsslib", Some("PGGSSLIB"), GSS),
    none("gssdelegation", Some("PGGSSDELEGATION"), GSS),
    none("scram_client_key", None, KEYS),
    none("scram_server_key", None, KEYS),
    none("oauth_issuer", None, OAUTH),
    none("oauth_client_id", None, OAUTH),
    none("oauth_client_secret", None, OAUTH),
    none("oauth_scope", None, OAUTH),
];

/// Parameters of other clients that users find in the URL of a provider.
const FOREIGN: &[(&str, &str)] = &[
    ("pgbouncer", "remove it: it belongs to Prisma; poolers are recognised without it"),
    ("schema", "remove it: it belongs to Prisma; name the schema in postgres.table"),
    ("search_path", "write options=-csearch_path%3D…"),
    ("currentSchema", "remove it: it belongs to JDBC; name the schema in postgres.table"),
    ("connection_limit", "remove it: it belongs to Prisma"),
    ("pool_timeout", "remove it: it belongs to Prisma"),
    ("sslaccept", "remove it: it belongs to Prisma; write sslmode=verify-full"),
    ("statement_cache_size", "remove it: it belongs to asyncpg"),
    ("prepared_statement_cache_size", "remove it: it belongs to asyncpg"),
    ("uselibpqcompat", "remove it: it belongs to node-postgres"),
    ("supa", "remove it: it belongs to Vercel"),
    ("workaround", "remove it: it belongs to Vercel"),
    ("statement_timeout", "write options=-cstatement_timeout%3D…"),
    ("requiressl", "write sslmode=require"),
    ("ssl", "write sslmode=require"),
];

/// Checks keyword and value. `where_from` names their origin if it is a variable.
pub(super) fn check(name: &str, value: &str, where_from: Option<&str>) -> Result<(), Refused> {
    let origin = where_from.map(|variable| format!(" (from the variable {variable})")).unwrap_or_default();
    let Some(keyword) = KEYWORDS.iter().find(|keyword| keyword.name == name) else {
        let known = FOREIGN.iter().find(|(foreign, _)| *foreign == name);
        let hint = known.map_or("correct its name, or remove it", |(_, hint)| hint);
        // Of a string with a wrong separator the name may contain anything.
        let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        return Err(Refused(format!("libpq has no option `{name}`{origin}; {hint}")));
    };
    match keyword.served {
        Served::All => Ok(()),
        // libpq treats an empty value like an absent one.
        _ if value.is_empty() => Ok(()),
        Served::Only(values, _) if values.contains(&value) => Ok(()),
        Served::Only(_, instead) => Err(Refused(format!("{name}={value}{origin} is not supported; {instead}"))),
        Served::None(instead) => Err(Refused(format!("{name}{origin} is not supported; {instead}"))),
    }
}

/// An error for a value of `name` that is not in `wanted`.
pub(super) fn invalid(name: &str, value: &str, wanted: &str) -> Refused {
    Refused(format!("invalid value of {name}: `{value}`; write {wanted}"))
}
