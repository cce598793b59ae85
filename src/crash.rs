//! What the process leaves behind when it crashes: no core dump, which would contain every token, and of a panic only its location,
//! since its text could contain anything.

use std::{
    future::{Future, poll_fn},
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    task::Poll,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::error::ErrorType;

/// The message for a run that panicked.
pub const PANIC_MESSAGE: &str = "the run ended at a bug in token-refresher; the log has its location: please report it. The next \
                                 run continues from what this one left, as after a crash";

/// Disables core dumps and the text of panics. Call it before any secret is read.
pub fn protect() {
    disable_core_dumps();
    panic::set_hook(Box::new(|panicked| {
        let location = panicked.location().map_or_else(|| "an unknown location".to_owned(), ToString::to_string);
        // A terminal that is gone must not make a second panic of it.
        let _ = writeln!(io::stderr(), "{}: at {location}", ErrorType::Panicked);
    }));
}

/// Runs `run`; `None` when it panics. `lambda_runtime` catches panics too, but its response contains their text.
pub async fn catch<T>(run: impl Future<Output = T>) -> Option<T> {
    let mut run = pin!(run);
    poll_fn(|context| match panic::catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Best effort: if the system does not allow it, the program works all the same.
fn disable_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // The limit does not apply where cores are piped to a program (`core_pattern`). This does, and it keeps other processes of the
    // same user from reading the memory.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_disables_core_dumps_has_none() {
        use rustix::process::{DumpableBehavior, dumpable_behavior, getrlimit};
        disable_core_dumps();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    }

    #[tokio::test]
    async fn a_run_that_panics_ends_without_its_text() {
        let panics = |text: String| async move {
            tokio::task::yield_now().await;
            assert!(text.is_empty(), "{text}");
            text
        };
        assert_eq!(catch(panics("a token".to_owned())).await, None);
        assert_eq!(catch(panics(String::new())).await, Some(String::new()));
    }
}
