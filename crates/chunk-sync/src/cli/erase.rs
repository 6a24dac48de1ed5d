//! `erase`: removes what is still held of the text of deleted chunks, with a receipt that also names what it cannot
//! reach.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chunk_sync_engine::dead_letter_files;
use chunk_sync_engine::erase::{Unerasable, erase, is_of};
use chunk_sync_engine::ports::{Erasing, Fault};
use chunk_sync_wal::disk::{Disk, RealDisk};
use chunk_sync_wal::{Options, Wal, WalError};
use clap::Args;
use uuid::Uuid;

use super::{Ended, Failure, output};
use crate::config::Config;
use crate::wiring::{self, Purpose, Wired};

mod receipt;

use receipt::{Logged, Receipt, Receipts, not_reached, print};

/// How long to wait for the running service to erase its log.
const SERVICE_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Refused for a chunk that lives, that a store still holds, or of which entries are unfinished: publish its delete and let \
the service carry it first. The id, the version and the names of the writers stay, so that no later event brings the \
text back. The command can be repeated.

Exit codes: 0 all were erased; 1 some were refused, or the operator did not confirm; 2 wrong usage or configuration; \
3 a store or the bus cannot be reached.")]
pub(super) struct Arguments {
    /// The ids of the chunks.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<Uuid>,
    /// Print what would be removed from each place, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn execute(config: &Config, arguments: &Arguments, json: bool) -> Result<Ended, Failure> {
    let wired = wiring::open(config, Purpose::Beside, "erase").await?;
    let mode = if arguments.dry_run { Erasing::Count } else { Erasing::Remove };
    if mode == Erasing::Remove && !arguments.yes && !confirmed(arguments.ids.len())? {
        output::note(format_args!("nothing was erased\n"));
        return Ok(Ended::Found);
    }
    let mut chunks = Vec::new();
    for id in &arguments.ids {
        chunks.push(match erase(&wired.ports, *id, mode).await {
            Ok(places) => Receipt { chunk: *id, refused: None, places },
            Err(Unerasable::Fault(fault)) => return Err(fault.into()),
            Err(refused) => Receipt { chunk: *id, refused: Some(refused.to_string()), places: Vec::new() },
        });
    }
    let erased: Vec<Uuid> = chunks.iter().filter(|receipt| receipt.refused.is_none()).map(|r| r.chunk).collect();
    let log = match mode {
        _ if erased.is_empty() => Logged::Nothing,
        Erasing::Count => Logged::NotExamined,
        Erasing::Remove => erase_log(config, &wired, &erased).await?,
    };
    let refused = chunks.iter().any(|receipt| receipt.refused.is_some());
    let receipts = Receipts { dry_run: arguments.dry_run, chunks, log, not_reached: not_reached(config) };
    print(&receipts, json)?;
    Ok(if refused { Ended::Found } else { Ended::Fine })
}

/// Asks the operator for confirmation. Returns true without asking if standard input is not a terminal.
fn confirmed(chunks: usize) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    let chunks = output::count(chunks as u64, "chunk");
    output::note(format_args!("erase what is held of {chunks} permanently? Type yes: "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|error| {
        let context = "cannot read the confirmation from standard input; use --yes to erase without it";
        Failure::Unable(anyhow::Error::new(error).context(context))
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// Erases the log here, or lets the running service do it, which has the directory.
async fn erase_log(config: &Config, wired: &Wired, ids: &[Uuid]) -> Result<Logged, Failure> {
    let (dir, selected) = (config.settings.wal.dir.clone(), ids.to_vec());
    let erased = tokio::task::spawn_blocking(move || erase_in(&dir, &selected)).await;
    match erased.map_err(anyhow::Error::new)? {
        Ok(logged) => Ok(logged),
        Err(Unable::Log(WalError::Locked { .. })) => let_the_service(wired, ids).await,
        Err(Unable::Log(error)) => {
            Err(Failure::Unable(anyhow::Error::new(error).context("the log cannot be erased; repeat the command")))
        }
        Err(Unable::Letters(fault)) => Err(fault.into()),
    }
}

/// Why the directory of the log was not erased.
enum Unable {
    Log(WalError),
    Letters(Fault),
}

fn erase_in(dir: &Path, ids: &[Uuid]) -> Result<Logged, Unable> {
    if !dir.exists() {
        return Ok(Logged::None);
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::locked(dir).map_err(Unable::Log)?);
    let (mut wal, _) = Wal::open_on(Arc::clone(&disk), Options::default()).map_err(Unable::Log)?;
    let (operations, pending) = wal.erase(&|operation| is_of(operation, ids)).map_err(Unable::Log)?;
    let letters = dead_letter_files::erase(&*disk, ids).map_err(Unable::Letters)?;
    Ok(Logged::Here { operations, pending, letters })
}

async fn let_the_service(wired: &Wired, ids: &[Uuid]) -> Result<Logged, Failure> {
    let records = &wired.ports.records;
    records.request_erasure(ids).await?;
    let done = async {
        loop {
            let requested = records.requested_erasures(usize::MAX >> 1).await?;
            if !ids.iter().any(|id| requested.contains(id)) {
                return Ok::<_, Fault>(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(SERVICE_WITHIN, done).await {
        Ok(done) => done.map(|()| Logged::ByService).map_err(Failure::from),
        Err(_) => Ok(Logged::Requested),
    }
}
