//! Interprets and validates the values of the layers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use chunk_sync_engine::scrub::ScrubSettings;
use chunk_sync_engine::{CapturedEvents, Detect, DirectSettings, DirectWrites, Settings, WalSettings, WorkerSettings};
use chunk_sync_model::merge::{Kind, Strategies, StrategyError};

use super::reader::Reader;
use super::{Config, Finding, Http, Layers, Log, LogFormat, Roles};

mod limits;
mod stores;

use stores::roles;

/// Minimum length of the token in bytes; shorter tokens can be guessed.
const TOKEN_LEAST: usize = 16;

/// Reads every value.
///
/// # Errors
/// Every invalid value, with its key and origin.
pub(super) fn read(layers: &Layers) -> Result<Config, Vec<Finding>> {
    let reader = &mut Reader::new(layers);
    let roles = roles(reader);
    let settings = Settings {
        limits: limits::limits(reader),
        strategies: strategies(reader),
        direct: direct(reader),
        captured_events: captured_events(reader),
        max_deletes: max_deletes(reader),
        keep_conflicts: reader.duration("conflicts.keep", "0s", "3650d"),
        keep_records: reader.duration("retention.records", "1h", "3650d"),
        worker: worker(reader),
        wal: wal(reader, &roles),
    };
    let scrub = scrub(reader);
    let (http, log) = (http(reader), log(reader));
    match http {
        Some(http) if reader.findings.is_empty() => Ok(Config { roles, settings, scrub, http, log }),
        _ => Err(std::mem::take(&mut reader.findings)),
    }
}

fn strategies(reader: &mut Reader<'_>) -> Strategies {
    let mut strategies = Strategies::default();
    let put = |reader: &mut Reader<'_>, key: &str, new: Result<Strategies, StrategyError>| match new {
        Ok(new) => new,
        Err(error) => {
            reader.wrong(key, error.to_string());
            Strategies::default()
        }
    };
    for kind in Kind::ALL {
        let key = format!("conflicts.{}", kind.as_str());
        let name = reader.required(&key);
        strategies = put(reader, &key, strategies.with(kind, &name));
    }
    for rule in reader.list("conflicts.parts") {
        let rule = rule.as_str().unwrap_or_default();
        let Some((part, name)) = rule.rsplit_once('=') else {
            reader.wrong(
                "conflicts.parts",
                format!("`{rule}` is not a rule; write part and strategy, as in `metadata.title = manual`"),
            );
            continue;
        };
        strategies = put(reader, "conflicts.parts", strategies.with_part(part.trim(), name.trim()));
    }
    strategies
}

fn captured_events(reader: &mut Reader<'_>) -> CapturedEvents {
    let named = CapturedEvents::ALL.into_iter().find(|kind| reader.text("postgres.events") == Some(kind.as_str()));
    named.unwrap_or_else(|| {
        reader.wrong("postgres.events", "must be \"thin\" or \"full\"");
        CapturedEvents::default()
    })
}

fn direct(reader: &mut Reader<'_>) -> DirectSettings {
    let writes = match reader.text("conflicts.direct_writes") {
        Some("repair") => DirectWrites::Repair,
        Some("merge") => DirectWrites::Merge,
        _ => {
            reader.wrong("conflicts.direct_writes", "must be \"repair\" or \"merge\"");
            DirectWrites::default()
        }
    };
    let detect = match reader.text("conflicts.detect") {
        Some("verify") => Detect::Verify,
        Some("always") => Detect::Always,
        _ => {
            reader.wrong("conflicts.detect", "must be \"verify\" or \"always\"");
            Detect::default()
        }
    };
    DirectSettings { writes, detect }
}

