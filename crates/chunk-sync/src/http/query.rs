//! The parameters of a query: each at most once, only known ones, each value valid.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use axum::http::Uri;

use super::refusal::Refusal;

/// The parameters that have not been taken yet.
pub(super) struct Query<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Query<'a> {
    /// Splits the query of a target. Values need no percent encoding: they are ids, numbers and words.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] if a parameter occurs twice.
    pub(super) fn of(uri: &'a Uri) -> Result<Self, Refusal> {
        let mut parameters = BTreeMap::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if parameters.insert(name, value).is_some() {
                return Err(Refusal::Parameter(name.to_owned(), "occurs twice".to_owned()));
            }
        }
        Ok(Self(parameters))
    }

    /// The value of a parameter; `None` if it is absent.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] if the value is invalid.
    pub(super) fn take<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Refusal> {
        let parse =
            |value: &str| value.parse().map_err(|error: T::Err| Refusal::Parameter(name.to_owned(), error.to_string()));
        self.0.remove(name).map(parse).transpose()
    }

    /// The value of the parameter `limit`, from 1 to `most`; half of `most` if it is absent.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] if the value is invalid.
    pub(super) fn limit(&mut self, most: usize) -> Result<usize, Refusal> {
        match self.take::<usize>("limit")? {
            None => Ok(most / 2),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => Err(Refusal::Parameter("limit".to_owned(), format!("must lie between 1 and {most}"))),
        }
    }

    /// Refuses parameters that were not taken.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] for the first of them.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.first_key_value() {
            None => Ok(()),
            Some((name, _)) => Err(Refusal::Parameter((*name).to_owned(), "is unknown".to_owned())),
        }
    }
}

/// An identifier in a path.
///
/// # Errors
/// [`Refusal::Parameter`] if it is invalid.
pub(super) fn id<T: FromStr<Err: Display>>(text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal::Parameter("id".to_owned(), error.to_string()))
}
