//! The whole of the checks, as CI runs them: one step after the other against real servers, the first failure ends it.
//! Servers that were up before stay up; those started here are stopped, however the checks come out.

use std::fmt::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::services::{Services, all, find_program};

/// How long an interrupted step may take to end by itself.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(10);
/// What a shell calls the end by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// One check.
struct Step {
    name: &'static str,
    arguments: Vec<String>,
}

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed(Duration),
    Failed(u8, Duration),
    NotRun,
    LeftOut(&'static str),
}

/// Runs all checks of the workspace at `root`, with `services` started for them unless there are none; `extra` goes to
/// `cargo test`. The code is that of the first step that fails.
pub(crate) fn run(root: &Path, services: Option<&Services>, extra: &[&str]) -> Result<ExitCode> {
    let interrupted = catch_signals()?;
    let before = services.map(Services::running).transpose()?.unwrap_or_default();
    let checked = check(root, services, extra, &interrupted);
    let stopped = services.map_or(Ok(()), |services| stop_what_was_not_there(services, &before));
    let outcomes = checked?;
    print!("\n{}", summary(&outcomes));
    stopped?;
    Ok(ExitCode::from(code(&outcomes)))
}

fn check(
    root: &Path,
    services: Option<&Services>,
    extra: &[&str],
    interrupted: &AtomicBool,
) -> Result<Vec<(&'static str, Outcome)>> {
    let mut outcomes = Vec::new();
    let mut variables = Vec::new();
    if let Some(services) = services {
        let began = Instant::now();
        announce("services up");
        services.up(&all())?;
        variables = services.variables(&all())?;
        outcomes.push(("services up", Outcome::Passed(began.elapsed())));
    }
    for Step { name, arguments } in steps(extra) {
        let outcome = if interrupted.load(Ordering::Relaxed) || code(&outcomes) != 0 {
            Outcome::NotRun
        } else if name == LICENCES && find_program("cargo-deny").is_none() {
            Outcome::LeftOut("no cargo-deny on this machine: cargo install cargo-deny --locked")
        } else {
            announce(&format!("cargo {}", arguments.join(" ")));
            let mut command = Command::new("cargo");
            command.current_dir(root).args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
            forget_this_package(&mut command);
            timed(command, interrupted)?
        };
        outcomes.push((name, outcome));
    }
    Ok(outcomes)
}

/// `cargo run` says in the environment which package it runs. Build scripts that ask for that (ring's does) would run
/// again, and with them all that is built on them, whenever a build from here follows one from a shell or the reverse.
fn forget_this_package(command: &mut Command) {
    let told = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars().map(|(name, _)| name).filter(told) {
        command.env_remove(name);
    }
}

const LICENCES: &str = "licences, bans, sources";

fn steps(extra: &[&str]) -> Vec<Step> {
    let step = |name, line: &str, extra: &[&str]| Step {
        name,
        arguments: line.split(' ').chain(extra.iter().copied()).map(str::to_owned).collect(),
    };
    vec![
        step("format", "fmt --all --check", &[]),
        step("lints", "clippy --workspace --all-targets --release -- -D warnings", &[]),
        // Examples are no tests, and compiled by the lints; tests in documentation there are none.
        step("tests", "test --workspace --release --no-fail-fast --lib --bins --tests", extra),
        step("slim build", "check -p chunk-sync --no-default-features --release", &[]),
        step(LICENCES, "deny check licenses bans sources", &[]),
    ]
}

fn announce(step: &str) {
    println!("\n== {step}");
}

/// Runs a step in a process group of its own, so that an interruption ends all of it, and only after it this program.
fn timed(mut command: Command, interrupted: &AtomicBool) -> Result<Outcome> {
    let began = Instant::now();
    let mut child = command.process_group(0).spawn().context("cannot run cargo")?;
    let status = wait(&mut child, interrupted)?;
    let code = if interrupted.load(Ordering::Relaxed) { INTERRUPTED } else { exit_code(status) };
    Ok(match code {
        0 => Outcome::Passed(began.elapsed()),
        code => Outcome::Failed(code, began.elapsed()),
    })
}

