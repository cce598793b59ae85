//! The real binary, killed: at every request of every path through a refresh, before and after the peer has processed
//! it; struck otherwise; and in crowds. Each test prints its table of cases, with what was promised and what was seen.
//!
//! `TOKEN_REFRESHER_BIN` names another build of it to test, such as the release build.

#[path = "../support/mod.rs"]
mod support;

#[path = "../binary/bench.rs"]
#[allow(dead_code, reason = "made for the tests in tests/binary; these use a part of it")]
mod bench;
mod crowds;
mod kills;
mod paths;
mod promises;
mod store;
mod strikes;
mod table;
mod world;
