//! Damaged lines, set aside beside the file they lie in, in `<file>.damaged`: their bytes as they are, one line each.
//!
//! The file itself is never rewritten: a log that edits its past can lose more than the damage did. Instead a later scan
//! knows a line that was set aside by its bytes, and does not report it again. What is set aside outlives the file; it is
//! evidence, and whoever has looked at it may delete it.

use std::collections::HashSet;
use std::io::{self, Read};

use crate::disk::{Disk, DiskFile, ReadFrom};
use crate::line::MAX_LINE;
use crate::scan::{Damage, Lines, Mark};

pub(crate) fn name_for(file: &str) -> String {
    format!("{file}.damaged")
}

/// What is set aside from a file already.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    known: HashSet<Mark>,
    /// A last line without its end: its writing was interrupted, and so was the report of it.
    torn: bool,
}

impl Aside {
    pub(crate) fn of(disk: &dyn Disk, file: &str) -> io::Result<Self> {
        let mut aside = Self::default();
        let kept = match disk.open(&name_for(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(aside),
            kept => kept?,
        };
        let mut lines = Lines::new(&*kept);
        while let Some(line) = lines.next()? {
            if line.ended {
                aside.known.insert(line.mark());
            }
            aside.torn = !line.ended;
        }
        Ok(aside)
    }

    pub(crate) fn knows(&self, mark: Mark) -> bool {
        self.known.contains(&mark)
    }

    /// Sets damaged lines of `file` aside as well; they are durable when this returns.
    pub(crate) fn add(self, disk: &dyn Disk, file: &str, from: &dyn DiskFile, damaged: &[Damage]) -> io::Result<()> {
        let name = name_for(file);
        let mut kept = match disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&name)?,
            kept => kept?,
        };
        let mut bytes = if self.torn { vec![b'\n'] } else { Vec::new() };
        for damage in damaged {
            ReadFrom { file: from, offset: damage.offset }
                .take(damage.length.min(MAX_LINE as u64))
                .read_to_end(&mut bytes)?;
            bytes.push(b'\n');
            kept.append(&bytes)?;
            bytes.clear();
        }
        kept.sync()?;
        disk.sync_dir()
    }
}
