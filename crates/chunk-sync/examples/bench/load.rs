//! First load and updates of all rows, beside a bare loader; and `verify`.

use std::time::Instant;

use chunk_sync_samples::generate::Generator;

use crate::Options;
use crate::bare::{Bare, Way};
use crate::environment::Environment;
use crate::report::Report;

/// Chunks of the warm-up.
const WARM_UP: usize = 1_000;

/// Loads and updates some chunks, and measures nothing.
pub(crate) async fn warm_up(environment: &Environment) {
    let lines: Vec<String> = Generator::new(20).take(WARM_UP).map(|chunk| chunk.to_string()).collect();
    environment.publish(&lines);
    let (added, _) = environment.stream().await;
    let (run, _) = environment.run().await;
    environment.settled(added).await;
    let update =
        "UPDATE unified.chunks SET metadata = jsonb_set(metadata, '{bench}', '0'), updated_at = clock_timestamp()";
    environment.rows.execute(update, &[]).await.unwrap();
    environment.settled(added + WARM_UP as u64).await;
    drop(run);
}

/// Loads the chunks; the other figures if they are wanted.
pub(crate) async fn measure(environment: &Environment, options: &Options, round: usize, report: &mut Report) {
    let lines: Vec<String> =
        Generator::new(21 + round as u64).take(options.chunks).map(|chunk| chunk.to_string()).collect();
    environment.publish(&lines);
    let (added, _) = environment.stream().await;
    let began = Instant::now();
    let (run, _) = environment.run().await;
    environment.settled(added).await;
    let loaded = rate(options.chunks, began, environment.indexed().await);
    if options.wants("updates") {
        updates(environment, options, report).await;
    }
    report.add("memory: after load and updates", "MiB", run.peak_memory());
    drop(run);
    if options.wants("load") || options.wants("updates") {
        beside_bare(environment, options, loaded, report).await;
    }
    if options.wants("verify") {
        let verified = environment.verify();
        let (chunks, seconds) = (verified["chunks"].as_f64().unwrap(), verified["seconds"].as_f64().unwrap());
        report.add("verify", "chunks/s", chunks / seconds);
    }
}

fn rate(chunks: usize, began: Instant, ended: Instant) -> f64 {
    chunks as f64 / (ended - began).as_secs_f64()
}

async fn updates(environment: &Environment, options: &Options, report: &mut Report) {
    for (kind, change) in [
        ("metadata", "metadata = jsonb_set(metadata, '{bench}', to_jsonb(random()))"),
        ("content", "content = content || ' and more'"),
    ] {
        let (added, _) = environment.stream().await;
        let began = Instant::now();
        let update = format!("UPDATE unified.chunks SET {change}, updated_at = clock_timestamp()");
        environment.rows.execute(&update, &[]).await.unwrap();
        environment.settled(added + options.chunks as u64).await;
        let (name, peer) = (format!("updates: {kind}"), "updates: bare loader, tuned");
        let ended = environment.indexed().await;
        report.add_beside(&name, "chunks/s", rate(options.chunks, began, ended), peer);
    }
}

/// The limits: the same content by bulk interfaces, without records, versions, order, log or bus.
async fn beside_bare(environment: &Environment, options: &Options, loaded: f64, report: &mut Report) {
    let bare = Bare::read(environment).await;
    for way in [Way::Plain, Way::Tuned] {
        let name = match way {
            Way::Plain => "plain",
            Way::Tuned => "tuned",
        };
        let began = Instant::now();
        let ended = bare.load(way).await;
        report.add(&format!("load: bare loader, {name}"), "chunks/s", rate(options.chunks, began, ended));
        let began = Instant::now();
        let ended = bare.update(way).await;
        report.add(&format!("updates: bare loader, {name}"), "chunks/s", rate(options.chunks, began, ended));
        bare.empty().await;
    }
    bare.remove().await;
    report.add_beside("load: service", "chunks/s", loaded, "load: bare loader, tuned");
}
