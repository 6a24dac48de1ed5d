//! Looking again. Stores are read one after the other while events go on, so what differs at first may be a chunk on its
//! way. A difference counts when the chunk has stood still and everything that was on the bus by then is finished.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use chunk_sync_model::Time;
use uuid::Uuid;

use super::compare::{Finding, Place};
use super::options::Options;
use crate::ports::{Fault, FinishedBy, Ports, Seen};
use crate::runtime::clock;

/// The pause before the second look, which doubles from look to look up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What became of chunks that differed.
#[derive(Debug, Default)]
pub struct Settled {
    /// Those that do differ, in ascending order.
    pub findings: Vec<Finding>,
    /// Those that are as they should be by now.
    pub cleared: u64,
    /// Those among them that stand nowhere any more.
    pub vanished: u64,
    /// Those that were another at each look.
    pub unsettled: u64,
}

/// A chunk that differs, and since when it has stood still.
struct Suspect {
    finding: Finding,
    since: Instant,
    /// The same by this machine's clock.
    at: Time,
}

/// What has been published and has not reached every store.
#[derive(Clone, Copy)]
struct UnderWay {
    /// When the oldest unfinished entry was added to the bus.
    oldest: Option<Time>,
    /// The outbox has writes of entries that their merge has finished.
    pending: bool,
}

impl UnderWay {
    async fn of(ports: &Ports) -> Self {
        let oldest = ports.bus.oldest_at().await.ok().flatten();
        let pending = match ports.bus.finished_by() {
            FinishedBy::Acknowledgement => false,
            FinishedBy::Merge => ports.records.debt_counts().await.is_ok_and(|c| c.values().any(|count| *count > 0)),
        };
        Self { oldest, pending }
    }
}

/// Looks at these chunks again until each is as it should be, or stands still as it should not.
///
/// # Errors
/// Where a store cannot be read.
pub async fn look_again(ports: &Ports, options: &Options, findings: Vec<Finding>) -> Result<Settled, Fault> {
    settle(ports, options, findings).await
}

/// Looks at these chunks once; what is wrong with them at this moment.
///
/// # Errors
/// Where a store cannot be read.
pub async fn look_at(ports: &Ports, options: &Options, ids: &[Uuid]) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    for ids in ids.chunks(options.page.max(1)) {
        findings.extend(places(ports, ids).await?.iter().filter_map(|place| place.finding(&ports.stores)));
    }
    Ok(findings)
}

pub(super) async fn settle(ports: &Ports, options: &Options, findings: Vec<Finding>) -> Result<Settled, Fault> {
    let mut settled = Settled::default();
    let mut open: BTreeMap<Uuid, Suspect> = findings.into_iter().map(|found| (found.id, Suspect::new(found))).collect();
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    while !open.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // Asked before the look, which then sees all that was finished. A bus that does not say leaves it to the time.
        let under_way = UnderWay::of(ports).await;
        let impatient = began.elapsed() > options.patience;
        let ids: Vec<Uuid> = open.keys().copied().collect();
        for ids in ids.chunks(options.page.max(1)) {
            for place in places(ports, ids).await? {
                let found = place.finding(&ports.stores).filter(|_| options.concerns(&place));
                match (found, open.get_mut(&place.id)) {
                    (Some(found), Some(suspect)) => {
                        let still = suspect.stands(found);
                        if still && suspect.since.elapsed() >= options.still && (impatient || suspect.landed(under_way))
                        {
                            settled.findings.extend(open.remove(&place.id).map(|suspect| suspect.finding));
                        } else if !still && impatient {
                            settled.unsettled += 1;
                            open.remove(&place.id);
                        }
                    }
                    (None, Some(_)) => {
                        settled.cleared += 1;
                        settled.vanished += u64::from(!options.concerns(&place));
                        open.remove(&place.id);
                    }
                    (_, None) => {}
                }
            }
        }
    }
    settled.findings.sort_unstable_by_key(|finding| finding.id);
    Ok(settled)
}

/// What stands under these ids: the stores first, so that none can be ahead of the row that it is held against.
async fn places(ports: &Ports, ids: &[Uuid]) -> Result<Vec<Place>, Fault> {
    let mut seen: Vec<Vec<Option<Seen>>> = Vec::with_capacity(ports.stores.len());
    for store in &ports.stores {
        seen.push(store.read(ids).await?);
    }
    let rows = ports.records.rows_of(ids).await?;
    let place = |(i, (id, row)): (usize, (&Uuid, _))| {
        let seen = seen.iter_mut().map(|store| store.get_mut(i).and_then(Option::take)).collect();
        Place { id: *id, row, seen }
    };
    Ok(ids.iter().zip(rows).enumerate().map(place).collect())
}

impl Suspect {
    fn new(finding: Finding) -> Self {
        Self { finding, since: Instant::now(), at: clock::now() }
    }

    /// Whether it is found as it was before; where not, the time begins anew.
    fn stands(&mut self, found: Finding) -> bool {
        let still = found == self.finding;
        if !still {
            *self = Self::new(found);
        }
        still
    }

    /// Whether nothing that was published before it stood still is under way any more.
    fn landed(&self, under_way: UnderWay) -> bool {
        !under_way.pending && under_way.oldest.is_none_or(|oldest| oldest > self.at)
    }
}
