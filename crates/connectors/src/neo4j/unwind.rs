//! For measurements: a statement on rows, without versions, locks or reads.

use chunk_sync_engine::ports::Fault;

use super::bolt::{Statement, Value};
use super::fault::WRITE;
use super::store::Neo4jStore;

impl Neo4jStore {
    /// Runs one statement in its own transaction with `rows` as its parameter of that name.
    ///
    /// # Errors
    /// The fault of the server or of the connection.
    pub async fn unwind(&self, statement: &str, rows: &[serde_json::Value]) -> Result<(), Fault> {
        let rows: Value = rows.iter().map(value).collect();
        self.run(&Statement::new(statement).with("rows", rows)).await.map_err(|error| error.into_fault(WRITE))
    }
}

fn value(of: &serde_json::Value) -> Value {
    match of {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(of) => Value::Boolean(*of),
        serde_json::Value::Number(of) => {
            of.as_i64().map_or_else(|| of.as_f64().unwrap_or_default().into(), Value::from)
        }
        serde_json::Value::String(of) => of.as_str().into(),
        serde_json::Value::Array(of) => of.iter().map(value).collect(),
        serde_json::Value::Object(of) => Value::Map(of.iter().map(|(key, of)| (key.clone(), value(of))).collect()),
    }
}
