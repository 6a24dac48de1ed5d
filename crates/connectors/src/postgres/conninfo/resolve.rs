//! From keywords and values to a description of the servers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::files::{Login, known_as, password, service};
use super::keywords::{KEYWORDS, check, invalid};
use super::syntax::{self, Pair};
use super::{
    Binding, ClientCertificate, ConnInfo, Endpoint, Host, Keepalive, Mode, Refused, Roots, Session, Surroundings, Tls,
    Versions, hosts,
};

/// The value of each keyword that has one, which is never empty.
struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Adds values of keywords; those that are there already stay.
    fn fill(&mut self, pairs: &[Pair]) -> Result<(), Refused> {
        for (name, value) in pairs.iter().rev() {
            check(name, value, None)?;
            let keyword = KEYWORDS.iter().find(|keyword| keyword.name == name).map(|keyword| keyword.name);
            if let Some(keyword) = keyword.filter(|_| !value.is_empty()) {
                self.0.entry(keyword).or_insert_with(|| value.clone());
            }
        }
        Ok(())
    }

    fn fill_from_variables(&mut self, around: &Surroundings) -> Result<(), Refused> {
        for keyword in KEYWORDS {
            let Some(variable) = keyword.variable else { continue };
            if let Some(value) = around.variable(variable).filter(|_| !self.0.contains_key(keyword.name)) {
                check(keyword.name, value, Some(variable))?;
                self.0.insert(keyword.name, value.to_owned());
            }
        }
        Ok(())
    }

    fn read(text: &str, around: &Surroundings) -> Result<Self, Refused> {
        let mut settings = Self(BTreeMap::new());
        settings.fill(&syntax::pairs(text.trim())?)?;
        let named = settings.get("service").or(around.variable("PGSERVICE")).map(str::to_owned);
        if let Some(name) = named {
            let file = settings.get("servicefile").or(around.variable("PGSERVICEFILE"));
            let files = around.services(file)?;
            let found = files.iter().find_map(|file| service(file, &name).transpose()).transpose()?;
            let missing = || {
                Refused(format!(
                    "no service file defines the service `{name}`; add [{name}] to ~/.pg_service.conf, or write host, \
                     dbname and user"
                ))
            };
            settings.fill(&found.ok_or_else(missing)?)?;
        }
        settings.fill_from_variables(around)?;
        Ok(settings)
    }

    /// One of several words.
    fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Refused> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| invalid(name, value, &format!("one of {}", all())))
    }

    fn number(&self, name: &str) -> Result<Option<i64>, Refused> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.trim().parse().map(Some).map_err(|_| invalid(name, value, "a whole number"))
    }

    /// A number of seconds; `None` for zero or less, which is the default of the system.
    fn seconds(&self, name: &str) -> Result<Option<Duration>, Refused> {
        let positive =
            self.number(name)?.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
        Ok(positive.map(Duration::from_secs))
    }
}

/// Resolves a connection string.
///
/// # Errors
/// [`Refused`] for an invalid string or value, an unknown keyword, and what is not supported.
pub(in crate::postgres) fn resolve(text: &str, around: &Surroundings) -> Result<ConnInfo, Refused> {
    let settings = Settings::read(text, around)?;
    let user = settings.get("user").map(str::to_owned).or_else(|| around.user.clone());
    let user =
        user.ok_or_else(|| Refused("the account of this process has no name; write the user into the URL".into()))?;
    let database = settings.get("dbname").unwrap_or(&user).to_owned();
    if database.contains('=') || database.contains("://") {
        return Err(Refused("dbname is a connection string itself; write its settings directly".to_owned()));
    }
    let tls = tls(&settings, around)?;
    let info = ConnInfo {
        endpoints: endpoints(&settings, around, &user, &database)?,
        options: settings.get("options").map(str::to_owned),
        application_name: settings
            .get("application_name")
            .or(settings.get("fallback_application_name"))
            .map(str::to_owned),
        connect_timeout: settings.seconds("connect_timeout")?,
        session: session(&settings)?,
        channel_binding: binding(&settings)?,
        keepalive: keepalive(&settings)?,
        tls,
        user,
        database,
    };
    check_binding(&info)?;
    Ok(info)
}

fn endpoints(settings: &Settings, around: &Surroundings, user: &str, database: &str) -> Result<Vec<Endpoint>, Refused> {
    let lists = [settings.get("host"), settings.get("hostaddr"), settings.get("port")];
    let endpoints = hosts::endpoints(lists[0], lists[1], lists[2], &around.sockets)?;
    let file = match settings.get("password") {
        Some(_) => None,
        None => around.passwords(settings.get("passfile")),
    };
    let with_password = |(host, port): (Host, u16)| {
        let known = known_as(&host, &around.sockets);
        let login = Login { host: &known, port, database, user };
        let found = file.as_deref().and_then(|file| password(file, login));
        let password = settings.get("password").map(str::to_owned).or(found);
        Endpoint { host, port, password: password.map(Into::into) }
    };
    Ok(endpoints.into_iter().map(with_password).collect())
}

