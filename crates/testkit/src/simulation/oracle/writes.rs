//! What a write may do to a store.

use chunk_sync_engine::ports::{StoredDocument, Write};
use chunk_sync_model::Target;

use super::Oracle;
use crate::simulation::trace;

impl Oracle {
    /// Checks what a write did to the store.
    pub(in crate::simulation) fn wrote(
        &self,
        target: Target,
        write: &Write,
        (before, after): (Option<&StoredDocument>, Option<&StoredDocument>),
    ) {
        trace::wrote(target, write, (before, after));
        let left = self.known().deletions.left(target, write, (before, after));
        if let Err(what) = left {
            self.broke(what);
        }
        let kept = self.known().restored.wrote(target, write, after.map(|after| after.version));
        if let Err(what) = kept {
            self.broke(what);
        }
        if let (Some(before), Some(after)) = (before, after)
            && after.version < before.version
        {
            self.broke(format!("{target} went back from {} to {} on {}", before.version, after.version, before.id));
        }
    }
}
