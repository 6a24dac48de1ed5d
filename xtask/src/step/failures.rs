//! The failures in the output of tests, which is passed on as it comes. They are printed once more at the end of the step:
//! of a long output, CI shows only the end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::ChildStdout;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Lines that are printed once more.
const MOST: usize = 300;

/// How long the output may stay open after the step has ended: a process that a test left behind may hold it.
const OPEN: Duration = Duration::from_secs(5);

/// What passes an output on, until it is closed.
pub(super) struct Failures(Receiver<Vec<String>>);

impl Failures {
    pub(super) fn of(output: ChildStdout) -> Self {
        let (sender, receiver) = channel();
        thread::spawn(move || sender.send(pass_on(output, std::io::stdout())));
        Self(receiver)
    }

    /// Prints them, if there are any.
    pub(super) fn print(self) {
        let lines = self.0.recv_timeout(OPEN).unwrap_or_default();
        if !lines.is_empty() {
            println!("\n== failures\n{}", lines.join("\n"));
        }
    }
}

/// Copies the lines, and returns those between `failures:` and the result of a test program.
fn pass_on(from: impl Read, mut into: impl Write) -> Vec<String> {
    let (mut from, mut line, mut within, mut kept) = (BufReader::new(from), Vec::new(), false, Vec::new());
    while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        // If no program reads it any more, the step goes on all the same.
        let _ = into.write_all(&line).and_then(|()| into.flush());
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        within = (within || text == "failures:") && !text.starts_with("test result:");
        if within && kept.len() < MOST {
            kept.push(text);
        }
        line.clear();
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_failures_of_each_program_are_kept_and_everything_is_passed_on() {
        let output = "test a ... ok\n\ntest result: ok. 1 passed\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
                      it broke\n\nfailures:\n    b\n\ntest result: FAILED. 1 failed\ntest c ... ok\n";
        let mut passed = Vec::new();
        let kept = pass_on(output.as_bytes(), &mut passed);
        assert_eq!(String::from_utf8(passed).unwrap(), output);
        assert_eq!(kept, ["failures:", "", "---- b stdout ----", "it broke", "", "failures:", "    b", ""]);
    }
}
