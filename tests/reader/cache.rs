//! How long a token stays in memory, and when it is read again.

use token_refresher::{
    Reader,
    reader::{MemberNames, ReadError, Remedy, SecretVersion, Source, Wanted},
    store::StoreError,
};
use tokio::task::JoinSet;

use crate::world::{LIFETIME, SECRET_ID, World, at, seconds, token, token_living, token_or_error, unavailable};

#[tokio::test(start_paused = true)]
async fn a_token_is_read_once_and_returned_until_shortly_before_it_expires() {
    let world = World::new();
    let reader = world.reader();
    for (second, reads) in [(0, 1), (1, 1), (1000, 1), (2699, 1)] {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1");
        assert_eq!(world.reads(), reads, "after {second} s");
    }
    world.until(3589).await;
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    world.until(3590).await;
    let error = reader.access_token().await.unwrap_err();
    assert_eq!(error, ReadError::NoToken { secret_id: SECRET_ID.to_owned(), expired_at: Some(at(LIFETIME)) });
}

#[tokio::test(start_paused = true)]
async fn a_due_token_is_read_again_about_ten_times_and_more_often_towards_its_expiry() {
    let world = World::new();
    let reader = world.reader();
    let mut read_at = Vec::new();
    for second in 0..3590 {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1");
        tokio::task::yield_now().await;
        if world.reads() > read_at.len() {
            read_at.push(second);
        }
    }
    let first_half = read_at.iter().filter(|second| (2700..3150).contains(*second)).count();
    let second_half = read_at.iter().filter(|second| **second >= 3150).count();
    assert_eq!(read_at[0], 0);
    assert!((2700..=2791).contains(&read_at[1]), "{read_at:?}");
    assert!((4..=6).contains(&first_half) && (6..=20).contains(&second_half), "{read_at:?}");
    assert_eq!(world.wanted()[0], Wanted::Current);
    assert!(world.wanted()[1..].iter().all(|wanted| *wanted == Wanted::CurrentNow));
}

