//! What ordinary applications do with their table: foreign keys that cascade, generated columns, triggers that write other
//! rows, deferred constraints, another id, a metadata column that an ORM replaces, large bulk deletions.

use serde_json::Value;
use uuid::Uuid;

use crate::environment::{Environment, lines};

const SCHEMA: &str = "
    CREATE TABLE unified.documents (id uuid PRIMARY KEY);
    ALTER TABLE unified.chunks
        ADD COLUMN document uuid REFERENCES unified.documents ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
        ADD COLUMN content_length int GENERATED ALWAYS AS (length(content)) STORED,
        ADD COLUMN tenant text NOT NULL DEFAULT 'main';
    CREATE FUNCTION unified.mark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        UPDATE unified.chunks SET metadata = jsonb_set(metadata, '{marked}', to_jsonb(NEW.summary)), updated_at = now()
            WHERE content = 'the row that the trigger writes';
        RETURN NULL;
    END $$;
    CREATE TRIGGER mark AFTER UPDATE OF summary ON unified.chunks FOR EACH ROW
        WHEN (NEW.summary LIKE 'mark %') EXECUTE FUNCTION unified.mark();";

fn row(id: Uuid, document: Option<Uuid>, content: &str) -> String {
    let document = document.map_or("NULL".to_owned(), |document| format!("'{document}'"));
    format!(
        "INSERT INTO unified.chunks (id, document, content, chunk_type, metadata, created_at, updated_at) \
         VALUES ('{id}', {document}, '{content}', 'text', '{{}}', now(), now())"
    )
}

async fn is_in_every_store(environment: &Environment, id: Uuid) -> bool {
    environment.has_node(id).await && environment.has_point(id).await
}

async fn is_in_no_store(environment: &Environment, id: Uuid) -> bool {
    !environment.has_node(id).await && !environment.has_point(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cascades_triggers_generated_columns_and_other_ids_are_carried() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.sql(SCHEMA).await;
    let _run = environment.start();
    environment.publish(6);
    environment.settled().await;
    let ids = environment.ids().await;

    // A deferred constraint: the rows come before their document.
    let (document, one, two, target) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    environment
        .sql(&format!(
            "BEGIN; {}; {}; INSERT INTO unified.documents VALUES ('{document}'); {}; COMMIT",
            row(one, Some(document), "the first row of a document"),
            row(two, Some(document), "the second row of a document"),
            row(target, None, "the row that the trigger writes"),
        ))
        .await;
    for id in [one, two, target] {
        environment.visible("the rows", || is_in_every_store(&environment, id)).await;
    }

    // A trigger writes another row: also when a merge of the service fires it.
    let first = ids[0];
    environment.sql(&format!("UPDATE unified.chunks SET summary = 'mark one' WHERE id = '{first}'")).await;
    environment.visible("the other row", || environment.point_says(target, "marked", "mark one")).await;
    let mut chunk: Value = serde_json::from_str(&lines(1)[0]).unwrap();
    chunk["summary"] = "mark two".into();
    chunk["metadata"]["updated_at"] = jiff::Timestamp::now().to_string().into();
    environment.publish_lines(&[chunk.to_string()]);
    environment.visible("the other row", || environment.point_says(target, "marked", "mark two")).await;

    // Another id is another chunk.
    let (old, new) = (ids[1], Uuid::new_v4());
    environment.sql(&format!("UPDATE unified.chunks SET id = '{new}' WHERE id = '{old}'")).await;
    environment.visible("the new id", || is_in_every_store(&environment, new)).await;
    environment.visible("the old id", || is_in_no_store(&environment, old)).await;

    // The document goes, and its rows with it.
    environment.sql(&format!("DELETE FROM unified.documents WHERE id = '{document}'")).await;
    for id in [one, two] {
        environment.visible("the cascade", || is_in_no_store(&environment, id)).await;
    }
    environment.settled().await;
    assert_eq!(environment.dead().await.len(), 0);
    environment.assert_equal(7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orm_that_replaces_the_metadata_takes_nothing_away_that_has_no_column() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    let _run = environment.start();
    environment.publish(3);
    environment.settled().await;
    let ids = environment.ids().await;
    environment
        .sql("CREATE TABLE unified.before AS SELECT id, metadata->'_chunk' AS reserved FROM unified.chunks")
        .await;
    let kept = "SELECT count(*) FROM unified.chunks JOIN unified.before USING (id) WHERE metadata->'_chunk' = reserved";
    assert_eq!(environment.count(kept).await, 3, "each row has the reserved key");
    environment.sql("UPDATE unified.chunks SET metadata = '{\"topic\": \"orm\"}', updated_at = now()").await;
    for id in ids {
        environment.visible("the metadata", || environment.point_says(id, "topic", "orm")).await;
    }
    environment.settled().await;
    environment.visible("the reserved key", || async { environment.count(kept).await == 3 }).await;
    // Only the key goes.
    environment.sql("UPDATE unified.chunks SET metadata = metadata - '_chunk'").await;
    environment.visible("the reserved key", || async { environment.count(kept).await == 3 }).await;
    environment.settled().await;
    environment.assert_equal(3);
    assert_eq!(environment.count("SELECT count(*) FROM chunk_sync.conflicts").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_rows_that_the_application_deletes_pass_at_once_and_never_count() {
    let environment = Environment::new().await;
    environment.fine(&["init"]);
    environment.publish(2_010);
    let _run = environment.start();
    environment.settled().await;
    environment
        .sql("DELETE FROM unified.chunks WHERE id NOT IN (SELECT id FROM unified.chunks ORDER BY id LIMIT 10)")
        .await;
    environment.visible("their end", || async { environment.nodes().await == 10 }).await;
    environment.settled().await;
    environment.assert_equal(10);
    assert_eq!(environment.count("SELECT count(*) FROM chunk_sync.absent").await, 0, "none is held");
    assert_eq!(environment.count("SELECT count(*) FROM chunk_sync.absence_deletions").await, 0, "none counts");
}
