//! Checks a server for `doctor`: link security, version, write guard, and the collection. Creates and changes nothing.

use chunk_sync_engine::ports::{Finding, Findings};
use qdrant_client::qdrant::{CollectionInfo, CollectionStatus, DeletePointsBuilder};
use uuid::Uuid;

use super::bounds::Bounds;
use super::config::QdrantConfig;
use super::encode::point_id;
use super::fault::Error;
use super::schema;
use super::server::Server;
use crate::remote;

const PLACE: &str = "qdrant";

/// Requests of fewer points are slow: the server flushes its log after each.
const FEW: usize = 64;

/// Checks everything that the service requires of the server. Returns findings in the order `link`, `server`, `guard`,
/// `collection`, `rights`, and `condition`, `limits` and `indexes` if something is wrong with them. A fault that prevents further checks
/// becomes a finding and ends the list.
pub async fn examine(config: &QdrantConfig) -> Vec<Finding> {
    let mut findings = Findings::of(PLACE);
    let strict = QdrantConfig { allow_insecure: false, ..config.clone() };
    if remote::examine(&mut findings, strict.client().map(drop), config.client().map(drop))
        && let Err(error) = examine_server(&mut findings, config).await
    {
        findings.fault("server", &error.into_fault(PLACE));
    }
    findings.into_list()
}

async fn examine_server(findings: &mut Findings, config: &QdrantConfig) -> Result<(), Error> {
    let client = config.client().map_err(|fault| Error::Setup(fault.message))?;
    let server = Server::new(client, config.timeout);
    let version = server.version().await?;
    findings.ok("server", format!("Qdrant {version}"));
    if version.is_conditional() {
        findings.ok("guard", "the server compares versions when it writes");
    } else {
        findings.warning(
            "guard",
            "the server is older than 1.16 and does not compare versions when it writes, so every batch is read first",
            "let only one service write to the collection, or upgrade the server",
        );
    }
    let collection = &config.collection;
    let held = match schema::fetch(&server, collection).await {
        Err(error) if error.is_not_found() => {
            let text = format!("the collection `{collection}` does not exist");
            findings.warning("collection", text, "run `chunk-sync init`");
            return Ok(());
        }
        held => held?,
    };
    const OTHER: &str = "adapt [[embedding]] to the collection, or name another collection in qdrant.collection";
    match schema::compare(&held, &config.limits) {
        Ok(missing) if missing.is_empty() => {
            findings.ok("collection", format!("`{collection}` matches the configured embeddings"));
        }
        Ok(missing) => {
            let text = format!("`{collection}` has no vector {}", missing.join(", "));
            match version.adds_vectors() {
                true => findings.warning("collection", text, "run `chunk-sync init`, which adds the vector"),
                false => {
                    let remedy = format!("{OTHER}, or upgrade the server to 1.18, which can add a vector");
                    findings.failed("collection", text, remedy);
                }
            }
        }
        Err(difference) => {
            findings.failed("collection", format!("`{collection}` does not match: {difference}"), OTHER);
        }
    }
    if held.status == i32::from(CollectionStatus::Red) {
        let error = held.optimizer_status.as_ref().map(|status| status.error.clone()).unwrap_or_default();
        findings.failed("condition", format!("the status of `{collection}` is red: {error}"), "see the server's log");
    }
    limits(findings, &held);
    rights(findings, &server, collection).await;
    let unindexed = schema::unindexed(&held);
    if !unindexed.is_empty() {
        let text = format!("no index on {}: searches that filter by them are slow", unindexed.join(", "));
        findings.warning("indexes", text, "run `chunk-sync init`");
    }
    Ok(())
}

/// Limits of the strict mode that make writing slow. The service keeps to them.
fn limits(findings: &mut Findings, held: &CollectionInfo) {
    let bounds = Bounds::of(held);
    if bounds.points < FEW {
        let text = format!("the strict mode permits {} points in one request, so writing is slow", bounds.points);
        let remedy = "raise upsert_max_batchsize, filter_max_conditions, condition_max_size and write_rate_limit";
        findings.warning("limits", text, remedy);
    }
}

/// Tries to delete a point that does not exist: a key that may only read, and a disk that takes no writes, refuse it.
async fn rights(findings: &mut Findings, server: &Server, collection: &str) {
    let request = DeletePointsBuilder::new(collection).points(vec![point_id(Uuid::new_v4())]).wait(true);
    match server.call(server.client.delete_points(request)).await {
        Ok(_) => findings.ok("rights", "the key may write to the collection"),
        Err(error) => findings.fault("rights", &error.into_fault(PLACE)),
    }
}
