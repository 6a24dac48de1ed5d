//! Configuration of the bus on Redis, and the checks that run before anything is sent.

use std::time::Duration;

use chunk_sync_engine::ports::{Fault, FaultClass};
use redis::io::tcp::TcpSettings;
use redis::{
    ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::endpoint::{Endpoint, split};
use crate::backlog::{MAX_BACKLOG, MaxBacklog};
use crate::remote::{host_name, insecure, is_loopback};
use crate::tls::{self, TlsFiles};

const CONTEXT: &str = "redis: configuration";

/// Address and parameters of the bus.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// `redis://` or `rediss://`, with user and password if the server requires them.
    pub url: SecretString,
    /// `host:port` of each Sentinel. If there are any, the host of the URL is the name of the master that they watch.
    pub sentinels: Vec<String>,
    /// The user of the Sentinels themselves.
    pub sentinel_user: Option<String>,
    /// The password of the Sentinels themselves.
    pub sentinel_password: Option<SecretString>,
    /// The stream of events.
    pub stream: String,
    /// The stream of dead letters.
    pub dead_stream: String,
    /// The group of workers.
    pub group: String,
    /// Name of this process within the group; unique.
    pub consumer: String,
    /// Limit of unread plus pending events; above it publishers wait.
    pub max_backlog: MaxBacklog,
    /// Limit of the bytes of one entry; a longer one is dead-lettered without being fetched.
    pub entry_max_bytes: usize,
    /// How long a publisher waits for room before `publish` fails with `Busy`.
    pub room_wait: Duration,
    /// Timeout of an answer, without the time that a blocking read waits for entries.
    pub answer_within: Duration,
    /// After this time without progress another group that holds the trimming up is reported.
    pub idle_after: Duration,
    /// Whether such a group no longer holds the trimming up: what it has not read is lost for it.
    pub trim_past_idle: bool,
    /// The certificates of TLS.
    pub tls: TlsFiles,
    /// Allows a server off loopback without verified TLS and a password.
    pub allow_insecure: bool,
}

impl RedisConfig {
    /// Defaults for the server at `url`.
    #[must_use]
    pub fn new(url: SecretString) -> Self {
        Self {
            url,
            sentinels: Vec::new(),
            sentinel_user: None,
            sentinel_password: None,
            stream: "chunk:sync:stream".to_owned(),
            dead_stream: "chunk:sync:dead".to_owned(),
            group: "sync-workers".to_owned(),
            consumer: unique_consumer(),
            max_backlog: MAX_BACKLOG,
            entry_max_bytes: 4 << 20,
            room_wait: Duration::from_secs(5),
            answer_within: Duration::from_secs(10),
            idle_after: Duration::from_secs(24 * 3600),
            trim_past_idle: false,
            tls: TlsFiles::default(),
            allow_insecure: false,
        }
    }

