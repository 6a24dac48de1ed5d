//! What the fuzz target does with the text of a configuration file.

use std::path::Path;

use super::{Layers, read};

/// A configuration file. What is printed of an accepted one is read again with the same values, except for its secrets.
pub fn configuration(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut layers = Layers::defaults();
    let mut findings = Vec::new();
    layers.text(text, Path::new("fuzzed.toml"), &mut findings);
    if !findings.is_empty() {
        return;
    }
    if read::read(&layers).is_err() {
        return;
    }
    let printed = layers.to_toml();
    let mut again = Layers::defaults();
    again.text(&printed, Path::new("fuzzed.toml"), &mut findings);
    assert!(findings.is_empty(), "{findings:?}: {printed}");
    for (entry, same) in layers.entries().zip(again.entries()) {
        // A secret is printed as ***.
        let is_hidden = printed.contains("***") && entry.value != same.value;
        assert!(entry.key == same.key && (entry.value == same.value || is_hidden), "{}: {printed}", entry.key);
    }
}

#[cfg(test)]
mod tests {
    use super::configuration;

    #[test]
    fn the_kept_inputs_are_survived() {
        chunk_sync_testkit::fuzz::replay("configuration", configuration);
    }
}
