//! Fuzzing: one target for each kind of input of this program.
//!
//! A target is a function of bytes that fails if a promise is broken. `cargo test` runs it with its seeds and some mutations of
//! them, the same in each run. `tests/fuzz/run SECONDS` runs it under libFuzzer, guided by coverage. Add an input that it finds to
//! the target's folder below `corpus`, as small as possible.

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod text;

mod answer;
mod assertion;
mod document;
mod event;
mod record;
mod state_file;
mod store_answer;

use engine::fuzz;

#[test]
fn a_token_secret_is_written_with_new_tokens_and_nothing_else_changed() {
    fuzz("document", &["tests/fixtures/documents"], document::target);
}

#[test]
fn a_provider_response_is_stored_or_reported_in_one_line_without_a_secret() {
    fuzz("answer", &["tests/fixtures/answers"], answer::target);
}

#[test]
fn a_client_that_signs_makes_a_jwt_or_an_error_that_quotes_nothing_of_its_key() {
    fuzz("assertion", &["tests/fixtures/keys"], assertion::target);
}

#[test]
fn an_event_is_accepted_or_rejected_with_the_name_of_a_member() {
    fuzz("event", &["tests/fixtures/events", "tests/fixtures/events/bad"], event::target);
}

#[test]
fn a_store_response_is_a_result_or_a_documented_error_in_one_line_without_a_secret() {
    fuzz("store_answer", &[], store_answer::target);
}

#[test]
fn a_record_is_read_back_as_it_was_written_and_any_other_text_is_not_a_record() {
    fuzz("record", &[], record::target);
}

#[test]
fn a_state_file_is_read_and_written_back_and_every_operation_works_on_it() {
    fuzz("state_file", &[], state_file::target);
}
