//! What the process leaves behind when it fails: no core, which would hold every token, and of a panic its place only. Its
//! text could hold anything.

use std::{
    future::{Future, poll_fn},
    panic::{self, AssertUnwindSafe},
    pin::pin,
    task::Poll,
};

use rustix::process::{Resource, Rlimit, setrlimit};

/// The `errorType` of a run that panicked.
pub const PANICKED: &str = "Panicked";

/// Its message.
pub const MEND: &str = "the run ended at a bug in token-refresher; the log says where: please report it. The next run goes on \
                        from what this one left, as after a crash";

/// Forbids core dumps, and lets a panic tell its place only. To be called before anything secret is read.
pub fn keep_short() {
    forbid_core_dumps();
    panic::set_hook(Box::new(|panicked| {
        let place = panicked.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        eprintln!("{PANICKED}: at {place}");
    }));
}

/// Runs `run`; `None` when it panics. `lambda_runtime`, too, catches panics, but answers with their text.
pub async fn catch<T>(run: impl Future<Output = T>) -> Option<T> {
    let mut run = pin!(run);
    poll_fn(|context| match panic::catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Best effort: where the system does not allow it, the function works all the same.
fn forbid_core_dumps() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // The limit does not hold where cores go to a program (`core_pattern`). This does, and other processes of the same user
    // cannot read the memory either.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_forbids_core_dumps_has_none() {
        use rustix::process::{DumpableBehavior, dumpable_behavior, getrlimit};
        forbid_core_dumps();
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
