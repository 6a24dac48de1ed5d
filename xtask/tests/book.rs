//! The guides: the contents list every page, every link leads somewhere, and the page on operations names every metric.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace around it")
}

fn pages() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("docs/guide")).unwrap();
    let mut pages: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    pages.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    pages
}

/// The targets of the links and pictures in Markdown, without those in code.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<String>();
    let prose = prose.split('`').step_by(2).collect::<String>();
    let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.map(str::to_owned).collect()
}

/// The anchor that GitHub and mdBook give to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

fn has_anchor(page: &Path, wanted: &str) -> bool {
    let text = std::fs::read_to_string(page).unwrap();
    text.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

#[test]
fn the_contents_list_every_page_once() {
    let summary = std::fs::read_to_string(root().join("docs/guide/SUMMARY.md")).unwrap();
    let mut listed = links(&summary);
    listed.sort();
    let names = pages().iter().map(|page| page.file_name().unwrap().to_string_lossy().into_owned()).collect::<Vec<_>>();
    let expected: Vec<_> = names.into_iter().filter(|name| name != "SUMMARY.md").collect();
    assert_eq!(listed, expected);
}

#[test]
fn every_link_inside_the_repository_leads_to_a_file_and_heading() {
    let mut pages = pages();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(|name| root().join(name)));
    let (mut seen, mut broken) = (0, Vec::new());
    for page in pages {
        for link in links(&std::fs::read_to_string(&page).unwrap()) {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            if !target.exists() || !(heading.is_empty() || has_anchor(&target, heading)) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 20, "{seen} links");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_page_on_operations_names_every_metric() {
    let source = std::fs::read_to_string(root().join("crates/engine/src/runtime/metrics/catalog.rs")).unwrap();
    let quoted = source.split('"').skip(1).step_by(2);
    let is_metric = |text: &&str| {
        (text.starts_with("sync_") || text.starts_with("chunk_sync_"))
            && text.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    let metrics: BTreeSet<&str> = quoted.filter(is_metric).collect();
    assert!(metrics.len() > 30, "{metrics:?}");
    let page = std::fs::read_to_string(root().join("docs/guide/operations.md")).unwrap();
    let missing: Vec<_> = metrics.into_iter().filter(|metric| !page.contains(*metric)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn a_link_in_code_is_none() {
    assert_eq!(links("[a](b.md) `[c](d)`\n```\n[e](f)\n```\n![g](h.svg)"), ["b.md", "h.svg"]);
    assert_eq!(anchor(" Publishing from Python, and SQL"), "publishing-from-python-and-sql");
}
