//! `verify --deleted`: checks that deleted chunks are absent from every store.

use chunk_sync_engine::verify::{Absence, absence};
use uuid::Uuid;

use crate::cli::{Ended, Failure, output};
use crate::wiring::Wired;

pub(super) async fn execute(wired: &Wired, ids: &[Uuid], json: bool) -> Result<Ended, Failure> {
    let left = absence(&wired.ports, ids).await?;
    let absent = left.iter().all(|left| left.absent);
    if json {
        output::json(&serde_json::json!({ "absent": absent, "chunks": left }))?;
    } else {
        for left in &left {
            output::line(text(left))?;
        }
    }
    Ok(if absent { Ended::Fine } else { Ended::Found })
}

fn text(left: &Absence) -> String {
    let stores: Vec<_> = left.present.iter().map(ToString::to_string).collect();
    let here = match (stores.as_slice(), left.alive) {
        ([], false) => "absent from every store".to_owned(),
        ([], true) => "in no store, although its record is live".to_owned(),
        (stores, _) => format!("still in {}", stores.join(", ")),
    };
    let record = match (left.tombstone, left.alive) {
        (Some(deleted), _) => format!("deleted, tombstone of {deleted}"),
        (None, true) => "not deleted".to_owned(),
        (None, false) => "no record".to_owned(),
    };
    format!("{} {here}; {record}", left.id)
}
