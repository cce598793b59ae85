//! The real binary, driven through a Runtime API. Secrets Manager and the provider are servers of the tests.
//!
//! `TOKEN_REFRESHER_BIN` names another build to test, such as the release build.

#[path = "../support/mod.rs"]
mod support;

mod assertions;
mod attacks;
mod bench;
mod concurrency;
mod crash;
mod documents;
mod events;
mod exchanges;
mod faults;
mod grants;
mod log;
mod notices;
mod profiles;
mod secrets;
mod service_events;
mod settings;
mod shapes;
mod sweep;
