//! Reading again. Stores are read one after the other while events go on, so a chunk that differs at first may be on
//! its way. A difference counts once the chunk has stood still and everything that was on the bus by then is finished.

use std::collections::BTreeMap;
use std::time::Duration;

use chunk_sync_model::Time;
use tokio::time::Instant;
use uuid::Uuid;

use super::compare::{ChunkView, Finding};
use super::options::Options;
use crate::ports::{Fault, FinishedBy, Ports, StoredDocument, each_row};
use crate::runtime::clock::Clock;

/// The pause before the second reading. It doubles from reading to reading up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The result for chunks that differed.
#[derive(Debug, Default)]
pub struct Rechecked {
    /// The findings that hold, in ascending order of id.
    pub findings: Vec<Finding>,
    /// The number of chunks that do not differ any more.
    pub cleared: u64,
    /// The number of those that exist nowhere any more, or do not match the filters.
    pub vanished: u64,
    /// The number of chunks that changed between any two readings.
    pub unsettled: u64,
}

/// A chunk that differs, and since when it has stood still.
struct Suspect {
    finding: Finding,
    since: Instant,
    /// The same time by this machine's clock.
    at: Time,
}

/// Events that were published and have not reached every store.
#[derive(Clone, Copy)]
struct UnderWay {
    /// When the oldest unfinished entry was added to the bus.
    oldest: Option<Time>,
    /// Whether the outbox has writes of entries that their merge has finished.
    pending: bool,
}

impl UnderWay {
    async fn of(ports: &Ports) -> Self {
        let oldest = ports.bus.oldest_at().await.ok().flatten();
        let pending = match ports.bus.finished_by() {
            FinishedBy::Acknowledgement => false,
            FinishedBy::Merge => ports.records.outbox_counts().await.is_ok_and(|c| c.values().any(|count| *count > 0)),
        };
        Self { oldest, pending }
    }
}

/// Reads these chunks again until each is equal everywhere, or differs and stands still.
///
/// # Errors
/// A store cannot be read.
pub async fn look_again(ports: &Ports, options: &Options, findings: Vec<Finding>) -> Result<Rechecked, Fault> {
    recheck(ports, options, findings).await
}

/// Reads these chunks once; returns their differences at this moment.
///
/// # Errors
/// A store cannot be read.
pub async fn look_at(ports: &Ports, options: &Options, ids: &[Uuid]) -> Result<Vec<Finding>, Fault> {
    let mut findings = Vec::new();
    for ids in ids.chunks(options.page.max(1)) {
        findings.extend(view_each(ports, ids, |view| view.finding(&ports.stores)).await?.into_iter().flatten());
    }
    Ok(findings)
}

pub(super) async fn recheck(ports: &Ports, options: &Options, findings: Vec<Finding>) -> Result<Rechecked, Fault> {
    let mut rechecked = Rechecked::default();
    let mut open: BTreeMap<Uuid, Suspect> =
        findings.into_iter().map(|found| (found.id, Suspect::new(found, &ports.clock))).collect();
    let (began, mut pause) = (Instant::now(), FIRST_PAUSE);
    while !open.is_empty() {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        // Queried before the stores are read, which then show all that was finished. If the bus does not answer, time
        // decides.
        let under_way = UnderWay::of(ports).await;
        let impatient = began.elapsed() > options.patience;
        let ids: Vec<Uuid> = open.keys().copied().collect();
        for ids in ids.chunks(options.page.max(1)) {
            let look = |view: ChunkView| (view.finding(&ports.stores), options.concerns(&view));
            for (id, (found, concerns)) in ids.iter().zip(view_each(ports, ids, look).await?) {
                match (found.filter(|_| concerns), open.get_mut(id)) {
                    (Some(found), Some(suspect)) => {
                        let still = suspect.stands(found, &ports.clock);
                        if still
                            && suspect.since.elapsed() >= options.still
                            && (impatient || suspect.has_arrived(under_way))
                        {
                            rechecked.findings.extend(open.remove(id).map(|suspect| suspect.finding));
                        } else if !still && impatient {
                            rechecked.unsettled += 1;
                            open.remove(id);
                        }
                    }
                    (None, Some(_)) => {
                        rechecked.cleared += 1;
                        rechecked.vanished += u64::from(!concerns);
                        open.remove(id);
                    }
                    (_, None) => {}
                }
            }
        }
    }
    rechecked.findings.sort_unstable_by_key(|finding| finding.id);
    Ok(rechecked)
}

/// What `keep` takes of each of these chunks, in their order. The stores are read first, so that none can be ahead of the
/// row with which it is compared.
async fn view_each<T: Send>(
    ports: &Ports,
    ids: &[Uuid],
    mut keep: impl FnMut(ChunkView) -> T + Send,
) -> Result<Vec<T>, Fault> {
    let mut seen: Vec<Vec<Option<StoredDocument>>> = Vec::with_capacity(ports.stores.len());
    for store in &ports.stores {
        seen.push(store.fetch_documents(ids).await?);
    }
    let view = |i: usize, row| {
        let seen = seen.iter_mut().map(|store| store.get_mut(i).and_then(Option::take)).collect();
        keep(ChunkView { id: ids[i], row, seen })
    };
    each_row(&*ports.records, ids, view).await
}

impl Suspect {
    fn new(finding: Finding, clock: &Clock) -> Self {
        Self { finding, since: Instant::now(), at: clock.now() }
    }

    /// Whether the finding is the same as before; if not, the time of standing still starts again.
    fn stands(&mut self, found: Finding, clock: &Clock) -> bool {
        let still = found == self.finding;
        if !still {
            *self = Self::new(found, clock);
        }
        still
    }

    /// Whether everything that was published before the chunk stood still is finished.
    fn has_arrived(&self, under_way: UnderWay) -> bool {
        !under_way.pending && under_way.oldest.is_none_or(|oldest| oldest > self.at)
    }
}
