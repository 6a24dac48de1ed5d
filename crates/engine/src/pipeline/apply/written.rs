//! When the row was written that a merge finds.

use crate::pipeline::apply::external_change::Written;
use crate::pipeline::envelope::Operation;

/// When the row was written: the captured event states it; a repair and a fill do not.
pub(super) fn written(operations: &[&Operation], now: Written) -> Written {
    let captured = |operation: &&&Operation| operation.is_signal() && !operation.is_repair() && !operation.is_fill();
    let signal = operations.iter().rev().find(captured);
    signal.map_or(now, |signal| Written { at: signal.event.timestamp, ..now })
}
