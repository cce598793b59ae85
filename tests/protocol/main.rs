//! The protocol, end to end over either store, against a provider of the tests' own over real sockets.
//!
//! At each step the process may end, another run may act, and a person may edit the secret. What then stands in the store,
//! what comes of it, and where that is tested:
//!
//! | step | the process ends after it | another run meanwhile | a person meanwhile |
//! |---|---|---|---|
//! | read | nothing new; the next run refreshes | the claim goes to one of them | the version is another one, the token is not: the claim holds for both |
//! | list | nothing new | both see room for two, and one claims | as above |
//! | claim | a claim: `in_progress` until the lease ends, then taken over | `in_progress` | an edit is merged at the end; other tokens are another claim's; `expiresAt` 0 hides no claim; another client overrides back-off, no lease |
//! | exchange | **the answer is lost**; the old token is tried once after the lease, and the message says so | `in_progress` until the lease ends; then as after a crash | an edit is merged; other tokens stand, ours stay staged; a refusal of tokens that are gone is none |
//! | stage | a successor: recovered by any run, at once, without an exchange | recovers it; the other promotion is lost and finds its tokens in place | an edit is merged; other tokens stand |
//! | merge | as after stage; the id is derived, so that the next healer makes the same | the same text under the same id | merged again |
//! | publish | readers know already; as after stage | the same text under the same id; a move that is lost is looked at again | other tokens stand, and readers are told of those |
//! | promote | nothing is left to do | not due | theirs stands; an old copy is healed along its successors |
//! | refusal | on record for six hours | reports it without asking | other tokens, or another client, are asked for again |
//!
//! `budget` counts what each path costs, `crashes` ends processes and loses answers, `people` edits, `refusals` and
//! `limits` are what they say, `publishing` is of a second secret for readers, `memory` is of tokens that could not be written, and `crowds` does it all at once.

#[path = "../support/mod.rs"]
mod support;

mod counting;
mod world;

mod budget;
mod crashes;
mod crowds;
mod limits;
mod memory;
mod people;
mod publishing;
mod refusals;
