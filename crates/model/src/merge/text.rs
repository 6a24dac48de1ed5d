//! Three texts into one, line by line.

use diffy::{ConflictStyle, IncompleteHunkStyle, MergeOptions};

/// What both `target` and `source` changed in `base`; where their changes collide, the source's.
pub(super) fn merge_lines(base: &str, target: &str, source: &str) -> String {
    let ended = if ends(source) == ends(base) { ends(target) } else { ends(source) };
    let [base, target, source] = [base, target, source].map(with_end);
    // Marks that are longer than any line's own run of the same signs cannot be mistaken.
    let length = [&base, &target, &source].iter().map(|text| longest_run(text)).max().unwrap_or_default() + 1;
    let mut options = MergeOptions::new();
    options.set_conflict_style(ConflictStyle::Merge).set_incomplete_hunk_style(IncompleteHunkStyle::Git);
    let mut merged = match options.set_conflict_marker_length(length).merge(&base, &target, &source) {
        Ok(merged) => merged,
        Err(marked) => source_of_each_hunk(&marked, length),
    };
    if !ended && merged.ends_with('\n') {
        merged.pop();
    }
    merged
}

fn ends(text: &str) -> bool {
    text.ends_with('\n')
}

fn with_end(text: &str) -> String {
    if ends(text) { text.to_owned() } else { format!("{text}\n") }
}

/// The longest run of one of the marks' signs at the start of a line.
fn longest_run(text: &str) -> usize {
    let run = |line: &str| {
        let first = line.bytes().next().filter(|byte| b"<=>".contains(byte));
        first.map_or(0, |first| line.bytes().take_while(|byte| *byte == first).count())
    };
    text.lines().map(run).max().unwrap_or_default()
}

/// The text without the target's half of each hunk between marks.
fn source_of_each_hunk(marked: &str, length: usize) -> String {
    let [begins, parts, ends] = ["<", "=", ">"].map(|sign| sign.repeat(length));
    let mut keep = true;
    let mut text = String::with_capacity(marked.len());
    for line in marked.split_inclusive('\n') {
        if line.starts_with(&begins) {
            keep = false;
        } else if line.starts_with(&parts) {
            keep = true;
        } else if !line.starts_with(&ends) && keep {
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::merge_lines;

    #[test]
    fn changes_in_different_lines_are_both_there() {
        assert_eq!(merge_lines("a\nb\nc\nd\ne", "A\nb\nc\nd\ne", "a\nb\nc\nd\nE"), "A\nb\nc\nd\nE");
        assert_eq!(merge_lines("a\nb\nc", "a\nb\nc\nd\n", "x\na\nb\nc"), "x\na\nb\nc\nd\n");
    }

    #[test]
    fn where_they_collide_the_source_is_taken_and_the_rest_is_merged() {
        assert_eq!(merge_lines("a\nb\nc\nd\ne", "1\nb\nc\nd\nE", "2\nb\nc\nd\ne"), "2\nb\nc\nd\nE");
        assert_eq!(merge_lines("", "one", "two"), "two");
    }

    #[test]
    fn text_that_looks_like_the_marks_stays() {
        let base = "<<<<<<< ours\n=======\n>>>>>>> theirs\nx\ny\nz";
        let (target, source) = (base.replace('x', "1"), base.replace('x', "2").replace('z', "Z"));
        assert_eq!(merge_lines(base, &target, &source), source);
        assert_eq!(merge_lines(base, &base.replace('x', "1"), &base.replace('z', "Z")).lines().nth(3), Some("1"));
    }

    #[test]
    fn the_end_of_the_text_is_as_whoever_changed_it_left_it() {
        assert_eq!(merge_lines("a\nb\nc", "A\nb\nc\n", "a\nb\nC"), "A\nb\nC\n");
        assert_eq!(merge_lines("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC"), "A\nb\nC");
    }
}
