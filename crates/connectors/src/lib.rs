//! What speaks to a vendor: embedded SQLite, later the servers.
