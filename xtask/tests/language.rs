//! Comments, strings and documents are plain technical English: the words of `docs/style.md` do not occur.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

/// Words that are not used in comments, strings and documents.
const WORDS: [&str; 17] = [
    "whoever",
    "whomever",
    "whatsoever",
    "somebody",
    "nobody",
    "anybody",
    "anew",
    "thereby",
    "hereby",
    "whereby",
    "henceforth",
    "lest",
    "mend",
    "mends",
    "owes",
    "debt",
    "thereof",
];

/// Phrases with an actor that cannot speak, or with none.
const PHRASES: [&str; 14] = [
    "is told",
    "are told",
    "was told",
    "were told",
    "is said",
    "are said",
    "was said",
    "says so",
    "said so",
    "somebody else",
    "is none of",
    "keeps no rule",
    "of its own accord",
    "who asked",
];

/// Identifiers that a standard term of the glossary has replaced.
const IDENTIFIERS: [&str; 54] = [
    "Lane",
    "lane",
    "lanes",
    "Parcel",
    "parcel",
    "Landed",
    "landed",
    "Settler",
    "settler",
    "absorb",
    "Looked",
    "Seen",
    "Met",
    "Decided",
    "Recorded",
    "Held",
    "incarnation",
    "House",
    "Office",
    "Journal",
    "caught",
    "Told",
    "Weather",
    "weather",
    "Climate",
    "climate",
    "Sky",
    "Hands",
    "Place",
    "Moody",
    "moods",
    "Debt",
    "owe",
    "owing",
    "bury",
    "buried",
    "may_bury",
    "aside",
    "office",
    "stranger",
    "strangers",
    "lanes_ended",
    "debts_ever",
    "Beats",
    "FileBeats",
    "WeatheredBus",
    "WeatheredCapture",
    "WeatheredLease",
    "WeatheredMerge",
    "WeatheredRecords",
    "WeatheredSource",
    "WeatheredStore",
    "WeatheredWaiting",
    "weathered_bus",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it")
}

fn files(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "data" {
                files(&path, extensions, found);
            }
        } else if path.extension().is_some_and(|e| extensions.contains(&e.to_string_lossy().as_ref())) {
            found.push(path);
        }
    }
}

/// The file that lists the words, and the page that explains them.
fn is_the_list(path: &Path) -> bool {
    path.ends_with("xtask/tests/language.rs") || path.ends_with("docs/style.md")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `needle` occurs in `line` as whole words.
fn has(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + needle.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The comments and strings of a line of Rust; of any other file the whole line.
fn prose(path: &Path, line: &str) -> String {
    if path.extension().is_none_or(|extension| extension != "rs") {
        return line.to_lowercase();
    }
    let (mut kept, mut quoted, mut rest) = (String::new(), false, line.char_indices().peekable());
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if quoted => drop(rest.next()),
            '"' => {
                quoted = !quoted;
                kept.push(' ');
            }
            '/' if !quoted && line[at..].starts_with("//") => return kept + &line[at..].to_lowercase(),
            _ if quoted => kept.extend(c.to_lowercase()),
            _ => {}
        }
    }
    kept
}

#[test]
fn prose_is_plain_english() {
    let mut found = Vec::new();
    files(root(), &["rs", "md", "toml", "html", "js"], &mut found);
    assert!(found.len() > 200, "{} files", found.len());
    let mut refused = Vec::new();
    for path in found.iter().filter(|path| !is_the_list(path)) {
        for (number, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
            let prose = prose(path, line);
            for word in WORDS.iter().chain(&PHRASES).filter(|word| has(&prose, word)) {
                let path = path.strip_prefix(root()).unwrap_or(path);
                refused.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    assert!(refused.is_empty(), "{} places; see docs/style.md:\n{}", refused.len(), refused.join("\n"));
}

#[test]
fn strings_and_comments_are_told_from_code() {
    let rust = Path::new("a.rs");
    assert_eq!(prose(rust, r#"let debt = "A \" Debt"; // Nobody"#), " a  debt // nobody");
    assert!(has("is owed to", "owed") && !has("allowed", "owed"));
}

#[test]
fn identifiers_are_the_standard_terms() {
    let mut found = Vec::new();
    let mut paths = Vec::new();
    files(&root().join("crates"), &["rs"], &mut paths);
    for path in paths.iter().filter(|path| !path.starts_with(root().join("crates/qdrant-server"))) {
        for (number, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
            let code = code(line);
            let used = IDENTIFIERS.iter().filter(|identifier| has(&code, identifier));
            found.extend(used.map(|identifier| format!("{}:{}: {identifier}", path.display(), number + 1)));
        }
    }
    assert_eq!(found, Vec::<String>::new(), "use the term of the glossary in ARCHITECTURE.md");
}

/// The line without its comments and strings.
fn code(line: &str) -> String {
    let (mut kept, mut quoted, mut rest) = (String::new(), false, line.char_indices());
    while let Some((at, c)) = rest.next() {
        match c {
            '\\' if quoted => drop(rest.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && line[at..].starts_with("//") => return kept,
            _ if !quoted => kept.push(c),
            _ => {}
        }
    }
    kept
}

#[test]
fn code_is_what_is_neither_comment_nor_string() {
    assert_eq!(code(r#"let debt = "a lane"; // a parcel"#), "let debt = ; ");
}
