//! Processes under a tracer.

pub mod calls;
mod faults;
mod kills;
pub mod together;
pub mod tracer;
