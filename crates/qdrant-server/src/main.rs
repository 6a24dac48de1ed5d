//! A server for tests: Qdrant's own gRPC protocol on loopback, Qdrant's own engine behind it, for where no Qdrant is at
//! hand. It knows the calls by which chunks are written and read back, and answers `Unimplemented` to all others.
//!
//! What it reports as completed is on disk, flushed operation by operation. There is one shard and no search, and segments
//! are not merged. With a version before 1.16 it behaves like such a server: it ignores the condition of an upsert, and
//! vectors in typed fields.
//!
//! It prints `listening on URL` and serves until SIGTERM or SIGINT. With `--controlled` it also ends when its standard
//! input does, so that no server outlives the test that started it, and reads one command a line from there:
//!
//! | command | answer | effect |
//! |---|---|---|
//! | `hold` | `holding`, then `held` when the update has arrived | the next update takes no effect yet; reads do |
//! | `release` | `released` | the update that is held takes effect |

mod arguments;
mod collections;
mod control;
mod convert;
mod engines;
mod gate;
mod operation;
mod points;
mod server;
mod service;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use arguments::Arguments;
use server::Server;

#[tokio::main]
async fn main() -> ExitCode {
    match serve().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without standard error nothing can be reported.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let Arguments { dir, controlled, options } = Arguments::read(std::env::args().skip(1))?;
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = Server::start(&dir, options).await?;
    report(&format!("listening on {}", server.url()))?;
    let ended = tokio::select! {
        ended = control::obey(server.gate()), if controlled => ended,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    };
    server.stop().await;
    Ok(ended?)
}

/// A line for the program that started this one.
fn report(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}
