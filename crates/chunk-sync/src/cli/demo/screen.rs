//! What the demonstration prints: short lines, with colours on a terminal.

use chunk_sync_engine::verify::Report;

use super::Failure;
use crate::cli::output;

/// Where the lines of the story go.
#[derive(Clone, Copy)]
pub(super) struct Screen {
    /// Whether standard output is left for the JSON of the result; the story then goes to standard error.
    json: bool,
    colours: bool,
}

/// The colour of a text.
#[derive(Clone, Copy)]
pub(super) enum Ink {
    Bold,
    Dim,
    Red,
    Green,
}

impl Ink {
    fn code(self) -> u8 {
        match self {
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
        }
    }
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json, colours: !json && output::wants_colours() }
    }

    /// The text in a colour, made printable; without colours only the text.
    pub(super) fn ink(self, ink: Ink, text: &str) -> String {
        let text = output::printable(text);
        if self.colours { format!("\u{1b}[{}m{text}\u{1b}[0m", ink.code()) } else { text }
    }

    /// A line, indented below its heading.
    pub(super) fn line(self, text: &str) -> Result<(), Failure> {
        self.print(&format!("   {}", output::printable(text)))
    }

    /// A line that [`Self::ink`] has made printable.
    pub(super) fn print(self, text: &str) -> Result<(), Failure> {
        if self.json {
            output::note(text);
            return Ok(());
        }
        output::coloured(text)
    }

    /// The heading of a part of the story.
    pub(super) fn heading(self, number: u8, text: &str) -> Result<(), Failure> {
        self.print(&format!("\n{}", self.ink(Ink::Bold, &format!("{number}. {text}"))))
    }

    /// A good result.
    pub(super) fn good(self, text: &str) -> Result<(), Failure> {
        self.print(&format!("   {}", self.ink(Ink::Green, &format!("✓ {text}"))))
    }

    /// A bad result.
    pub(super) fn bad(self, text: &str) -> Result<(), Failure> {
        self.print(&format!("   {}", self.ink(Ink::Red, &format!("✗ {text}"))))
    }

    /// What each store holds and what is wrong with it.
    pub(super) fn stores(self, report: &Report) -> Result<(), Failure> {
        let heading = format!("{:<10} {:>7} {:>9} {:>9} {:>11}", "store", "chunks", "missing", "orphaned", "different");
        self.print(&format!("   {}", self.ink(Ink::Dim, &heading)))?;
        for (target, store) in &report.stores {
            let cell = |number: u64, width: usize| {
                let text = format!("{:>width$}", output::number(number));
                if number > 0 { self.ink(Ink::Red, &text) } else { text }
            };
            self.print(&format!(
                "   {:<10} {:>7} {} {} {}",
                target.as_str(),
                output::number(store.count),
                cell(store.missing, 9),
                cell(store.orphaned, 9),
                cell(store.different + store.stale, 11)
            ))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_only_added_where_they_are_wanted() {
        let plain = Screen { json: false, colours: false };
        let coloured = Screen { json: false, colours: true };
        assert_eq!(plain.ink(Ink::Red, "gone"), "gone");
        assert_eq!(coloured.ink(Ink::Red, "gone"), "\u{1b}[31mgone\u{1b}[0m");
        assert_eq!(coloured.ink(Ink::Green, "\u{1b}[2J"), "\u{1b}[32m\\u{1b}[2J\u{1b}[0m");
    }
}
