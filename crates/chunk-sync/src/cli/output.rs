//! Output of commands: tables, numbers, JSON. Everything that a command prints passes here, and so no character from data
//! steers the terminal: see [`crate::printable`].

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::Failure;
use crate::printable::printable_json;
pub(super) use crate::printable::{printable, printable_lines};

/// Prints a line, or lines, of the result to standard output.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    coloured(printable_lines(&text.to_string()))
}

/// Prints lines of the result that contain colours. The caller has made every value in them printable.
pub(super) fn coloured(text: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|error| Failure::Unable(anyhow::Error::new(error).context("cannot write to standard output")))
}

/// Prints the result as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(printable_json(&serde_json::to_string_pretty(value).map_err(|error| Failure::Unable(error.into()))?))
}

/// Prints an error to standard error.
pub(super) fn error(text: &str) {
    note(format_args!("error: {text}"));
}

/// Prints a note to standard error.
pub(super) fn note(text: impl Display) {
    // If standard error is closed, there is no other place to report it.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable_lines(&text.to_string()));
}

/// The width of the terminal in columns; `None` if standard output is not a terminal.
pub(super) fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Whether results are coloured: on a terminal, or if `CLICOLOR_FORCE` is set and not `0`; never if `NO_COLOR` is set.
pub(super) fn wants_colours() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none()
        && (set("CLICOLOR_FORCE").is_some_and(|value| value != "0") || std::io::stdout().is_terminal())
}

/// A table with a heading. All columns but the first are right-aligned numbers.
pub(super) fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = text_table(heading, rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A table of texts with a heading.
pub(super) fn text_table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// A number with thousands separators: `12,345`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 chunk`, `2 chunks`.
pub(super) fn count(number_of: u64, what: &str) -> String {
    format!("{} {what}{}", number(number_of), if number_of == 1 { "" } else { "s" })
}

/// A percentage, rounded down to three decimals so that only 100 prints as `100 %`.
pub(super) fn percent(percent: f64) -> String {
    let cut = (percent * 1000.0).floor() / 1000.0;
    format!("{cut} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(number).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn a_percentage_below_100_never_prints_as_100() {
        assert_eq!(percent(99.999_99), "99.999 %");
        assert_eq!(percent(100.0), "100 %");
    }
}
