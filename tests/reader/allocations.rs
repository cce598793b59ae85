//! A cache hit allocates nothing.

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use token_refresher::reader::SecretReader;

use crate::world::{SECRET_ID, World};

/// Polls once. A hit is ready at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the future is not ready"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_hit_waits_for_nothing_and_allocates_nothing() {
    let world = World::new();
    let (reader, secret) =
        (world.reader(), SecretReader::builder(world.source(), SECRET_ID).clock(world.clock()).text());
    // The first call of a thread allocates thread-local state.
    reader.access_token().await.unwrap();
    secret.get().await.unwrap();
    now(reader.access_token()).unwrap();

    let hits = measure(|| {
        for _ in 0..1000 {
            let token = now(reader.access_token()).unwrap();
            assert_eq!(token.clone().expose(), "v1");
            assert_eq!(token.version_id().as_str(), "v1");
            assert!(token.expires_at().is_some());
            assert!(!now(secret.get()).unwrap().expose().is_empty());
        }
    });
    assert_eq!(hits.count_total, 0);

    let allocating = measure(|| drop(now(reader.access_token()).unwrap().member::<String>("refreshedAt")));
    assert!(allocating.count_total > 0, "allocations are not counted");
}
