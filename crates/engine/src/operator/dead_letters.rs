//! Reads dead letters: the reasons in a letter, publishing its event again, and whether its event is still needed. The
//! operator decides which letters are retried or dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chunk_sync_model::event::Fields;
use chunk_sync_model::{Event, Limits, Record, Target, Time, Writer};
use tracing::info;
use uuid::Uuid;

use crate::Publisher;
use crate::ports::chunk_id;
use crate::ports::{DEAD_FIELDS, DeadLetters, EntryId, Fault, Letter, SystemOfRecord, each_record};

/// Letters read at once.
const PAGE: usize = 100;

/// Why an entry was dead-lettered, according to its letter. Another program may have written the letter: a reason that
/// cannot be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons {
    /// When the engine gave it up.
    pub at: Option<Time>,
    /// Its id on the bus; empty if only the log still had it.
    pub stream_id: String,
    /// The class of the fault, one of [`FaultClass`](crate::ports::FaultClass)'s names.
    pub class: String,
    /// The error message.
    pub error: String,
    /// The field that caused the error.
    pub field: Option<String>,
    /// The number of attempts.
    pub attempts: u32,
    /// The stores that do not hold the state of the event.
    pub missing: Vec<Target>,
}

impl Letter {
    /// The text of a field; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let field = self.fields.iter().find(|(field, _)| field == name.as_bytes());
        field.map(|(_, value)| String::from_utf8_lossy(value))
    }

    /// The reasons in the letter.
    #[must_use]
    pub fn reasons(&self) -> Reasons {
        let text = |name| self.text(name).map(Cow::into_owned).unwrap_or_default();
        Reasons {
            at: text("dead_at").parse().ok(),
            stream_id: text("stream_id"),
            class: text("error_type"),
            error: text("error"),
            field: Some(text("field")).filter(|field| !field.is_empty()),
            attempts: text("attempts").parse().unwrap_or_default(),
            missing: serde_json::from_str(&text("missing")).unwrap_or_default(),
        }
    }

    /// The fields of the entry as they were published.
    #[must_use]
    pub fn original(&self) -> Fields {
        let added = |name: &[u8]| DEAD_FIELDS.iter().any(|dead| dead.as_bytes() == name);
        self.fields.iter().filter(|(name, _)| !added(name)).cloned().collect()
    }

    /// The id of the chunk, also if the event as a whole cannot be read.
    #[must_use]
    pub fn chunk(&self) -> Option<Uuid> {
        chunk_id(self.text("chunk")?.as_bytes())
    }
}

/// The event to publish again: with its retry count raised, and for one store only if `target` is set.
#[must_use]
pub fn again(event: Event, target: Option<Target>) -> Event {
    let targets = target.map_or(event.targets, |target| vec![target]);
    Event { retry_count: event.retry_count.saturating_add(1), targets, ..event }
}

/// Whether nothing of the event is needed any more: its writer has published a whole view since, or it was merged and a
/// newer state, which contains all of it, went to the stores since. `missing` are the stores that do not hold it.
///
/// A newer view that leaves parts out as unchanged does not replace them: it relies on the event that failed. Nor does a
/// newer event by `operator`, because each carries one part only.
#[must_use]
pub fn is_superseded(event: &Event, missing: &[Target], record: &Record) -> bool {
    if event.writer == Writer::Operator {
        return false;
    }
    let replaced = record.writers.get(&event.writer).is_some_and(|history| history.whole > event.time());
    let merged = !missing.contains(&Target::Postgres) && !missing.is_empty();
    replaced || (merged && record.newest_change() > event.time())
}

/// Publishes the event of a letter, and only then drops the letter; returns the new entry. A crash in between leaves
/// both, and the event is carried twice: because of its version that has the same effect as once.
///
/// # Errors
/// The fault of the bus; the letter still exists then.
pub async fn retry(
    letters: &dyn DeadLetters,
    publisher: &Publisher,
    id: EntryId,
    event: Event,
) -> Result<Option<EntryId>, Fault> {
    let published = publisher.publish(vec![event]).await?;
    letters.drop_dead(id).await?;
    Ok(published.first().copied())
}

/// Which of the events, each with the stores that do not hold it, are superseded by the recorded state.
///
/// # Errors
/// The system of record does not answer.
pub async fn superseded(records: &dyn SystemOfRecord, events: &[(Event, Vec<Target>)]) -> Result<Vec<bool>, Fault> {
    let mut ids: Vec<Uuid> = events.iter().map(|(event, _)| event.chunk_id()).collect();
    ids.sort_unstable();
    ids.dedup();
    let found = each_record(records, &ids).await?;
    let found: BTreeMap<Uuid, Option<Record>> = ids.into_iter().zip(found).collect();
    let judge = |(event, missing): &(Event, Vec<Target>)| {
        let record = found.get(&event.chunk_id()).and_then(Option::as_ref);
        record.is_some_and(|record| is_superseded(event, missing, record))
    };
    Ok(events.iter().map(judge).collect())
}

