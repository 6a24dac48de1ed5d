//! No function and no file is longer than `docs/style.md` allows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

/// The most lines of a function, from its first line to its closing brace.
const LONGEST: usize = 60;

/// The most lines of a source file; of a file of tests.
const LONGEST_SOURCE: usize = 300;
const LONGEST_TESTS: usize = 400;

struct Function {
    name: String,
    line: usize,
    lines: usize,
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !matches!(name.as_str(), "target" | "tests" | "benches" | "examples" | "data" | "testkit")
                && !name.starts_with('.')
            {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The name of the function that the line begins, if it begins one.
fn begins(line: &str) -> Option<&str> {
    let mut words = line.trim_start();
    for prefix in ["pub(crate) ", "pub(super) ", "pub ", "default ", "const ", "async ", "extern \"C\" "] {
        words = words.strip_prefix(prefix).unwrap_or(words);
    }
    let name = words.strip_prefix("fn ")?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// The functions of a formatted source: each ends at the first line that closes a brace at its own indentation. Inline
/// tests, which stand at the end of a file, are left out.
fn functions(source: &str) -> Vec<Function> {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = begins(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let closes = |line: &&str| line.strip_prefix(indent).is_some_and(|rest| rest == "}");
        let declared =
            |line: &&str| line.strip_prefix(indent).is_some_and(|rest| !rest.starts_with(' ') && rest.ends_with(';'));
        let end = lines[at..].iter().position(|line| closes(line) || declared(line)).unwrap_or_default();
        found.push(Function { name: name.to_owned(), line: at + 1, lines: end + 1 });
    }
    found
}

#[test]
fn no_function_is_longer_than_sixty_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it");
    let mut files = Vec::new();
    for dir in ["crates", "xtask/src"] {
        sources(&root.join(dir), &mut files);
    }
    let (mut seen, mut long) = (0, Vec::new());
    for path in &files {
        for function in functions(&std::fs::read_to_string(path).unwrap()) {
            seen += 1;
            if function.lines > LONGEST {
                let path = path.strip_prefix(root).unwrap().display();
                long.push(format!("{path}:{}: {} has {} lines", function.line, function.name, function.lines));
            }
        }
    }
    assert!(seen > 1_000, "{seen} functions");
    assert!(long.is_empty(), "split these functions:\n{}", long.join("\n"));
}

#[test]
fn a_long_function_is_found_and_a_declaration_is_none() {
    let body = "        work();\n".repeat(LONGEST);
    let source = format!(
        "trait T {{\n    fn declared(&self);\n}}\nimpl T for U {{\n    pub(crate) async fn long() {{\n{body}    }}\n}}\n"
    );
    let found = functions(&source);
    assert_eq!(
        found.iter().map(|f| (f.name.as_str(), f.lines)).collect::<Vec<_>>(),
        [("declared", 1), ("long", LONGEST + 2)]
    );
}

/// Every Rust file below `dir`, tests as well.
fn all(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            all(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    path.ends_with("tests.rs") || path.components().any(|part| matches!(part.as_os_str().to_str(), Some("tests")))
}

#[test]
fn no_file_is_longer_than_three_hundred_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it");
    let mut files = Vec::new();
    for dir in ["crates", "xtask"] {
        all(&root.join(dir), &mut files);
    }
    assert!(files.len() > 300, "{} files", files.len());
    let long = files.iter().filter_map(|path| {
        let lines = std::fs::read_to_string(path).unwrap().lines().count();
        let path = path.strip_prefix(root).unwrap();
        let most = if is_test(path) { LONGEST_TESTS } else { LONGEST_SOURCE };
        (lines > most).then(|| format!("{} has {lines} lines, {most} are allowed", path.display()))
    });
    let long: Vec<String> = long.collect();
    assert!(long.is_empty(), "split these files along a responsibility:\n{}", long.join("\n"));
}