    /// The way to the server, with `TCP_NODELAY` on its connections.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Fault> {
        let info = self.url.expose_secret().into_connection_info().map_err(|_| {
            // The parser's message may contain the URL and so the password.
            let message = "redis.url cannot be parsed; write redis://user:password@host:6379/0, or rediss:// for TLS";
            Fault::new(FaultClass::Misconfigured, CONTEXT, message)
        })?;
        self.check_secure(&info)?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let with_files = matches!(info.addr(), ConnectionAddr::TcpTls { .. }) && self.tls != TlsFiles::default();
        let certificates = if with_files { Some(self.certificates()?) } else { None };
        Ok(Endpoint {
            info,
            certificates,
            sentinels: self.sentinels.clone(),
            sentinel_login: self.sentinel_login(),
            allow_insecure: self.allow_insecure,
        })
    }

    fn sentinel_login(&self) -> RedisConnectionInfo {
        let mut login = RedisConnectionInfo::default();
        if let Some(user) = &self.sentinel_user {
            login = login.set_username(user);
        }
        if let Some(password) = &self.sentinel_password {
            login = login.set_password(password.expose_secret());
        }
        login
    }

    /// Whether the URL is accepted.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn is_accepted(&self) -> bool {
        self.endpoint().is_ok()
    }

    fn certificates(&self) -> Result<TlsCertificates, Fault> {
        let misconfigured = |error| Fault::new(FaultClass::Misconfigured, CONTEXT, error);
        // Names the file that is wrong; the library does not.
        tls::client(&self.tls, true).map_err(misconfigured)?;
        let read = |path: &std::path::Path| tls::read(path).map_err(misconfigured);
        let client_tls = match &self.tls.own {
            Some(own) => Some(ClientTlsConfig { client_cert: read(&own.cert)?, client_key: read(&own.key)? }),
            None => None,
        };
        let root_cert = self.tls.ca.as_deref().map(read).transpose()?;
        Ok(TlsCertificates { client_tls, root_cert })
    }

    fn check_secure(&self, info: &ConnectionInfo) -> Result<(), Fault> {
        let (host, verified) = match info.addr() {
            ConnectionAddr::Tcp(host, _) => (host, false),
            ConnectionAddr::TcpTls { host, insecure, .. } => (host, !insecure),
            _ => return Ok(()),
        };
        // The name of a master is no host.
        let named = if self.sentinels.is_empty() { vec![host.clone()] } else { Vec::new() };
        let hosts = self.sentinels.iter().map(|sentinel| split(sentinel).0).chain(named);
        let authenticated = info.redis_settings().password().is_some_and(|password| !password.is_empty());
        for host in hosts.filter(|host| !is_loopback(host)) {
            if !(verified && authenticated) {
                let missing = if verified { "password" } else { "verified TLS" };
                insecure(CONTEXT, &host, missing, "rediss:// with a password", self.allow_insecure)?;
            }
        }
        Ok(())
    }
}

/// In a cluster every key must be in one slot, because the scripts use several.
fn check_one_slot(stream: &str, dead_stream: &str) -> Result<(), Fault> {
    let tag = hash_tag(stream);
    if tag.is_some() && tag == hash_tag(dead_stream) {
        return Ok(());
    }
    let message = "the server is part of a Redis Cluster, in which both streams must have one hash tag; set redis.stream = \
                   \"{chunk}:sync:stream\" and redis.dead_stream = \"{chunk}:sync:dead\", and redis.url to the node that \
                   has their slot";
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

/// Value of a field of the server's `INFO`.
pub(super) fn fact<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'))
}

/// The part of a key that decides its slot, if it is marked: what is in the first braces.
fn hash_tag(key: &str) -> Option<&str> {
    let (tag, _) = key.split_once('{')?.1.split_once('}')?;
    Some(tag).filter(|tag| !tag.is_empty())
}

/// Refuses a server that, according to its `INFO`, is too old, may evict the stream when its memory is full, or is part of a
/// cluster in which the streams have different slots. Returns a warning if it may evict other keys, or would evict the stream
/// if its memory were limited.
pub(super) fn check_server(info: &str, stream: &str, dead_stream: &str) -> Result<Option<String>, Fault> {
    if fact(info, "cluster_enabled") == Some("1") {
        check_one_slot(stream, dead_stream)?;
    }
    let fact = |name: &str| fact(info, name);
    let version = fact("redis_version").unwrap_or("of unknown version");
    let major: Option<u32> = version.split('.').next().and_then(|major| major.parse().ok());
    if major.is_some_and(|major| major < 7) {
        let message = format!("the server is Redis {version}; use version 7 or later");
        return Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message));
    }
    let policy = fact("maxmemory_policy").unwrap_or("noeviction");
    if policy == "noeviction" {
        return Ok(None);
    }
    if policy.starts_with("volatile-") {
        return Ok(Some(format!(
            "maxmemory-policy is {policy}: the server may evict keys that expire; the streams do not, unless another \
             client sets a TTL on them; better set it to noeviction"
        )));
    }
    let message = format!(
        "maxmemory-policy is {policy}: the server may evict events when its memory is full; set it to noeviction"
    );
    if fact("maxmemory").is_none_or(|bytes| bytes == "0") {
        // Without a limit the server evicts nothing. A limit that is set later would start the eviction.
        return Ok(Some(message));
    }
    Err(Fault::new(FaultClass::Misconfigured, CONTEXT, message))
}

