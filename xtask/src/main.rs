//! Development tasks: the servers for the live tests, the checks, and longer suites. This file parses the arguments;
//! the modules do the work.

// A command-line tool: it prints to the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod book;
mod browser;
mod deny;
mod field;
mod fuzz;
mod qdrant_server;
mod recording;
mod schema;
mod services;
mod simulate;
mod step;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use services::{Services, parse_only};

const USAGE: &str = "\
usage: cargo xtask <task>

  services up      start PostgreSQL 15 and 18, Redis and Neo4j on loopback; installs missing programs
  services down    stop the servers that `up` started
  services status  show which servers run, with process ids, ports and logs
  services env     print the environment variables of the tests, as shell exports
    --only LIST    only these, comma-separated, of postgres15,postgres18,redis,neo4j

  qdrant-server    build the test server for Qdrant and print the path of the program

  test             run all checks of CI: format, licences, lints, `cargo test`, live tests
  test live        run the live tests only: builds the test server for Qdrant, starts the other servers that do not run
                   yet, and stops those that it started
    --no-services  start and stop no servers; set the variables of `services env` yourself
    ARGUMENTS      (of `test live`) go to `cargo test`, such as `--test redis -- --nocapture`

  browser          try the status page in a headless Chromium, on embedded stores and on the real servers, under load and
                   while something is wrong; needs the programs chromium and chromedriver (Debian: chromium,
                   chromium-driver); writes screenshots to .dev/shots

  schema           compare the answers of the service with /openapi.json by Schemathesis, with the token and without; about
                   three minutes; needs python3-venv and the Python registry
    --url URL --token TOKEN   a running service; one on embedded stores is started otherwise

  book             write the guides as a site to target/book; installs mdBook below target/ unless the search path has it

  recording        run the demo and draw its output as docs/demo.svg
    --program FILE   the program; built in the release profile otherwise

  simulate --minutes N
                   run simulations from new seeds for N minutes; prints their number and the failing seeds

  fuzz --minutes N [TARGET]
                   run the fuzz targets, or one, for N minutes each; inputs that fail are kept in fuzz/artifacts

  field --minutes N [--seeds A,B]
                   load with a trouble of ordinary installations after the other, N minutes for each seed, on the real
                   servers: locks, hidden rows, triggers, restarts, cut links, malformed events

  bench            measure the service beside its limits and peers; starts servers unless their variables are set
    --quick          small figures, below five minutes after the build
    --only LIST      of bus,load,updates,verify,latency,commits,recovery
    --json FILE      where the figures are written; target/bench.json otherwise
    --rates LIST     commits per second at which latencies are measured, for example 20,200
    --rounds N, --chunks N, --pending N, --seconds N
                     rounds, chunks loaded, entries pending at the crash, seconds at each rate of commits

State, data and downloads are in .dev/ of this checkout.";

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
        ["browser"] => browser::run(&workspace_root()?),
        ["bench", rest @ ..] => bench::run(&workspace_root()?, rest),
        ["book"] => book::build(&workspace_root()?),
        ["recording", rest @ ..] => recording::run(&workspace_root()?, rest),
        ["fuzz", rest @ ..] => fuzz::run(&workspace_root()?, rest),
        ["field", rest @ ..] => field::run(&workspace_root()?, rest),
        ["schema", rest @ ..] => schema::run(&workspace_root()?, rest),
        ["simulate", rest @ ..] => simulate::run(&workspace_root()?, rest),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("unknown task `{}`\n\n{USAGE}", words.join(" ")),
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
        _ => bail!("unknown argument `{verb}` of `services`; use up, down, status or env"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The directory of the workspace that this program was built from.
fn workspace_root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(package.parent().context("cannot find the workspace: xtask must be directly below its root")?.to_owned())
}