fn session(settings: &Settings) -> Result<Session, Refused> {
    let reading = "write target_session_attrs=primary: the service writes";
    match settings.get("target_session_attrs") {
        None | Some("any") => Ok(Session::Any),
        Some("read-write") => Ok(Session::ReadWrite),
        Some("primary") => Ok(Session::Primary),
        Some(value @ ("read-only" | "standby" | "prefer-standby")) => {
            Err(Refused(format!("target_session_attrs={value} is not supported; {reading}")))
        }
        Some(value) => Err(invalid("target_session_attrs", value, "one of any, read-write, primary")),
    }
}

fn binding(settings: &Settings) -> Result<Binding, Refused> {
    let words = [("disable", Binding::Disable), ("prefer", Binding::Prefer), ("require", Binding::Require)];
    Ok(settings.word("channel_binding", &words)?.unwrap_or_default())
}

/// Channel binding exists only inside TLS.
fn check_binding(info: &ConnInfo) -> Result<(), Refused> {
    let is_plain = info.tls.mode == Some(Mode::Disable)
        || info.endpoints.iter().any(|endpoint| matches!(endpoint.host, Host::Unix(_)));
    if info.channel_binding == Binding::Require && is_plain {
        return Err(Refused(
            "channel_binding=require needs TLS; write sslmode=require and no Unix socket, or remove channel_binding"
                .into(),
        ));
    }
    Ok(())
}

fn keepalive(settings: &Settings) -> Result<Keepalive, Refused> {
    let millis = settings.number("tcp_user_timeout")?.and_then(|millis| u64::try_from(millis).ok());
    let count = settings.number("keepalives_count")?.and_then(|count| u32::try_from(count).ok());
    Ok(Keepalive {
        enabled: settings.number("keepalives")? != Some(0),
        idle: settings.seconds("keepalives_idle")?,
        interval: settings.seconds("keepalives_interval")?,
        count: count.filter(|count| *count > 0),
        user_timeout: millis.filter(|millis| *millis > 0).map(Duration::from_millis),
    })
}

fn tls(settings: &Settings, around: &Surroundings) -> Result<Tls, Refused> {
    let modes = [
        ("disable", Mode::Disable),
        ("allow", Mode::Allow),
        ("prefer", Mode::Prefer),
        ("require", Mode::Require),
        ("verify-ca", Mode::VerifyCa),
        ("verify-full", Mode::VerifyFull),
    ];
    let mode = settings.word("sslmode", &modes)?;
    let roots = match settings.get("sslrootcert") {
        Some("system") => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => around.default_file("root.crt").map_or(Roots::Unnamed, Roots::File),
    };
    if roots == Roots::System && mode.is_some_and(|mode| mode < Mode::VerifyFull) {
        return Err(Refused("sslrootcert=system needs sslmode=verify-full; write that".to_owned()));
    }
    // As libpq: with these certificates anything weaker would admit every server of the Internet.
    let mode = if roots == Roots::System { Some(Mode::VerifyFull) } else { mode };
    let is_direct = settings.word("sslnegotiation", &[("postgres", false), ("direct", true)])?.unwrap_or_default();
    if is_direct && mode.is_none_or(|mode| mode < Mode::Require) {
        return Err(Refused("sslnegotiation=direct needs TLS; write sslmode=require or a stricter mode".to_owned()));
    }
    let sends_name = settings.word("sslsni", &[("0", false), ("1", true)])?.unwrap_or(true);
    Ok(Tls { mode, roots, client: client(settings, around)?, sends_name, is_direct, versions: versions(settings)? })
}

fn client(settings: &Settings, around: &Surroundings) -> Result<Option<ClientCertificate>, Refused> {
    if settings.get("sslcertmode") == Some("disable") {
        return Ok(None);
    }
    let named = settings.get("sslcert").map(PathBuf::from);
    let key = settings.get("sslkey").map(PathBuf::from).or_else(|| around.default_file("postgresql.key"));
    let was_named = named.is_some();
    match (named.or_else(|| around.default_file("postgresql.crt")), key) {
        (Some(certificate), Some(key)) if key.to_string_lossy().contains(':') => {
            let engine = certificate.display();
            Err(Refused(format!("sslkey of {engine} names an engine; write the path of a file with the key")))
        }
        (Some(certificate), Some(key)) => Ok(Some(ClientCertificate { certificate, key })),
        (Some(_), None) if was_named => Err(Refused("sslcert has no key; write sslkey=/path/to/client.key".to_owned())),
        _ => Ok(None),
    }
}

fn versions(settings: &Settings) -> Result<Versions, Refused> {
    let all = [("TLSv1", 10), ("TLSv1.1", 11), ("TLSv1.2", 12), ("TLSv1.3", 13)];
    let least = settings.word("ssl_min_protocol_version", &all)?.unwrap_or(12);
    match (least, settings.word("ssl_max_protocol_version", &all)?.unwrap_or(13)) {
        (..=12, 13) => Ok(Versions::All),
        (13, 13) => Ok(Versions::Only13),
        (..=12, 12) => Ok(Versions::Only12),
        (13, 12) => {
            Err(Refused("ssl_min_protocol_version is above ssl_max_protocol_version; exchange them".to_owned()))
        }
        _ => Err(Refused("TLS before 1.2 is not supported; write ssl_max_protocol_version=TLSv1.2".to_owned())),
    }
}
