//! Events from lines of JSON.

use std::io::{BufRead, Read};

use chunk_sync_engine::Publisher;
use chunk_sync_model::Event;
use serde::Serialize;
use tokio::sync::mpsc;

use super::{BATCH, Batch};
use crate::cli::output;

/// Maximum length of a line in bytes. An event with content and vectors of ten models is far smaller.
pub(super) const MAX_LINE: u64 = 16 * 1024 * 1024;

/// A refused line.
#[derive(Debug, Serialize)]
pub(super) struct Refusal {
    file: String,
    line: u64,
    field: String,
    error: String,
}

impl Refusal {
    /// On one line: a field may be a key of the data with a line feed in it.
    pub(super) fn text(&self) -> String {
        output::printable(&format!("{}:{}: {}: {}", self.file, self.line, self.field, self.error))
    }
}

/// Reads and parses the input on a separate thread: reading blocks, and parsing takes a core.
pub(super) struct Lines {
    pub(super) input: Box<dyn BufRead + Send>,
    pub(super) name: String,
    pub(super) publisher: Publisher,
    pub(super) line: u64,
    pub(super) bytes: u64,
}

impl Lines {
    pub(super) fn read_all(mut self, sender: &mpsc::Sender<Batch>) -> std::io::Result<()> {
        let mut ended = false;
        while !ended {
            let mut read = Batch::default();
            while !ended && read.events.len() + read.refusals.len() < BATCH {
                match self.next()? {
                    Some(Ok(Some(event))) => read.events.push(event),
                    Some(Ok(None)) => {}
                    Some(Err(refusal)) => read.refusals.push(refusal),
                    None => ended = true,
                }
            }
            (read.bytes, read.lines) = (self.bytes, self.line);
            if sender.blocking_send(read).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next line: an event, nothing if it is blank, or why it is refused. `None` at the end.
    #[allow(clippy::type_complexity, reason = "each layer is one of the three outcomes")]
    fn next(&mut self) -> std::io::Result<Option<Result<Option<Event>, Refusal>>> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.line += 1;
        self.bytes += read;
        if read == MAX_LINE && bytes.last() != Some(&b'\n') {
            self.bytes += self.skip_line()?;
            return Ok(Some(Err(self.refusal("event", format!("longer than {MAX_LINE} bytes")))));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Ok(Some(Err(self.refusal("event", "is not UTF-8".to_owned()))));
        };
        let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
        if text.trim().is_empty() {
            return Ok(Some(Ok(None)));
        }
        let parsed = self.publisher.parse(text, jiff::Timestamp::now().into());
        Ok(Some(parsed.map(Some).map_err(|invalid| self.refusal(&invalid.field, invalid.message))))
    }

    fn refusal(&self, field: &str, error: String) -> Refusal {
        Refusal { file: self.name.clone(), line: self.line, field: field.to_owned(), error }
    }

    /// Skips to the end of the line. Returns the number of bytes skipped.
    fn skip_line(&mut self) -> std::io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.input.fill_buf()?;
            let (end, length) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (true, at + 1),
                None => (buffer.is_empty(), buffer.len()),
            };
            self.input.consume(length);
            skipped += length as u64;
            if end {
                return Ok(skipped);
            }
        }
    }
}
