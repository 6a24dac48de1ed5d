//! Processes that outlive the task that started them: detached from the terminal, identified by process id and start
//! time, and ended by signal. A signal reaches exactly the process that was started and no other.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Time limit for a server's answer to a probe.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long an orderly stop may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed process may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A process, distinct from a later one with the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id.
    pub(crate) pid: u32,
    /// Its start time, in clock ticks since boot.
    pub(crate) started: u64,
}

impl Identity {
    /// The process that has this id now; `None` when no process has it or the process has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (state, started) = look_up(pid)?;
        // A zombie still has its entry.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// Whether this process still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Waits until the entry of this ended process is removed; gives up after [`KILL_LIMIT`] when its parent does not
    /// reap it.
    pub(crate) fn wait_for_burial(self) {
        wait_while(KILL_LIMIT, || look_up(self.pid).is_some_and(|(_, started)| started == self.started));
    }
}

/// State and start time of the process that has this id.
fn look_up(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Parses state and start time from `/proc/PID/stat`. The name before them may contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Starts `command` with its output in `log`, in its own process group, so that Ctrl-C in the terminal does not reach
/// it.
pub(crate) fn spawn(mut command: Command, log: &Path) -> Result<Identity> {
    let output = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let program = command.get_program().to_owned();
    let child = command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    // The child is not waited for: it outlives this program. Until this program ends, its entry stays even if it ends.
    Identity::of(child.id()).with_context(|| format!("{} ended immediately; see {}", program.display(), log.display()))
}

/// Sends `signal` to this process; does nothing when it has ended.
pub(crate) fn signal(process: Identity, signal: Signal) -> Result<()> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("the process id is out of range")?;
    if process.is_alive() {
        kill_process(pid, signal).with_context(|| format!("cannot signal process {}", process.pid))?;
    }
    Ok(())
}

/// How a process ended after its stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It stopped within the limit.
    Stopped,
    /// It did not stop within the limit and was killed.
    Killed,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed: it did not stop within the time limit",
        })
    }
}

/// Waits until `process` ends after its stop signal; kills it when that takes longer than [`STOP_LIMIT`].
pub(crate) fn wait_for_end(process: Identity) -> Result<Ending> {
    if ends_within(process, STOP_LIMIT) {
        return Ok(Ending::Stopped);
    }
    signal(process, Signal::KILL)?;
    if ends_within(process, KILL_LIMIT) {
        return Ok(Ending::Killed);
    }
    bail!("process {} did not end after SIGKILL", process.pid)
}

fn ends_within(process: Identity, limit: Duration) -> bool {
    wait_while(limit, || process.is_alive())
}

/// Whether `condition` became false within `limit`. Polls, because only a parent can wait, and the parent has often
/// ended.
fn wait_while(limit: Duration, condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while condition() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "4711 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        assert_eq!(parse_stat(stat), Some(('S', 987_654)));
    }

    #[test]
    fn a_truncated_line_is_not_a_process() {
        assert_eq!(parse_stat("4711 (postgres) S 1 2 3"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_process_with_another_start_time_is_another_process() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own }.is_alive());
    }

    #[test]
    fn a_zombie_counts_as_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        drop(child.stdin.take());
        assert!(ends_within(process, KILL_LIMIT));
        child.wait().unwrap();
        assert_eq!(Identity::of(process.pid), None);
    }

    #[test]
    fn a_stale_identity_is_never_signalled() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        signal(Identity { started: process.started + 1, ..process }, Signal::KILL).unwrap();
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn a_process_that_obeys_its_signal_is_not_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        signal(process, Signal::TERM).unwrap();
        assert_eq!(wait_for_end(process).unwrap(), Ending::Stopped);
        child.wait().unwrap();
    }
}
