//! The last random value that was inserted into PostgreSQL, in a file of the directory of the log.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use chunk_sync_engine::ports::{Fault, FaultClass, Heartbeat, Heartbeats};

use super::blocking;

const CONTEXT: &str = "log: last beat";

/// The name of the file. Files of the log begin with `wal_`.
const NAME: &str = "last_beat";

/// The file in the directory of the log.
pub(super) struct FileHeartbeats {
    dir: PathBuf,
}

impl FileHeartbeats {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

#[async_trait]
impl Heartbeats for FileHeartbeats {
    fn place(&self) -> String {
        self.dir.join(NAME).display().to_string()
    }

    async fn noted(&self) -> Result<Option<Heartbeat>, Fault> {
        let file = self.dir.join(NAME);
        match blocking(move || std::fs::read_to_string(file)).await {
            Ok(text) => Ok(Heartbeat::from_recorded(&text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Fault::new(FaultClass::Disk, CONTEXT, error)),
        }
    }

    async fn note(&self, beat: Heartbeat) -> Result<(), Fault> {
        let dir = self.dir.clone();
        let written = blocking(move || write(&dir, &beat)).await;
        written.map_err(|error| Fault::new(FaultClass::Disk, CONTEXT, error))
    }
}

/// Replaces the file: a crash leaves the old value or the new one.
fn write(dir: &Path, beat: &Heartbeat) -> std::io::Result<()> {
    let new = dir.join(format!("{NAME}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(beat.recorded().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(NAME))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chunk_sync_model::Time;
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn the_last_value_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let heartbeats = FileHeartbeats::new(dir.path().to_owned());
        assert_eq!(heartbeats.noted().await.unwrap(), None);
        for second in [1, 2] {
            let beat = Heartbeat { value: Uuid::new_v4(), at: Time::from_micros(second * 1_000_000) };
            heartbeats.note(beat).await.unwrap();
            assert_eq!(heartbeats.noted().await.unwrap(), Some(beat));
        }
    }
}
