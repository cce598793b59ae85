//! The protocol end to end, over each store, against a provider over real sockets.
//!
//! At each step the process may crash, another run may act, and a person may edit the secret. `docs/protocol.md` lists what follows
//! ("When a process dies", "When others act at the same time"). These files test it:
//!
//! - `budget`: the cost of each path
//! - `crashes`: crashes, lost responses, stale reads
//! - `people`: edits, consents, old copies
//! - `refusals`: recorded refusals, and errors that are not recorded
//! - `limits`: too little room, too little time
//! - `publishing`: the published secret
//! - `dry_run`: what a dry run says
//! - `grants`: grants without a single-use token
//! - `memory`: unstored tokens
//! - `kept`: responses that look like tokens and cannot be understood
//! - `concurrency`: many runs at the same time, with all of the above

#[path = "../support/mod.rs"]
mod support;

mod counting;
mod world;

mod budget;
mod concurrency;
mod crashes;
mod dry_run;
mod grants;
mod kept;
mod limits;
mod memory;
mod people;
mod publishing;
mod refusals;
