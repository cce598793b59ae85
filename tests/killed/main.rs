//! The real binary, killed at every request of every path through a refresh, before and after the peer has processed it. Also with
//! injected faults, and with several processes at the same time, and sweeps of three secrets. Each test prints a table of its cases.
//!
//! `TOKEN_REFRESHER_BIN` names another build to test, such as the release build.

#[path = "../support/mod.rs"]
mod support;

#[path = "../binary/bench.rs"]
#[allow(dead_code, reason = "made for tests/binary; these tests use a part of it")]
mod bench;
mod concurrency;
mod fault_injection;
mod kills;
mod paths;
mod promises;
mod store;
mod sweeps;
mod table;
mod world;
