//! The real binary, driven through a Runtime API, against a Secrets Manager and a provider of the tests' own.
//!
//! `TOKEN_REFRESHER_BIN` names another build of it to test, such as the release build.

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod bench;
mod documents;
mod events;
mod exchanges;
mod faults;
mod last_words;
mod log;
mod secrets;
mod settings;
mod together;
