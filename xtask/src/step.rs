//! One step: a command in a process group of its own, so that an interruption ends all of it, and what came of it.

use std::fmt::Write as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group};

/// How long an interrupted step may take to end by itself.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(10);
/// What a shell calls the end by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Ctrl-C, a hang-up or a request to end, which only set a flag.
pub(crate) struct Interruption {
    flag: Arc<AtomicBool>,
}

impl Interruption {
    /// From now on signals end the step under way, and this program after it.
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            signal_hook::flag::register(signal.as_raw(), Arc::clone(&flag)).context("cannot catch signals")?;
        }
        Ok(Self { flag })
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// How a step came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed(Duration),
    Failed(u8, Duration),
    NotRun,
}

/// Runs a command to its end.
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
    timed(command, interruption)
}

/// `cargo run` sets variables of the package that it runs. Build scripts that ask for that (ring's does) would run
/// again, and with them all that is built on them, whenever a build from here follows one from a shell or the reverse.
fn forget_this_package(command: &mut Command) {
    let of_package = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for name in std::env::vars().map(|(name, _)| name).filter(of_package) {
        command.env_remove(name);
    }
}

pub(crate) fn announce(step: &str) {
    println!("\n== {step}");
}

fn timed(mut command: Command, interruption: &Interruption) -> Result<Outcome> {
    let began = Instant::now();
    let program = command.get_program().display().to_string();
    let mut child = command.process_group(0).spawn().with_context(|| format!("cannot run {program}"))?;
    let status = wait(&mut child, interruption)?;
    let code = if interruption.came() { INTERRUPTED } else { exit_code(status) };
    Ok(match code {
        0 => Outcome::Passed(began.elapsed()),
        code => Outcome::Failed(code, began.elapsed()),
    })
}

/// Waits for `child`; when a signal came in, asks the child's group to end, and leaves nothing of the group behind.
fn wait(child: &mut Child, interruption: &Interruption) -> Result<ExitStatus> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
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
        // Nothing of the group is left.
        Err(Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error).context("cannot signal a step's processes"),
    }
}

/// A step that a signal ended counts as a shell has it: 128 and the signal's number.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    // Not every code fits; what matters is that a failure stays one.
    u8::try_from(code).unwrap_or(1)
}

/// The code of the first step that failed.
pub(crate) fn code(outcomes: &[(&str, Outcome)]) -> u8 {
    let failure = outcomes.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(code, _) => Some(*code),
        _ => None,
    });
    // Interrupted between two steps, nothing has failed, and yet not everything was checked.
    let unfinished = outcomes.iter().any(|(_, outcome)| *outcome == Outcome::NotRun);
    failure.unwrap_or(if unfinished { INTERRUPTED } else { 0 })
}

/// A table of the steps with their times.
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
    fn checks_that_were_cut_short_do_not_pass() {
        assert_eq!(code(&[("a", Outcome::Passed(SECOND)), ("b", Outcome::NotRun)]), INTERRUPTED);
    }

    #[test]
    fn a_step_keeps_its_exit_code() {
        let quiet = Interruption { flag: Arc::new(AtomicBool::new(false)) };
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
        let outcome = timed(command, &Interruption { flag: Arc::new(AtomicBool::new(true)) }).unwrap();
        assert!(matches!(outcome, Outcome::Failed(INTERRUPTED, time) if time < INTERRUPT_LIMIT), "{outcome:?}");
        // The end of the pipe comes when the last process that holds it is gone.
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
