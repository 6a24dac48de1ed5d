//! The mark of the installation: a key next to the stream that holds the installation's id.

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Marked};
use uuid::Uuid;

use super::{RedisBus, Shared};

const CONTEXT: &str = "redis: installation";

impl Shared {
    /// The key with the id of the installation that the stream belongs to.
    fn mark(&self) -> String {
        mark_of(&self.keys.stream)
    }
}

fn mark_of(stream: &str) -> String {
    format!("{stream}:installation")
}

/// The commands that create the stream's group and its mark, for printing. `INSTALLATION` stands for the id.
#[must_use]
pub fn statements(stream: &str, group: &str) -> [String; 2] {
    [format!("XGROUP CREATE {stream} {group} 0 MKSTREAM"), format!("SET {} INSTALLATION NX", mark_of(stream))]
}

#[async_trait]
impl Marked for RedisBus {
    fn place(&self) -> String {
        format!("the stream {} in Redis", self.shared.keys.stream)
    }

    fn remedy(&self, _: Uuid) -> String {
        format!("run `DEL {}` in Redis", self.shared.mark())
    }

    async fn marks(&self) -> Result<Option<Vec<Uuid>>, Fault> {
        let key = self.shared.mark();
        let asked = self.shared.connection.query::<Option<String>>(redis::cmd("GET").arg(&key)).await;
        let Some(found) = asked.map_err(|error| error.into_fault(CONTEXT))? else {
            return Ok(Some(Vec::new()));
        };
        let read = found.parse().map_err(|_| {
            let message = format!("the key {key} holds `{found}`, not the id of an installation; run `DEL {key}`");
            Fault::new(FaultClass::Misconfigured, CONTEXT, message)
        });
        Ok(Some(vec![read?]))
    }

    async fn set_mark(&self, id: Uuid) -> Result<(), Fault> {
        let mut set = redis::cmd("SET");
        set.arg(self.shared.mark()).arg(id.to_string()).arg("NX");
        let set = self.shared.connection.query::<redis::Value>(&set).await;
        set.map(drop).map_err(|error| error.into_fault(CONTEXT))
    }
}
