//! What the fuzz target does with a connection string.

use super::shown::{HIDDEN, SECRETS, Shown};
use super::{Surroundings, resolve, syntax};

/// A connection string. What is printed of an accepted one is a connection string with the same settings, except for its
/// secrets.
pub fn postgres_string(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let around = Surroundings { user: Some("me".to_owned()), sockets: "/tmp".into(), ..Surroundings::default() };
    // A service file may be any file of the machine.
    if !text.contains("service")
        && let Ok(info) = resolve(text, &around)
    {
        assert!(!info.endpoints.is_empty(), "no server in {text:?}");
    }
    let Ok(shown) = Shown::of(text) else { return };
    let Ok(pairs) = syntax::pairs(text.trim()) else { return };
    let hidden: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| if SECRETS.contains(&name.as_str()) { (name, HIDDEN.to_owned()) } else { (name, value) })
        .collect();
    assert_eq!(syntax::pairs(&shown.to_string()), Ok(hidden), "{shown} stands for {text:?}");
}
