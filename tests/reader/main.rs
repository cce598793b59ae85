//! The reader: what it hands out when, what it asks its source for how often, and what it says when it cannot. Time is
//! simulated: it passes when nothing else is left to do.
//!
//! `cache` is of a token's life in memory, `rejections` of a provider's 401, `secrets` of other secrets, `load` of ten thousand
//! tasks, `allocations` of what a hit costs; `sources`, `lambda` and `send` are over real sockets.

#[path = "../support/mod.rs"]
mod support;

mod world;

mod allocations;
mod cache;
mod extension;
mod lambda;
mod load;
mod rejections;
mod secrets;
mod send;
mod sources;
