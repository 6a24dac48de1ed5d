//! The inputs that the repository keeps for the fuzz targets of model and log.

use chunk_sync_testkit::fuzz::{event, log_reader, replay};

#[test]
fn kept_events_are_survived() {
    replay("event", event);
}

#[test]
fn kept_files_of_the_log_are_survived() {
    replay("log_reader", log_reader);
}
