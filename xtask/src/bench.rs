//! The measurements: builds the program and the example `bench` in the release profile, starts the servers that have no
//! variable, and runs it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::qdrant_server;
use crate::services::Services;
use crate::step::{Interruption, Outcome, code as step_code, run as run_step};

/// The servers that the measurements need.
const SERVERS: [&str; 3] = ["postgres18", "redis", "neo4j"];

/// Builds and runs; `words` are the arguments of the example.
pub(crate) fn run(root: &Path, words: &[&str]) -> Result<ExitCode> {
    let interruption = Interruption::catch()?;
    let services = Services::measuring(root);
    let measures_nothing = ["--from", "--help", "-h"].iter().any(|word| words.contains(word));
    if measures_nothing {
        return Ok(ExitCode::from(step_code(&build_and_run(root, words, &[], &interruption)?)));
    }
    let own = SERVERS.iter().zip(["PG18_URL", "REDIS_URL", "NEO4J_URL"]);
    let own: Vec<&str> = own
        .filter(|(_, name)| std::env::var_os(format!("CHUNK_SYNC_TEST_{name}")).is_none())
        .map(|(server, _)| *server)
        .collect();
    if !own.is_empty() {
        services.up(&own)?;
    }
    let mut variables = services.variables(&own)?;
    if std::env::var_os(qdrant_server::VARIABLE).is_none() && std::env::var_os("QDRANT_URL").is_none() {
        variables.push((qdrant_server::VARIABLE, qdrant_server::build_optimised(root)?.display().to_string()));
    }
    let outcomes = build_and_run(root, words, &variables, &interruption)?;
    if !own.is_empty() {
        services.down(&own)?;
    }
    Ok(ExitCode::from(step_code(&outcomes)))
}

fn build_and_run(
    root: &Path,
    words: &[&str],
    variables: &[(&'static str, String)],
    interruption: &Interruption,
) -> Result<Vec<(&'static str, Outcome)>> {
    let build = "build --release -p chunk-sync --features live --bins --example bench";
    let build: Vec<String> = build.split(' ').map(str::to_owned).collect();
    let built = run_step(Path::new("cargo"), &build, root, variables, interruption)?;
    let mut outcomes = vec![("build", built)];
    if matches!(built, Outcome::Passed(_)) {
        let program = root.join("target/release/examples/bench");
        let arguments: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        outcomes.push(("bench", run_step(&program, &arguments, root, variables, interruption)?));
    }
    Ok(outcomes)
}
