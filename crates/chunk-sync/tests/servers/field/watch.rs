//! A watch over chunks that no client writes: each of their points and nodes must stay all the time.

use std::sync::Arc;
use std::time::Duration;

use neo4rs::query;
use qdrant_client::qdrant::{Condition, CountPointsBuilder, Filter, HasIdCondition, condition::ConditionOneOf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::installation::{Installation, Service};
use crate::environment::{Environment, lines};

const CHUNKS: usize = 60;

/// What was seen.
pub(crate) struct Damage {
    /// Store and number of chunks that were left, at most ten.
    pub(crate) destroyed: Vec<String>,
    /// Highest peak resident memory of the service's processes, in KiB.
    pub(crate) memory: u64,
}

pub(crate) struct Watch {
    stop: watch::Sender<bool>,
    looking: JoinHandle<Damage>,
}

impl Watch {
    /// Publishes the chunks, waits until all stores hold them, and starts to look.
    pub(crate) async fn start(installation: &Installation) -> Self {
        let environment = Arc::clone(&installation.environment);
        environment.publish_lines(&lines(CHUNKS));
        environment.visible("the watched chunks", || async { environment.nodes().await == CHUNKS as u64 }).await;
        installation.assert_settled().await;
        let ids = environment.ids().await;
        let (stop, stopped) = watch::channel(false);
        let looking = tokio::spawn(look(environment, ids, Arc::clone(&installation.service), stopped));
        Self { stop, looking }
    }

    pub(crate) async fn stop(self) -> Damage {
        self.stop.send_replace(true);
        self.looking.await.unwrap()
    }
}

async fn look(
    environment: Arc<Environment>,
    ids: Vec<Uuid>,
    service: Arc<Service>,
    stopped: watch::Receiver<bool>,
) -> Damage {
    let mut damage = Damage { destroyed: Vec::new(), memory: 0 };
    while !*stopped.borrow() {
        for (store, left) in [("neo4j", nodes(&environment, &ids).await), ("qdrant", points(&environment, &ids).await)]
        {
            if left != CHUNKS as u64 && damage.destroyed.len() < 10 {
                damage.destroyed.push(format!("{store}: {left} of {CHUNKS} left"));
            }
        }
        damage.memory = damage.memory.max(service.peak().await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    damage
}

async fn nodes(environment: &Environment, ids: &[Uuid]) -> u64 {
    let ids: Vec<String> = ids.iter().map(Uuid::to_string).collect();
    let count = query("MATCH (c:Chunk) WHERE c.id IN $ids RETURN count(c) AS count").param("ids", ids);
    let mut rows = environment.graph.execute(count).await.unwrap();
    let count: i64 = rows.next().await.unwrap().unwrap().get("count").unwrap();
    u64::try_from(count).unwrap()
}

async fn points(environment: &Environment, ids: &[Uuid]) -> u64 {
    let has_id = HasIdCondition { has_id: ids.iter().map(|id| id.to_string().into()).collect() };
    let of = Filter::must([Condition { condition_one_of: Some(ConditionOneOf::HasId(has_id)) }]);
    let count = CountPointsBuilder::new("unified_chunks").filter(of).exact(true);
    environment.vectors.count(count).await.unwrap().result.unwrap().count
}
