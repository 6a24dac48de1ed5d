//! Progress of long work on standard error: a bar on a terminal, else a line every 5 s.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// Interval between lines if standard error is not a terminal.
const EVERY: Duration = Duration::from_secs(5);

/// A progress bar, or progress lines.
pub(super) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    last: std::sync::Mutex<Instant>,
}

impl Progress {
    /// Starts at 0 of `total`; 0 if the total is unknown.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        Self { what, bar, last: std::sync::Mutex::new(Instant::now()) }
    }

    /// Sets the number done, and the total if it is known.
    pub(super) fn set(&self, done: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(done);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.elapsed() >= EVERY {
            *last = Instant::now();
            let total = total.map_or_else(String::new, |total| format!(" of {}", output::number(total)));
            output::note(format_args!("{}: {}{total}", self.what, output::number(done)));
        }
    }

    /// Prints a note without breaking the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// Removes the bar.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, total: u64) -> ProgressBar {
    let (bar, template) = if total == 0 {
        (ProgressBar::new_spinner(), "{spinner} {msg} {human_pos} ({per_sec})")
    } else {
        (ProgressBar::new(total), "{msg} {wide_bar} {human_pos}/{human_len} ({per_sec}, {eta})")
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}
