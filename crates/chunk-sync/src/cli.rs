//! The command line: one file a command. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 fine, 1 found something (drift, refused input), 2 wrong usage or configuration, 3 could not do it.

mod backfill;
mod config;
mod conflicts;
mod dead;
mod demo;
mod doctor;
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

/// Keeps the chunks of retrieval and agent-memory systems the same in PostgreSQL, Qdrant and Neo4j.
#[derive(Debug, Parser)]
#[command(name = "chunk-sync", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    /// The configuration file; else the one that CHUNK_SYNC_CONFIG names, else chunk-sync.toml where this runs.
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
    /// Show the whole job on embedded stores and sample chunks: no server needed.
    Demo(demo::Arguments),
    /// Create what the service needs and is not there yet: tables, publication, slot, collection, constraints, group.
    Init(init::Arguments),
    /// The service: carries events from the bus into every store until it is told to stop.
    Run(run::Arguments),
    /// Put events, or bare chunks, from JSON lines on the bus.
    Publish(publish::Arguments),
    /// Carry the rows of PostgreSQL that nobody has carried yet into the other stores. Can be interrupted and begun again.
    Backfill(backfill::Arguments),
    /// Compare the stores chunk by chunk, and mend what differs.
    Verify(verify::Arguments),
    /// The record of conflicts: what writers met on, what lost, and what waits for a person.
    #[command(subcommand)]
    Conflicts(conflicts::Action),
    /// Entries that could not succeed: why, and what becomes of them.
    #[command(subcommand)]
    Dead(dead::Action),
    /// The write-ahead log: what is in it, whether it is sound, and carrying what is pending.
    #[command(subcommand)]
    Wal(wal::Action),
    /// How the service is doing: its queue, its stores, its debts, its open conflicts.
    Status,
    /// Look at every connection, right, version and setting that the service needs, and say what to change.
    Doctor(doctor::Arguments),
    /// The configuration.
    #[command(subcommand)]
    Config(config::Action),
}

/// How a command that could be carried out ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Fine,
    /// Drift, failed checks, refused input.
    Found,
}

/// Why a command could not be carried out.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Arguments or configuration.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What was handed in keeps no rule.
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

    /// The error with what caused it.
    fn text(&self) -> String {
        match self {
            Self::Unable(error) => format!("{error:#}"),
            other => {
                let causes = std::iter::successors(std::error::Error::source(other), |cause| cause.source());
                causes.fold(other.to_string(), |text, cause| format!("{text}: {cause}"))
            }
        }
    }
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // More than one could be compiled in, and a connection does not choose. It fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell where even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()) * 2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result =
        runtime.map_err(|error| Failure::Unable(anyhow::Error::new(error).context("no runtime"))).and_then(|runtime| {
            let result = runtime.block_on(cli.execute());
            // A thread that still reads standard input must not hold up the end.
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
            Command::Wal(action) => wal::execute(load()?.0, action, json).await,
            Command::Status => status::execute(&load()?.0, json).await,
            Command::Doctor(arguments) => Box::pin(doctor::execute(&load()?.0, &arguments, json)).await,
            Command::Config(action) => config::execute(action, load, json),
        }
    }
}
