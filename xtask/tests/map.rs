//! The map in `ARCHITECTURE.md` is correct: it names every crate, and every path in it exists.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it")
}

fn map() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap()
}

/// The texts between backticks that begin like a path of this repository.
fn paths(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| ["crates/", "xtask", "config/", "docs/", "bench"].iter().any(|p| word.starts_with(p)))
        .collect()
}

#[test]
fn every_path_on_the_map_exists() {
    let map = map();
    let paths = paths(&map);
    assert!(paths.len() > 20, "{paths:?}");
    let missing: Vec<_> = paths.into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_crate_is_on_the_map() {
    let map = map();
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(map.contains(&format!("`crates/{name}`")), "{name} is not on the map");
    }
}

#[test]
fn the_map_fits_on_a_few_pages() {
    assert!(map().lines().count() < 200);
}
