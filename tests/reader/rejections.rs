//! After a 401: one read past the cache, one request to the refresher, and the wait for the new version.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use token_refresher::{
    Reader,
    reader::{AccessToken, NotRefreshed, Query, RefresherFunction, Remedy, Reply, SecretVersion, Source, Wanted},
    store::StoreError,
};
use tokio::task::JoinSet;

use crate::world::{SECRET_ID, World, at, seconds, token, token_living, token_or_error, unavailable};

/// A report of the refresher.
fn report(outcome: &str, version_id: &str) -> Reply {
    Reply::Report(json!({"outcome": outcome, "secretId": "crm/oauth", "versionId": version_id}))
}

/// Refreshes like a deployed refresher.
#[expect(clippy::unnecessary_wraps, reason = "other refreshers fail")]
fn refreshes(world: &World) -> Result<Reply, NotRefreshed> {
    world.put("v2", token("v2", 1));
    Ok(report("refreshed", "v2"))
}

async fn reader_of_v1(world: &World, reader: Reader) -> (Reader, AccessToken) {
    let token = reader.access_token().await.unwrap();
    assert_eq!(token.expose(), "v1");
    world.state().queries.clear();
    (reader, token)
}

#[tokio::test(start_paused = true)]
async fn the_next_call_reads_past_the_cache_and_finds_a_version_that_another_process_wrote() {
    let world = World::new();
    let (reader, token_1) = reader_of_v1(&world, world.reader()).await;
    world.cache_current_version();
    world.put("v2", token("v2", 1));
    assert_eq!(token_or_error(reader.access_token().await), "v1", "the reader does not know of the new version");
    reader.rejected(&token_1);
    for _ in 0..3 {
        assert_eq!(token_or_error(reader.access_token().await), "v2");
    }
    assert_eq!(world.wanted(), [Wanted::CurrentNow]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_with_the_same_401_cause_one_read_and_one_refresh() {
    let world = World::new();
    world.set_read_time(seconds(1));
    let refresher = world.refresher(seconds(3), refreshes);
    let (reader, token_1) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
    let mut tasks = JoinSet::new();
    for number in 0..1000 {
        let (reader, token_1, world) = (reader.clone(), token_1.clone(), world.clone());
        tasks.spawn(async move {
            // Some get the 401 during the load of the others, or after it.
            tokio::time::sleep(seconds(number % 10)).await;
            reader.rejected(&token_1);
            let token = reader.access_token().await.unwrap();
            assert_eq!(token.expose(), "v2");
            world.now()
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(world.state().events, [json!({"secretId": "crm/oauth", "force": true, "ifVersionId": "v1"})]);
    assert_eq!(world.wanted(), [Wanted::CurrentNow, Wanted::Version("v2".into())]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_a_version_that_is_no_longer_in_memory_does_nothing() {
    let world = World::new();
    let (reader, token_1) = reader_of_v1(&world, world.reader()).await;
    world.put("v2", token("v2", 1));
    reader.rejected(&token_1);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    for _ in 0..100 {
        reader.rejected(&token_1);
        assert_eq!(token_or_error(reader.access_token().await), "v2");
    }
    assert_eq!(world.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_refresher_the_same_token_is_returned_and_the_source_is_read_at_most_every_five_seconds() {
    let world = World::new();
    let (reader, token_1) = reader_of_v1(&world, world.reader()).await;
    for (second, reads) in [(0, 1), (0, 1), (4, 1), (5, 2), (6, 2)] {
        world.until(second).await;
        reader.rejected(&token_1);
        assert_eq!(token_or_error(reader.access_token().await), "v1");
        assert_eq!(world.reads(), reads, "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_during_a_load_causes_another_read() {
    let world = World::new();
    let (reader, token_1) = reader_of_v1(&world, world.reader()).await;
    world.until(2800).await;
    world.set_read_time(seconds(2));
    assert_eq!(token_or_error(reader.access_token().await), "v1", "a background read starts");
    tokio::time::sleep(seconds(1)).await;
    reader.rejected(&token_1);
    // The background read returns v1. Only the next read can find v2.
    let (result, ()) = tokio::join!(reader.access_token(), async {
        tokio::time::sleep(seconds(3) / 2).await;
        world.put("v2", token("v2", 2801));
    });
    assert_eq!(token_or_error(result), "v2");
    assert_eq!((world.reads(), world.state().most_in_flight), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn the_reader_waits_for_the_new_version_after_every_kind_of_report() {
    // The refresher's reply, and whether the new version can be read by its id.
    for (reply, by_id) in [
        (report("refreshed", "v2"), true),
        (report("recovered", "v2"), true),
        (report("superseded", "v2"), true),
        // The request of another reader came first.
        (report("skipped", "v2"), true),
        (report("in_progress", "v1"), false),
    ] {
        for seconds_until_there in [0, 1, 10, 25] {
            let world = World::new();
            let refresher = world.refresher(seconds(1), {
                let reply = reply.clone();
                move |world| {
                    let world = world.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(seconds(seconds_until_there)).await;
                        world.put("v2", token("v2", 1));
                    });
                    Ok(reply.clone())
                }
            });
            let (reader, token_1) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
            reader.rejected(&token_1);
            assert_eq!(token_or_error(reader.access_token().await), "v2", "{reply:?} {seconds_until_there}");
            let waited = (world.now() - at(0)).num_seconds() - 1;
            let bound = i64::try_from(seconds_until_there).unwrap() + 3;
            assert!(waited <= bound, "{reply:?}: waited {waited} s for {seconds_until_there} s");
            assert_eq!(world.state().events.len(), 1);
            let last = world.wanted().pop().unwrap();
            let expected = if by_id { Wanted::Version("v2".into()) } else { Wanted::CurrentNow };
            assert_eq!(last, expected, "{reply:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_a_new_version_ends_after_the_patience() {
    let world = World::new();
    let refresher = world.refresher(seconds(1), |_| Ok(report("in_progress", "v1")));
    let reader = world.builder().refresher(refresher).patience(seconds(10)).build();
    let (reader, token_1) = reader_of_v1(&world, reader).await;
    reader.rejected(&token_1);
    let error = reader.access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Wait);
    assert_eq!(
        error.to_string(),
        "secret `crm/oauth`: no new token from the function `token-refresher`: it was asked, but there is no new version \
         after 10 s; another run may hold the claim: try again in a minute, and see its log"
    );
    assert!((at(7)..=at(10)).contains(&world.now()), "{}", world.now());

    let world = World::new();
    let refresher = world.refresher(seconds(3600), |_| Ok(report("in_progress", "v1")));
    let (reader, token_1) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
    reader.rejected(&token_1);
    reader.access_token().await.unwrap_err();
    assert_eq!(world.now(), at(30));
}

/// A refresher that has no free concurrency for the first requests, and then refreshes.
fn busy_at_first(world: &World, busy: usize) -> RefresherFunction {
    world.refresher(seconds(0), move |world| {
        let requests = world.state().events.len();
        if requests > busy { refreshes(world) } else { Ok(Reply::Busy) }
    })
}

#[tokio::test(start_paused = true)]
async fn after_a_429_of_the_refresher_the_reader_asks_again_within_its_patience() {
    // A run of another secret may use the function's concurrency.
    for (busy, within) in [(1, 1), (3, 5), (10, 25)] {
        let world = World::new();
        let reader = world.builder().refresher(busy_at_first(&world, busy)).build();
        let (reader, token_1) = reader_of_v1(&world, reader).await;
        reader.rejected(&token_1);
        assert_eq!(token_or_error(reader.access_token().await), "v2");
        assert!(world.now() <= at(within), "{busy}: {}", world.now());
        let events = &world.state().events;
        assert_eq!(*events, vec![json!({"secretId": "crm/oauth", "force": true, "ifVersionId": "v1"}); busy + 1]);
    }
    // The same for the first token.
    let world = World::new();
    world.put("v0", r#"{"refreshToken":"r"}"#);
    let reader = world.builder().refresher(busy_at_first(&world, 3)).build();
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    assert_eq!(world.state().events, vec![json!({"secretId": "crm/oauth"}); 4]);
}

#[tokio::test(start_paused = true)]
async fn after_a_429_the_reader_takes_the_version_that_another_request_has_made() {
    for seconds_until_there in [0, 1, 10, 25] {
        let world = World::new();
        let reader = world.builder().refresher(world.refresher(seconds(1), |_| Ok(Reply::Busy))).build();
        let (reader, token_1) = reader_of_v1(&world, reader).await;
        reader.rejected(&token_1);
        let (token_2, ()) = tokio::join!(reader.access_token(), async {
            tokio::time::sleep(seconds(seconds_until_there)).await;
            world.put("v2", token("v2", 1));
        });
        assert_eq!(token_or_error(token_2), "v2");
        let waited = (world.now() - at(0)).num_seconds();
        assert!(
            waited <= i64::try_from(seconds_until_there).unwrap() + 4,
            "waited {waited} s for {seconds_until_there} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_got_a_429_does_not_count_for_the_ten_minutes() {
    let world = World::new();
    let reader = world.builder().refresher(busy_at_first(&world, 8)).patience(seconds(10)).build();
    let (reader, token_1) = reader_of_v1(&world, reader).await;
    reader.rejected(&token_1);
    let error = reader.access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Wait);
    assert_eq!(
        error.to_string(),
        "secret `crm/oauth`: no new token from the function `token-refresher`: its concurrency was in use each time it was \
         asked (429), and there is no new version after 10 s; try again in a minute"
    );
    // Further rejections are ignored for 30 s, as after every failure.
    world.until(41).await;
    reader.rejected(&token_1);
    let token_2 = reader.access_token().await.unwrap();
    assert_eq!(token_2.expose(), "v2");
    let asked = world.state().events.len();
    assert_eq!(asked, 9);
    // That request made a version: the next one is sent ten minutes later.
    for (second, requests) in [(60, asked), (630, asked), (645, asked + 1)] {
        world.until(second).await;
        reader.rejected(&token_2);
        drop(reader.access_token().await);
        assert_eq!(world.state().events.len(), requests, "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_429_for_the_first_token_does_not_count_either() {
    let world = World::new();
    world.put("v0", r#"{"refreshToken":"r"}"#);
    let refresher =
        world.refresher(seconds(0), |world| if world.now() < at(3) { Ok(Reply::Busy) } else { refreshes(world) });
    let reader = world.builder().refresher(refresher).patience(seconds(2)).build();
    reader.access_token().await.unwrap_err();
    world.until(4).await;
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_request_counts_for_the_ten_minutes_although_the_reader_does_not_wait_for_its_reply() {
    // The refresh takes longer than the reader waits, and the API rejects every token.
    let world = World::new();
    let refresher = RefresherFunction::from_fn("token-refresher", {
        let world = world.clone();
        move |event| {
            let number = {
                let mut state = world.state();
                state.events.push(event);
                state.events.len() + 1
            };
            let world = world.clone();
            tokio::spawn(async move {
                tokio::time::sleep(seconds(11)).await;
                world.put_new(&format!("v{number}"));
            });
            std::future::pending()
        }
    });
    let reader = world.builder().refresher(refresher).patience(seconds(10)).build();
    for second in 0..599 {
        world.until(second).await;
        if let Ok(token) = reader.access_token().await {
            reader.rejected(&token);
        }
    }
    assert_eq!(world.state().events, [json!({"secretId": "crm/oauth", "force": true, "ifVersionId": "v1"})]);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_version_does_not_come_back_after_a_permanent_error() {
    for with_refresher in [true, false] {
        let world = World::new();
        world.cache_current_version();
        let source = Source::from_fn({
            let world = world.clone();
            move |query: Query| {
                let world = world.clone();
                async move {
                    let denied = world.now() == at(1) && query.wanted != Wanted::Current;
                    if denied {
                        Err(StoreError::AccessDenied { action: "read", detail: "no".to_owned() })
                    } else {
                        world.read(query).await
                    }
                }
            }
        });
        let mut reader = Reader::builder(source, SECRET_ID).clock(world.clock());
        if with_refresher {
            reader = reader.refresher(world.refresher(seconds(0), |_| Ok(report("skipped", "v2"))));
        }
        let (reader, token_1) = reader_of_v1(&world, reader.build()).await;
        world.put("v2", token("v2", 0));
        world.until(1).await;
        reader.rejected(&token_1);
        reader.access_token().await.unwrap_err();
        world.until(3).await;
        assert_eq!(token_or_error(reader.access_token().await), "v2", "refresher: {with_refresher}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_rejection_of_a_replaced_version_keeps_it_from_coming_back() {
    let world = World::new();
    let (reader, token_1) = reader_of_v1(&world, world.reader()).await;
    world.until(2800).await;
    world.put("v2", token("v2", 2800));
    reader.access_token().await.unwrap();
    tokio::task::yield_now().await;
    let token_2 = reader.access_token().await.unwrap();
    assert_eq!(token_2.expose(), "v2");
    reader.rejected(&token_1);
    // A read that lags.
    world.put("v1", token("v1", 0));
    reader.rejected(&token_2);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

/// The AWS extension: it caches a secret for some time, and no request bypasses that cache, except a request for another version.
fn behind_an_extension(world: &World, ttl: i64) -> Source {
    let (source, clock) = (world.clone(), world.clock());
    let cached = Arc::new(Mutex::new(None::<(DateTime<Utc>, SecretVersion)>));
    Source::from_fn(move |query| {
        let (source, now, cached) = (source.clone(), clock.now(), Arc::clone(&cached));
        async move {
            if matches!(query.wanted, Wanted::Version(_)) {
                return source.read(query).await;
            }
            if let Some((read_at, version)) = cached.lock().unwrap().clone()
                && (now - read_at).num_seconds() < ttl
            {
                return Ok(version);
            }
            let version = source.read(query).await?;
            *cached.lock().unwrap() = Some((now, version.clone()));
            Ok(version)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_version_that_was_rejected_and_replaced_never_comes_back_through_the_extensions_cache() {
    for (lifetime, ttl, published) in [(900, 300, true), (600, 200, true), (600, 200, false), (90, 30, true)] {
        let text = |name: &str, obtained: i64| {
            let text = token_living(name, obtained, lifetime);
            // Published secrets of earlier versions have no `refreshedAt`.
            if published { text.replace("refreshedAt", "note") } else { text }
        };
        let world = World::new();
        world.put("v1", text("v1", 0));
        let new = text("v2", 10);
        let refresher = world.refresher(seconds(1), move |world| {
            world.put("v2", new.clone());
            Ok(report("refreshed", "v2"))
        });
        let reader = Reader::builder(behind_an_extension(&world, ttl), SECRET_ID).clock(world.clock());
        let (reader, token_1) = reader_of_v1(&world, reader.refresher(refresher).build()).await;
        world.until(10).await;
        reader.rejected(&token_1);
        for second in 11..lifetime {
            world.until(u64::try_from(second).unwrap()).await;
            assert_eq!(token_or_error(reader.access_token().await), "v2", "lifetime {lifetime}, after {second} s");
            tokio::task::yield_now().await;
        }
        assert!(world.reads() > 1, "the extension did not read again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_returns_only_a_replaced_version_is_an_error_or_a_request_to_the_refresher() {
    for with_refresher in [false, true] {
        let world = World::new();
        let reader = if with_refresher {
            let refresher = world.refresher(seconds(0), |world| {
                world.put("v3", token("v3", 20));
                Ok(report("refreshed", "v3"))
            });
            world.builder().refresher(refresher).build()
        } else {
            world.reader()
        };
        let (reader, token_1) = reader_of_v1(&world, reader).await;
        world.put("v2", token_living("v2", 0, 20));
        reader.rejected(&token_1);
        assert_eq!(token_or_error(reader.access_token().await), "v2");
        // The replacement expires, and the source returns the rejected version again.
        world.put("v1", token("v1", 0));
        world.until(20).await;
        let expected = if with_refresher {
            "v3"
        } else {
            "secret `crm/oauth` cannot be read now (its source still returns version v1, whose token was rejected and \
             replaced); try again in some seconds"
        };
        assert_eq!(token_or_error(reader.access_token().await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_is_returned_once_and_requested_again_later() {
    let failed = |error_type: &str| Reply::Error { error_type: error_type.to_owned(), message: "m".to_owned() };
    for (reply, remedy) in [
        (Ok(failed("ReauthorizationRequired")), Remedy::Consent),
        (Ok(failed("ProviderUnavailable")), Remedy::Wait),
        (Ok(failed("ClientRejected")), Remedy::FixSetting),
        (Ok(failed("TokenNotStored")), Remedy::Report),
        (Err(NotRefreshed::AccessDenied { detail: "no".to_owned() }), Remedy::FixSetting),
        (Err(NotRefreshed::Unavailable { detail: "no".to_owned() }), Remedy::Wait),
    ] {
        let world = World::new();
        let refresher = world.refresher(seconds(1), {
            let reply = reply.clone();
            move |_| reply.clone()
        });
        let (reader, token_1) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
        reader.rejected(&token_1);
        let (one, other) = tokio::join!(reader.access_token(), reader.access_token());
        assert_eq!(one.as_ref().unwrap_err(), other.as_ref().unwrap_err(), "all waiting callers get the error");
        assert_eq!(one.unwrap_err().remedy(), remedy, "{reply:?}");
        // After a rejection without a new version, more rejections have no effect for five seconds.
        // The next request comes after ten minutes, or after 30 s if the function could not be invoked.
        let again = if reply.is_ok() { 600 } else { 31 };
        for (second, events) in [(2, 1), (again - 6, 1), (again, 2)] {
            world.until(second).await;
            reader.rejected(&token_1);
            let result = reader.access_token().await;
            assert_eq!(result.is_ok(), events == 1, "after {second} s");
            assert_eq!(world.state().events.len(), events, "after {second} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_rejects_every_token_causes_one_refresh_in_ten_minutes() {
    let world = World::new();
    let refresher = world.refresher(seconds(1), |world| {
        let id = format!("v{}", 1 + world.state().events.len());
        world.put(&id, token(&id, 1));
        Ok(report("refreshed", &id))
    });
    let (reader, mut newest) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
    for (second, refreshes) in [(0, 1), (2, 1), (60, 1), (594, 1), (600, 2), (601, 2), (1194, 2), (1200, 3)] {
        world.until(second).await;
        reader.rejected(&newest);
        newest = reader.access_token().await.unwrap();
        assert_eq!(world.state().events.len(), refreshes, "after {second} s");
        assert_eq!(newest.expose(), format!("v{}", 1 + refreshes), "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_past_the_cache_is_returned_once_and_then_the_token_again() {
    let world = World::new();
    let refresher = world.refresher(seconds(1), refreshes);
    let (reader, token_1) = reader_of_v1(&world, world.builder().refresher(refresher).build()).await;
    world.fail_with(unavailable());
    reader.rejected(&token_1);
    assert_eq!(reader.access_token().await.unwrap_err().remedy(), Remedy::Wait);
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    assert_eq!(world.state().events, [Value::Null; 0]);

    world.fail_with(StoreError::AccessDenied { action: "kms:Decrypt", detail: "no".to_owned() });
    world.until(31).await;
    reader.rejected(&token_1);
    for _ in 0..2 {
        assert_eq!(reader.access_token().await.unwrap_err().remedy(), Remedy::FixSetting, "a permanent error");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_valid_token_a_scheduled_run_is_requested_at_most_every_thirty_seconds() {
    let world = World::new();
    world.put("v0", token("v0", -5000));
    let refresher = world.refresher(seconds(1), |_| {
        Ok(Reply::Report(json!({"outcome": "backing_off", "versionId": "v0", "retryAt": "2026-01-01T00:10:00Z"})))
    });
    let reader = world.builder().refresher(refresher).build();
    assert_eq!(
        token_or_error(reader.access_token().await),
        "secret `crm/oauth`: no new token from the function `token-refresher`: its earlier attempts failed, and the next is \
         due at 2026-01-01T00:10:00Z: see its log"
    );
    for second in 3..30 {
        world.until(second).await;
        let error = token_or_error(reader.access_token().await);
        assert!(error.starts_with("secret `crm/oauth`: its access token expired at 2025-12-31T23:36:40Z"), "{error}");
    }
    assert_eq!(world.state().events, [json!({"secretId": "crm/oauth"})]);
    world.until(31).await;
    reader.access_token().await.unwrap_err();
    assert_eq!(world.state().events.len(), 2);

    let world = World::new();
    world.put("v0", token("v0", -5000));
    let reader = world.builder().refresher(world.refresher(seconds(1), refreshes)).build();
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_published_secret_requests_a_refresh_of_the_token_secret() {
    let world = World::new();
    let refresher = world.refresher(seconds(1), |world| {
        world.put("v2", token("v2", 1));
        let report =
            json!({"outcome": "refreshed", "versionId": "an id of the token secret", "publishedVersionId": "v2"});
        Ok(Reply::Report(report))
    });
    let reader = world.builder().refresher(refresher.of_secret("crm/oauth-full")).build();
    let (reader, token_1) = reader_of_v1(&world, reader).await;
    reader.rejected(&token_1);
    assert_eq!(token_or_error(reader.access_token().await), "v2");
    assert_eq!(world.state().events, [json!({"secretId": "crm/oauth-full", "force": true, "ifVersionId": "v1"})]);
}
