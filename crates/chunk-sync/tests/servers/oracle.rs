//! Load with a known outcome: records every acknowledged change, and checks that all stores hold it.

use std::collections::BTreeMap;

use serde_json::json;
use uuid::Uuid;

use crate::environment::Environment;

/// New chunks per load, by event and by SQL.
const EVENTS: u64 = 40;
const ROWS: u64 = 20;

/// The expected content of each chunk.
#[derive(Default)]
pub(crate) struct Oracle {
    loads: u64,
    contents: BTreeMap<Uuid, String>,
}

impl Oracle {
    /// Publishes new chunks and changes to chunks of the previous load, and writes rows likewise by SQL.
    pub(crate) async fn load(&mut self, environment: &Environment) {
        self.write(environment, EVENTS).await;
    }

    /// Writes rows by SQL and deletes some rows of the previous load; publishes nothing.
    pub(crate) async fn load_rows(&mut self, environment: &Environment) {
        self.write(environment, 0).await;
        let gone = |n| Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("row {} {n}", self.loads - 2).as_bytes());
        for id in (0..3).map(gone) {
            environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
            self.contents.remove(&id).expect("no row of the previous load");
        }
    }

    async fn write(&mut self, environment: &Environment, events: u64) {
        let (new, before) = (self.loads, self.loads.checked_sub(1));
        self.loads += 1;
        let of = |load: Option<u64>, kind, count| {
            (0..count).filter_map(move |n| {
                Some(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{kind} {} {n}", load?).as_bytes()))
            })
        };
        let text = |id: Uuid| format!("text of load {new} for chunk {id}");
        let events: Vec<Uuid> = of(Some(new), "event", events).chain(of(before, "event", events / 2)).collect();
        if !events.is_empty() {
            environment.publish_lines(&events.iter().map(|id| line(*id, &text(*id))).collect::<Vec<_>>());
        }
        let rows: Vec<Uuid> = of(Some(new), "row", ROWS).chain(of(before, "row", ROWS / 2)).collect();
        for rows in rows.chunks(6) {
            let written = rows.iter().map(|id| {
                format!(
                    "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
                     VALUES ('{id}', '{}', 'text', now(), now())
                     ON CONFLICT (id) DO UPDATE SET content = excluded.content, updated_at = now();",
                    text(*id)
                )
            });
            environment.sql(&written.collect::<String>()).await;
        }
        self.contents.extend(events.into_iter().chain(rows).map(|id| (id, text(id))));
    }

    /// Waits until every store holds every change, and asserts that none holds anything else.
    pub(crate) async fn assert_everywhere(&self, environment: &Environment) {
        environment.visible("every node", || async { environment.nodes().await == self.contents.len() as u64 }).await;
        environment.visible("every content", || async { environment.contents().await == self.contents }).await;
        environment.settled().await;
        environment.assert_equal(self.contents.len() as u64);
    }
}

fn line(id: Uuid, content: &str) -> String {
    let now = jiff::Timestamp::now().to_string();
    json!({
        "id": id, "system_origin": "claude", "content": content, "chunk_type": "text", "source": { "type": "api" },
        "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 }, "organization": {},
        "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": now },
    })
    .to_string()
}
