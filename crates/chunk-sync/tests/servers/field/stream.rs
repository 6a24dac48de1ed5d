//! Troubles of the stream: a server without memory, another client that trims, a wrong limit, and a backlog.

use redis::Cmd;
use tokio::time::sleep;
use uuid::Uuid;

use super::application::{Application, chunk, fields};
use super::hardships::WHILE;
use super::installation::{Installation, LEAST_CHARS};

/// Entries that another client trims before the service has read them.
const TRIMMED: usize = 10;

/// Chunks that come to share one entity.
const HUB: u64 = 3_000;

async fn execute(on: &Installation, command: &mut Cmd) {
    command.exec_async(&mut on.environment.redis.clone()).await.unwrap();
}

async fn set_memory(on: &Installation, bytes: &str) {
    execute(on, redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes)).await;
}

/// Redis has no memory for new entries for a while; publishers try again.
pub(super) async fn fill_memory(on: &Installation) {
    let mut read = redis::cmd("CONFIG");
    read.arg("GET").arg("maxmemory");
    let [_, before]: [String; 2] = read.query_async(&mut on.environment.redis.clone()).await.unwrap();
    set_memory(on, "1").await;
    sleep(WHILE).await;
    set_memory(on, &before).await;
}

/// Another client trims entries that are unread. No client writes meanwhile: what was lost is gone, and what was captured in the
/// gap is compared.
pub(super) async fn trim(on: &Installation, application: &Application) {
    let (_turn, _silence) = (application.maintenance.write().await, application.silence.write().await);
    on.environment.visible("a stream that is read to its end", || on.environment.is_carried()).await;
    on.signal("STOP").await;
    for _ in 0..TRIMMED {
        on.environment.add(&fields("create", &chunk(Uuid::new_v4(), "a chunk whose entry is trimmed"))).await;
    }
    let stream = format!("{}:stream", on.environment.name);
    execute(on, redis::cmd("XTRIM").arg(stream).arg("MAXLEN").arg(0)).await;
    on.signal("CONT").await;
    sleep(WHILE).await;
}

/// Someone sets a limit that every published chunk exceeds, and corrects it after the service has reported it.
pub(super) async fn limit(on: &Installation) {
    on.restart_with_least(10_000).await;
    let names_it = || async { on.readiness().await.contains("the minimum is 10000") };
    on.environment.visible("the wrong limit in readiness", names_it).await;
    sleep(WHILE).await;
    on.restart_with_least(LEAST_CHARS).await;
}

/// While the service stands still, thousands of chunks are published that share an entity. The entity is renamed, and the
/// chunks are deleted.
pub(super) async fn grow_hub(on: &Installation) {
    let of_hub = |number: u64, name: &str| {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("hub {number}").as_bytes());
        let mut chunk = chunk(id, "a chunk of the hub");
        chunk["graph"]["entities"][0]["id"] = "hub".into();
        chunk["graph"]["entities"][0]["name"] = name.into();
        chunk
    };
    on.signal("STOP").await;
    for number in 0..HUB {
        on.environment.add(&fields("update", &of_hub(number, "the hub"))).await;
    }
    on.signal("CONT").await;
    sleep(WHILE).await;
    on.environment.add(&fields("update", &of_hub(0, "the hub with another name"))).await;
    for number in 0..HUB {
        on.environment.add(&fields("delete", &of_hub(number, "the hub"))).await;
    }
}
