//! Reads typed values from the layers, checks their bounds and collects every error.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;
use toml::Value;

use super::{Address, Finding, Layers, Origin, units};

/// Reads values. For an invalid value it records a finding and returns a placeholder; the caller discards all values if there
/// are findings.
pub(super) struct Reader<'a> {
    layers: &'a Layers,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self { layers, findings: Vec::new() }
    }

    pub(super) fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let entry = self.layers.get(key);
        let origin = entry.map_or(Origin::Default, |entry| entry.origin.clone());
        self.findings.push(Finding { key: key.to_owned(), origin, message: message.into() });
    }

    /// The elements of a list.
    pub(super) fn list(&self, key: &str) -> &'a [Value] {
        let value = self.layers.get(key).and_then(|entry| entry.value.as_array());
        value.map_or(&[], Vec::as_slice)
    }

    /// A boolean; the layers have checked its type.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.layers.get(key).and_then(|entry| entry.value.as_bool()).unwrap_or_default()
    }

    /// A text without surrounding white space; `None` if it is empty.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let value = self.layers.get(key)?.value.as_str();
        value.map(str::trim).filter(|text| !text.is_empty())
    }

    pub(super) fn required(&mut self, key: &str) -> String {
        if self.text(key).is_none() {
            self.wrong(key, "must be set");
        }
        self.text(key).unwrap_or_default().to_owned()
    }

    pub(super) fn secret(&self, key: &str) -> Option<SecretString> {
        self.text(key).map(SecretString::from)
    }

    pub(super) fn address(&mut self, key: &str, schemes: &[&str]) -> Option<Address> {
        let parsed = Address::parse(self.text(key)?, schemes);
        self.parsed(key, parsed)
    }

    pub(super) fn postgres(&mut self, key: &str) -> Option<Address> {
        let parsed = Address::postgres(self.text(key)?);
        self.parsed(key, parsed)
    }

    fn parsed(&mut self, key: &str, parsed: Result<Address, String>) -> Option<Address> {
        match parsed {
            Ok(address) => Some(address),
            Err(message) => {
                self.wrong(key, message);
                None
            }
        }
    }

    pub(super) fn count(&mut self, key: &str, bounds: RangeInclusive<u32>) -> u32 {
        let number = self.layers.get(key).and_then(|entry| entry.value.as_integer());
        match number.and_then(|number| u32::try_from(number).ok()) {
            Some(number) if bounds.contains(&number) => number,
            _ => {
                let (least, most) = bounds.into_inner();
                self.wrong(key, format!("must lie between {least} and {most}"));
                least
            }
        }
    }

    pub(super) fn size(&mut self, key: &str, least: &str, most: &str) -> u64 {
        self.bounded(key, least, most, units::size)
    }

    pub(super) fn duration(&mut self, key: &str, least: &str, most: &str) -> Duration {
        self.bounded(key, least, most, units::duration)
    }

    /// `least` and `most` are written as in the file, so that messages show them in that form.
    fn bounded<T: PartialOrd + Default>(
        &mut self,
        key: &str,
        least: &str,
        most: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let read = parse(self.text(key).unwrap_or_default()).and_then(|value| {
            if (parse(least)?..=parse(most)?).contains(&value) {
                Ok(value)
            } else {
                Err(format!("must lie between {least} and {most}"))
            }
        });
        read.unwrap_or_else(|message| {
            self.wrong(key, message);
            T::default()
        })
    }
}
