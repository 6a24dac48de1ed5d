//! What people and programs read: tables, numbers, JSON.

use std::fmt::Display;
use std::io::Write;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::Failure;

/// A line of the result.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|error| Failure::Unable(anyhow::Error::new(error).context("the result cannot be printed")))
}

/// The result as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string_pretty(value).map_err(|error| Failure::Unable(error.into()))?)
}

/// What went wrong.
pub(super) fn error(text: &str) {
    note(format_args!("error: {text}"));
}

/// A remark beside the result.
pub(super) fn note(text: impl Display) {
    // There is nowhere else to say that standard error is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The columns of the terminal; `None` where standard output is none.
pub(super) fn terminal_width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// A table with a heading; all columns but the first are numbers.
pub(super) fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = text_table(heading, rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// A table with a heading, of texts.
pub(super) fn text_table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(heading);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// A text of somebody else's as it may be shown on a terminal: what would steer that, or turn the order of what is read, is
/// written as an escape. Lines and tabs stay.
pub(super) fn printable(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && !matches!(c, '\n' | '\t')) || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A number with its thousands apart: `12,345`.
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

/// A share in per cent that never rounds up to all.
pub(super) fn percent(percent: f64) -> String {
    let cut = (percent * 1000.0).floor() / 1000.0;
    format!("{cut} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"],
            [0, 999, 1000, 1_234_567].map(number).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn what_would_steer_a_terminal_is_shown_and_not_done() {
        assert_eq!(printable("a\u{1b}[31m\r\u{202e}b\n\tü"), "a\\u{1b}[31m\\u{d}\\u{202e}b\n\tü");
    }

    #[test]
    fn almost_all_is_not_all() {
        assert_eq!(percent(99.999_99), "99.999 %");
        assert_eq!(percent(100.0), "100 %");
    }
}
