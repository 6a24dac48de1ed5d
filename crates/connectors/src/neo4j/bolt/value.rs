//! The values of the protocol, and rows of a result.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A value. Nodes, relationships and other structures have no representation: no statement returns them.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Value {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    /// A value of a kind that no statement uses.
    Other,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl<V: Into<Value>> From<Vec<V>> for Value {
    fn from(values: Vec<V>) -> Self {
        values.into_iter().collect()
    }
}

impl<V: Into<Value>> FromIterator<V> for Value {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

/// A row of a result.
#[derive(Clone, Debug)]
pub(in super::super) struct Row {
    pub(super) columns: Arc<[String]>,
    pub(super) values: Vec<Value>,
}

impl Row {
    /// The value of a column; `None` if the result has no such column.
    pub(in super::super) fn get(&self, column: &str) -> Option<&Value> {
        let at = self.columns.iter().position(|name| name == column)?;
        self.values.get(at)
    }

    /// The text in a column.
    pub(in super::super) fn text(&self, column: &str) -> Option<&str> {
        match self.get(column)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer in a column.
    pub(in super::super) fn integer(&self, column: &str) -> Option<i64> {
        match self.get(column)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }
}
