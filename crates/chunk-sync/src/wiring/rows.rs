//! Rows and records: PostgreSQL if its URL is set, else the embedded file.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_connectors::MAX_BACKLOG;
use chunk_sync_connectors::embedded::Embedded;
use chunk_sync_connectors::postgres::{CaptureConfig, PostgresCapture, PostgresConfig, PostgresLease, PostgresRecords};
use chunk_sync_engine::ports::{Capture, Fault, FaultClass, Installation, Lease, Records, WaitingEvents};
use chunk_sync_model::Limits;

use super::{Access, blocking};
use crate::config::{Postgres, Roles};

/// The open system of record.
pub(super) struct Rows {
    pub(super) records: Arc<dyn Records>,
    pub(super) waiting: Arc<dyn WaitingEvents>,
    pub(super) lease: Arc<dyn Lease>,
    pub(super) installation: Arc<dyn Installation>,
    pub(super) capture: Option<Arc<dyn Capture>>,
    pub(super) home: Home,
}

/// The database that holds rows and records.
pub(super) enum Home {
    Postgres(Arc<PostgresRecords>),
    File(Embedded),
}

impl Home {
    pub(super) fn file(&self) -> Option<&Embedded> {
        match self {
            Self::File(file) => Some(file),
            Self::Postgres(_) => None,
        }
    }
}

pub(super) async fn open(
    roles: &Roles,
    limits: &Arc<Limits>,
    access: Access,
    command: &'static str,
) -> Result<Rows, Fault> {
    if let Some(postgres) = &roles.postgres {
        let records = Arc::new(PostgresRecords::connect(config(postgres, limits, roles.allow_insecure)).await?);
        let log: Arc<dyn Capture> = Arc::new(PostgresCapture::new(Arc::clone(&records), capture(postgres)));
        return Ok(Rows {
            records: Arc::clone(&records) as _,
            waiting: Arc::clone(&records) as _,
            lease: Arc::new(PostgresLease::new(Arc::clone(&records), &postgres.slot)?),
            installation: Arc::clone(&records) as _,
            capture: Some(log),
            home: Home::Postgres(records),
        });
    }
    let (dir, limits) = (roles.dir.clone(), Arc::clone(limits));
    let file = blocking(move || embedded(&dir, limits, access, command)).await?;
    Ok(Rows {
        records: Arc::clone(&file.rows) as _,
        waiting: Arc::clone(&file.rows) as _,
        lease: Arc::clone(&file.lease) as _,
        installation: Arc::clone(&file.rows) as _,
        capture: None,
        home: Home::File(file),
    })
}

fn embedded(dir: &Path, limits: Arc<Limits>, access: Access, command: &str) -> Result<Embedded, Fault> {
    match access {
        Access::Work => Embedded::open(dir, command, limits, MAX_BACKLOG),
        Access::Existing => Embedded::open_existing(dir, limits, MAX_BACKLOG),
        // Only the process that locks the directory may migrate an older file. If no process does, this one locks it.
        Access::Create => match Embedded::open_beside(dir, Arc::clone(&limits), MAX_BACKLOG) {
            Err(fault) if fault.class == FaultClass::Misconfigured => {
                Embedded::open(dir, command, limits, MAX_BACKLOG).map_err(|_| fault)
            }
            opened => opened,
        },
    }
}

pub(super) fn config(postgres: &Postgres, limits: &Arc<Limits>, allow_insecure: bool) -> PostgresConfig {
    PostgresConfig {
        schema: postgres.schema.clone(),
        table: postgres.table.clone(),
        allow_insecure,
        ..PostgresConfig::new(postgres.url.expose().into(), Arc::clone(limits))
    }
}

pub(super) fn capture(postgres: &Postgres) -> CaptureConfig {
    CaptureConfig {
        url: postgres.replication_url.expose().into(),
        publication: postgres.publication.clone(),
        publish: postgres.publish,
        slot: postgres.slot.clone(),
        plugin: postgres.plugin,
        silence: CaptureConfig::SILENCE,
    }
}
