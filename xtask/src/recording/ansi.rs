//! Reads the colours of a terminal: text with SGR sequences becomes lines of runs.

use anyhow::{Context, Result, bail};

/// The look of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Look {
    #[default]
    Plain,
    Bold,
    Dim,
    Red,
    Green,
}

/// A run of characters of one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// The column of its first character, from 0.
    pub(super) column: usize,
    pub(super) look: Look,
    pub(super) text: String,
}

/// The lines of the text, each a list of runs; spaces at the ends of runs are kept.
///
/// # Errors
/// An escape sequence that is not one of the looks.
pub(super) fn lines(text: &str) -> Result<Vec<Vec<Run>>> {
    text.lines().map(line).collect()
}

fn line(text: &str) -> Result<Vec<Run>> {
    let mut parts = text.split("\u{1b}[");
    let mut runs = Vec::new();
    let (mut column, mut look) = (0, Look::Plain);
    let mut add = |look: Look, text: &str| {
        if !text.is_empty() {
            runs.push(Run { column, look, text: text.to_owned() });
        }
        column += text.chars().count();
    };
    add(look, parts.next().unwrap_or_default());
    for part in parts {
        let (code, text) = part.split_once('m').context("an escape sequence without an end")?;
        look = match code {
            "0" => Look::Plain,
            "1" => Look::Bold,
            "2" => Look::Dim,
            "31" => Look::Red,
            "32" => Look::Green,
            other => bail!("the picture has no look for the escape sequence `{other}m`; add one to `Look`"),
        };
        add(look, text);
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn colours_become_runs_with_columns() {
        let found = lines("a \u{1b}[31m✗ b\u{1b}[0m c\n\nd").unwrap();
        let run = |column, look, text: &str| Run { column, look, text: text.to_owned() };
        assert_eq!(
            found,
            [
                vec![run(0, Look::Plain, "a "), run(2, Look::Red, "✗ b"), run(5, Look::Plain, " c")],
                vec![],
                vec![run(0, Look::Plain, "d")]
            ]
        );
    }

    #[test]
    fn an_unknown_sequence_is_refused() {
        assert!(lines("\u{1b}[5mblinks").unwrap_err().to_string().contains("5m"));
    }
}
