//! Random histories of a few chunks, with a plain map that predicts what a store must answer and hold.
#![allow(clippy::print_stderr, reason = "the seed repeats a failed test")]

use std::collections::BTreeMap;
use std::sync::Arc;

use chunk_sync_engine::ports::{Applied, Projection, Write};
use chunk_sync_model::{State, SyncVersion};
use chunk_sync_samples::rng::Rng;
use uuid::Uuid;

use crate::scan::scanned;
use crate::states::{delete, write};

/// The version before the first: there is room below it for a late write.
const FIRST: u64 = 10;

/// A history of writes and deletes, one batch at a time.
pub(crate) struct History {
    rng: Rng,
    /// For each chunk the states that it may take.
    chunks: Vec<Vec<Arc<State>>>,
    held: BTreeMap<Uuid, (SyncVersion, Arc<State>)>,
    latest: u64,
}

/// The answer that a store must give.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Written,
    Skipped,
    /// Written or skipped: the chunk to delete was not there.
    Either,
}

impl History {
    /// Prints its seed; `CHUNK_SYNC_TEST_SEED` repeats it.
    pub(crate) fn new(chunks: Vec<Vec<Arc<State>>>) -> Self {
        let seed = std::env::var("CHUNK_SYNC_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
        eprintln!("CHUNK_SYNC_TEST_SEED={seed}");
        Self { rng: Rng::new(seed), chunks, held: BTreeMap::new(), latest: FIRST }
    }

    /// The states held now.
    pub(crate) fn states(&self) -> Vec<Arc<State>> {
        self.held.values().map(|(_, state)| Arc::clone(state)).collect()
    }

    /// Applies one more batch to the store and asserts its answers.
    pub(crate) async fn go_on(&mut self, store: &dyn Projection) {
        let (writes, wanted): (Vec<Write>, Vec<Answer>) = self.batch().into_iter().unzip();
        let answers = store.apply(&writes).await;
        assert_eq!(answers.len(), writes.len());
        for ((write, wanted), answer) in writes.iter().zip(wanted).zip(answers) {
            let right = match answer {
                Applied::Written => wanted != Answer::Skipped,
                Applied::Skipped => wanted != Answer::Written,
                Applied::Failed(_) => false,
            };
            assert!(right, "write of {} at {}: the store answered {answer:?}, not {wanted:?}", write.id, write.version);
        }
    }

    /// Asserts that the store holds exactly what the map holds.
    pub(crate) async fn is_held_by(&self, store: &dyn Projection) {
        let seen = scanned(store).await;
        let ids: Vec<Uuid> = seen.iter().map(|seen| seen.id).collect();
        assert_eq!(ids, self.held.keys().copied().collect::<Vec<_>>());
        for (seen, (version, state)) in seen.iter().zip(self.held.values()) {
            assert_eq!(seen.version, *version, "of {}", seen.id);
            assert_eq!(seen.document.differing(&store.expect(state)), Vec::<String>::new(), "of {}", seen.id);
        }
    }

    fn batch(&mut self) -> Vec<(Write, Answer)> {
        let mut drawn: Vec<usize> = (0..self.chunks.len()).filter(|_| self.rng.one_in(2)).collect();
        for i in (1..drawn.len()).rev() {
            drawn.swap(i, self.rng.below(i + 1));
        }
        drawn.into_iter().map(|chunk| self.draw(chunk)).collect()
    }

    /// Draws a write of that chunk. Late writes only while it is held: stores forget the version with the chunk.
    fn draw(&mut self, chunk: usize) -> (Write, Answer) {
        let states = &self.chunks[chunk];
        let state = Arc::clone(&states[self.rng.below(states.len())]);
        let deletes = self.rng.one_in(4);
        let held = self.held.get(&state.chunk.id);
        if let Some((version, _)) = held.filter(|_| self.rng.one_in(4)) {
            let late = version.get() - self.rng.below(2) as u64;
            let write = if deletes { delete(state.chunk.id, late) } else { write(&state, late) };
            return (write, Answer::Skipped);
        }
        self.latest += 1;
        if deletes {
            let there = self.held.remove(&state.chunk.id).is_some();
            return (delete(state.chunk.id, self.latest), if there { Answer::Written } else { Answer::Either });
        }
        let mut write = write(&state, self.latest);
        // Vectors count as unchanged only if they are.
        if let Some((version, _)) = held.filter(|(_, held)| held.chunk.embeddings == state.chunk.embeddings) {
            write.vectors_since = *version;
        }
        self.held.insert(write.id, (write.version, state));
        (write, Answer::Written)
    }
}
