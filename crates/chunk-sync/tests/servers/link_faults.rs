//! One service, and each server in turn unreachable: first connections are cut, then they stall. The other servers continue,
//! and afterwards every store holds everything.

use std::time::{Duration, Instant};

use crate::environment::{Environment, peak, variable};
use crate::oracle::Oracle;
use crate::proxy::{LinkState, Proxy, port_of};

/// How long each server is unreachable; `CHUNK_SYNC_AWAY` sets it in seconds, to exceed the timeouts of the clients.
fn away() -> Duration {
    let seconds = std::env::var("CHUNK_SYNC_AWAY")
        .map_or(4, |seconds| seconds.parse().expect("CHUNK_SYNC_AWAY is not a number of seconds"));
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_and_stalled_connections_lose_nothing() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let urls = [
        ("POSTGRES", environment.database.clone()),
        ("REDIS", variable("CHUNK_SYNC_TEST_REDIS_URL")),
        ("QDRANT", environment.qdrant.clone()),
        ("NEO4J", variable("CHUNK_SYNC_TEST_NEO4J_URL")),
    ];
    let mut ways = Vec::new();
    for (name, url) in urls {
        let proxy = Proxy::to(port_of(&url)).await;
        ways.push((name, format!("CHUNK_SYNC__{name}__URL"), proxy.url(&url), proxy));
    }
    let variables: Vec<(&str, &str)> = ways.iter().map(|(_, key, url, _)| (key.as_str(), url.as_str())).collect();
    let run = environment.go_on(&[], &variables);
    let mut oracle = Oracle::default();
    oracle.load(&environment).await;
    oracle.assert_everywhere(&environment).await;
    let mut table = vec![format!("{:19} {:>5} {:>14} {:>10}", "fault", "lost", "seconds after", "memory")];
    for (name, _, _, proxy) in &ways {
        for link_state in [LinkState::Cut, LinkState::Stalled] {
            oracle.load(&environment).await;
            proxy.turns(link_state);
            oracle.load(&environment).await;
            tokio::time::sleep(away()).await;
            oracle.load(&environment).await;
            proxy.turns(LinkState::Fair);
            let began = Instant::now();
            oracle.assert_everywhere(&environment).await;
            let memory = format!("{} kB", peak(run.id()).unwrap());
            let seconds = began.elapsed().as_secs_f64();
            table.push(format!("{:19} {:>5} {seconds:>14.1} {memory:>10}", format!("{name} {link_state:?}"), 0));
        }
    }
    run.terminate();
    eprintln!("{}", table.join("\n"));
}
