//! The scenarios on the ports in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chunk_sync_engine::ports::FinishedBy;
use chunk_sync_model::Target;
use chunk_sync_testkit::memory::World;
use chunk_sync_testkit::scenarios::{Outcomes, Scenario, all, play};

async fn played(scenarios: &[Scenario], world: World) -> Outcomes {
    let dir = std::env::temp_dir().join(format!("chunk-sync-scenarios-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&dir).unwrap();
    let outcomes = play(scenarios, &world.ports(), &world, &dir, jiff::Timestamp::now().into()).await;
    std::fs::remove_dir_all(&dir).unwrap();
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_ends_as_its_table_requires() {
    assert!(played(&all(), World::new(FinishedBy::Acknowledgement)).await.len() >= 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_if_the_merge_finishes_entries() {
    let both = [
        played(&all(), World::new(FinishedBy::Acknowledgement)).await,
        played(&all(), World::new(FinishedBy::Merge)).await,
    ];
    assert!(both[0].keys().eq(both[1].keys()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "3 claims do not hold")]
async fn a_claim_that_does_not_hold_is_found() {
    let mut three: Vec<Scenario> = all().into_iter().filter(|scenario| scenario.shows.is_some()).take(3).collect();
    three[0].shows = Some(vec![("content", "another text".into())]);
    three[1].shows = None;
    three[2].meets = vec![("content", "merged")];
    played(&three, World::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario_holds_with_any_set_of_stores() {
    for stores in [&[][..], &[Target::Qdrant], &[Target::Neo4j]] {
        let has = |scenario: &Scenario| scenario.needs().iter().all(|target| stores.contains(target));
        let scenarios: Vec<Scenario> = all().into_iter().filter(has).collect();
        assert!(played(&scenarios, World::with(stores)).await.len() >= 30, "{stores:?}");
    }
}
