//! Makes text from data safe to print: no control character, no character that changes the direction of text and no
//! invisible character reaches a terminal, a text log or a browser as itself. Each is shown by its escape, `\u{1b}`.
//!
//! A value is escaped by [`printable`] where it becomes part of a text, or by [`printable_lines`] if its line breaks are
//! wanted. What is printed passes [`printable_lines`] once more, so a value that was forgotten cannot steer a terminal.

/// The text on one line.
pub(crate) fn printable(text: &str) -> String {
    escaped(text, |c| c == '\n' || c == '\t' || steers(c), |shown, c| shown.extend(c.escape_unicode()))
}

/// The text with its line feeds and tabs.
pub(crate) fn printable_lines(text: &str) -> String {
    escaped(text, steers, |shown, c| shown.extend(c.escape_unicode()))
}

/// A JSON document that means the same and has only printable characters, line feeds and tabs. `serde_json` escapes the
/// control characters below U+0020 only; others occur inside strings only, where an escape means the same.
pub(crate) fn printable_json(json: &str) -> String {
    escaped(json, steers, |shown, c| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            shown.push_str(&format!("\\u{unit:04x}"));
        }
    })
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool, escape: impl Fn(&mut String, char)) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            escape(&mut shown, c);
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character acts on a terminal or a reader without being visible: controls (C0, DEL, C1), line and paragraph
/// separators, bidirectional controls, and what Unicode calls default-ignorable, without the variation selectors that
/// emoji need.
fn steers(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_ascii() || c.is_control() => c.is_control(),
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{feff}' | '\u{3164}' | '\u{ffa0}' => true,
        '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180e}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_is_escaped() {
        assert_eq!(printable_lines("a\u{1b}[31m\r\u{202e}b\n\tü"), "a\\u{1b}[31m\\u{d}\\u{202e}b\n\tü");
        assert_eq!(printable("a\nb\tc\u{9b}"), "a\\u{a}b\\u{9}c\\u{9b}");
        for c in ['\u{7f}', '\u{85}', '\u{9b}', '\u{200b}', '\u{2066}', '\u{2028}', '\u{feff}', '\u{e0041}'] {
            assert_eq!(printable(&c.to_string()), format!("\\u{{{:x}}}", u32::from(c)));
        }
        let readable = "Grüße, 你好, שלום, \u{2764}\u{fe0f} {}\\n";
        assert_eq!(printable(readable), readable);
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({"a\u{9b}\u{202e}": "x\u{1b}\u{7f}\u{200b}\u{e0041}\n", "b": [1.5, "ü"]});
        let json = printable_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!json.chars().any(steers), "{json}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
    }
}
