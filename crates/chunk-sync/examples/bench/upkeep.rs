//! Recovery after `kill -9` with entries pending.

use std::time::Instant;

use chunk_sync_samples::generate::Generator;

use crate::Options;
use crate::environment::{Environment, until};
use crate::report::Report;

/// Kills the service when a third of the entries is finished, and measures until it is ready and has finished the rest.
pub(crate) async fn recovery(environment: &Environment, options: &Options, report: &mut Report) {
    let lines: Vec<String> = Generator::new(77).take(options.pending).map(|chunk| chunk.to_string()).collect();
    environment.publish(&lines);
    let (added, open) = environment.stream().await;
    let (run, _) = environment.run().await;
    until("a third of the entries", || async { environment.stream().await.1 < open * 2 / 3 }).await;
    run.kill();
    let (_, left) = environment.stream().await;
    let began = Instant::now();
    let (run, ready) = environment.run().await;
    report.add("recovery: ready", "s", ready.as_secs_f64());
    environment.settled(added).await;
    report.add("recovery: drained", "entries/s", left as f64 / began.elapsed().as_secs_f64());
    report.add("memory: after recovery", "MiB", run.peak_memory());
    drop(run);
    environment.verify();
}
