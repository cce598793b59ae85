//! Every schedule of small worlds, and long ones drawn by lot.
#![forbid(unsafe_code)]

mod end;
mod exhaustive;
mod explorer;
mod member;
mod person;
mod plan;
mod promises;
mod provider;
mod random;
mod replies;
mod run;
mod world;
