//! Waiting for a server.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Repeats the call until it succeeds: a server starts, or reads its files again.
///
/// # Panics
/// After 60 s, with the last error.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(call: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match call().await {
            Ok(done) => return done,
            Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "still after 60 s: {error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
