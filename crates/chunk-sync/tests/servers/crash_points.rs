//! The program is killed at every failpoint, on real servers and under load: nothing is lost, and repeated work changes
//! nothing.

use std::os::unix::process::ExitStatusExt;
use std::time::Instant;

use chunk_sync_engine::crash_point::CrashPoint;

use crate::environment::Environment;
use crate::oracle::Oracle;

/// SIGABRT.
const ABORTED: i32 = 6;

/// An address at which no graph listens, and no patience with it: writes to the graph go to the outbox at once.
const NO_GRAPH: &[(&str, &str)] =
    &[("CHUNK_SYNC__NEO4J__URL", "bolt://127.0.0.1:9"), ("CHUNK_SYNC__WORKER__PATIENCE", "0s")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_at_any_failpoint_loses_nothing() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let mut oracle = Oracle::default();
    let mut table = vec![format!("{:14} {:>5} {:>9} {:>13}", "killed at", "lost", "replayed", "seconds after")];
    for point in CrashPoint::ALL {
        if *point == CrashPoint::Drained {
            // The outbox must hold something before it can be drained.
            let run = environment.go_on(&[], NO_GRAPH);
            oracle.load(&environment).await;
            environment.settled().await;
            run.terminate();
        }
        let variables = if *point == CrashPoint::Enqueued { NO_GRAPH } else { &[] };
        let run = environment.go_on(&["--crash-at", point.as_str()], variables);
        oracle.load(&environment).await;
        if *point == CrashPoint::DeadLettered {
            environment.add(&[("event_id", "none".to_owned())]).await;
        }
        let status = run.ended().await;
        assert_eq!(status.signal(), Some(ABORTED), "{}: {status}", point.as_str());
        let began = Instant::now();
        let run = environment.go_on(&[], &[]);
        oracle.assert_everywhere(&environment).await;
        let seconds = began.elapsed().as_secs_f64();
        let summary = run.terminate();
        table.push(format!("{:14} {:>5} {:>9} {seconds:>13.1}", point.as_str(), 0, summary["replayed"].to_string()));
    }
    assert_eq!(environment.dead().await.len(), 1, "one dead letter for the invalid entry");
    eprintln!("{}", table.join("\n"));
}
