//! Peers of the tests' own, over real sockets on port 0, and what the tests share.
#![allow(dead_code, reason = "each integration test uses its own part of it")]

pub mod gateway;
pub mod output;
pub mod provider;
pub mod runtime_api;
pub mod secrets_manager;
pub mod tls_proxy;
