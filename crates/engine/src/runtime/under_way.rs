//! The events that were read and are not complete, and which stores hold them already.

use std::collections::BTreeMap;

use chunk_sync_model::{Target, Time};

/// The events under way, by the id of their operation.
#[derive(Debug, Default)]
pub(crate) struct UnderWay(BTreeMap<String, Begun>);

#[derive(Debug)]
struct Begun {
    source: &'static str,
    at: Time,
    /// By number of the store: whether it holds the event.
    held: [bool; Target::ALL.len()],
}

impl UnderWay {
    pub(crate) fn begin(&mut self, id: &str, source: &'static str, at: Time) {
        self.0.insert(id.to_owned(), Begun { source, at, held: Default::default() });
    }

    pub(crate) fn end(&mut self, id: &str) {
        self.0.remove(id);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Notes that the store holds the event.
    pub(crate) fn held(&mut self, id: &str, target: Target) {
        if let Some(begun) = self.0.get_mut(id) {
            begun.held[target as usize] = true;
        }
    }

    /// The age in seconds of the oldest event that the store does not hold, per source; zero if there is none.
    pub(crate) fn lag(&self, target: Target, now: Time) -> BTreeMap<&'static str, f64> {
        let mut oldest = BTreeMap::from(["claude", "cognee", "hybrid", "postgres"].map(|source| (source, 0.0_f64)));
        for begun in self.0.values().filter(|begun| !begun.held[target as usize]) {
            let age = oldest.entry(begun.source).or_default();
            *age = age.max(now.seconds_since(begun.at));
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_holds_an_event_does_not_lag_behind_it() {
        let at = |seconds: i64| Time::from_micros(seconds * 1_000_000);
        let mut events = UnderWay::default();
        events.begin("old", "claude", at(0));
        events.begin("new", "claude", at(7));
        events.held("old", Target::Postgres);
        let lag = |events: &UnderWay, target| events.lag(target, at(10))["claude"];
        assert_eq!((lag(&events, Target::Postgres), lag(&events, Target::Neo4j)), (3.0, 10.0));
        events.held("new", Target::Postgres);
        assert_eq!((lag(&events, Target::Postgres), events.lag(Target::Qdrant, at(10))["cognee"]), (0.0, 0.0));
        events.end("old");
        assert_eq!((lag(&events, Target::Neo4j), events.len()), (3.0, 1));
    }
}
