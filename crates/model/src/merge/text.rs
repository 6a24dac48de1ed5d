//! Three-way merge of texts by line.

use diffy::{ConflictStyle, IncompleteHunkStyle, MergeOptions};

/// Merges the changes that `target` and `source` made to `base`; where they conflict, the source's changes are taken.
pub(super) fn merge_lines(base: &str, target: &str, source: &str) -> String {
    let ended = if ends(source) == ends(base) { ends(target) } else { ends(source) };
    let [base, target, source] = [base, target, source].map(with_end);
    // Conflict markers longer than any run of the same characters at the start of a line are unambiguous.
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

/// The longest run of a marker's character at the start of a line.
fn longest_run(text: &str) -> usize {
    let run = |line: &str| {
        let first = line.bytes().next().filter(|byte| b"<=>".contains(byte));
        first.map_or(0, |first| line.bytes().take_while(|byte| *byte == first).count())
    };
    text.lines().map(run).max().unwrap_or_default()
}

/// Removes the conflict markers and the target's half of each conflict.
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
    fn changes_in_different_lines_are_both_kept() {
        assert_eq!(merge_lines("a\nb\nc\nd\ne", "A\nb\nc\nd\ne", "a\nb\nc\nd\nE"), "A\nb\nc\nd\nE");
        assert_eq!(merge_lines("a\nb\nc", "a\nb\nc\nd\n", "x\na\nb\nc"), "x\na\nb\nc\nd\n");
    }

    #[test]
    fn where_changes_conflict_the_source_wins_and_the_rest_is_merged() {
        assert_eq!(merge_lines("a\nb\nc\nd\ne", "1\nb\nc\nd\nE", "2\nb\nc\nd\ne"), "2\nb\nc\nd\nE");
        assert_eq!(merge_lines("", "one", "two"), "two");
    }

    #[test]
    fn text_that_resembles_conflict_markers_is_kept() {
        let base = "<<<<<<< ours\n=======\n>>>>>>> theirs\nx\ny\nz";
        let (target, source) = (base.replace('x', "1"), base.replace('x', "2").replace('z', "Z"));
        assert_eq!(merge_lines(base, &target, &source), source);
        assert_eq!(merge_lines(base, &base.replace('x', "1"), &base.replace('z', "Z")).lines().nth(3), Some("1"));
    }

    #[test]
    fn the_final_newline_follows_the_side_that_changed_it() {
        assert_eq!(merge_lines("a\nb\nc", "A\nb\nc\n", "a\nb\nC"), "A\nb\nC\n");
        assert_eq!(merge_lines("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC"), "A\nb\nC");
    }
}
