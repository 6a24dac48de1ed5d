//! What the table makes of the rows that a merge writes: triggers alter and skip writes, and columns that a merge does
//! not change keep values that a chunk cannot represent.

use std::sync::Arc;

use chunk_sync_connectors::postgres::PostgresRecords;
use chunk_sync_engine::ports::{
    Altered, Commit, Committed, Fault, FaultClass, Fence, MergeScope, RowsWritten, SystemOfRecord,
};
use chunk_sync_model::document::row_fingerprint;
use chunk_sync_model::{Record, State};
use chunk_sync_testkit::merging::{Merging, commit};
use chunk_sync_testkit::states::{delete, states, version, write};
use uuid::Uuid;

use crate::fixture::{Database, Pg15, Pg18, Server};

fn numbered(id: Uuid, state: Option<Arc<State>>, number: u64) -> Commit {
    commit(id, Record { version: version(number), ..Record::default() }, state)
}

/// Merges as the engine does: writes, takes up what was stored, and commits; begins again if it is overtaken.
async fn merged(records: &PostgresRecords, commit: Commit) -> Result<Vec<Altered>, Fault> {
    for _ in 0..3 {
        let mut commit = commit.clone();
        let (ids, fence) = ([commit.id], Fence::default());
        let mut transaction = records.begin(MergeScope { ids: &ids, fence: &fence, finished: &[] }).await?;
        let RowsWritten::Stored(altered) = transaction.write(std::slice::from_ref(&commit)).await? else {
            continue;
        };
        if let Some(altered) = altered.first() {
            commit.row = Some(row_fingerprint(&altered.state).digest());
            commit.state = Some(Arc::clone(&altered.state));
        }
        if transaction.commit(vec![commit]).await? == Committed::Durable {
            return Ok(altered);
        }
    }
    panic!("overtaken three times");
}

fn trigger(when: &str, body: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$;
         CREATE TRIGGER t {when} ON unified.chunks FOR EACH ROW EXECUTE FUNCTION t();"
    )
}

async fn what_a_trigger_made_of_a_row_is_reported_and_recorded<S: Server>() {
    for (when, body) in [
        ("BEFORE INSERT OR UPDATE", "NEW.updated_at = clock_timestamp(); NEW.content = upper(NEW.content); RETURN NEW;"),
        ("BEFORE INSERT OR UPDATE", "NEW.metadata = NEW.metadata || '{\"seen\": true}'; RETURN NEW;"),
        ("BEFORE INSERT OR UPDATE", "NEW.dense_vector = NULL; RETURN NEW;"),
        (
            "AFTER INSERT OR UPDATE",
            "IF pg_trigger_depth() = 1 THEN UPDATE unified.chunks SET summary = 'by a trigger' WHERE id = NEW.id; END IF;
             RETURN NULL;",
        ),
    ] {
        let database = Database::fresh::<S>().await;
        let records = database.prepared().await;
        database.meddle(&trigger(when, body)).await;
        let mut state = State::clone(&states(1)[0]);
        let id = state.chunk.id;
        for number in 1..4 {
            state.chunk.content = format!("text number {number}");
            let altered = merged(&records, numbered(id, Some(state.clone().into()), number)).await.unwrap();
            let row = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
            let stored = row.state.unwrap();
            assert_eq!(altered.len(), 1, "{body}");
            assert_eq!(altered[0].state, stored, "{body}");
            assert_ne!(*stored, state, "{body}");
            assert_eq!(row.seen, Some(row_fingerprint(&stored).digest()), "{body}");
        }
    }
}

/// The first merges find no trigger, and send rows and commit together.
async fn a_trigger_that_is_created_later_is_seen_by_the_next_merge<S: Server>() {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    let mut state = State::clone(&states(1)[0]);
    let id = state.chunk.id;
    let mut number = 0;
    let mut next = async |content: &str| {
        number += 1;
        state.chunk.content = content.to_owned();
        let altered = merged(&records, numbered(id, Some(state.clone().into()), number)).await.unwrap();
        let row = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
        let stored = row.state.unwrap();
        assert_eq!((row.version, row.seen), (version(number), Some(row_fingerprint(&stored).digest())), "{content}");
        (altered.len(), stored.chunk.content.clone())
    };
    assert_eq!(next("the first text").await, (0, "the first text".to_owned()));
    assert_eq!(next("the second text").await, (0, "the second text".to_owned()));
    database.meddle(&trigger("BEFORE UPDATE", "NEW.content = upper(NEW.content); RETURN NEW;")).await;
    assert_eq!(next("the third text").await, (1, "THE THIRD TEXT".to_owned()));
    assert_eq!(next("the fourth text").await, (1, "THE FOURTH TEXT".to_owned()));
    database.meddle("DROP TRIGGER t ON unified.chunks").await;
    assert_eq!(next("the fifth text").await, (0, "the fifth text".to_owned()));
    assert_eq!(next("the sixth text").await, (0, "the sixth text".to_owned()));
}