fn worker(reader: &mut Reader<'_>) -> WorkerSettings {
    let settings = WorkerSettings {
        batch: reader.count("worker.batch", 1..=10_000) as usize,
        wait: reader.duration("worker.wait", "10ms", "1m"),
        in_flight_events: reader.count("worker.in_flight_events", 1..=1_000_000) as usize,
        in_flight_bytes: usize::try_from(reader.size("worker.in_flight_bytes", "64KiB", "1GiB")).unwrap_or(usize::MAX),
        store_batch: reader.count("worker.store_batch", 1..=10_000) as usize,
        retry_min: reader.duration("worker.retry_min", "1ms", "1m"),
        retry_max: reader.duration("worker.retry_max", "1ms", "1h"),
        patience: reader.duration("worker.patience", "0s", "1h"),
        max_deliveries: reader.count("worker.max_deliveries", 1..=1_000),
        waiting_events: u64::from(reader.count("worker.waiting_events", 1_000..=1_000_000_000)),
        waiting_bytes: reader.size("worker.waiting_bytes", "16MiB", "1024TiB"),
        hold: reader.flag("worker.hold"),
        ..WorkerSettings::default()
    };
    if settings.retry_min > settings.retry_max {
        reader.wrong("worker.retry_max", "must not be shorter than `worker.retry_min`");
    }
    settings
}

fn wal(reader: &mut Reader<'_>, roles: &Roles) -> WalSettings {
    let dir = match reader.text("wal.dir") {
        Some(dir) => PathBuf::from(dir),
        None if roles.has_file() => roles.dir.join("wal"),
        None => PathBuf::from("/var/log/chunk-sync/wal"),
    };
    WalSettings {
        dir,
        max_bytes: reader.size("wal.max_bytes", "16MiB", "1024TiB"),
        keep: reader.duration("wal.keep", "0s", "365d"),
    }
}

fn scrub(reader: &mut Reader<'_>) -> Option<ScrubSettings> {
    let settings = ScrubSettings {
        interval: reader.duration("scrub.interval", "1s", "30d"),
        rate: reader.count("scrub.rate", 1..=1_000_000),
        repair: reader.flag("scrub.repair"),
    };
    reader.flag("scrub.enabled").then_some(settings)
}

/// The configured number, or `None` for the default, which depends on the number of chunks.
fn max_deletes(reader: &mut Reader<'_>) -> Option<u64> {
    let text = reader.required("scrub.max_deletes");
    if text == "auto" {
        return None;
    }
    let number = text.parse().ok();
    if number.is_none() {
        reader.wrong("scrub.max_deletes", "must be \"auto\" or a number in quotes, such as \"100\"");
    }
    number
}

fn http(reader: &mut Reader<'_>) -> Option<Http> {
    let text = reader.required("http.listen");
    let token = reader.secret("http.token");
    if reader
        .text("http.token")
        .is_some_and(|token| token.len() < TOKEN_LEAST || !token.bytes().all(|b| b.is_ascii_graphic()))
    {
        let message = format!(
            "must be at least {TOKEN_LEAST} printable ASCII characters without spaces; `openssl rand -hex 32` generates one"
        );
        reader.wrong("http.token", message);
    }
    let hosts = reader
        .list("http.hosts")
        .iter()
        .map(|host| host.as_str().unwrap_or_default().to_lowercase())
        .collect::<Vec<_>>();
    if let Some(host) = hosts.iter().find(|host| host.is_empty() || host.contains(['/', ':', ' ', '*'])) {
        reader.wrong(
            "http.hosts",
            format!("`{host}` is not a host name; write it without scheme and port, as in sync.example.org"),
        );
    }
    let requests_per_second = reader.count("http.requests_per_second", 0..=1_000_000);
    let Some(listen) = socket(&text) else {
        if !text.is_empty() {
            reader.wrong("http.listen", "must be an address and a port such as 127.0.0.1:8733");
        }
        return None;
    };
    if !listen.ip().is_loopback() && token.is_none() {
        reader.wrong(
            "http.listen",
            format!("{listen} can be reached from other machines; set `http.token`, or listen on 127.0.0.1"),
        );
    }
    Some(Http { listen, token, hosts, requests_per_second })
}

/// Parses an address. Host names other than localhost are not resolved: a change in the resolver's answer would change who
/// can reach the service.
fn socket(text: &str) -> Option<SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().ok()?)),
        None => text.parse().ok(),
    }
}

fn log(reader: &mut Reader<'_>) -> Log {
    let filter = reader.required("log.level");
    if let Err(error) = filter.parse::<tracing_subscriber::filter::Targets>() {
        reader.wrong("log.level", format!("must be error, warn, info, debug or trace, also per module: {error}"));
    }
    let format = match reader.text("log.format") {
        Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        _ => {
            reader.wrong("log.format", "must be \"text\" or \"json\"");
            LogFormat::Text
        }
    };
    Log { filter, format }
}
