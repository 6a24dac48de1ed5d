//! Reads the sections of the stores and the bus.

use std::path::PathBuf;

use chunk_sync_connectors::postgres::{Plugin, Publish};
use chunk_sync_connectors::{OwnCertificate, TlsFiles};

use crate::config::reader::Reader;
use crate::config::table_name::table_name;
use crate::config::{Address, Neo4j, Postgres, Qdrant, Redis, Roles};

const REDIS: &[&str] = &["redis", "rediss"];
const QDRANT: &[&str] = &["http", "https"];
const NEO4J: &[&str] = &["bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"];

pub(super) fn roles(reader: &mut Reader<'_>) -> Roles {
    Roles {
        dir: reader.required("embedded.dir").into(),
        postgres: postgres(reader),
        redis: redis(reader),
        qdrant: qdrant(reader),
        neo4j: neo4j(reader),
        allow_insecure: reader.flag("allow_insecure"),
    }
}

fn postgres(reader: &mut Reader<'_>) -> Option<Postgres> {
    let table = reader.required("postgres.table");
    let (schema, table) = table_name(&table).unwrap_or_else(|| {
        let wrong =
            "must be a table name, or schema and table name separated by a dot, each as it is or in double quotes";
        reader.wrong("postgres.table", wrong);
        Default::default()
    });
    let slot = reader.required("postgres.slot");
    if !slot.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        reader.wrong(
            "postgres.slot",
            "may contain only lower-case letters, digits and underscores; PostgreSQL allows no other characters",
        );
    }
    let (publication, plugin) = (reader.required("postgres.publication"), plugin(reader));
    let publish = publish(reader);
    let replication_url = reader.postgres("postgres.replication_url");
    if reader.text("postgres.url").is_none() && replication_url.is_some() {
        reader.wrong("postgres.url", "must be set, because `postgres.replication_url` is");
    }
    let url = reader.postgres("postgres.url")?;
    let replication_url = replication_url.unwrap_or_else(|| url.clone());
    Some(Postgres { url, replication_url, schema, table, publication, publish, slot, plugin })
}

fn redis(reader: &mut Reader<'_>) -> Option<Redis> {
    let (stream, dead_stream) = (reader.required("redis.stream"), reader.required("redis.dead_stream"));
    if stream == dead_stream {
        reader.wrong("redis.dead_stream", "must differ from `redis.stream`");
    }
    let group = reader.required("redis.group");
    let trim_past_idle_groups = reader.flag("redis.trim_past_idle_groups");
    let (tls, sentinels) = (tls(reader, "redis"), sentinels(reader));
    let sentinel_user = reader.text("redis.sentinel_user").map(str::to_owned);
    let sentinel_password = reader.secret("redis.sentinel_password");
    let url = reader.address("redis.url", REDIS)?;
    Some(Redis {
        url,
        sentinels,
        sentinel_user,
        sentinel_password,
        stream,
        dead_stream,
        group,
        trim_past_idle_groups,
        tls,
    })
}

fn sentinels(reader: &mut Reader<'_>) -> Vec<String> {
    let listed = reader.list("redis.sentinels").iter().map(|place| place.as_str().unwrap_or_default().to_owned());
    let listed: Vec<String> = listed.collect();
    let is_wrong = |place: &&String| Address::parse(&format!("redis://{place}"), REDIS).is_err();
    // An element may contain a password, so no message quotes it.
    if listed.iter().any(|place| place.contains('@')) {
        reader.wrong(
            "redis.sentinels",
            "contains user and password; write host and port only, and set redis.sentinel_user and redis.sentinel_password",
        );
    } else if let Some(at) = listed.iter().position(|place| is_wrong(&place)) {
        let message = format!("number {} is not host and port; write them as sentinel-1:26379", at + 1);
        reader.wrong("redis.sentinels", message);
    }
    listed
}

fn qdrant(reader: &mut Reader<'_>) -> Option<Qdrant> {
    let collection = reader.required("qdrant.collection");
    Some(Qdrant { url: reader.address("qdrant.url", QDRANT)?, api_key: reader.secret("qdrant.api_key"), collection })
}

fn neo4j(reader: &mut Reader<'_>) -> Option<Neo4j> {
    let (user, database) = (reader.required("neo4j.user"), reader.required("neo4j.database"));
    let tls = tls(reader, "neo4j");
    let url = reader.address("neo4j.url", NEO4J)?;
    Some(Neo4j { url, user, password: reader.secret("neo4j.password"), database, tls })
}

/// The files of certificates of a section.
fn tls(reader: &mut Reader<'_>, section: &str) -> TlsFiles {
    let [ca, cert, key] = ["ca_file", "cert_file", "key_file"].map(|key| format!("{section}.{key}"));
    let path = |reader: &Reader<'_>, key: &str| reader.text(key).map(PathBuf::from);
    let own = match (path(reader, &cert), path(reader, &key)) {
        (Some(cert), Some(key)) => Some(OwnCertificate { cert, key }),
        (None, None) => None,
        (Some(_), None) => {
            reader.wrong(&key, format!("must be set, because `{cert}` is"));
            None
        }
        (None, Some(_)) => {
            reader.wrong(&cert, format!("must be set, because `{key}` is"));
            None
        }
    };
    TlsFiles { ca: path(reader, &ca), own }
}

fn plugin(reader: &mut Reader<'_>) -> Plugin {
    let known = [Plugin::Pgoutput, Plugin::Wal2Json];
    let named = known.into_iter().find(|plugin| reader.text("postgres.plugin") == Some(plugin.as_str()));
    named.unwrap_or_else(|| {
        reader.wrong("postgres.plugin", "must be \"pgoutput\" or \"wal2json\"");
        Plugin::default()
    })
}

fn publish(reader: &mut Reader<'_>) -> Publish {
    match reader.text("postgres.publish") {
        Some("id") => Publish::Least,
        Some("whole") => Publish::Whole,
        _ => {
            reader.wrong("postgres.publish", "must be \"id\" or \"whole\"");
            Publish::default()
        }
    }
}
