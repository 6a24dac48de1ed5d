//! What the fuzz targets do with the messages of the output plugins.

use chunk_sync_engine::ports::PART;

use super::decoder::{Decoder, Transactions};
use super::pgoutput::Tables;
use super::wal2json::Lines;

/// The OID of the table of chunks.
const TABLE: u32 = 77;

/// Messages of `pgoutput`, each after its length as a 16-bit integer, most significant byte first.
pub fn pgoutput(input: &[u8]) {
    let mut decoder = Decoder::Pgoutput(Transactions::of(Tables::of([TABLE].into())));
    let mut rest = input;
    while let Some((length, after)) = rest.split_first_chunk() {
        let (message, after) = after.split_at(after.len().min(u16::from_be_bytes(*length).into()));
        take(&mut decoder, message);
        rest = after;
    }
}

/// Lines of `wal2json`.
pub fn wal2json(input: &[u8]) {
    let mut decoder = Decoder::Wal2Json(Lines::default());
    for line in input.split(|byte| *byte == b'\n') {
        take(&mut decoder, line);
    }
}

fn take(decoder: &mut Decoder, message: &[u8]) {
    if let Ok(Some(part)) = decoder.take(message) {
        // A changed key adds two rows.
        assert!(part.rows.len() <= PART + 1, "{} rows in one part", part.rows.len());
    }
}
