//! Troubles that a single chunk, row, entry or client makes. What they write is gone again when they are over; what must be
//! refused is a dead letter by then.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use uuid::Uuid;

use super::application::{Application, chunk, fields};
use super::installation::Installation;

/// How long most troubles last.
pub(super) const WHILE: Duration = Duration::from_secs(2);

/// Rows of one transaction.
const ROWS: u32 = 3_000;

/// The limit of a chunk's entities.
const ENTITIES: u32 = 2_000;

/// Clients that never finish their requests.
const CLIENTS: usize = 100;

async fn publish(on: &Installation, kind: &str, chunk: &Value) -> String {
    on.environment.add(&fields(kind, chunk)).await
}

/// Waits until the chunk has a dead letter, which is expected from then on.
async fn is_refused(on: &Installation, application: &Application, id: Uuid) {
    let has_letter = || async {
        let letters = on.environment.dead().await;
        letters.iter().any(|letter| letter.get("chunk").is_some_and(|chunk| chunk.contains(&id.to_string())))
    };
    application.expected().refused.insert(id);
    on.environment.visible("the dead letter of a refused chunk", has_letter).await;
}

/// The table has a constraint that one chunk violates.
pub(super) async fn refuse(on: &Installation, application: &Application) {
    let id = Uuid::new_v4();
    let table = "ALTER TABLE unified.chunks";
    let constraint = format!("{table} ADD CONSTRAINT refuses CHECK (id <> '{id}') NOT VALID");
    on.environment.sql(&constraint).await;
    publish(on, "create", &chunk(id, "a chunk that the table refuses")).await;
    is_refused(on, application, id).await;
    on.environment.sql(&format!("{table} DROP CONSTRAINT refuses")).await;
}

/// The application writes a row that is longer than the limit.
pub(super) async fn oversize(on: &Installation, application: &Application) {
    let id = Uuid::new_v4();
    let insert = format!("INSERT INTO unified.chunks (id, content) VALUES ('{id}', repeat('x', 20000000))");
    on.environment.sql(&insert).await;
    is_refused(on, application, id).await;
    on.environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
}

/// One transaction inserts thousands of rows, and another one deletes them.
pub(super) async fn flood(on: &Installation) {
    let insert = format!(
        "INSERT INTO unified.chunks (id, content)
         SELECT gen_random_uuid(), 'a row of the flood ' || g FROM generate_series(1, {ROWS}) g"
    );
    on.environment.sql(&insert).await;
    sleep(WHILE).await;
    on.environment.sql("DELETE FROM unified.chunks WHERE content LIKE 'a row of the flood%'").await;
}

/// A chunk with as many entities as a chunk may have changes a few times.
pub(super) async fn heavy(on: &Installation) {
    let id = Uuid::new_v4();
    let entity = |number: u32| {
        let name = format!("entity {number}");
        json!({ "id": name, "type": "concept", "name": name, "confidence": 0.5, "source_positions": [] })
    };
    let mut heavy = chunk(id, "a chunk with many entities");
    heavy["graph"]["entities"] = (0..ENTITIES).map(entity).collect();
    for turn in 0..3 {
        heavy["content"] = format!("a chunk with many entities, turn {turn}").into();
        heavy["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
        publish(on, "update", &heavy).await;
    }
    sleep(WHILE).await;
    publish(on, "delete", &chunk(id, "a chunk with many entities")).await;
}

/// Another client deletes an entry that may be unread. The application writes nothing meanwhile: what was captured in a gap is
/// compared, and an absent row waits for an operator.
pub(super) async fn delete_entry(on: &Installation, application: &Application) {
    let _turn = application.maintenance.write().await;
    let id = Uuid::new_v4();
    let entry = publish(on, "create", &chunk(id, "a chunk whose entry is deleted")).await;
    let mut delete = redis::cmd("XDEL");
    delete.arg(format!("{}:stream", on.environment.name)).arg(entry);
    delete.query_async::<()>(&mut on.environment.redis.clone()).await.unwrap();
    sleep(WHILE).await;
    // Whether it was carried or lost: the chunk is gone.
    publish(on, "delete", &chunk(id, "a chunk whose entry is deleted")).await;
}

/// Clients that begin a request and never finish it do not keep a health check from its answer.
pub(super) async fn dawdle(on: &Installation) {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        // The server may close or refuse some; the check below decides.
        if let Ok(mut client) = TcpStream::connect(("127.0.0.1", on.http)).await {
            let _ = client
                .write_all(b"POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer wrong\r\n")
                .await;
            clients.push(client);
        }
    }
    on.environment.visible("/healthz beside slow clients", || on.is_healthy()).await;
    drop(clients);
}
