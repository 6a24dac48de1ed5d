//! Behavioural suites, faults and in-memory ports, for tests only.
