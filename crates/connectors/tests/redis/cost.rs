//! What the bus costs: commands, as the server counts them, those of scripts included. Seconds depend on the machine, these
//! do not.

use chunk_sync_engine::ports::{Bus, Handover};

use super::server::Server;
use super::surroundings::{LONG, config, events, ids, reader, send};

/// The number of commands that the server has run.
async fn commands(url: &str) -> usize {
    let statistics: String = send(url, &["INFO", "commandstats"]).await;
    let calls = |line: &str| line.split_once(":calls=")?.1.split(',').next()?.parse::<usize>().ok();
    statistics.lines().filter_map(calls).sum()
}

#[tokio::test]
async fn commands_grow_only_with_the_entries_that_are_added() {
    let server = Server::start(&[]);
    let url = server.url();
    let bus = reader(&config(&url), Handover::Silent).await;
    let before = commands(&url).await;
    let question = commands(&url).await - before;
    // The first use of a script loads it.
    let first = bus.publish(&events(1)).await.unwrap();
    bus.read(1, LONG).await.unwrap();
    bus.acknowledge(&first).await.unwrap();
    for rows in [1, 256] {
        let sent = events(rows);
        let mut last = commands(&url).await;
        let mut took = async || {
            let now = commands(&url).await;
            let cost = (now - last).saturating_sub(question);
            last = now;
            cost
        };
        let published = bus.publish(&sent).await.unwrap();
        let publishing = took().await;
        let read = bus.read(rows, LONG).await.unwrap();
        let reading = took().await;
        bus.acknowledge(&published).await.unwrap();
        let acknowledging = took().await;
        eprintln!("{rows} entries: {publishing} to publish, {reading} to read, {acknowledging} to acknowledge");
        assert_eq!(ids(&read), published);
        assert!(publishing <= rows + 10, "{rows} entries: {publishing} commands to publish");
        // The beat of the consumer and the claims of others' entries run beside it.
        assert!(reading <= 32, "{rows} entries: {reading} commands to read");
        assert!(acknowledging <= 6, "{rows} entries: {acknowledging} commands to acknowledge");
    }
}
