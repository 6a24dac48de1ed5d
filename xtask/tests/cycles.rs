//! No import cycles between the modules of a crate: a module that two others need is below both.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Module path (`pipeline::log`; empty for the root) to its source without comments and inline tests.
type Sources = BTreeMap<String, String>;
/// Each module with the modules that it imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

fn sources(dir: &Path, prefix: &str, found: &mut Sources) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let name = if prefix.is_empty() { stem.to_owned() } else { format!("{prefix}::{stem}") };
        if path.is_dir() {
            sources(&path, &name, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = if matches!(stem, "lib" | "main") { String::new() } else { name };
            found.insert(name, code(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap();
    source.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` tree, such as `a::{b, c::d}`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let join = |tail: &str| if prefix.is_empty() { tail.to_owned() } else { format!("{prefix}::{tail}") };
    let Some((head, rest)) = tree.split_once('{') else {
        let name = tree.split_whitespace().next().unwrap_or_default();
        paths.push(if name == "self" { prefix.to_owned() } else { join(name) });
        return;
    };
    let head = head.trim_end_matches("::");
    let prefix = if head.is_empty() { prefix.to_owned() } else { join(head) };
    let (mut depth, mut item) = (0, String::new());
    for c in rest.strip_suffix('}').unwrap_or(rest).chars() {
        match c {
            ',' if depth == 0 => expand(&prefix, &std::mem::take(&mut item), paths),
            _ => {
                depth += i32::from(c == '{') - i32::from(c == '}');
                item.push(c);
            }
        }
    }
    if !item.trim().is_empty() {
        expand(&prefix, &item, paths);
    }
}

/// What follows `crate::` or `super::` in the code of `module`, as paths from the root of the crate.
fn named(module: &str, code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for keyword in ["crate::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut tail = &code[at..];
            let mut base: Vec<&str> = if keyword == "crate::" { Vec::new() } else { module.split("::").collect() };
            while let Some(rest) = tail.strip_prefix(keyword) {
                base.pop();
                tail = rest;
            }
            let in_use = code[..at].trim_end().ends_with("use");
            let end =
                if in_use { tail.find(';') } else { tail.find(|c: char| !(c.is_alphanumeric() || "_:".contains(c))) };
            expand(&base.join("::"), tail[..end.unwrap_or(tail.len())].trim_end_matches(':'), &mut paths);
        }
    }
    paths
}

/// The module of a path: its longest prefix that is a module.
fn resolve(path: &str, sources: &Sources) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    (1..=parts.len()).rev().map(|n| parts[..n].join("::")).find(|name| sources.contains_key(name))
}

fn imports(sources: &Sources) -> Imports {
    let of = |(module, code): (&String, &String)| {
        let found =
            named(module, code).into_iter().filter_map(|path| resolve(&path, sources)).filter(|to| to != module);
        (module.clone(), found.collect())
    };
    sources.iter().map(of).collect()
}

fn reaches(imports: &Imports, from: &str) -> BTreeSet<String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(module) = open.pop() {
        for next in &imports[&module] {
            if seen.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    seen
}

/// Modules that reach themselves.
fn in_cycles(imports: &Imports) -> Vec<&String> {
    imports.keys().filter(|module| reaches(imports, module).contains(*module)).collect()
}

#[test]
fn no_module_imports_itself_through_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it");
    let mut crates: Vec<_> = std::fs::read_dir(root.join("crates")).unwrap().map(|e| e.unwrap().path()).collect();
    crates.push(root.join("xtask"));
    let mut cycles = Vec::new();
    for path in crates {
        let mut found = Sources::new();
        sources(&path.join("src"), "", &mut found);
        assert!(!found.is_empty(), "{} has no sources", path.display());
        let imports = imports(&found);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        cycles
            .extend(in_cycles(&imports).into_iter().map(|module| format!("{name}: {module} -> {:?}", imports[module])));
    }
    assert!(cycles.is_empty(), "import cycles:\n{}", cycles.join("\n"));
}

#[test]
fn a_cycle_is_found() {
    let source = |text: &str| code(text);
    let sources = Sources::from([
        ("a".to_owned(), source("use crate::b::{C, d::E};\n// use crate::x;")),
        ("b".to_owned(), source("use std::fmt;")),
        ("b::d".to_owned(), source("fn f() { super::super::a::g(); }")),
    ]);
    let imports = imports(&sources);
    assert_eq!(imports["a"], BTreeSet::from(["b".to_owned(), "b::d".to_owned()]));
    assert_eq!(in_cycles(&imports), ["a", "b::d"]);
}
