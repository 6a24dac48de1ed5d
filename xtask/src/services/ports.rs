//! The choice of loopback ports. A checkout gets the same ports again as long as they are free.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;

/// Below the ephemeral ports: an outgoing connection cannot take a port between choice and use.
const RANGE: Range<u16> = 20_000..30_000;

/// The first port to try. A hash spreads checkouts over the range, so that two of them seldom collide.
pub(crate) fn base(root: &Path, offset: usize) -> u16 {
    let mut hasher = DefaultHasher::new();
    root.hash(&mut hasher);
    let steps = hasher.finish().wrapping_add(offset as u64) % RANGE.len() as u64;
    RANGE.start + u16::try_from(steps).unwrap_or_default()
}

/// The first port from `base` on, wrapping around the range once, for which `is_free` holds.
pub(crate) fn choose(base: u16, is_free: impl Fn(u16) -> bool) -> Option<u16> {
    (base..RANGE.end).chain(RANGE.start..base).find(|port| is_free(*port))
}

/// Whether no process listens on this loopback port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_checkout_gets_the_same_ports_again_and_its_servers_different_ones() {
        let root = Path::new("/somewhere/checkout");
        assert_eq!(base(root, 1), base(root, 1));
        assert_ne!(base(root, 0), base(root, 1));
        assert!((0..20_000).all(|offset| RANGE.contains(&base(root, offset))));
    }

    #[test]
    fn a_taken_port_is_skipped() {
        assert_eq!(choose(25_000, |port| port > 25_002), Some(25_003));
    }

    #[test]
    fn the_search_wraps_around_the_range_and_ends() {
        assert_eq!(choose(29_999, |port| port < 25_000), Some(20_000));
        assert_eq!(choose(25_000, |_| false), None);
    }

    #[test]
    fn a_port_that_is_listened_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_free(port));
        drop(listener);
        assert!(is_free(port));
    }
}