/// `host-pid-random`: the random part distinguishes processes in containers, where every process has id 1.
fn unique_consumer() -> String {
    let random = Uuid::new_v4().simple().to_string();
    format!("{}-{}-{}", host_name(), std::process::id(), &random[..8])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn refused(url: &str) -> Option<Fault> {
        RedisConfig::new(url.into()).endpoint().err()
    }

    #[test]
    fn loopback_needs_neither_tls_nor_password() {
        for url in ["redis://127.0.0.1:6379/0", "redis://localhost", "redis://[::1]:6379", "redis+unix:///tmp/r.sock"] {
            assert!(refused(url).is_none(), "{url}");
        }
    }

    #[test]
    fn sentinels_on_another_machine_need_tls_and_a_password_like_a_server() {
        let with = |url: &str, sentinel: &str| {
            RedisConfig { sentinels: vec![sentinel.to_owned()], ..RedisConfig::new(url.into()) }.endpoint().is_ok()
        };
        assert!(with("redis://mymaster/0", "127.0.0.1:26379"));
        assert!(!with("redis://mymaster/0", "sentinel.example:26379"));
        assert!(with("rediss://:pw@mymaster/0", "sentinel.example"));
    }

    #[test]
    fn in_a_cluster_both_streams_have_one_hash_tag() {
        let info = "redis_version:7.0.15\r\ncluster_enabled:1\r\n";
        let checked = |stream: &str, dead: &str| check_server(info, stream, dead);
        let fault = checked("chunk:sync:stream", "chunk:sync:dead").unwrap_err();
        assert!(fault.message.contains("redis.stream = \"{chunk}:sync:stream\""), "{fault}");
        assert!(checked("{a}:stream", "{b}:dead").is_err() && checked("{}:stream", "{}:dead").is_err());
        assert!(checked("{a}:stream", "{a}:dead").is_ok());
    }

    #[test]
    fn another_machine_needs_verified_tls_and_a_password() {
        for url in [
            "redis://db.example:6379",
            "redis://:pw@db.example:6379",
            "rediss://db.example:6379",
            "rediss://:@db.example:6379",
            "rediss://10.0.0.7:6379",
        ] {
            assert_eq!(refused(url).unwrap().class, FaultClass::Misconfigured, "{url}");
        }
        assert!(refused("rediss://:pw@db.example:6379").is_none());
        let open = RedisConfig { allow_insecure: true, ..RedisConfig::new("redis://db.example:6379".into()) };
        assert!(open.endpoint().is_ok());
    }

    #[test]
    fn no_error_and_no_debug_output_shows_the_password() {
        let planted = "pl4nted";
        for url in ["redis://:pl4nted@db.example", "redis//:pl4nted@db", "redis://:pl4nted@[db", "http://u:pl4nted@db"]
        {
            let config = RedisConfig::new(url.into());
            let fault = config.endpoint().err().unwrap();
            assert!(!format!("{fault} {fault:?} {config:?}").contains(planted), "{url}");
        }
    }

    #[test]
    fn a_server_that_may_evict_events_is_refused() {
        let info = |policy: &str, bytes: u64, version: &str| {
            format!("redis_version:{version}\r\nmaxmemory:{bytes}\r\nmaxmemory_policy:{policy}\r\n")
        };
        assert_eq!(check_server(&info("noeviction", 1 << 30, "7.0.15"), "s", "d").unwrap(), None);
        assert!(check_server(&info("allkeys-lru", 0, "7.0.15"), "s", "d").unwrap().is_some());
        // The streams have no TTL, so such a policy does not evict them.
        assert!(check_server(&info("volatile-lru", 1 << 30, "7.0.15"), "s", "d").unwrap().is_some());
        let refused = check_server(&info("allkeys-lru", 1 << 30, "7.0.15"), "s", "d").unwrap_err();
        assert_eq!(refused.class, FaultClass::Misconfigured);
        assert!(refused.message.contains("set it to noeviction"), "{refused}");
        assert!(check_server(&info("noeviction", 0, "6.2.1"), "s", "d").is_err());
    }

    #[test]
    fn no_two_consumers_have_the_same_name() {
        assert_ne!(unique_consumer(), unique_consumer());
    }
}