/// Rows, record and commit are sent together: what fails in between must not be committed, nor reported as durable.
async fn a_row_that_fails_beside_others_commits_nothing<S: Server>() {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    let states = states(3);
    merged(&records, numbered(states[0].chunk.id, Some(Arc::clone(&states[0])), 1)).await.unwrap();
    database.meddle("ALTER TABLE unified.chunks ADD CONSTRAINT calm CHECK (summary IS DISTINCT FROM 'loud')").await;
    let mut loud = State::clone(&states[2]);
    loud.chunk.summary = Some("loud".to_owned());
    let commits = vec![
        numbered(states[1].chunk.id, Some(Arc::clone(&states[1])), 1),
        numbered(loud.chunk.id, Some(loud.clone().into()), 1),
    ];
    let ids: Vec<Uuid> = commits.iter().map(|commit| commit.id).collect();
    let fence = Fence::default();
    let mut transaction = records.begin(MergeScope { ids: &ids, fence: &fence, finished: &[] }).await.unwrap();
    assert!(matches!(transaction.write(&commits).await.unwrap(), RowsWritten::Stored(altered) if altered.is_empty()));
    let fault = transaction.commit(commits).await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Rejected, "{fault}");
    assert!(records.rows_of(&ids).await.unwrap().iter().all(Option::is_none));
    merged(&records, numbered(states[1].chunk.id, Some(Arc::clone(&states[1])), 1)).await.unwrap();
}

async fn a_write_that_is_skipped_is_refused<S: Server>() {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    let states = states(2);
    let (id, skipped) = (states[0].chunk.id, "RETURN NULL;");
    merged(&records, numbered(id, Some(Arc::clone(&states[0])), 1)).await.unwrap();
    database.meddle(&trigger("BEFORE INSERT OR UPDATE OR DELETE", skipped)).await;
    let mut changed = State::clone(&states[0]);
    changed.chunk.summary = Some("another".to_owned());
    for commit in [
        numbered(states[1].chunk.id, Some(Arc::clone(&states[1])), 2),
        numbered(id, Some(changed.clone().into()), 2),
        numbered(id, None, 2),
    ] {
        let fault = merged(&records, commit).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Rejected, "{fault}");
        assert!(fault.message.contains("trigger"), "{fault}");
    }
    // A trigger may skip what changes nothing.
    merged(&records, numbered(id, Some(Arc::clone(&states[0])), 2)).await.unwrap();
    let row = records.rows_of(&[id]).await.unwrap().remove(0).unwrap();
    assert_eq!((row.version, row.state.as_ref()), (version(2), Some(&states[0])));
}

async fn values_that_a_chunk_cannot_represent_stay_exact<S: Server>() {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    let state = states(1).remove(0);
    let id = state.chunk.id;
    merged(&records, numbered(id, Some(Arc::clone(&state)), 1)).await.unwrap();
    database
        .meddle(
            "UPDATE unified.chunks SET created_at = '4713-01-01 BC', indexed_at = '20000-01-01',
             cognified_at = '-infinity', metadata = metadata || '{\"big\": 1e400, \"long\": 12345678901234567890123, \"k\": 1}'",
        )
        .await;
    let shown = "SELECT concat_ws(' ', created_at AT TIME ZONE 'UTC', indexed_at AT TIME ZONE 'UTC', cognified_at,
        md5(metadata->>'big'), metadata->>'long', metadata->>'k', summary) FROM unified.chunks";
    let text = async || database.one(shown).await.get::<_, String>(0);
    let before = text().await;
    let mut read = State::clone(&records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap());
    for time in [Some(read.chunk.metadata.created_at), read.chunk.metadata.indexed_at, read.chunk.metadata.cognified_at]
    {
        let time = time.unwrap().to_string();
        assert!(time.starts_with("0001-01-01") || time.starts_with("9999-12-30"), "{time}");
    }
    read.chunk.summary = Some("new".to_owned());
    read.chunk.metadata.extra.insert("k".to_owned(), 2.into());
    merged(&records, numbered(id, Some(read.clone().into()), 2)).await.unwrap();
    let after = text().await;
    let (head, _) = before.rsplit_once(" 1").unwrap();
    assert_eq!(after, format!("{head} 2 new"));
    assert_eq!(*records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap(), read);
}

async fn a_row_of_another_program_keeps_its_metadata<S: Server>() {
    let database = Database::fresh::<S>().await;
    let records = database.prepared().await;
    let id = Uuid::new_v4();
    let row =
        format!("INSERT INTO unified.chunks (id, content, metadata) VALUES ('{id}', 'short', '{{\"n\": 1e400}}')");
    database.meddle(&row).await;
    let mut state = State::clone(&records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap());
    state.chunk.summary = Some("of a writer".to_owned());
    merged(&records, numbered(id, Some(state.clone().into()), 1)).await.unwrap();
    let kept = "SELECT metadata->'n' = '1e400'::jsonb AND metadata ? '_chunk' FROM unified.chunks";
    assert!(database.one(kept).await.get::<_, bool>(0));
    assert_eq!(*records.rows_of(&[id]).await.unwrap().remove(0).unwrap().state.unwrap(), state);
    let applied = records.apply(&[write(&state.into(), 2), delete(id, 3)][1..]).await;
    assert!(applied[0].is_durable());
}

macro_rules! on {
    ($name:ident, $server:ident, [$($test:ident),* $(,)?]) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<super::$server>().await;
                }
            )*
        }
    };
    ($name:ident, $server:ident) => {
        on!($name, $server, [
            what_a_trigger_made_of_a_row_is_reported_and_recorded,
            a_trigger_that_is_created_later_is_seen_by_the_next_merge,
            a_row_that_fails_beside_others_commits_nothing,
            a_write_that_is_skipped_is_refused,
            values_that_a_chunk_cannot_represent_stay_exact,
            a_row_of_another_program_keeps_its_metadata,
        ]);
    };
}

on!(on_15, Pg15);
on!(on_18, Pg18);