/// Waits for `child`; when a signal came in, asks the child's group to end, and leaves nothing of the group behind.
fn wait(child: &mut Child, interrupted: &AtomicBool) -> Result<ExitStatus> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
    let mut asked: Option<Instant> = None;
    loop {
        let ended = child.try_wait()?;
        match (asked, ended) {
            (None, Some(status)) => return Ok(status),
            (None, None) if interrupted.load(Ordering::Relaxed) => {
                asked = Some(Instant::now());
                signal_group(group, Signal::TERM)?;
            }
            (Some(_), Some(status)) => {
                signal_group(group, Signal::KILL)?;
                return Ok(status);
            }
            (Some(since), None) if since.elapsed() > INTERRUPT_LIMIT => signal_group(group, Signal::KILL)?,
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal_group(group: Pid, signal: Signal) -> Result<()> {
    match kill_process_group(group, signal) {
        // Nothing of the group is left.
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error).context("cannot signal a step's processes"),
    }
}

/// From now on Ctrl-C, hang-up and a request to end only set this flag.
fn catch_signals() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        signal_hook::flag::register(signal.as_raw(), Arc::clone(&flag)).context("cannot catch signals")?;
    }
    Ok(flag)
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

/// A step that a signal ended counts as a shell has it: 128 and the signal's number.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // Not every code fits; what matters is that a failure stays one.
    u8::try_from(code).unwrap_or(1)
}

fn code(outcomes: &[(&str, Outcome)]) -> u8 {
    let failure = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(code, _) => Some(*code),
        _ => None,
    });
    // Interrupted between two steps, nothing has failed, and yet not everything was checked.
    let unfinished = outcomes.iter().any(|(_, outcome)| *outcome == Outcome::NotRun);
    failure.unwrap_or(if unfinished { INTERRUPTED } else { 0 })
}

fn summary(outcomes: &[(&str, Outcome)]) -> String {
    let mut table = String::new();
    for (name, outcome) in outcomes {
        let text = match outcome {
            Outcome::Passed(time) => format!("passed    {:>6.1} s", time.as_secs_f64()),
            Outcome::Failed(code, time) => format!("FAILED    {:>6.1} s  (exit code {code})", time.as_secs_f64()),
            Outcome::NotRun => "not run".to_owned(),
            Outcome::LeftOut(why) => format!("LEFT OUT  {why}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{name:<24}  {text}");
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_code_is_that_of_the_first_failure() {
        let outcomes = [("a", Outcome::Passed(SECOND)), ("b", Outcome::Failed(101, SECOND)), ("c", Outcome::NotRun)];
        assert_eq!(code(&outcomes), 101);
        assert_eq!(code(&outcomes[..1]), 0);
    }

    #[test]
    fn checks_that_were_cut_short_do_not_pass() {
        assert_eq!(code(&[("a", Outcome::Passed(SECOND)), ("b", Outcome::NotRun)]), INTERRUPTED);
    }

    #[test]
    fn what_is_left_out_is_said_and_why() {
        let table = summary(&[("a", Outcome::Passed(SECOND)), ("b", Outcome::LeftOut("no b here"))]);
        assert!(table.contains("LEFT OUT") && table.contains("no b here"), "{table}");
    }

    #[test]
    fn arguments_reach_the_tests_and_no_other_step() {
        let steps = steps(&["-p", "xtask", "--", "--nocapture"]);
        for step in &steps {
            assert_eq!(step.arguments.contains(&"--nocapture".to_owned()), step.name == "tests", "{}", step.name);
        }
    }

    #[test]
    fn a_step_keeps_its_exit_code() {
        let quiet = AtomicBool::new(false);
        assert!(matches!(timed(shell("exit 0"), &quiet).unwrap(), Outcome::Passed(_)));
        assert!(matches!(timed(shell("exit 7"), &quiet).unwrap(), Outcome::Failed(7, _)));
        assert!(matches!(timed(shell("kill -9 $$"), &quiet).unwrap(), Outcome::Failed(137, _)));
    }

    #[test]
    fn an_interruption_ends_the_step_and_what_it_started() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // What a shell starts in the background does not heed Ctrl-C, and this one not even a request to end.
        let mut command = shell("(trap '' TERM; sleep 600) & wait");
        command.stdout(writer);
        let outcome = timed(command, &AtomicBool::new(true)).unwrap();
        assert!(matches!(outcome, Outcome::Failed(INTERRUPTED, time) if time < INTERRUPT_LIMIT), "{outcome:?}");
        // The end of the pipe comes when the last process that holds it is gone.
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
