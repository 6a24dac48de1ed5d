//! What keeps a server from being used: link, version, and a collection that does not fit. Looks only; nothing is created
//! or changed.

use chunk_sync_engine::ports::{Finding, Findings};
use qdrant_client::qdrant::CollectionStatus;

use super::config::QdrantConfig;
use super::fault::Error;
use super::schema;
use super::server::Server;
use crate::remote;

const PLACE: &str = "qdrant";

/// Looks at everything that the service needs of the server.
pub async fn examine(config: &QdrantConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let strict = QdrantConfig { allow_insecure: false, ..config.clone() };
    if remote::examine(&mut findings, strict.client().map(drop), config.client().map(drop))
        && let Err(error) = look(&mut findings, config).await
    {
        findings.fault("server", &error.into_fault(PLACE));
    }
    findings.into_list()
}

async fn look(findings: &mut Findings, config: &QdrantConfig) -> Result<(), Error> {
    let client = config.client().map_err(|fault| Error::Setup(fault.message))?;
    let server = Server::new(client, config.timeout);
    let version = server.version().await?;
    findings.ok("server", format!("Qdrant {version}"));
    if version.is_conditional() {
        findings.ok("guard", "writes are guarded by their version");
    } else {
        findings.warning(
            "guard",
            "older than 1.16: it does not compare versions when it writes, so every batch is read first",
            "let only one service write to it, or use a newer server",
        );
    }
    let collection = &config.collection;
    let held = match schema::look(&server, collection).await {
        Err(error) if error.is_not_found() => {
            findings.warning("collection", format!("there is no `{collection}` yet"), "run `chunk-sync init`");
            return Ok(());
        }
        held => held?,
    };
    const OTHER: &str = "configure [[embedding]] as the collection is, or name another one in qdrant.collection";
    match schema::judge(&held, &config.limits) {
        Ok(missing) if missing.is_empty() => {
            findings.ok("collection", format!("`{collection}` fits the configured embeddings"));
        }
        Ok(missing) => {
            let text = format!("`{collection}` has no vector {} yet", missing.join(", "));
            match version.adds_vectors() {
                true => findings.warning("collection", text, "run `chunk-sync init`, which adds it"),
                false => findings.failed("collection", text, format!("{OTHER}; from 1.18 on a vector can be added")),
            }
        }
        Err(difference) => findings.failed("collection", format!("`{collection}` will not do: {difference}"), OTHER),
    }
    if held.status == i32::from(CollectionStatus::Red) {
        let said = held.optimizer_status.as_ref().map(|status| status.error.clone()).unwrap_or_default();
        findings.failed("condition", format!("`{collection}` is red: {said}"), "see the server's log");
    }
    let unindexed = schema::unindexed(&held);
    if !unindexed.is_empty() {
        let text = format!("searches are slow that filter by {}", unindexed.join(", "));
        findings.warning("indexes", text, "run `chunk-sync init`");
    }
    Ok(())
}
