//! Each test that `docs/guarantees.md` names exists and runs, and each row of its tables names one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it")
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/guarantees.md")).unwrap()
}

/// The tests that the text names, each as a path and a function: words between backticks like `path.rs::function`.
fn tests(text: &str) -> Vec<(&str, &str)> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter_map(|word| word.split_once("::")).filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// The rows of the tables, without heads and lines.
fn rows(text: &str) -> impl Iterator<Item = &str> {
    let is_head = |line: &str| line.starts_with("| what happens |") || line.starts_with("|---");
    text.lines().filter(move |line| line.starts_with('|') && !is_head(line))
}

/// Whether the source has a function of that name that is a test, or that a macro makes a test of: then a list has its
/// name, in the source itself or in that of the suites.
fn has_test(source: &str, suites: &str, name: &str) -> bool {
    let (head, listed) = (format!("fn {name}"), format!(" {name},"));
    let mut begins = source.match_indices(&head).filter(|(at, _)| source[at + head.len()..].starts_with(['(', '<']));
    let is_marked = |at: usize| {
        let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
        let above = source[..line].lines().rev().map(str::trim);
        let mut marks = above.take_while(|line| line.starts_with("#[") || line.starts_with("///"));
        marks.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    begins.any(|(at, _)| is_marked(at) || source.contains(&listed) || suites.contains(&listed))
}

#[test]
fn every_row_names_a_test_that_exists() {
    let page = page();
    let suites = std::fs::read_to_string(root().join("crates/testkit/src/lib.rs")).unwrap();
    let mut missing = Vec::new();
    let mut count = 0;
    for row in rows(&page) {
        let named = tests(row);
        if named.is_empty() {
            missing.push(format!("no test: {row}"));
        }
        for (path, name) in named {
            count += 1;
            let source = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            if !has_test(&source, &suites, name) {
                missing.push(format!("{path}::{name}"));
            }
        }
    }
    assert!(count > 100, "{count} tests are named");
    assert!(missing.is_empty(), "correct docs/guarantees.md:\n{}", missing.join("\n"));
}

#[test]
fn a_missing_test_is_found() {
    let source = "#[test]\nfn one() {}\nfn two<S>() {}\nlist!([\n    two,\n]);\nfn three() {}\n";
    assert!(has_test(source, "", "one") && has_test(source, "", "two") && has_test(source, " three,", "three"));
    assert!(has_test("  /// a\n  #[tokio::test]\n  #[ignore]\n  async fn one() {}", "", "one"));
    assert!(!has_test(source, "", "three") && !has_test(source, "", "on") && !has_test("", "", "one"));
    assert_eq!(tests("`a.rs::b` `c::d` e.rs::f `g.rs::h`"), [("a.rs", "b"), ("g.rs", "h")]);
}
