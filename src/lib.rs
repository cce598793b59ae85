#![forbid(unsafe_code)]
//! Keeps third-party OAuth tokens in AWS Secrets Manager alive.
//!
//! A token secret is a JSON object; a run reads it, leaves it alone while its access token is far from expiry, otherwise
//! exchanges the refresh token at the provider and writes the new tokens back, so that no refresh token is spent twice, no
//! one's change is overwritten and no issued token is lost.
//!
//! # The map, in reading order
//!
//! | module | knows |
//! |---|---|
//! | `secret` | text that must not be seen |
//! | `shown` | text from outside that may be |
//! | `token_secret` | the JSON of a token secret: read, and written back with new tokens |
//! | `event`, `report`, `error`, `config` | what goes in and comes out |
//! | `policy` | decisions: due, leased, backing off, room for versions |
//! | `ledger` | the version ids that belong to one state of a token, and the records under them |
//! | `oauth` | the exchange: request, one POST, response |
//! | `store` | versions and labels: the trait, Secrets Manager, a local directory |
//! | `refresh` | the protocol: the order of IO |
//! | `handler`, `observation`, `telemetry` | the way in; what is seen of a run, and how it is logged and measured |
//! | `clock`, `http_client` | time, the wire |
//! | `reader` | the other side: [`Reader`] hands out what the refresher writes |
//!
//! Arrows go one way: `handler` → `refresh` → `policy`, `ledger`, `oauth`, `store` → `token_secret` → `secret`, and
//! `reader` → `store`. `oauth` and `store` do not know each other, nor do `reader` and `refresh`.
//!
//! # Features
//!
//! A function that reads tokens turns the default feature off and takes what it reads from:
//!
//! | feature | what it adds | crates |
//! |---|---|---|
//! | none | [`Reader`] over a function of the caller's, [`token_secret`] | |
//! | `extension` | [`Source`](reader::Source)s on this machine: the AWS Parameters and Secrets Lambda Extension, the agent | hyper |
//! | `secrets-manager` | Secrets Manager as a source | the AWS SDK, reqwest, rustls |
//! | `directory` | a directory as a source | |
//! | `invoke` | asking a deployed refresher for a new token | reqwest, rustls, aws-sigv4 |
//! | `reqwest` | `Reader::send` | reqwest |
//! | `refresher` (default) | all else, with `secrets-manager` and `directory` | |

pub mod clock;
pub mod reader;
pub mod secret;
pub mod setting;
pub mod shown;
pub mod store;
pub mod token_secret;

#[cfg(feature = "_https")]
pub mod http_client;

pub use reader::Reader;

#[cfg(feature = "refresher")]
pub mod config;
#[cfg(feature = "refresher")]
pub mod error;
#[cfg(feature = "refresher")]
pub mod event;
#[cfg(feature = "refresher")]
pub mod handler;
#[cfg(feature = "refresher")]
pub mod ledger;
#[cfg(feature = "refresher")]
pub mod oauth;
#[cfg(feature = "refresher")]
pub mod observation;
#[cfg(feature = "refresher")]
pub mod policy;
#[cfg(feature = "refresher")]
pub mod refresh;
#[cfg(feature = "refresher")]
pub mod report;
#[cfg(feature = "refresher")]
pub mod telemetry;
