//! The mark of the installation: a key next to the stream that holds the installation's id.

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Marked};
use uuid::Uuid;

use super::{RedisBus, Shared};

const CONTEXT: &str = "redis: installation";

impl Shared {
    /// The key with the id of the installation that the stream belongs to.
    fn mark(&self) -> String {
        format!("{}:installation", self.keys.stream)
    }
}

impl RedisBus {
    /// The commands that `init` would send now, for printing: those that create the stream's group and its mark, as far as
    /// they are missing. `INSTALLATION` stands for the id. Creates nothing.
    ///
    /// # Errors
    /// [`Misconfigured`](FaultClass::Misconfigured) if the server may lose events; the fault of a command.
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let (keys, mut statements) = (&self.shared.keys, Vec::new());
        if !self.has_group().await? {
            statements.push(format!("XGROUP CREATE {} {} 0 MKSTREAM", keys.stream, keys.group));
        }
        if self.marks().await?.is_some_and(|marks| marks.is_empty()) {
            statements.push(format!("SET {} INSTALLATION NX", self.shared.mark()));
        }
        Ok(statements)
    }
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
