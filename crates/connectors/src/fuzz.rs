//! What the fuzz targets of `fuzz/` do with their input. Compiled for them and for the tests, which replay the inputs that
//! the repository keeps.

use std::sync::Arc;

use crate::TlsFiles;
use crate::neo4j::Neo4jConfig;
pub use crate::postgres::fuzz::{pgoutput, postgres_string, wal2json};
use crate::qdrant::QdrantConfig;
use crate::redis::RedisConfig;

/// A URL, as one of Redis, of Qdrant and of Neo4j: each accepts or refuses it.
pub fn store_url(input: &[u8]) {
    let Ok(url) = std::str::from_utf8(input) else { return };
    let redis = RedisConfig { allow_insecure: true, ..RedisConfig::new(url.into()) };
    let qdrant = QdrantConfig { allow_insecure: true, ..QdrantConfig::new(url, Arc::default()) };
    let neo4j = Neo4jConfig {
        url: url.to_owned(),
        user: "neo4j".to_owned(),
        password: "password".into(),
        database: "neo4j".to_owned(),
        timeout: Neo4jConfig::TIMEOUT,
        tls: TlsFiles::default(),
        allow_insecure: true,
    };
    let accepted = [redis.is_accepted(), qdrant.is_accepted(), neo4j.is_accepted()];
    let count = accepted.into_iter().filter(|accepted| *accepted).count();
    assert!(count <= 1, "{url:?} is a URL of {count} kinds of servers");
}

#[cfg(test)]
mod tests {
    use super::*;
    use chunk_sync_testkit::fuzz::replay;

    #[test]
    fn the_kept_inputs_are_survived() {
        replay("pgoutput", pgoutput);
        replay("wal2json", wal2json);
        replay("postgres_string", postgres_string);
        replay("store_url", store_url);
    }
}
