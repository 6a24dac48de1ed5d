//! The receipt of an erasure: what was removed from each place, and what is out of reach.

use chunk_sync_engine::erase::Erased;
use serde::Serialize;
use uuid::Uuid;

use super::super::{Failure, output};
use crate::config::Config;

/// What was done for one chunk.
#[derive(Serialize)]
pub(super) struct Receipt {
    pub(super) chunk: Uuid,
    /// Why nothing was erased.
    pub(super) refused: Option<String>,
    pub(super) places: Vec<Erased>,
}

/// What became of the log.
#[derive(Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(super) enum Logged {
    /// No chunk was erased.
    Nothing,
    /// The directory does not exist.
    None,
    /// A dry run leaves it alone.
    NotExamined,
    /// This process erased it.
    Here {
        /// Operations whose content was erased.
        operations: u64,
        /// Operations that have not ended and stay.
        pending: u64,
        /// Dead letters in files beside the log.
        letters: u64,
    },
    /// The service that works the stream erased it.
    ByService,
    /// The service that works the stream was asked, and has not answered yet.
    Requested,
}

/// The whole result.
#[derive(Serialize)]
pub(super) struct Receipts {
    pub(super) dry_run: bool,
    pub(super) chunks: Vec<Receipt>,
    pub(super) log: Logged,
    /// What may still hold the text, and is out of reach.
    pub(super) not_reached: Vec<&'static str>,
}

/// What may still hold the text.
pub(super) fn not_reached(config: &Config) -> Vec<&'static str> {
    let mut places = vec!["backups, replicas and snapshots of every store"];
    if config.roles.redis.is_some() {
        places.push("Redis: its append-only file and memory, until it rewrites them (BGREWRITEAOF)");
    }
    if config.roles.postgres.is_some() {
        places.push("PostgreSQL: dead tuples until VACUUM, its write-ahead log and archives, and logs with parameters");
    }
    if config.roles.postgres.is_none() || config.roles.is_embedded() {
        places.push("the embedded file: free pages until VACUUM, and its -wal file until a checkpoint");
    }
    if config.roles.qdrant.is_some() {
        places.push("Qdrant: segments until the optimizer rewrites them, and its write-ahead log");
    }
    if config.roles.neo4j.is_some() {
        places.push("Neo4j: transaction logs until they are pruned, and free space of its files");
    }
    places.push("lines of the write-ahead log that were damaged and set aside; free blocks of its disk");
    places.push(
        "logs of other processes that worked the stream before: stop each, and repeat the command with its wal.dir",
    );
    places.push(
        "dead letters too long to be read whole that do not name their chunk in the first kilobyte: see `chunk-sync dead`",
    );
    places.push("readers of the stream, listeners, and files that were published");
    places
}

pub(super) fn print(receipts: &Receipts, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(receipts);
    }
    let verb = if receipts.dry_run { "would erase" } else { "erased" };
    for receipt in &receipts.chunks {
        match &receipt.refused {
            Some(refused) => output::line(format_args!("refused: {}", output::printable(refused)))?,
            None => {
                let places: Vec<String> =
                    receipt.places.iter().map(|erased| format!("{} {}", erased.place, erased.removed)).collect();
                output::line(format_args!("{verb} {}: {}", receipt.chunk, places.join(", ")))?;
            }
        }
    }
    output::line(format_args!("log: {}", of_log(&receipts.log)))?;
    output::line("not reached, and may still hold the text:")?;
    receipts.not_reached.iter().try_for_each(|place| output::line(format_args!("  {place}")))
}

fn of_log(log: &Logged) -> String {
    match log {
        Logged::Nothing => "nothing to erase".to_owned(),
        Logged::None => "no log in this directory".to_owned(),
        Logged::NotExamined => "not examined in a dry run".to_owned(),
        Logged::Here { operations, pending, letters } => {
            let (operations, letters) =
                (output::count(*operations, "operation"), output::count(*letters, "dead letter"));
            match pending {
                0 => format!("{operations} and {letters} erased"),
                pending => format!(
                    "{operations} and {letters} erased; {} pending; start the service, then repeat the command",
                    output::count(*pending, "operation")
                ),
            }
        }
        Logged::ByService => "erased by the process that works the stream".to_owned(),
        Logged::Requested => {
            "requested; the process that works the stream erases it as soon as nothing of it is pending".to_owned()
        }
    }
}
