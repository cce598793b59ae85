//! `tokenctl`, with an authorization server and a Secrets Manager of the tests. The tests with a real browser and a real authorization
//! server are in `tests/peers`.

#[path = "../support/mod.rs"]
mod support;

mod adopt;
mod device;
mod doctor;
mod help;
mod login;
mod process;
mod refresh;
mod registration;
mod scheduler;
mod server;
mod status;
mod stores;
mod terminal;
mod world;
