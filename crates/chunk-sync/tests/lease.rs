//! Several processes of the program on real servers: one works the stream, the others stand by. The tests kill the working
//! process, stop it in order, suspend it at every stage and while it waits, and cut it off from the system of record.
//!
//! PostgreSQL is named by `CHUNK_SYNC_TEST_PG18_URL`, Redis by `CHUNK_SYNC_TEST_REDIS_URL`. The installations of the
//! tests in this file have no other store: they check the order of merges. Those in `lease/late_writes.rs` have Qdrant.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, reason = "prints how long a takeover took")]

#[path = "lease/environment.rs"]
mod environment;
#[path = "lease/late_writes.rs"]
mod late_writes;
#[path = "lease/process.rs"]
mod process;
#[path = "servers/proxy.rs"]
mod proxy;

use std::time::{Duration, Instant};

use environment::{Bus, Environment};
use proxy::{LinkState, Proxy, port_of};

/// Limit from the death of the holder to the first merge of the next one.
const AFTER_DEATH: Duration = Duration::from_secs(3);

/// Limit from an orderly end of the holder to the first merge of the next one.
const AFTER_STOP: Duration = Duration::from_secs(1);

/// Allowance for a busy machine.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_three_processes_one_works_and_the_next_takes_over_within_seconds() {
    for bus in [Bus::Redis, Bus::Table] {
        of_three_processes(&Environment::new(bus).await).await;
    }
}

async fn of_three_processes(env: &Environment) {
    let mut processes = vec![env.start("a", &[]), env.start("b", &[]), env.start("c", &[])];
    env.publish(1..=20).await;
    env.shows(20).await;
    for round in 0..2 {
        let holder = env.holder().await;
        let dying = processes.remove(processes.iter().position(|process| process.id() == holder).unwrap());
        let version = 100 * (round + 1);
        let began = Instant::now();
        let limit = if round == 0 {
            dying.kill();
            AFTER_DEATH
        } else {
            dying.terminate();
            AFTER_STOP
        };
        let ended = began.elapsed();
        env.publish(version..=version).await;
        env.shows(version).await;
        let took = if round == 0 { began.elapsed() } else { began.elapsed().saturating_sub(ended) };
        eprintln!("round {round}: merged {took:?} after the end of the previous holder");
        assert!(took < limit + SLACK, "{took:?}");
        assert_ne!(env.holder().await, holder);
    }
    env.is_finished().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_suspended_at_any_stage_loses_the_lease_and_repeats_nothing_out_of_order() {
    let redis = ["read", "logged", "merged", "completed", "acknowledged"].map(|point| (Bus::Redis, point));
    let table = ["read", "merged"].map(|point| (Bus::Table, point));
    for (bus, point) in redis.into_iter().chain(table) {
        let env = Environment::new(bus).await;
        let first = env.start("a", &["--stop-at", point]);
        env.until_holder(first.id()).await;
        let second = env.start("b", &[]);
        env.publish(1..=10).await;
        first.stands_still().await;
        env.publish(11..=20).await;
        env.until_holder(second.id()).await;
        env.shows(20).await;
        first.go_on();
        env.publish(21..=30).await;
        env.shows(30).await;
        env.is_finished().await;
        assert_eq!(env.holder().await, second.id(), "{point}");
        // The first process has not ended: it stands by, and works once it gets the lease.
        second.terminate();
        env.until_holder(first.id()).await;
        env.publish(31..=31).await;
        env.shows(31).await;
        first.terminate();
        env.is_finished().await;
        assert_eq!(env.dead_letters().await, 0, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_suspended_while_it_waits_takes_no_entry() {
    for bus in [Bus::Redis, Bus::Table] {
        suspended_while_it_waits(&Environment::new(bus).await).await;
    }
}

async fn suspended_while_it_waits(env: &Environment) {
    let first = env.start("a", &[]);
    env.until_holder(first.id()).await;
    let second = env.start("b", &[]);
    env.publish(1..=1).await;
    env.shows(1).await;
    env.is_finished().await;
    first.stop();
    first.stands_still().await;
    env.publish(2..=9).await;
    env.shows(9).await;
    first.go_on();
    env.publish(10..=20).await;
    env.shows(20).await;
    env.is_finished().await;
    assert_eq!(env.holder().await, second.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_cut_off_from_the_system_of_record_loses_the_lease_and_gets_it_back() {
    let env = Environment::new(Bus::Redis).await;
    let proxy = Proxy::to(port_of(&env.database)).await;
    let first = env.start_at("a", "POSTGRES", &proxy.url(&env.database));
    env.until_holder(first.id()).await;
    let second = env.start("b", &[]);
    env.publish(1..=10).await;
    env.shows(10).await;
    for (link_state, from, to) in [(LinkState::Stalled, 11, 20), (LinkState::Cut, 31, 40)] {
        proxy.turns(link_state);
        env.publish(from..=to).await;
        env.until_holder(second.id()).await;
        env.shows(to).await;
        proxy.turns(LinkState::Fair);
        env.is_finished().await;
        if link_state == LinkState::Stalled {
            // Back to the first process: it must not have ended, and must get the lease again.
            second.stop();
            env.until_holder(first.id()).await;
            env.publish(21..=30).await;
            env.shows(30).await;
            second.go_on();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_replayed_after_another_process_finished_its_events_changes_nothing() {
    let env = Environment::new(Bus::Redis).await;
    let first = env.start("a", &["--crash-at", "logged"]);
    env.until_holder(first.id()).await;
    env.publish(1..=10).await;
    first.crashed().await;
    let second = env.start("b", &[]);
    env.shows(10).await;
    env.publish(11..=20).await;
    env.shows(20).await;
    env.is_finished().await;
    second.terminate();
    let again = env.start("a", &[]);
    env.until_holder(again.id()).await;
    env.publish(21..=21).await;
    env.shows(21).await;
    env.is_finished().await;
    let replayed = again.terminate();
    assert_eq!(replayed["replayed"], 0, "the log replayed events that another process had finished: {replayed}");
    assert_eq!(env.dead_letters().await, 0);
}
