//! Every schedule of small worlds, and long random schedules.
#![forbid(unsafe_code)]

mod end;
mod exhaustive;
mod explorer;
mod neighbour;
mod person;
mod plan;
mod promises;
mod provider;
mod random;
mod replies;
mod run;
mod tracked_run;
mod world;
