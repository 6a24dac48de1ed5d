//! One step: a command in its own process group, so that an interruption ends the whole group, and its outcome.

mod failures;

use std::fmt::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use failures::Failures;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long an interrupted step may take to end before it is killed.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(10);
/// The exit code of shells for an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// A flag that SIGINT, SIGTERM and SIGHUP set.
pub(crate) struct Interruption {
    flag: Arc<AtomicBool>,
}

impl Interruption {
    /// Registers the signals: from now on they end the running step, and then this program.
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            signal_hook::flag::register(signal.as_raw(), Arc::clone(&flag))
                .context("cannot register a signal handler")?;
        }
        Ok(Self { flag })
    }

    /// Whether a signal was received.
    pub(crate) fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// The outcome of a step: exit code and duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed(Duration),
    Failed(u8, Duration),
    NotRun,
}

/// Runs a command and waits for it. Prints the failures of `cargo test` once more at the end.
pub(crate) fn run(
    program: &Path,
    arguments: &[String],
    directory: &Path,
    environment: &[(&str, String)],
    interruption: &Interruption,
) -> Result<Outcome> {
    let mut command = Command::new(program);
    command.current_dir(directory).args(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    forget_this_package(&mut command);
    if arguments.first().is_some_and(|argument| argument == "test") {
        command.stdout(Stdio::piped());
    }
    timed(&mut command, interruption)
}

/// Removes the variables that `cargo run` sets for the package it runs. Some build scripts (ring's) depend on them:
/// they and all their dependents would be rebuilt whenever a build from here follows one from a shell, or the reverse.
fn forget_this_package(command: &mut Command) {
    let of_package = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars().map(|(name, _)| name).filter(of_package) {
        command.env_remove(name);
    }
}

pub(crate) fn announce(step: &str) {
    println!("\n== {step}");
}

fn timed(command: &mut Command, interruption: &Interruption) -> Result<Outcome> {
    let began = Instant::now();
    let program = command.get_program().display().to_string();
    let mut child = command.process_group(0).spawn().with_context(|| format!("cannot run {program}"))?;
    let failures = child.stdout.take().map(Failures::of);
    let status = wait(&mut child, interruption)?;
    if let Some(failures) = failures {
        failures.print();
    }
    let code = if interruption.came() { INTERRUPTED } else { exit_code(status) };
    Ok(match code {
        0 => Outcome::Passed(began.elapsed()),
        code => Outcome::Failed(code, began.elapsed()),
    })
}

/// Waits for `child`. After a signal, sends SIGTERM to its process group, and SIGKILL to what remains of the group.
fn wait(child: &mut Child, interruption: &Interruption) -> Result<ExitStatus> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the process id is out of range")?;
    let mut asked: Option<Instant> = None;
    loop {
        let ended = child.try_wait()?;
        match (asked, ended) {
            (None, Some(status)) => return Ok(status),
            (None, None) if interruption.came() => {
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
        // No process of the group is left.
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error).context("cannot signal the process group of the step"),
    }
}

/// The exit code. For an end by signal it is 128 plus the number of the signal, as in a shell.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // Not every code fits into a byte; a failure must stay a failure.
    u8::try_from(code).unwrap_or(1)
}

/// The exit code of the first step that failed.
pub(crate) fn code(outcomes: &[(&str, Outcome)]) -> u8 {
    let failure = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(code, _) => Some(*code),
        _ => None,
    });
    // After an interruption between two steps, nothing has failed but not everything was checked.
    let unfinished = outcomes.iter().any(|(_, outcome)| *outcome == Outcome::NotRun);
    failure.unwrap_or(if unfinished { INTERRUPTED } else { 0 })
}

/// A table of the steps with their outcomes and durations.
pub(crate) fn summary(outcomes: &[(&str, Outcome)]) -> String {
    let mut table = String::new();
    for (name, outcome) in outcomes {
        let text = match outcome {
            Outcome::Passed(time) => format!("passed    {:>6.1} s", time.as_secs_f64()),
            Outcome::Failed(code, time) => format!("FAILED    {:>6.1} s  (exit code {code})", time.as_secs_f64()),
            Outcome::NotRun => "not run".to_owned(),
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
    fn interrupted_checks_do_not_pass() {
        assert_eq!(code(&[("a", Outcome::Passed(SECOND)), ("b", Outcome::NotRun)]), INTERRUPTED);
    }

    #[test]
    fn a_step_keeps_its_exit_code() {
        let quiet = Interruption { flag: Arc::new(AtomicBool::new(false)) };
        assert!(matches!(timed(&mut shell("exit 0"), &quiet).unwrap(), Outcome::Passed(_)));
        assert!(matches!(timed(&mut shell("exit 7"), &quiet).unwrap(), Outcome::Failed(7, _)));
        assert!(matches!(timed(&mut shell("kill -9 $$"), &quiet).unwrap(), Outcome::Failed(137, _)));
    }

    #[test]
    fn an_interruption_ends_the_step_and_its_children() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        // A background process of a shell ignores SIGINT, and this one also ignores SIGTERM.
        let mut command = shell("(trap '' TERM; sleep 600) & wait");
        command.stdout(writer);
        let outcome = timed(&mut command, &Interruption { flag: Arc::new(AtomicBool::new(true)) }).unwrap();
        assert!(matches!(outcome, Outcome::Failed(INTERRUPTED, time) if time < INTERRUPT_LIMIT), "{outcome:?}");
        drop(command);
        // The pipe is closed when the last process that holds it has ended.
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
