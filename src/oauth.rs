//! The exchange: a grant, a client, one POST to the token endpoint (before it, perhaps a signature of KMS), and what its response means. Knows no store.

pub mod assertion;
mod body;
pub mod client;
pub mod exchanger;
pub mod grant;
mod issued;
pub mod jwt;
mod lifetime;
mod refusal;
pub mod request;
pub mod response;
mod words;
