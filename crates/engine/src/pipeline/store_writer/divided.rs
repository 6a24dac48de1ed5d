//! Divides a batch that a store refuses, so that a write which the store can never take fails alone. The only place
//! that does so, for every store.
//!
//! A server may refuse a request as a whole because of one of its writes, or because together they are above a limit
//! of bytes or memory; a store may panic at one of them. Their writes are repeated in halves, in their order. A request
//! that takes too long is not repeated here, because each part could take as long: `isolation.rs` sends its parts
//! apart.

use crate::ports::{Applied, Fault, Projection, Write};
use crate::runtime::catch_panic::catch_panic;

/// Applies the writes; returns one result each, in their order. While `goes_on`, repeats the writes of a request whose
/// fault is [`divisible`](Fault::divisible) in halves, down to single writes, until the server itself fails.
pub async fn apply_divided(store: &dyn Projection, writes: &[Write], goes_on: impl Fn() -> bool) -> Vec<Applied> {
    let mut answers: Vec<Option<Applied>> = vec![None; writes.len()];
    let mut parts: Vec<Vec<usize>> = vec![(0..writes.len()).collect()];
    while let Some(part) = parts.pop() {
        let sent: Vec<Write> = part.iter().map(|index| writes[*index].clone()).collect();
        let found = apply_caught(store, &sent).await;
        let of_server = found.iter().filter_map(fault).find(|fault| fault.is_of_server()).cloned();
        let mut again = Vec::new();
        for (index, answer) in part.iter().zip(found) {
            if sent.len() > 1 && fault(&answer).is_some_and(|fault| fault.divisible) {
                again.push(*index);
            }
            answers[*index] = Some(answer);
        }
        match of_server {
            // Each further request would wait for the server, too.
            Some(fault) => {
                for index in parts.drain(..).flatten().chain(again) {
                    answers[index] = Some(Applied::Failed(fault.clone()));
                }
            }
            None if goes_on() => parts.extend(halves(again)),
            None => break,
        }
    }
    answers.into_iter().flatten().collect()
}

/// One call; if it panics, every write fails.
async fn apply_caught(store: &dyn Projection, writes: &[Write]) -> Vec<Applied> {
    let answers = catch_panic("apply", store.apply(writes)).await;
    answers.unwrap_or_else(|fault| {
        let divisible = writes.len() > 1;
        vec![Applied::Failed(Fault { divisible, ..fault }); writes.len()]
    })
}

fn fault(answer: &Applied) -> Option<&Fault> {
    match answer {
        Applied::Failed(fault) => Some(fault),
        Applied::Written | Applied::Skipped => None,
    }
}

/// The second half and the first, so that the first is taken from the end.
fn halves(mut part: Vec<usize>) -> impl Iterator<Item = Vec<usize>> {
    let second = part.split_off(part.len() / 2);
    [second, part].into_iter().filter(|half| !half.is_empty())
}
