//! Checks for conditions that keep a server from being the bus or make it lose events: link, version, memory, persistence,
//! clock, scripts, group. Read-only: creates and changes nothing.

use chunk_sync_engine::ports::{Fault, FaultClass, Finding, Findings};
use chunk_sync_model::Time;
use redis::Value;

use super::answer;
use super::config::{RedisConfig, check_server, fact};
use super::connection::Connection;
use super::fault::Error;
use crate::remote;

const PLACE: &str = "redis";

/// Checks everything that the service needs from the server.
pub async fn examine(config: &RedisConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let strict = RedisConfig { allow_insecure: false, ..config.clone() };
    if remote::examine(&mut findings, strict.endpoint().map(drop), config.endpoint().map(drop))
        && let Err(fault) = look(&mut findings, config).await
    {
        findings.fault("server", &fault);
    }
    findings.into_list()
}

async fn look(findings: &mut Findings, config: &RedisConfig) -> Result<(), Fault> {
    let connection = Connection::new(config)?;
    let fault = |error: Error| error.into_fault(PLACE);
    let info: String = connection.query(&redis::cmd("INFO")).await.map_err(fault)?;
    if !server(findings, &info, config) {
        return Ok(());
    }
    persistence(findings, &info);
    clock(findings, &connection).await.map_err(fault)?;
    scripts(findings, &connection).await;
    group(findings, &connection, config).await.map_err(fault)
}

fn server(findings: &mut Findings, info: &str, config: &RedisConfig) -> bool {
    const NOEVICTION: &str = "CONFIG SET maxmemory-policy noeviction, and in redis.conf; in a managed Redis, in its \
                              parameter group";
    let version = fact(info, "redis_version").unwrap_or("of unknown version");
    if fact(info, "role") == Some("slave") {
        findings.failed("role", "the server is a replica and takes no writes", "name the primary in redis.url");
    }
    match check_server(info, &config.stream, &config.dead_stream) {
        Ok(warning) => {
            findings.ok("server", format!("Redis {version}"));
            match warning {
                None => findings.ok("memory", "no eviction when memory is full (noeviction)"),
                Some(text) => findings.warning("memory", text, NOEVICTION),
            }
            true
        }
        Err(fault) if fault.message.contains("maxmemory-policy") => {
            findings.ok("server", format!("Redis {version}"));
            findings.failed("memory", fault.message, NOEVICTION);
            true
        }
        Err(fault) => {
            findings.fault("server", &fault);
            false
        }
    }
}

/// An event that a client published directly to the bus is as durable as the bus until a worker has written it to its log.
fn persistence(findings: &mut Findings, info: &str) {
    const REMEDY: &str = "set appendonly yes in redis.conf";
    if fact(info, "aof_enabled") != Some("1") {
        findings.warning(
            "persistence",
            "without an append-only file a crash of the server loses the events published since its last snapshot",
            REMEDY,
        );
    } else if fact(info, "aof_last_write_status").is_some_and(|status| status != "ok") {
        findings.failed("persistence", "the append-only file could not be written", "make room on the server's disk");
    } else {
        findings.ok("persistence", "append-only file");
    }
    if fact(info, "rdb_last_bgsave_status").is_some_and(|status| status != "ok") {
        findings.warning(
            "snapshots",
            "the last snapshot failed; with stop-writes-on-bgsave-error the server takes no events",
            "make room on the server's disk, or free memory for its fork",
        );
    }
}

async fn clock(findings: &mut Findings, connection: &Connection) -> Result<(), Error> {
    let before = remote::now();
    let (seconds, micros): (i64, i64) = connection.query(&redis::cmd("TIME")).await?;
    findings.clock(before, Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(micros)), remote::now());
    Ok(())
}

/// Reading in order and trimming run as scripts.
async fn scripts(findings: &mut Findings, connection: &Connection) {
    let answered = connection.query::<Value>(redis::cmd("EVAL").arg("return 1").arg(0)).await;
    match answered.map_err(|error| error.into_fault(PLACE)) {
        Ok(_) => findings.ok("scripts", "the server runs scripts"),
        Err(fault) if matches!(fault.class, FaultClass::Unavailable | FaultClass::Timeout) => {
            findings.fault("scripts", &fault);
        }
        Err(fault) => findings.failed("scripts", fault.message, "let the user run EVAL and EVALSHA (ACL: +@scripting)"),
    }
}

async fn group(findings: &mut Findings, connection: &Connection, config: &RedisConfig) -> Result<(), Error> {
    let missing = format!("the stream {} has no group {} yet", config.stream, config.group);
    let groups: Value = match connection.query(redis::cmd("XINFO").arg("GROUPS").arg(&config.stream)).await {
        Ok(groups) => groups,
        Err(error) if error.is_no_group() => {
            findings.warning("group", missing, "run `chunk-sync init`");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    match answer::group(groups.clone(), &config.group)? {
        Some(group) => {
            let unread = group.lag.map_or_else(|| "some".to_owned(), |lag| lag.to_string());
            findings.ok("group", format!("{}: {unread} unread, {} pending", config.group, group.pending));
        }
        None => findings.warning("group", missing, "run `chunk-sync init`"),
    }
    let others = answer::list(groups)?.len();
    if others > 1 {
        findings.warning(
            "groups",
            format!(
                "the stream {} has {others} groups; trimming stops at the first unfinished entry of the slowest group",
                config.stream
            ),
            "XGROUP DESTROY the groups that no process reads",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use chunk_sync_engine::ports::Level;

    use super::*;

    fn judged(info: &str) -> Vec<(&'static str, Level)> {
        let mut findings = Findings::of(PLACE);
        if server(&mut findings, info, &RedisConfig::new("redis://localhost".into())) {
            persistence(&mut findings, info);
        }
        findings.into_list().into_iter().map(|finding| (finding.subject, finding.level)).collect()
    }

    #[test]
    fn a_server_is_judged_by_its_info() {
        let good = "redis_version:7.2.1\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n\
                    aof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\nrole:master\r\n";
        assert_eq!(judged(good), [("server", Level::Ok), ("memory", Level::Ok), ("persistence", Level::Ok)]);
        let old = good.replace("7.2.1", "6.2.1");
        assert_eq!(judged(&old), [("server", Level::Failed)]);
        let evicting = good.replace("noeviction", "allkeys-lru");
        assert_eq!(judged(&evicting)[1], ("memory", Level::Warning));
        assert_eq!(judged(&evicting.replace("maxmemory:0", "maxmemory:1000"))[1], ("memory", Level::Failed));
        assert_eq!(judged(&good.replace("aof_enabled:1", "aof_enabled:0"))[2], ("persistence", Level::Warning));
        assert_eq!(judged(&good.replace("write_status:ok", "write_status:err"))[2], ("persistence", Level::Failed));
        assert_eq!(judged(&good.replace("bgsave_status:ok", "bgsave_status:err"))[3], ("snapshots", Level::Warning));
        assert_eq!(judged(&good.replace("master", "slave"))[0], ("role", Level::Failed));
    }
}
