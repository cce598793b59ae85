//! The exchange: a grant, a client, one POST to the token endpoint, and what its response means. Knows no store.

pub mod client;
pub mod exchanger;
pub mod grant;
pub mod request;
pub mod response;
