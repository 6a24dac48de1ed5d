//! How far long work has come: a bar on a terminal, a line now and then elsewhere; both on standard error.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// How often a line is printed where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// A bar, or lines.
pub(super) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    last: std::sync::Mutex<Instant>,
}

impl Progress {
    /// Of `total` things; 0 where that is not known.
    pub(super) fn new(what: &'static str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        Self { what, bar, last: std::sync::Mutex::new(Instant::now()) }
    }

    /// So many are done.
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

    /// A remark that does not disturb the bar.
    pub(super) fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| output::note(text)),
            None => output::note(text),
        }
    }

    /// Takes the bar away.
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
