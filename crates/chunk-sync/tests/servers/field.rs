//! The field: an application and publishers write all the time, while one trouble of an ordinary installation follows the
//! other. Afterwards every store holds what was written, nothing was destroyed meanwhile, and only the malformed entries and
//! refused chunks are dead letters.
//!
//! It takes minutes, so `cargo xtask field --minutes N --seeds A,B` runs it, not the tests.

#[path = "field/application.rs"]
mod application;
#[path = "field/hardships.rs"]
mod hardships;
#[path = "field/installation.rs"]
mod installation;
#[path = "field/locks.rs"]
mod locks;
#[path = "field/report.rs"]
mod report;
#[path = "field/stream.rs"]
mod stream;
#[path = "field/troubles.rs"]
mod troubles;
#[path = "field/watch.rs"]
mod watch;

use std::collections::HashMap;
use std::time::{Duration, Instant};

pub(crate) use application::fields;
use application::{Application, Expected};
use installation::Installation;
use locks::{Locks, percentile};
use report::{Reports, Windows};
use troubles::Trouble;
use watch::Watch;

/// Peak resident memory of the service, in KiB, that the specification allows.
const MEMORY: u64 = 300 << 10;

/// How long the service may lock a row of the application.
const LONGEST_LOCK: Duration = Duration::from_millis(100);

/// A number of a variable of the environment.
fn number(name: &str, text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is no number"))
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set; run `cargo xtask field`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs for minutes: `cargo xtask field --minutes N`"]
async fn an_installation_in_the_field_stays_consistent() {
    let seconds = Duration::from_secs(number("CHUNK_SYNC_FIELD_SECONDS", &variable("CHUNK_SYNC_FIELD_SECONDS")));
    for seed in variable("CHUNK_SYNC_FIELD_SEEDS").split(',') {
        stays_consistent(seconds, number("CHUNK_SYNC_FIELD_SEEDS", seed)).await;
    }
}

async fn stays_consistent(seconds: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let installation = Installation::new().await;
    let watch = Watch::start(&installation).await;
    let application = Application::start(&installation, random.u64(..)).await;
    let locks = Locks::sample(&installation.environment);
    carry_a_burst(&installation).await;
    let undisturbed = rate(&installation, seconds / 5, async || tokio::time::sleep(seconds / 5).await).await;
    let held = locks.stop().await;
    let (mut reports, mut windows) = (Reports::default(), Windows::begin(&installation).await);
    let disturbed = rate(&installation, seconds, async || {
        let until = Instant::now() + seconds;
        let mut rest: Vec<Trouble> = Vec::new();
        while Instant::now() < until {
            if rest.is_empty() {
                rest = Trouble::selected();
                random.shuffle(&mut rest);
            }
            let trouble = rest.pop().unwrap();
            // The future is large: it lives on the heap.
            let during = Box::pin(trouble.make(&installation, &application, random.u64(..)));
            reports.collect(format!("{trouble:?}"), &installation, during).await;
            windows.look(&installation).await;
        }
    })
    .await;
    let expected = application.stop().await;
    installation.assert_settled().await;
    let is_ready = || async { installation.readiness().await.starts_with("HTTP/1.1 200") };
    installation.environment.visible("readiness once all is over", is_ready).await;
    let damage = watch.stop().await;
    let repaired = installation.repair().await;
    let (rows, dead) = (installation.environment.contents().await, installation.environment.dead().await);
    let mut report = format!(
        "field, seed {seed}, {} s: {} chunks, {} changes, {undisturbed:.0}/s undisturbed, {disturbed:.0}/s disturbed, \
         {:.0}/s in the slowest of {} windows, {} dead letters, {} restarts, {repaired} chunks damaged by hand and \
         repaired, {} KiB at most\n",
        seconds.as_secs(),
        rows.len(),
        expected.changes,
        windows.lowest,
        windows.count,
        dead.len(),
        installation.starts(),
        damage.memory
    );
    reports.print(&mut report);
    eprintln!("{report}");
    assert_eq!(rows, expected.contents);
    installation.environment.assert_equal(rows.len() as u64);
    assert_letters(&dead, &expected);
    assert!(damage.destroyed.is_empty(), "destroyed meanwhile: {:?}", damage.destroyed);
    assert!(damage.memory < MEMORY, "{} KiB of resident memory", damage.memory);
    assert_brief(&held);
    assert!(disturbed >= undisturbed / 2.0, "{disturbed:.0}/s disturbed, {undisturbed:.0}/s undisturbed");
    let lowest = windows.lowest;
    assert!(windows.count > 0, "no window of throughput");
    assert!(lowest >= undisturbed / 2.0, "{lowest:.0}/s in a window, {undisturbed:.0}/s undisturbed");
}

/// Every malformed entry and every refused chunk has a dead letter, and nothing else has.
fn assert_letters(dead: &[HashMap<String, String>], expected: &Expected) {
    let (malformed, others): (Vec<_>, Vec<_>) =
        dead.iter().partition(|letter| letter.get("stream_id").is_some_and(|id| expected.malformed.contains(id)));
    assert_eq!(malformed.len(), expected.malformed.len(), "malformed entries without a dead letter");
    let refused = |letter: &HashMap<String, String>| {
        expected.refused.iter().any(|id| letter.get("chunk").is_some_and(|chunk| chunk.contains(&id.to_string())))
    };
    let good: Vec<_> = others.into_iter().filter(|letter| !refused(letter)).collect();
    assert!(good.is_empty(), "good events are dead letters: {good:?}");
}

/// The events of the load during which locks are sampled, and the number of chunks that they change.
const LOAD: (usize, u64) = (12_000, 1_000);

/// The service carries a burst of events, in transactions of many chunks.
async fn carry_a_burst(installation: &Installation) {
    for number in 0..LOAD.0 as u64 {
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("load {}", number % LOAD.1).as_bytes());
        let content = format!("text of the load {number}");
        installation.environment.add(&application::fields("update", &application::chunk(id, &content))).await;
    }
    for number in 0..LOAD.1 {
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("load {number}").as_bytes());
        let gone = application::chunk(id, "text of the load");
        installation.environment.add(&application::fields("delete", &gone)).await;
    }
    let carried = async || installation.acknowledged().await >= LOAD.0 as u64 + LOAD.1;
    let began = Instant::now();
    while !carried().await {
        assert!(began.elapsed() < Duration::from_secs(180), "the load is not carried");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    eprintln!("a burst of {} events was carried in {:?}", LOAD.0, began.elapsed());
}

/// Of 1,000 transactions of the service, 999 release the rows of the application in time.
fn assert_brief(held: &[Duration]) {
    let [p50, p99, p999] = [500, 990, 999].map(|of| percentile(held, of));
    let last = held.last().copied().unwrap_or_default();
    eprintln!("locks on rows: {} transactions, p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, longest {last:?}", held.len());
    assert!(p999 < LONGEST_LOCK, "p99.9 of the time that a row is locked is {p999:?}");
}

/// Events acknowledged per second while `during` runs.
async fn rate(installation: &Installation, at_least: Duration, during: impl AsyncFnOnce()) -> f64 {
    let (began, before) = (Instant::now(), installation.acknowledged().await);
    during().await;
    let elapsed = began.elapsed().max(at_least);
    #[allow(clippy::cast_precision_loss)]
    let acknowledged = (installation.acknowledged().await - before) as f64;
    acknowledged / elapsed.as_secs_f64()
}
