//! The mark of the installation: an alias of the collection, `chunk_sync_<id>`.

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, Marked};
use serde_json::json;
use uuid::Uuid;

use super::fault::Error;
use super::schema::{self, MARK_PREFIX};
use super::store::QdrantStore;

const CONTEXT: &str = "qdrant: installation";

impl QdrantStore {
    /// The HTTP requests that `init` would make now, for printing: for what the collection lacks, and for the mark.
    /// `INSTALLATION` stands for the id. Creates nothing.
    ///
    /// # Errors
    /// As [`prepare`](chunk_sync_engine::ports::Projection::prepare).
    pub async fn statements(&self) -> Result<Vec<String>, Fault> {
        let requests = async {
            let collection = self.resolved().await?;
            Ok((schema::requests(&self.server, &collection, &self.limits).await?, collection))
        };
        let (mut requests, collection) = requests.await.map_err(|error: Error| error.into_fault(CONTEXT))?;
        if self.marks().await?.is_some_and(|marks| marks.is_empty()) {
            let alias = json!({ "collection_name": collection, "alias_name": format!("{MARK_PREFIX}INSTALLATION") });
            let body = json!({ "actions": [{ "create_alias": alias }] });
            requests.push(format!("POST /collections/aliases {body}"));
        }
        Ok(requests)
    }
}

#[async_trait]
impl Marked for QdrantStore {
    fn place(&self) -> String {
        format!("the collection {} in Qdrant", self.collection)
    }

    fn remedy(&self, found: Uuid) -> String {
        format!("delete the alias {MARK_PREFIX}{found} in Qdrant")
    }

    async fn marks(&self) -> Result<Option<Vec<Uuid>>, Fault> {
        let collection = self.resolved().await.map_err(|error| error.into_fault(CONTEXT))?;
        let asked = self.server.call(self.server.client.list_collection_aliases(collection.as_str())).await;
        let found = match asked {
            Err(error) if error.is_not_found() => return Ok(Some(Vec::new())),
            // A stand-in for a server may have no aliases.
            Err(error) if error.is_unknown_call() => return Ok(None),
            found => found.map_err(|error| error.into_fault(CONTEXT))?,
        };
        let id = |alias: &str| alias.strip_prefix(MARK_PREFIX)?.parse().ok();
        let ours = found.aliases.iter().filter(|alias| alias.collection_name == collection);
        Ok(Some(ours.filter_map(|alias| id(&alias.alias_name)).collect()))
    }

    async fn set_mark(&self, id: Uuid) -> Result<(), Fault> {
        if self.marks().await?.is_none_or(|marks| !marks.is_empty()) {
            return Ok(());
        }
        let alias = qdrant_client::qdrant::CreateAlias {
            collection_name: self.resolved().await.map_err(|error| error.into_fault(CONTEXT))?,
            alias_name: format!("{MARK_PREFIX}{id}"),
        };
        let set = self.server.call(self.server.client.create_alias(alias)).await;
        set.map(drop).map_err(|error| error.into_fault(CONTEXT))
    }
}
