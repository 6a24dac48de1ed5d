//! How long `pgoutput` takes to decode: one transaction that updates 1,000 rows, of which the publication sends the id.
#![allow(clippy::unwrap_used, reason = "a benchmark of valid input")]

use chunk_sync_connectors::fuzz::pgoutput;
use divan::Bencher;
use divan::counter::ItemsCount;
use uuid::Uuid;

const ROWS: u32 = 1_000;

/// The relation that the decoder reports.
const TABLE: u32 = 77;

fn main() {
    divan::main();
}

/// A message after its length, as the function takes it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// Position, time and number of the transaction.
fn begin() -> Vec<u8> {
    [&b"B"[..], &16_u64.to_be_bytes(), &0_u64.to_be_bytes(), &7_u32.to_be_bytes()].concat()
}

/// A relation with one column, the id.
fn relation() -> Vec<u8> {
    [&b"R"[..], &TABLE.to_be_bytes(), b"unified\0chunks\0d\0\x01\x01id\0", &[0; 8]].concat()
}

fn update(number: u32) -> Vec<u8> {
    let id = Uuid::from_u128(number.into()).to_string();
    let length = u32::try_from(id.len()).unwrap();
    [&b"U"[..], &TABLE.to_be_bytes(), b"N\0\x01t", &length.to_be_bytes(), id.as_bytes()].concat()
}

/// Flags, position, end and time of the transaction.
fn commit() -> Vec<u8> {
    [&b"C\0"[..], &16_u64.to_be_bytes(), &24_u64.to_be_bytes(), &0_u64.to_be_bytes()].concat()
}

#[divan::bench]
fn decode_a_transaction(bencher: Bencher<'_, '_>) {
    let messages = [begin(), relation()].into_iter().chain((0..ROWS).map(update)).chain([commit()]);
    let input: Vec<u8> = messages.flat_map(|message| framed(&message)).collect();
    bencher.counter(ItemsCount::new(ROWS)).bench(|| pgoutput(&input));
}
