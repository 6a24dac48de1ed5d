//! The checks of CI, one step after the other until the first failure. Cheap steps come first. Servers are started only
//! for the live tests, which proves that the other tests need none.

mod plan;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::deny;
use crate::qdrant_server;
use crate::services::{Services, all};
use crate::step::{Interruption, Outcome, announce, code as step_code, run as run_step, summary};
use plan::{Job, Plan};

/// The parsed arguments of `test`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Options<'a> {
    live_only: bool,
    leave_services: bool,
    /// Arguments for `cargo test` of the live tests.
    extra: Vec<&'a str>,
    /// Variables for the live tests, beside those that name the servers.
    variables: Vec<(&'static str, String)>,
}

impl<'a> Options<'a> {
    /// The live tests that these arguments select, with these variables.
    pub(crate) fn of_live(extra: &[&'a str], variables: Vec<(&'static str, String)>) -> Self {
        Self { live_only: true, extra: extra.to_vec(), variables, ..Self::default() }
    }

    /// Parses `[live] [--no-services] [ARGUMENTS]`. ARGUMENTS go to `cargo test`, only for the live tests.
    pub(crate) fn read(words: &[&'a str]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words;
        loop {
            match words {
                ["live", rest @ ..] if !options.live_only => (options.live_only, words) = (true, rest),
                ["--no-services", rest @ ..] if !options.leave_services => {
                    (options.leave_services, words) = (true, rest);
                }
                [] => return Ok(options),
                extra if options.live_only => {
                    options.extra = extra.to_vec();
                    return Ok(options);
                }
                [word, ..] => {
                    bail!("unknown argument `{word}` of `test`; arguments for `cargo test` go after `test live`")
                }
            }
        }
    }
}

/// Runs the checks of the workspace at `root`. Returns the exit code of the first failing step.
pub(crate) fn run(root: &Path, options: &Options<'_>) -> Result<ExitCode> {
    let services = Services::new(root);
    let interruption = Interruption::catch()?;
    let before = services.running()?;
    let checked = check(root, &services, options, &interruption);
    let stopped = if options.leave_services { Ok(()) } else { stop_what_was_not_there(&services, &before) };
    let outcomes = checked?;
    print!("\n{}", summary(&outcomes));
    stopped?;
    Ok(ExitCode::from(step_code(&outcomes)))
}

fn check(
    root: &Path,
    services: &Services,
    options: &Options<'_>,
    interruption: &Interruption,
) -> Result<Vec<(&'static str, Outcome)>> {
    let plan = if options.live_only { Plan::live(root, &options.extra)? } else { Plan::all(root)? };
    let mut outcomes = Vec::new();
    let mut variables = options.variables.clone();
    variables.push((qdrant_server::VARIABLE, qdrant_server::program(root).display().to_string()));
    for step in plan.steps {
        let outcome = if interruption.came() || step_code(&outcomes) != 0 {
            Outcome::NotRun
        } else {
            announce(&step.title());
            match step.job {
                Job::Run { program, arguments, directory, needs_servers } => {
                    let environment = if needs_servers { variables.as_slice() } else { &[] };
                    run_step(&program.path(root), &arguments, &root.join(directory), environment, interruption)?
                }
                Job::InstallDeny => timed(|| deny::install(root))?,
                Job::StartServers if options.leave_services => continue,
                Job::StartServers => timed(|| {
                    services.up(&all())?;
                    variables.extend(services.variables(&all())?);
                    Ok(())
                })?,
            }
        };
        outcomes.push((step.name, outcome));
    }
    Ok(outcomes)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    let began = Instant::now();
    work()?;
    Ok(Outcome::Passed(began.elapsed()))
}

fn stop_what_was_not_there(services: &Services, before: &[String]) -> Result<()> {
    let now = services.running()?;
    let ours: Vec<&str> = now.iter().filter(|name| !before.contains(name)).map(String::as_str).collect();
    if ours.is_empty() {
        return Ok(());
    }
    announce("services down");
    services.down(&ours)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn arguments_are_for_the_live_tests() {
        let options = Options::read(&["live", "--no-services", "--test", "redis"]).unwrap();
        assert_eq!(
            options,
            Options { live_only: true, leave_services: true, extra: vec!["--test", "redis"], ..Options::default() }
        );
        assert_eq!(Options::read(&["--no-services"]).unwrap(), Options { leave_services: true, ..Options::default() });
        let error = Options::read(&["--test", "redis"]).unwrap_err().to_string();
        assert!(error.contains("--test") && error.contains("test live"), "{error}");
    }
}
