//! Damaged lines are set aside: their bytes are copied unchanged, one line each and at most [`MAX_LINE`] bytes of it,
//! to `<file>.damaged` next to their file.
//!
//! The file itself is never rewritten: rewriting a log could lose more than the damage did. Instead a later scan
//! recognises a line that was set aside by its bytes and does not report it again. The copy is evidence and outlives
//! the file; an operator may delete it after inspection.

use std::collections::HashSet;
use std::io::{self, Read};

use crate::disk::{Disk, DiskFile, ReadFrom};
use crate::line::MAX_LINE;
use crate::scan::{Damage, Lines, Mark};

pub(crate) fn name_for(file: &str) -> String {
    format!("{file}.damaged")
}

/// The lines of a file that are set aside already.
#[derive(Debug, Default)]
pub(crate) struct SetAside {
    known: HashSet<Mark>,
    /// Whether the last line has no end: a crash interrupted its writing, so it was not reported either.
    torn: bool,
}

impl SetAside {
    pub(crate) fn of(disk: &dyn Disk, file: &str) -> io::Result<Self> {
        let mut set_aside = Self::default();
        let kept = match disk.open(&name_for(file)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(set_aside),
            kept => kept?,
        };
        let mut lines = Lines::new(&*kept);
        while let Some(line) = lines.next()? {
            if line.ended {
                set_aside.known.insert(line.mark());
            }
            set_aside.torn = !line.ended;
        }
        Ok(set_aside)
    }

    pub(crate) fn contains(&self, mark: Mark) -> bool {
        self.known.contains(&mark)
    }

    /// Sets further damaged lines of `file` aside. They are durable when this returns.
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
