//! The function's outside: events in, reports and errors out, the log, the metrics and the settings. The Lambda runtime itself is in
//! `main.rs`.

pub mod event;
pub mod event_bus;
pub mod handler;
pub mod log;
pub mod metrics;
pub mod notice;
pub mod report;
pub mod settings;
pub mod start;
