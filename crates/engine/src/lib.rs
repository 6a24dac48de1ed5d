//! Worker, settle, recovery, verification; every seam to the outside.
