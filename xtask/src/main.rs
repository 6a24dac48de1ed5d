//! The project's chores, from the command line: the servers that live tests talk to, the checks, and longer suites.
//! Only arguments are read here; what the chores do is in the modules.

// A chore talks to whoever started it, and the terminal is where it does so.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod deny;
mod qdrant_server;
mod services;
mod simulate;
mod step;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use services::{Services, parse_only};

const USAGE: &str = "\
usage: cargo xtask <chore>

  services up      start PostgreSQL 15 and 18, Redis and Neo4j on loopback, installing what is missing
  services down    stop what `up` started, and nothing else
  services status  show what runs, and where
  services env     print the variables that the tests read, as shell exports
    --only LIST    of postgres15,postgres18,redis,neo4j: these only (comma-separated)

  qdrant-server    build the test server for Qdrant, and print the path of the program

  test             everything that CI runs: format, licences, lints, `cargo test`, live tests
  test live        the live tests only: builds the test server for Qdrant, starts the other servers that do not run
                   yet, and stops those that it started
    --no-services  leave the servers alone: the variables of `services env` are yours to set
    ARGUMENTS      (of `test live`) are passed on to `cargo test`, such as `--test redis -- --nocapture`

  simulate --minutes N
                   simulated lives of the service from new seeds for N minutes; prints how many, and those that broke

State, data and downloads are kept in .dev/ of this checkout.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["services", verb, rest @ ..] => run_services(verb, rest),
        ["qdrant-server"] => qdrant_server::build(&workspace_root()?),
        ["test", rest @ ..] => test::run(&workspace_root()?, &test::Options::read(rest)?),
        ["simulate", rest @ ..] => simulate::run(&workspace_root()?, rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("no such chore\n\n{USAGE}"),
    }
}

fn run_services(verb: &str, rest: &[&str]) -> Result<ExitCode> {
    let root = workspace_root()?;
    let services = Services::new(&root);
    let wanted = parse_only(rest)?;
    match verb {
        "up" => services.up(&wanted)?,
        "down" => services.down(&wanted)?,
        "status" => print!("{}", services.status(&wanted)?),
        "env" => {
            for (name, value) in services.variables(&wanted)? {
                println!("export {name}='{value}'");
            }
            println!("export {}='{}'", qdrant_server::VARIABLE, qdrant_server::program(&root).display());
        }
        _ => bail!("`services` knows up, down, status and env, not `{verb}`"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of the workspace that this program was built from.
fn workspace_root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("xtask lies directly under the workspace's root")?.to_owned())
}
