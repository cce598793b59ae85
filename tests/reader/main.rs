//! The reader: which token it returns when, how often it reads its source, and its errors. Time is simulated: it advances when all
//! tasks wait.
//!
//! | file | subject |
//! |---|---|
//! | `cache` | how long a token stays in memory |
//! | `rejections` | a 401 of the provider |
//! | `freezes` | a process that is frozen in a load, and a clock that is set |
//! | `runtimes` | loads outside, inside and at the end of runtimes |
//! | `secrets` | other secrets |
//! | `load` | ten thousand tasks |
//! | `allocations` | the cost of a cache hit |
//! | `sources`, `lambda`, `send` | real sockets |

#[path = "../support/mod.rs"]
mod support;

mod world;

mod allocations;
mod cache;
mod extension;
mod freezes;
mod lambda;
mod load;
mod rejections;
mod runtimes;
mod secrets;
mod send;
mod sources;