#[tokio::test(start_paused = true)]
async fn a_new_token_is_read_in_the_background_and_no_caller_waits_for_it() {
    let world = World::new();
    let reader = world.reader();
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    world.put("v2", token("v2", 2705));
    world.set_read_time(seconds(5));
    let mut new_from = None;
    for second in 2700..3000 {
        world.until(second).await;
        let token = token_or_error(reader.access_token().await);
        assert_eq!(world.now(), at(i64::try_from(second).unwrap()), "the caller waited");
        if token == "v2" {
            new_from.get_or_insert(second);
        }
    }
    assert!((2705..2800).contains(&new_from.expect("a new token")), "{new_from:?}");
    assert_eq!((world.reads(), world.state().most_in_flight), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn one_load_serves_any_number_of_tasks() {
    let world = World::new();
    world.set_read_time(seconds(1));
    let reader = world.reader();
    let mut tasks = JoinSet::new();
    for _ in 0..10_000 {
        let reader = reader.clone();
        tasks.spawn(async move { token_or_error(reader.access_token().await) });
    }
    while let Some(token) = tasks.join_next().await {
        assert_eq!(token.unwrap(), "v1");
    }
    assert_eq!(world.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_continues_when_the_task_that_started_it_is_dropped() {
    let world = World::new();
    world.set_read_time(seconds(2));
    let reader = world.reader();
    for _ in 0..3 {
        let call = tokio::time::timeout(seconds(1) / 2, reader.access_token()).await;
        assert!(call.is_err(), "the call was not cancelled");
    }
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    assert_eq!((world.reads(), world.now()), (1, at(2)));
}

#[test]
fn the_next_call_starts_a_new_load_if_the_runtime_of_the_old_one_ended() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let source = Source::from_fn(move |_| {
        let first = started.send(()).is_ok();
        async move {
            if first {
                std::future::pending::<()>().await;
            }
            Ok(SecretVersion::text("v1", r#"{"accessToken":"v1","expiresAt":4070908800000}"#))
        }
    });
    let reader = Reader::new(source, SECRET_ID);
    let ended = runtime();
    ended.block_on(async {
        tokio::select! {
            _ = reader.access_token() => panic!("the source has not responded"),
            _ = starts.recv() => {}
        }
    });
    drop(ended);
    drop(starts);
    assert_eq!(token_or_error(runtime().block_on(reader.access_token())), "v1");
}

#[tokio::test]
async fn a_document_with_other_names_is_read_with_the_names_of_the_refresher() {
    let text = r#"{"confluenceAccessToken":"v1","confluenceRefreshToken":"r","ends":"2099-01-01T00:00:00"}"#;
    let source = || Source::from_fn(move |_| async move { Ok(SecretVersion::text("v1", text)) });
    let names =
        r#"{"accessToken":"/confluenceAccessToken","refreshToken":"/confluenceRefreshToken","expiresAt":"/ends"}"#;
    let reader = Reader::builder(source(), SECRET_ID).member_names(MemberNames::parse(names).unwrap()).build();
    let token = reader.access_token().await.unwrap();
    assert_eq!(token.expose(), "v1");
    assert_eq!(token.expires_at().unwrap().to_rfc3339(), "2099-01-01T00:00:00+00:00");
    assert_eq!(token.member::<String>("confluenceRefreshToken").unwrap(), None);
    Reader::new(source(), SECRET_ID).access_token().await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_causes_an_error_and_not_a_hang() {
    let world = World::new();
    let reader = world.reader();
    world.panic_from_now_on();
    let error = reader.access_token().await.unwrap_err();
    assert_eq!(error.remedy(), Remedy::Wait);
    assert_eq!(
        error.to_string(),
        "secret `crm/oauth` cannot be read now (8 reads were cancelled or out of date at their end); try again in some \
         seconds"
    );
}

#[tokio::test(start_paused = true)]
async fn a_temporary_error_is_hidden_while_the_token_in_memory_is_valid() {
    let world = World::new();
    let reader = world.reader();
    reader.access_token().await.unwrap();
    world.fail_with(unavailable());
    for second in 2700..3590 {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1", "after {second} s");
    }
    let tries = world.reads();
    assert!((60..150).contains(&tries), "{tries} tries in 890 s");
    world.until(3590).await;
    assert_eq!(
        token_or_error(reader.access_token().await),
        "secret `crm/oauth` cannot be read now (no answer); try again in some seconds"
    );
    world.fail_with(None);
    world.put("v2", token("v2", 3591));
    world.until(3592).await;
    assert_eq!(token_or_error(reader.access_token().await), "v2");
}

#[tokio::test(start_paused = true)]
async fn a_permanent_error_is_returned_although_a_token_is_in_memory() {
    let detail = || "no".to_owned();
    for (fault, text) in [
        (StoreError::NotFound { detail: detail() }, "secret `crm/oauth` was not found (no)"),
        (
            StoreError::AccessDenied { action: "kms:Decrypt", detail: detail() },
            "secret `crm/oauth`: not allowed to kms:Decrypt (no)",
        ),
        (StoreError::Rejected { action: "read", detail: detail() }, "secret `crm/oauth` cannot be read (no)"),
        (StoreError::Binary, "secret `crm/oauth` cannot be used: it is binary"),
    ] {
        let world = World::new();
        let reader = world.reader();
        reader.access_token().await.unwrap();
        world.fail_with(fault);
        world.until(2800).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1", "the read starts in the background");
        world.until(2801).await;
        let error = token_or_error(reader.access_token().await);
        assert!(error.starts_with(text), "{error}");
        world.fail_with(None);
        world.until(2803).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1", "the source works again");
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_of_a_secret_that_is_not_a_token_secret_shows_no_value() {
    for (text, problem) in [
        ("hunter2", "it is not JSON (from line 1, column 1 on)"),
        (
            r#"{"accessToken":"hunter2","expiresAt":"soon"}"#,
            "its member `expiresAt` is a string, where milliseconds or",
        ),
        (r#"{"accessToken":["hunter2"]}"#, "its member `accessToken` is an array, where a string is wanted"),
        (r#"{"accessToken":"a","access_token":"hunter2"}"#, "it has both `accessToken` and `access_token`"),
    ] {
        let world = World::new();
        world.put("v1", text);
        let error = token_or_error(world.reader().access_token().await);
        assert!(error.starts_with(&format!("secret `crm/oauth` cannot be used: {problem}")), "{error}");
        assert!(!error.contains("hunter2"), "a secret is shown");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_cached_for_one_second() {
    let world = World::new();
    world.fail_with(unavailable());
    let reader = world.reader();
    for (milliseconds, reads) in [(0, 1), (500, 1), (999, 1), (1000, 2), (1500, 2), (2000, 3)] {
        tokio::time::sleep_until(
            tokio::time::Instant::now() - world.now().signed_duration_since(at(0)).to_std().unwrap()
                + std::time::Duration::from_millis(milliseconds),
        )
        .await;
        reader.access_token().await.unwrap_err();
        assert_eq!(world.reads(), reads, "after {milliseconds} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_without_a_response_ends_after_ten_seconds() {
    let world = World::new();
    world.set_read_time(seconds(3600));
    let error = token_or_error(world.reader().access_token().await);
    assert_eq!(error, "secret `crm/oauth` cannot be read now (no answer within 10 s); try again in some seconds");
    assert_eq!(world.now(), at(10));
}

#[tokio::test(start_paused = true)]
async fn a_token_without_expiry_is_read_again_after_a_minute_and_kept_while_the_source_fails() {
    let world = World::new();
    world.put("v1", r#"{"accessToken":"v1"}"#);
    let reader = world.reader();
    assert_eq!(token_or_error(reader.access_token().await), "v1");
    world.put("v2", r#"{"accessToken":"v2"}"#);
    world.until(47).await;
    assert_eq!((token_or_error(reader.access_token().await).as_str(), world.reads()), ("v1", 1));
    world.until(60).await;
    assert_eq!((token_or_error(reader.access_token().await).as_str(), world.reads()), ("v2", 2));
    world.fail_with(unavailable());
    for second in (120..1000).step_by(20) {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v2", "after {second} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_read_does_not_replace_a_newer_token() {
    let world = World::new();
    world.put("v2", token("v2", 0));
    let reader = world.reader();
    reader.access_token().await.unwrap();
    // A version that was current long before.
    world.put("v0", token("v0", -5000));
    for second in 2700..3590 {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v2");
    }
    assert!(world.reads() > 5, "the source was not read");
}

#[tokio::test(start_paused = true)]
async fn a_stale_cache_in_front_of_the_source_is_bypassed() {
    let world = World::new();
    world.put("v0", token("v0", -5000));
    world.cache_current_version();
    world.put("v1", token("v1", 0));
    assert_eq!(token_or_error(world.reader().access_token().await), "v1");
    assert_eq!(world.wanted(), [Wanted::Current, Wanted::CurrentNow]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_without_an_access_token_is_an_error_until_the_first_refresh() {
    let world = World::new();
    world.put("v0", r#"{"refreshToken":"r","accessToken":null}"#);
    let reader = world.reader();
    let error = reader.access_token().await.unwrap_err();
    assert_eq!(error, ReadError::NoToken { secret_id: SECRET_ID.to_owned(), expired_at: None });
    world.put("v1", token("v1", 1));
    world.until(1).await;
    assert_eq!(token_or_error(reader.access_token().await), "v1");
}

#[tokio::test(start_paused = true)]
async fn the_reader_keeps_up_with_short_lifetimes() {
    let world = World::new();
    let reader = world.reader();
    for life in 0..50_u32 {
        let obtained = i64::from(life) * 20;
        world.put(&format!("v{life}"), token_living(&format!("v{life}"), obtained, 30));
        for _ in 0..20 {
            let token = reader.access_token().await.unwrap();
            assert!(token.expires_at().unwrap() > world.now());
            tokio::time::sleep(seconds(1)).await;
        }
    }
    assert!((50..200).contains(&world.reads()), "{} reads", world.reads());
}

#[tokio::test(start_paused = true)]
async fn a_token_stays_in_use_while_the_credentials_of_its_source_have_run_out() {
    let world = World::new();
    let reader = world.reader();
    reader.access_token().await.unwrap();
    world.fail_with(StoreError::NotAuthenticated { action: "read", detail: "the credentials have expired".to_owned() });
    for second in [2800, 2801, 3500] {
        world.until(second).await;
        assert_eq!(token_or_error(reader.access_token().await), "v1");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_ten_seconds_at_most_however_often_its_load_reads() {
    // The first read returns an old version from a cache, slowly; the second does not end.
    let world = World::new();
    world.put("v0", token("v0", -5000));
    let (clock, source) = (world.clock(), world.clone());
    let source = Source::from_fn(move |query| {
        let source = source.clone();
        source.set_read_time(if source.reads() == 0 { seconds(8) } else { seconds(1_000_000) });
        async move { source.read(query).await }
    });
    let reader = Reader::builder(source, SECRET_ID).clock(clock).build();
    let error = token_or_error(reader.access_token().await);
    assert_eq!(error, "secret `crm/oauth` cannot be read now (no answer within 10 s); try again in some seconds");
    assert_eq!(world.now(), at(10));
}
