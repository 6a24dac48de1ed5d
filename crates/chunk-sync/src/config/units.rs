//! Parses durations (`250ms`, `5s`, `7d`) and sizes (`512`, `64KiB`, `8GiB`).

use std::time::Duration;

const DURATIONS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: &[(&str, u64)] =
    &[("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// Parses a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    number_with_unit(text, DURATIONS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a duration; write it as 250ms, 5s, 10m, 24h or 7d"))
}

/// Parses a size; returns bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    number_with_unit(text, SIZES)
        .ok_or_else(|| format!("`{text}` is not a size; write it as 512, 64KiB, 16MiB or 8GiB"))
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.checked_mul(*factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn valid_durations_and_sizes_are_parsed() {
        assert_eq!(duration("250ms").unwrap(), Duration::from_millis(250));
        assert_eq!(duration(" 7 d ").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(size("512").unwrap(), 512);
        assert_eq!(size("8GiB").unwrap(), 8 << 30);
    }

    #[test]
    fn invalid_durations_and_sizes_are_rejected() {
        for text in ["", "5", "-5s", "s", "1.5s", "99999999999999999999d", "300000000000000d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["", "8GB", "-1", "1 potato", "99999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