/// Drops the superseded ones among the next letters after `after`; returns the last letter read, `None` at the end.
pub(crate) async fn tidy(
    letters: &dyn DeadLetters,
    records: &dyn SystemOfRecord,
    limits: &Limits,
    after: Option<EntryId>,
) -> Result<Option<EntryId>, Fault> {
    let page = letters.dead(after, PAGE).await?;
    let read = |letter: &Letter| {
        let event = Event::from_fields(&letter.original(), limits).ok()?;
        Some((letter.id, (event, letter.reasons().missing)))
    };
    let (ids, events): (Vec<EntryId>, Vec<_>) = page.iter().filter_map(read).unzip();
    for (id, is_superseded) in ids.into_iter().zip(superseded(records, &events).await?) {
        if is_superseded && letters.drop_dead(id).await? {
            info!(letter = %id, "dropped a superseded dead letter");
        }
    }
    Ok(page.last().map(|letter| letter.id))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chunk_sync_model::merge::{Change, Strategies, merge};
    use serde_json::json;

    use super::*;
    use crate::ports::{DeadLetter, EntryId, FaultClass};

    fn event(writer: &str, updated_at: &str) -> Event {
        let json = json!({
            "id": Uuid::max(), "system_origin": writer, "content": format!("of {updated_at}"), "chunk_type": "text",
            "source": { "type": "api" }, "location": { "start_char": 0, "end_char": 9, "chunk_index": 0 },
            "organization": {}, "metadata": { "created_at": "2026-01-01T00:00:00Z", "updated_at": updated_at },
        });
        Event::from_json(&json.to_string(), &Limits::default()).unwrap()
    }

    fn merged(events: &[&Event]) -> Record {
        let mut record = None;
        for event in events {
            record = Some(merge(record, None, &Change::from(*event), &Strategies::default()).record);
        }
        record.unwrap()
    }

    #[test]
    fn a_letter_gives_back_what_was_dead_lettered() {
        let fields: Fields = vec![(b"chunk".to_vec(), br#"{"id":"00000000-0000-0000-0000-000000000007"}"#.to_vec())];
        let letter = DeadLetter {
            id: Some(EntryId { millis: 17, sequence: 3 }),
            fields: fields.clone(),
            at: Time::from_micros(1_700_000_000_000_001),
            class: FaultClass::Rejected,
            error: "no type".into(),
            field: Some("type".into()),
            attempts: 2,
            missing: vec![Target::Neo4j],
        };
        let read = Letter { id: EntryId { millis: 18, sequence: 0 }, fields: letter.fields() };
        assert_eq!((read.original(), read.chunk()), (fields, Some(Uuid::from_u128(7))));
        let reasons = Reasons {
            at: Some(letter.at),
            stream_id: "17-3".into(),
            class: "rejected".into(),
            error: "no type".into(),
            field: Some("type".into()),
            attempts: 2,
            missing: vec![Target::Neo4j],
        };
        assert_eq!(read.reasons(), reasons);
    }

    #[test]
    fn a_foreign_letter_is_read_as_far_as_possible() {
        let fields = vec![(b"missing".to_vec(), b"all".to_vec()), (b"chunk".to_vec(), vec![0xff])];
        let letter = Letter { id: EntryId { millis: 1, sequence: 0 }, fields };
        assert_eq!((letter.reasons(), letter.chunk()), (Reasons::default(), None));
    }

    #[test]
    fn a_retry_is_counted_and_may_be_for_one_store() {
        let event = event("claude", "2026-01-02T00:00:00Z");
        let second = again(event.clone(), None);
        assert_eq!((second.retry_count, &second.targets), (1, &event.targets));
        let third = again(second, Some(Target::Qdrant));
        assert_eq!((third.retry_count, third.targets, third.event_id), (2, vec![Target::Qdrant], event.event_id));
    }

    #[test]
    fn a_newer_event_of_its_writer_supersedes_it_and_that_of_another_does_not() {
        let dead = event("claude", "2026-01-02T00:00:00Z");
        let refused = Target::ALL;
        let (newer, others) = (event("claude", "2026-01-03T00:00:00Z"), event("cognee", "2026-01-04T00:00:00Z"));
        assert!(is_superseded(&dead, &refused, &merged(&[&newer])));
        assert!(!is_superseded(&dead, &refused, &merged(&[&others])), "no store holds the change of claude yet");
        assert!(!is_superseded(&newer, &refused, &merged(&[&dead])));
    }

    #[test]
    fn a_newer_event_that_leaves_parts_unchanged_supersedes_nothing() {
        let dead = event("claude", "2026-01-02T00:00:00Z");
        let mut newer = event("claude", "2026-01-03T00:00:00Z");
        newer.unchanged = vec!["content".parse().unwrap()];
        let first = event("claude", "2026-01-01T12:00:00Z");
        assert!(!is_superseded(&dead, &Target::ALL, &merged(&[&first, &newer])));
        let whole = event("claude", "2026-01-04T00:00:00Z");
        assert!(is_superseded(&dead, &Target::ALL, &merged(&[&first, &newer, &whole])));
    }

    #[test]
    fn a_decision_of_the_operator_never_drops_itself() {
        let decision = |updated_at: &str, part: &str| Event {
            writer: Writer::Operator,
            set: vec![part.parse().unwrap()],
            ..event("claude", updated_at)
        };
        let first = event("claude", "2026-01-01T12:00:00Z");
        let (dead, other) = (decision("2026-01-02T00:00:00Z", "content"), decision("2026-01-03T00:00:00Z", "summary"));
        for missing in [&Target::ALL[..], &[Target::Qdrant]] {
            assert!(!is_superseded(&dead, missing, &merged(&[&first, &other])));
        }
    }

    #[test]
    fn what_was_merged_is_superseded_by_whatever_came_since() {
        let dead = event("claude", "2026-01-02T00:00:00Z");
        let others = event("cognee", "2026-01-04T00:00:00Z");
        assert!(is_superseded(&dead, &[Target::Qdrant], &merged(&[&dead, &others])));
        assert!(!is_superseded(&dead, &[Target::Qdrant], &merged(&[&dead])), "Qdrant still lacks it");
        assert_eq!(merged(&[&dead]).writers[&Writer::Claude].last, dead.time());
    }
}
