//! Processes that outlive the chore which started them: started apart from the terminal, known again by process id and
//! time of start, and ended by signal. Never anything else than exactly the process that was started.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may think over the question whether it serves.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How long an orderly stop may take before the process is killed.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long a killed process may take to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A process, told apart from a later one that got the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The process id.
    pub(crate) pid: u32,
    /// The time of its start, in clock ticks since the machine's own.
    pub(crate) started: u64,
}

impl Identity {
    /// The process that has this id now; none when there is none or it has ended.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let (state, started) = look_up(pid)?;
        // A process that nobody has waited for yet still has its entry.
        (!matches!(state, 'Z' | 'X')).then_some(Self { pid, started })
    }

    /// Whether this very process still runs.
    pub(crate) fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Waits until the entry of this process, which has ended, is gone too; gives up where nobody cleans up.
    pub(crate) fn wait_for_burial(self) {
        wait_while(KILL_LIMIT, || look_up(self.pid).is_some_and(|(_, started)| started == self.started));
    }
}

/// State and time of start of the process that has this id.
fn look_up(pid: u32) -> Option<(char, u64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// State and time of start from a line of `/proc/PID/stat`. The name before them may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ');
    let state = fields.next()?.chars().next()?;
    // The state is field 3 and the time of start field 22.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// Starts `command` with its output in `log`, in a process group of its own: Ctrl-C in the terminal does not reach it.
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
    // Nobody waits for the child: it is to outlive this program, and until then its entry stays even when it ends.
    Identity::of(child.id()).with_context(|| format!("{} ended at once; see {}", program.display(), log.display()))
}

/// Sends `signal` to this very process; nothing happens when it is no more.
pub(crate) fn signal(process: Identity, signal: Signal) -> Result<()> {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw).context("no process id")?;
    if process.is_alive() {
        kill_process(pid, signal).with_context(|| format!("cannot signal process {}", process.pid))?;
    }
    Ok(())
}

/// How a process that was asked to stop came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself, in time.
    Stopped,
    /// It did not heed the signal.
    Killed,
}

impl fmt::Display for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed: it did not stop when asked",
        })
    }
}

/// Waits until `process`, which was sent its signal, is no more; kills it when that takes too long.
pub(crate) fn wait_for_end(process: Identity) -> Result<Ending> {
    if ends_within(process, STOP_LIMIT) {
        return Ok(Ending::Stopped);
    }
    signal(process, Signal::KILL)?;
    if ends_within(process, KILL_LIMIT) {
        return Ok(Ending::Killed);
    }
    bail!("process {} is still there after being killed", process.pid)
}

fn ends_within(process: Identity, limit: Duration) -> bool {
    wait_while(limit, || process.is_alive())
}

/// Whether `condition` came to an end in time. Polls, because only a parent can wait and the starter is often long gone.
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
    fn a_line_that_is_cut_short_is_no_process() {
        assert_eq!(parse_stat("4711 (postgres) S 1 2 3"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_process_is_itself_and_not_another_with_its_id() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Identity { started: own.started + 1, ..own }.is_alive());
    }

    #[test]
    fn a_process_that_ended_is_gone_even_before_it_is_waited_for() {
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
    fn a_process_that_heeds_its_signal_is_stopped_not_killed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        signal(process, Signal::TERM).unwrap();
        assert_eq!(wait_for_end(process).unwrap(), Ending::Stopped);
        child.wait().unwrap();
    }
}
