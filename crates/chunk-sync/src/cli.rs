//! The command line: one file per command. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 success, 1 a finding (drift, rejected input), 2 wrong usage or configuration, 3 the command failed.

mod backfill;
mod config;
mod conflicts;
mod dead;
mod demo;
mod doctor;
mod erase;
mod init;
mod output;
mod progress;
mod publish;
mod run;
mod status;
mod verify;
mod wal;

use std::path::PathBuf;
use std::process::ExitCode;

use chunk_sync_engine::StartError;
use chunk_sync_engine::ports::{Fault, FaultClass};
use clap::{Parser, Subcommand};

use crate::config::{Config, Layers, Refused};

/// Keeps the chunks of retrieval and agent-memory systems consistent in PostgreSQL, Qdrant and Neo4j.
#[derive(Debug, Parser)]
#[command(name = "chunk-sync", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// Configuration file. Default: the file named by CHUNK_SYNC_CONFIG, else chunk-sync.toml in the working directory.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Demonstrate publishing, conflicts, a crash and verification on embedded stores; needs no server.
    Demo(demo::Arguments),
    /// Create what the service needs and does not exist yet: tables, publication, slot, collection, constraints, group.
    Init(init::Arguments),
    /// Run the service: write events from the bus to every store, until SIGTERM or SIGINT.
    Run(run::Arguments),
    /// Publish events or bare chunks, read as JSON lines, to the bus.
    Publish(publish::Arguments),
    /// Publish the rows that were never synchronized. Can be interrupted and repeated.
    Backfill(backfill::Arguments),
    /// Compare the stores chunk by chunk, and repair differences.
    Verify(verify::Arguments),
    /// List, show and decide conflicts between writers.
    #[command(subcommand)]
    Conflicts(conflicts::Action),
    /// List, show, retry and drop dead letters: entries that could not be processed.
    #[command(subcommand)]
    Dead(dead::Action),
    /// Remove what is still held of the text of deleted chunks, beside the stores.
    Erase(erase::Arguments),
    /// Inspect, check and replay the write-ahead log.
    #[command(subcommand)]
    Wal(wal::Action),
    /// Show the state of the service: queue, stores, outbox, open conflicts.
    Status,
    /// Check every connection, privilege, version and setting that the service needs, and print what to change.
    Doctor(doctor::Arguments),
    /// Show or check the configuration.
    #[command(subcommand)]
    Config(config::Action),
}

/// The outcome of a command that ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Fine,
    /// Drift, failed checks or rejected input.
    Found,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Wrong arguments or configuration.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The input breaks a rule.
    #[error("{0}")]
    Input(String),
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("{0}")]
    Unable(#[from] anyhow::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Input(_) => 1,
            Self::Usage(_) | Self::Refused(_) => 2,
            Self::Fault(fault) if fault.class == FaultClass::Misconfigured => 2,
            Self::Fault(_) | Self::Start(_) | Self::Unable(_) => 3,
        }
    }

    /// The error followed by its causes, printable: on one line, but for errors of the configuration, of which each has
    /// its own.
    fn text(&self) -> String {
        match self {
            Self::Refused(refused) => output::printable_lines(&refused.to_string()),
            Self::Fault(fault) => output::printable(&fault.to_string()),
            Self::Unable(error) => output::printable(&with_causes(error.as_ref())),
            other => output::printable(&with_causes(other)),
        }
    }
}

/// The error followed by its causes, down to the first fault: the text of a fault contains that of its cause.
fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let (mut at, mut text) = (error, error.to_string());
    while let Some(cause) = at.source().filter(|_| !at.is::<Fault>()) {
        text = format!("{text}: {cause}");
        at = cause;
    }
    text
}

/// Runs the command that the arguments of the process name.
#[must_use]
pub fn main() -> ExitCode {
    // Several TLS providers may be compiled in, and rustls does not choose one. Fails only if one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::panic::set_hook(Box::new(report_panic));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            if error.use_stderr() {
                output::note(usage_error(&error, std::env::args_os()));
                return ExitCode::from(2);
            }
            // The help or the version. If printing fails, there is no other place to report it.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime
        .map_err(|error| Failure::Unable(anyhow::Error::new(error).context("cannot start the tokio runtime")))
        .and_then(|runtime| {
            let result = runtime.block_on(cli.execute());
            // A thread blocked on standard input must not delay the exit.
            runtime.shutdown_background();
            result
        });
    match result {
        Ok(Ended::Fine) => ExitCode::SUCCESS,
        Ok(Ended::Found) => ExitCode::from(1),
        Err(failure) => {
            output::error(&failure.text());
            ExitCode::from(failure.code())
        }
    }
}

/// The error of wrong arguments, which it quotes: on one line if an argument could forge another.
fn usage_error(error: &clap::Error, mut arguments: impl Iterator<Item = std::ffi::OsString>) -> String {
    let text = error.render().to_string();
    let forges = |argument: std::ffi::OsString| argument.to_string_lossy().contains(['\n', '\r']);
    if arguments.any(forges) { output::printable(text.trim_end()) } else { text.trim_end().to_owned() }
}

/// Prints a panic, whose message may quote data, and the backtrace if RUST_BACKTRACE asks for one.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let backtrace = std::backtrace::Backtrace::capture();
    output::note(panic);
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        output::note(backtrace);
    }
}

impl Cli {
    async fn execute(self) -> Result<Ended, Failure> {
        let json = self.json;
        let load = || -> Result<(Config, Layers), Failure> {
            Ok(crate::config::load(self.config.as_deref(), &crate::config::environment())?)
        };
        match self.command {
            Command::Demo(arguments) => demo::execute(&arguments, json).await,
            Command::Init(arguments) => init::execute(&load()?.0, &arguments, json).await,
            Command::Backfill(arguments) => backfill::execute(&load()?.0, &arguments, json).await,
            Command::Run(arguments) => run::execute(load()?.0, &arguments, json).await,
            Command::Publish(arguments) => publish::execute(&load()?.0, &arguments, json).await,
            Command::Verify(arguments) => verify::execute(load()?.0, &arguments, json).await,
            Command::Conflicts(action) => conflicts::execute(&load()?.0, action, json).await,
            Command::Dead(action) => dead::execute(&load()?.0, action, json).await,
            Command::Erase(arguments) => erase::execute(&load()?.0, &arguments, json).await,
            Command::Wal(action) => wal::execute(load()?.0, action, json).await,
            Command::Status => status::execute(&load()?.0, json).await,
            Command::Doctor(arguments) => Box::pin(doctor::execute(&load()?.0, &arguments, json)).await,
            Command::Config(action) => config::execute(action, load, json),
        }
    }
}
