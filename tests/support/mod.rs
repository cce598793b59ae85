//! What the integration tests share: simulated servers, over real sockets on port 0, and the search for secrets in output.
#![allow(dead_code, reason = "each integration test uses a part of it")]

pub mod gateway;
pub mod jwt;
pub mod output;
pub mod provider;
pub mod runtime_api;
pub mod secrets_manager;
pub mod tls_proxy;
pub mod tunnel;
