//! Draws lines of a terminal as SVG. Every run has its own place and length, so the columns stand one below the other with
//! any monospaced font. The colours follow the reader's setting, dark or light.

use std::fmt::Write as _;

use super::ansi::{Look, Run};

/// Width of a character, height of a line, and the margin around the text, in pixels.
const CHARACTER: f64 = 8.0;
const LINE: f64 = 18.0;
const MARGIN: f64 = 16.0;

/// Columns of the terminal; a longer line makes the picture wider.
const COLUMNS: usize = 80;

const STYLE: &str = "\
.page{fill:#f6f8fa;stroke:#d0d7de}text{fill:#1f2328;font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;\
white-space:pre}.bold{font-weight:700}.dim{fill:#59636e}.red{fill:#c0262d}.green{fill:#1a7f37}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117;stroke:#30363d}text{fill:#e6edf3}.dim{fill:#9198a1}\
.red{fill:#ff7b72}.green{fill:#3fb950}}";

/// The picture of the lines.
pub(super) fn draw(lines: &[Vec<Run>]) -> String {
    let longest = lines.iter().filter_map(|runs| runs.last()).map(|run| run.column + run.text.chars().count());
    let columns = longest.max().unwrap_or_default().max(COLUMNS);
    let (width, height) = (length(columns) + 2.0 * MARGIN, lines.len() as f64 * LINE + 2.0 * MARGIN);
    // Writing to a string cannot fail.
    let mut picture = String::new();
    let _ = writeln!(
        picture,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" role=\"img\">\n\
         <title>Output of `chunk-sync demo`</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{}\" height=\"{}\" rx=\"8\"/>",
        width - 1.0,
        height - 1.0
    );
    for (number, runs) in lines.iter().enumerate() {
        let baseline = MARGIN + number as f64 * LINE + 13.0;
        for run in runs {
            text(&mut picture, run, baseline);
        }
    }
    picture.push_str("</svg>\n");
    picture
}

fn text(picture: &mut String, run: &Run, baseline: f64) {
    // Spaces at the ends need no character: the place of the next run states them.
    let shown = run.text.trim_start();
    let column = run.column + run.text.chars().count() - shown.chars().count();
    let shown = shown.trim_end();
    if shown.is_empty() {
        return;
    }
    let class = match run.look {
        Look::Plain => "",
        Look::Bold => " class=\"bold\"",
        Look::Dim => " class=\"dim\"",
        Look::Red => " class=\"red\"",
        Look::Green => " class=\"green\"",
    };
    let _ = writeln!(
        picture,
        "<text{class} x=\"{}\" y=\"{baseline}\" textLength=\"{}\" xml:space=\"preserve\">{}</text>",
        MARGIN + length(column),
        length(shown.chars().count()),
        escaped(shown)
    );
}

fn length(columns: usize) -> f64 {
    columns as f64 * CHARACTER
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_has_its_place_and_markup_is_escaped() {
        let run = Run { column: 3, look: Look::Green, text: "  a<b & c ".to_owned() };
        let picture = draw(&[vec![], vec![run]]);
        assert!(picture.contains("<text class=\"green\" x=\"56\" y=\"47\" textLength=\"56\""), "{picture}");
        assert!(picture.contains(">a&lt;b &amp; c</text>"), "{picture}");
    }
}
