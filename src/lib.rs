#![forbid(unsafe_code)]
//! Keeps third-party OAuth tokens in AWS Secrets Manager alive, and reads them.
//!
//! # Reading a token
//!
//! Most users of this library want [`Reader`]: it returns the access token from memory, reads it again before it expires, and has it
//! replaced when an API rejects it.
//!
//! ```
//! use token_refresher::{Reader, reader::{ReadError, SecretVersion, Source}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), ReadError> {
//! // In a function: `Source::secrets_manager_from_env().await?` or `Source::extension_from_env()?`.
//! let secret = r#"{"accessToken": "t0ps3cret", "expiresAt": "2099-01-01T00:00:00Z"}"#;
//! let source = Source::from_fn(move |_query| async move { Ok(SecretVersion::text("v1", secret)) });
//!
//! let reader = Reader::new(source, "myapp/prod/upwork");
//! let token = reader.access_token().await?;
//! assert_eq!(token.expose(), "t0ps3cret");
//! # Ok(()) }
//! ```
//!
//! A function that reads tokens turns the default feature off and takes the features it needs:
//!
//! | feature | what it adds | crates |
//! |---|---|---|
//! | none | [`Reader`] over a function of the caller's, [`token_secret`] | |
//! | `extension` | [`Source`](reader::Source)s on this machine: the AWS Parameters and Secrets Lambda Extension, the agent | hyper |
//! | `secrets-manager` | Secrets Manager as a source | the AWS SDK, reqwest, rustls |
//! | `directory` | a directory as a source | |
//! | `invoke` | asks a deployed refresher for a new token | reqwest, rustls, aws-sigv4 |
//! | `reqwest` | `Reader::send` | reqwest |
//! | `refresher` (default) | everything else, with `secrets-manager` and `directory` | |
//! | `cli` | the command line `tokenctl`, which the function does not contain | clap and others |
//!
//! # The modules, in reading order
//!
//! | module | content |
//! |---|---|
//! | `secret`, `sanitize` | text that must not be printed; text from outside that may be |
//! | `error`, `clock`, `region`, `http_client`, `aws_request`, `crash` | what all parts share |
//! | `providers` | what is known of providers, by name |
//! | `token_secret` | the JSON of a token secret: read, and written back with new tokens |
//! | `kms` | signs with a key in AWS KMS |
//! | `oauth` | the exchange: grant, client, request, response |
//! | `store` | versions and labels: the trait, Secrets Manager, a local directory |
//! | `protocol` | the order of IO for one secret, and the decisions without IO |
//! | `sweep` | one invocation for many secrets: which are due, and in which order they run |
//! | `lambda` | events, reports, the log, metrics, settings |
//! | `cli` | the command line `tokenctl`: the first token |
//! | `reader` | the other side: [`Reader`] reads what the refresher writes |
//!
//! Imports go one way: `lambda` → `sweep` → `protocol` → `oauth`, `store` → `token_secret` → `secret`, `oauth` → `kms`, and `reader` → `store`. `oauth` and `store`
//! do not know each other, nor do `reader` and `protocol`.

pub mod clock;
pub mod error;
pub mod providers;
pub mod reader;
pub mod sanitize;
pub mod secret;
pub mod store;
pub mod token_secret;

pub use reader::Reader;

#[cfg(any(feature = "refresher", feature = "invoke"))]
mod aws_request;
#[cfg(feature = "_https")]
pub mod http_client;
#[cfg(any(feature = "secrets-manager", feature = "invoke", feature = "extension"))]
mod region;

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "refresher")]
pub mod crash;
#[cfg(feature = "refresher")]
pub mod kms;
#[cfg(feature = "refresher")]
pub mod lambda;
#[cfg(feature = "refresher")]
pub mod oauth;
#[cfg(feature = "refresher")]
pub mod protocol;
#[cfg(feature = "refresher")]
pub mod sweep;
