//! What a seed determines: the amount of work, the fault rates, and the settings of the service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chunk_sync_engine::ports::FinishedBy;
use chunk_sync_engine::{CapturedEvents, Settings, WalSettings, WorkerSettings};
use chunk_sync_model::limits::EmbeddingModel;
use chunk_sync_model::{Limits, Target};
use chunk_sync_samples::rng::Rng;
use jiff::Timestamp;
use uuid::Uuid;

use super::Installation;
use super::faults::{Endpoint, FaultRates};
use super::plant::Trouble;

/// Chunks whose rows the foreign client writes, by number; other writers may change them, too.
pub(super) const SHARED: std::ops::Range<usize> = 1_000..1_003;

/// The id of a chunk.
pub(super) fn chunk_id(number: usize) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("chunk {number}").as_bytes())
}

/// All that is drawn before the run starts.
pub(super) struct Scenario {
    pub(super) chunks: usize,
    /// Changes by each of the writers.
    pub(super) changes: usize,
    /// The longest time between two of them, in milliseconds.
    pub(super) gap: usize,
    /// Rows written past the service.
    pub(super) strange: usize,
    /// Malformed entries, which no worker can parse.
    pub(super) malformed: usize,
    /// The fault of the first chunk.
    pub(super) poison: Option<Poison>,
    /// How many times processes die, in total.
    pub(super) crashes: u32,
    /// A store that is down until everything else is done.
    pub(super) down: Option<Target>,
    /// The bus may forget what is in the log.
    pub(super) forgetful: bool,
    /// What finishes the entries of the bus.
    pub(super) finished_by: FinishedBy,
    /// Entries may become readable after others with greater numbers.
    pub(super) commits_late: bool,
    /// The most unfinished entries on the bus.
    pub(super) bound: usize,
    /// The table has a trigger that alters rows.
    pub(super) triggers: bool,
    /// What goes wrong beside the faults of calls and processes.
    pub(super) trouble: Option<Trouble>,
    /// Capture may lose its position.
    pub(super) gaps: bool,
    /// Seconds between two passes of the scrubber.
    pub(super) scrubs: u64,
    /// When the run begins.
    pub(super) begin: Timestamp,
    pub(super) rates: BTreeMap<Endpoint, FaultRates>,
    pub(super) settings: Settings,
}

/// A chunk that one of the stores can never hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Poison {
    /// Which store.
    pub(super) target: Target,
    /// The store panics instead of refusing it.
    pub(super) kills: bool,
}

/// Half an hour before the log file of the day changes, on a drawn day.
const HALF_PAST: i64 = 1_780_000_200;

impl Scenario {
    pub(super) fn draw(rng: &mut Rng, installation: Installation) -> Self {
        let Installation { processes, finished_by } = installation;
        let mut rates = BTreeMap::new();
        for place in [Endpoint::Bus].into_iter().chain(Target::ALL.map(Endpoint::Store)) {
            rates.insert(place, draw_climate(rng));
        }
        rates.insert(Endpoint::Lease, FaultRates { delays: [0, 0, 5][rng.below(3)], ..draw_climate(rng) });
        let down = [None, None, None, Some(Target::Qdrant), Some(Target::Neo4j)];
        Self {
            // Few chunks with many changes each, or many chunks with few changes.
            chunks: [1, 2, 4, 40][rng.below(4)],
            changes: 4 + rng.below(16),
            gap: [20, 2_000, 30_000][rng.below(3)],
            strange: [0, 10][rng.below(2)],
            malformed: rng.below(3),
            poison: draw_poison(rng),
            crashes: rng.below(7) as u32,
            down: down[rng.below(down.len())],
            // Entries that another process must wait for have to be on the bus.
            forgetful: processes == 1 && rng.one_in(2) && finished_by == FinishedBy::Acknowledgement,
            finished_by,
            // A server that assigns ids when entries become readable has no late ones.
            commits_late: finished_by == FinishedBy::Merge && rng.one_in(2),
            bound: [8, 1_000][rng.below(2)],
            triggers: false,
            trouble: None,
            gaps: true,
            scrubs: 0,
            begin: Timestamp::from_second(HALF_PAST + rng.below(1_800) as i64).unwrap(),
            rates,
            settings: draw_settings(rng),
        }
    }
}

impl Scenario {
    /// The same, with or without a trigger on the table. With one, entries become readable in the order of their
    /// numbers: a record notes the stored forms of the values that the row showed, so it depends on the order of the
    /// merges, and the oracle knows only the numbers.
    pub(super) fn triggering(self, triggers: bool) -> Self {
        Self { triggers, commits_late: self.commits_late && !triggers, ..self }
    }

    /// The same with that trouble. A store that refuses a chunk would never agree with the others, and a store that is down
    /// ends every comparison.
    pub(super) fn troubled(self, trouble: Option<Trouble>, mut rng: Rng) -> Self {
        if trouble.is_none() {
            return self;
        }
        let (gaps, scrubs) = (rng.one_in(2), [60, 200][rng.below(2)]);
        Self { trouble, gaps, scrubs, down: None, poison: None, ..self }
    }

    /// The same for an installation with only these stores beside the rows.
    pub(super) fn within(self, stores: &[Target]) -> Self {
        let has = |target: Target| target == Target::Postgres || stores.contains(&target);
        let (down, poison) = (self.down.filter(|down| has(*down)), self.poison.filter(|poison| has(poison.target)));
        Self { down, poison, ..self }
    }
}

fn draw_poison(rng: &mut Rng) -> Option<Poison> {
    let target = [Target::Postgres, Target::Postgres, Target::Qdrant, Target::Neo4j][rng.below(4)];
    let kills = rng.one_in(2);
    rng.one_in(3).then_some(Poison { target, kills })
}

fn draw_climate(rng: &mut Rng) -> FaultRates {
    FaultRates {
        refusals: [0, 10, 50, 300][rng.below(4)],
        lost: [0, 10, 50, 300][rng.below(4)],
        delays: [0, 100, 500][rng.below(3)],
        partitions: [0, 0, 10][rng.below(3)],
    }
}

fn draw_settings(rng: &mut Rng) -> Settings {
    let model = EmbeddingModel { model: "gte".into(), vector: "dense_gte".into(), size: 4 };
    let batch = [1, 3, 16, 256][rng.below(4)];
    let worker = WorkerSettings {
        batch,
        wait: Duration::from_secs(1),
        in_flight_events: [1, 4, 16, 8_192][rng.below(4)],
        in_flight_bytes: [1, 4_096, 32 << 20][rng.below(3)],
        store_batch: [1, 2, 256][rng.below(3)],
        retry_min: Duration::from_millis(50),
        retry_max: Duration::from_secs([1, 30][rng.below(2)]),
        patience: Duration::from_secs([0, 1, 5, 30][rng.below(4)]),
        // Duplicates and crashes count as deliveries; no correct run comes near this number.
        max_deliveries: 1_000,
        deadly_within: Duration::from_secs(5),
        waiting_events: if batch == 1 { 2 } else { u64::MAX },
        waiting_bytes: u64::MAX,
        hold: true,
    };
    let wal = WalSettings {
        max_bytes: [256 << 10, 1 << 30][rng.below(2)],
        keep: Duration::from_secs([0, 600][rng.below(2)]),
        ..WalSettings::new(PathBuf::new())
    };
    let limits = Limits { models: vec![model], ..Limits::default() };
    let captured_events = CapturedEvents::ALL[rng.below(2)];
    Settings { limits, captured_events, worker, wal, ..Settings::new(PathBuf::new()) }
}
