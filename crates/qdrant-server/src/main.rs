//! A test server: Qdrant's gRPC protocol on loopback with Qdrant's engine behind it, for machines without a Qdrant. It
//! implements the calls that write chunks and read them back, and answers `Unimplemented` to all others.
//!
//! An operation that it reports as completed has been flushed to disk. It has one shard and no search, and it does not
//! merge segments. With a version before 1.16 it behaves like such a server: it ignores the condition of an upsert, and
//! vectors in typed fields.
//!
//! It prints `listening on URL` and serves until SIGTERM or SIGINT. With `--controlled` it also ends when its standard
//! input is closed, so that no server outlives the test that started it, and reads one command per line from there:
//!
//! | command | answer | effect |
//! |---|---|---|
//! | `hold` | `holding`, then `held` when the update has arrived | delays the next update; reads are not delayed |
//! | `release` | `released` | the held update takes effect |

mod aliases;
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
            // Nothing can be reported when standard error is closed.
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

/// Prints a line for the program that started the server.
fn report(line: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{line}")
}
