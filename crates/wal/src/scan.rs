//! Reads a file of the log line by line in bounded memory. `recovery.rs` and `inspect.rs` decide what to do about
//! damage.

use std::io::{self, BufRead, BufReader, Read};

use serde::Serialize;

use crate::disk::{DiskFile, ReadFrom};
use crate::hour::Hour;
use crate::index::{Index, LinePosition};
use crate::line::{self, Flaw, MAX_LINE};

const READ_AHEAD: usize = 256 << 10;

/// A damaged line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The name of the file.
    pub file: String,
    /// The number of the line, from 1.
    pub line: u64,
    /// The offset of the line in bytes.
    pub offset: u64,
    /// The length of the line in bytes, without its end.
    pub length: u64,
    /// The kind of the damage, as text.
    pub reason: String,
}

/// A last line without its end: a write that a crash interrupted or that is in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Torn {
    /// The name of the file.
    pub file: String,
    /// The number of the line, from 1.
    pub line: u64,
    /// The offset of the line in bytes; recovery truncates the file to it.
    pub offset: u64,
    /// The length of the line in bytes.
    pub bytes: u64,
}

/// Identifies a damaged line: the number of bytes kept of it, at most [`MAX_LINE`], and their checksum.
pub(crate) type Mark = (u64, u32);

/// The result of reading a file. Operations are not here; they go into the index.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) lines: u64,
    pub(crate) damaged: Vec<(Damage, Mark)>,
    pub(crate) torn: Option<Torn>,
}

/// Reads the file of `hour`. Only the newest file can have a torn line: an older one was synced before the next was
/// created. A last line without its end in an older file is checked like any other, and is damaged only if it does not
/// parse.
pub(crate) fn scan(file: &dyn DiskFile, hour: Hour, newest: bool, index: &mut Index) -> io::Result<Scan> {
    let name = hour.file();
    let mut found = Scan::default();
    let mut lines = Lines::new(file);
    while let Some(raw) = lines.next()? {
        if newest && !raw.ended {
            found.torn = Some(Torn { file: name, line: raw.number, offset: raw.offset, bytes: raw.length });
            break;
        }
        found.lines += 1;
        match raw.parse() {
            Ok(line) => index.take(&line, LinePosition { hour, offset: raw.offset, length: raw.bytes.len() }),
            Err(flaw) => {
                let damage = Damage {
                    file: name.clone(),
                    line: raw.number,
                    offset: raw.offset,
                    length: raw.length,
                    reason: flaw.to_string(),
                };
                found.damaged.push((damage, raw.mark()));
            }
        }
    }
    Ok(found)
}

/// The lines of a file, one at a time.
pub(crate) struct Lines<'a> {
    reader: BufReader<ReadFrom<'a>>,
    held: Vec<u8>,
    offset: u64,
    number: u64,
}

/// A line as it is in the file.
pub(crate) struct Raw<'a> {
    number: u64,
    pub(crate) offset: u64,
    /// Bytes, without the line end.
    pub(crate) length: u64,
    /// The bytes, at most the first [`MAX_LINE`].
    bytes: &'a [u8],
    /// Whether a line end follows.
    pub(crate) ended: bool,
}

impl Raw<'_> {
    pub(crate) fn mark(&self) -> Mark {
        (self.bytes.len() as u64, crc32c::crc32c(self.bytes))
    }

    /// The bytes, without the line end and at most the first [`MAX_LINE`].
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    /// Whether [`Self::bytes`] has all of the line.
    pub(crate) fn is_whole(&self) -> bool {
        self.length == self.bytes.len() as u64
    }

    pub(crate) fn parse(&self) -> Result<line::Line<'_>, Flaw> {
        if self.length > MAX_LINE as u64 { Err(Flaw::Overlong) } else { line::parse(self.bytes) }
    }
}

impl<'a> Lines<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile) -> Self {
        let reader = BufReader::with_capacity(READ_AHEAD, ReadFrom { file, offset: 0 });
        Self { reader, held: Vec::new(), offset: 0, number: 0 }
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Raw<'_>>> {
        const HELD: u64 = MAX_LINE as u64 + 1;
        self.held.clear();
        let mut taken = self.reader.by_ref().take(HELD).read_until(b'\n', &mut self.held)? as u64;
        if taken == 0 {
            return Ok(None);
        }
        let mut ended = self.held.last() == Some(&b'\n');
        if !ended && taken == HELD {
            let (skipped, end) = self.skip_line()?;
            (taken, ended) = (taken + skipped, end);
        }
        let offset = self.offset;
        self.offset += taken;
        self.number += 1;
        let length = taken - u64::from(ended);
        let held = self.held.len().min(MAX_LINE).min(usize::try_from(length).unwrap_or(MAX_LINE));
        Ok(Some(Raw { number: self.number, offset, length, bytes: &self.held[..held], ended }))
    }

    /// Skips the rest of a line that is too long to keep. Returns the number of bytes including the line end, and
    /// whether there is a line end.
    fn skip_line(&mut self) -> io::Result<(u64, bool)> {
        let mut skipped = 0;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            let read = self.reader.by_ref().take(READ_AHEAD as u64).read_until(b'\n', &mut piece)?;
            skipped += read as u64;
            if read == 0 || piece.ends_with(b"\n") {
                return Ok((skipped, read > 0));
            }
        }
    }
}
