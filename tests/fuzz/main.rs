//! Whatever bytes come in: one target for each door through which text reaches this program.
//!
//! Each target is a function of bytes that fails where a promise is broken. `cargo test` runs it over its seeds and some
//! mutations of them, the same at every run; `tests/fuzz/run SECONDS` runs it under libFuzzer, guided by coverage. What
//! that finds goes into the target's folder below `corpus`, as small as it can be made.

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod text;

mod answer;
mod document;
mod event;
mod record;
mod state_file;
mod store_answer;

use engine::fuzz;

#[test]
fn a_token_secret_is_written_back_with_new_tokens_and_all_else_as_it_was() {
    fuzz("document", &[], document::target);
}

#[test]
fn a_provider_answer_is_stored_or_told_of_in_one_line_without_a_secret() {
    fuzz("answer", &["tests/fixtures/answers"], answer::target);
}

#[test]
fn an_event_is_understood_or_refused_by_name() {
    fuzz("event", &["tests/fixtures/events", "tests/fixtures/events/bad"], event::target);
}

#[test]
fn an_answer_of_the_store_is_an_error_of_the_contract_in_one_line_without_a_secret() {
    fuzz("store_answer", &[], store_answer::target);
}

#[test]
fn a_record_is_read_back_as_it_was_written_and_anything_else_is_none() {
    fuzz("record", &[], record::target);
}

#[test]
fn a_state_file_is_read_and_written_back_and_bears_every_operation() {
    fuzz("state_file", &[], state_file::target);
}
