//! Queue processing: bus → log → merge → acknowledged with stores that cost nothing, beside a consumer that only reads
//! and acknowledges. The measurement is a benchmark of the connectors, because it needs stores that the program has not.

use std::process::Command;

use crate::report::Report;

const ARGUMENTS: &str = "bench -p chunk-sync-connectors --features live --bench bus";

pub(crate) fn measure(report: &mut Report) {
    let output = Command::new("cargo").args(ARGUMENTS.split_whitespace()).output().expect("cannot run cargo");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    // `round 0: 18000 events/s through the service, bare 54000/s: 33 %`
    for line in text.lines().filter(|line| line.contains("through the service")) {
        let numbers: Vec<f64> = line.split([' ', '/', ':', ',']).filter_map(|word| word.parse().ok()).collect();
        if let [_, service, bare, ..] = numbers[..] {
            report.add("bus: bare consumer", "events/s", bare);
            report.add_beside("bus: service", "events/s", service, "bus: bare consumer");
        }
    }
}
