//! Processes under a tracer.

pub mod calls;
pub mod concurrency;
mod faults;
mod kills;
pub mod tracer;
