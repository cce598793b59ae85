//! The functions of `examples/readers`, each in its own process as in Lambda, while the release binary refreshes their token. Each
//! story checks the requests of the function, in order.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::{
    functions::Lambda,
    secrets::Secrets,
    support::{
        output::assert_no_secret,
        provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    },
};

#[path = "readers/process.rs"]
pub mod process;
#[path = "readers/services.rs"]
mod services;

use process::{Example, ReaderProcess, compiled};
use services::{ACCESS_KEY_ID, Accepts, REFRESHER, SECRET_ACCESS_KEY, SESSION_TOKEN, Services, Store};

/// How long before the expiry of a token the examples start to read the next one.
const MARGIN_MS: u64 = 60_000;
/// The time between two of these reads.
const PAUSE_MS: u64 = 5_000;
/// The time between two requests for a refresh.
const REQUEST_PAUSE_MS: u64 = 600_000;
/// The lifetime of the first token. It is within the refresher's margin.
const LIFETIME_MS: u64 = 600_000;

/// One token secret, its refresher, its provider, and a function that reads it.
struct World {
    example: Example,
    name: String,
    secrets: Secrets,
    provider: Arc<Provider>,
    refresher: Arc<Lambda>,
    services: Services,
    process: ReaderProcess,
    clock: NamedTempFile,
    start_ms: u64,
}

impl World {
    async fn start(example: Example, story: &str) -> Self {
        Self::start_with(example, story, &[("REFRESHER_FUNCTION", REFRESHER)]).await
    }

    async fn start_with(example: Example, story: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_for((LIFETIME_MS, 3_600), example, story, environment).await
    }

    /// With the lifetime of the first token in milliseconds, and that of the next ones in seconds.
    async fn start_for(
        (lifetime_ms, next_lifetime_s): (u64, u64),
        example: Example,
        story: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let secrets = Secrets::connect();
        let provider = Arc::new(Provider::rotating().with_lifetime(next_lifetime_s));
        let name = format!("readers/{example:?}/{story}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970");
        // Whole seconds, so that the expiry is the same in both units.
        let start_ms = now.as_secs() * 1000;
        let (access, refresh) = provider.issue();
        // Two of the four get the names of RFC 6749, and seconds.
        let mut document = if matches!(example, Example::PythonExtension | Example::NodeSdk) {
            json!({
                "access_token": access, "refresh_token": refresh, "expires_at": (start_ms + lifetime_ms) / 1000,
                "token_endpoint": provider.url(), "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
            })
        } else {
            json!({
                "accessToken": access, "refreshToken": refresh, "expiresAt": start_ms + lifetime_ms,
                "tokenEndpoint": provider.url(), "clientId": CLIENT_ID, "clientSecret": CLIENT_SECRET,
            })
        };
        if example == Example::Rust {
            // It starts background reads at the refresher's margin.
            document["refreshMarginSeconds"] = 60.into();
            document["refreshedAt"] = start_ms.into();
        }
        let is_published = story == "published";
        let read = if is_published { format!("{name}-token") } else { name.clone() };
        if is_published {
            document["publishTo"] = read.as_str().into();
            secrets.create_empty(&read).await;
        }
        secrets.create(&name, &document).await;
        let refresher = Arc::new(Lambda::start(&secrets.url, &[("SECRET_ID", &name)]).await);
        let services = Services::start(&secrets.url, Arc::clone(&refresher), Arc::clone(&provider)).await;
        let clock = NamedTempFile::new().expect("a file for the time");
        std::fs::write(clock.path(), start_ms.to_string()).expect("the time");
        services.set_time(start_ms);

        let address = format!("http://127.0.0.1:{}", services.port);
        let (api, port) = (format!("{address}/api"), services.port.to_string());
        let mut all = vec![
            ("SECRET_ID", read.as_str()),
            ("TOKEN_SECRET_ID", name.as_str()),
            ("API_URL", &api),
            ("CLOCK_FILE", clock.path().to_str().expect("a path in UTF-8")),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &address),
            ("AWS_ENDPOINT_URL_LAMBDA", &address),
            ("PARAMETERS_SECRETS_EXTENSION_HTTP_PORT", &port),
        ];
        all.extend(environment);
        let process = ReaderProcess::start(example, &all).await;
        Self { example, name, secrets, provider, refresher, services, process, clock, start_ms }
    }

    /// The first list for a function that reads the store directly, the second one for a function that uses the extension.
    fn by_source<'a>(&self, store: &[&'a str], extension: &[&'a str]) -> Vec<&'a str> {
        if self.example.uses_the_extension() { extension.to_vec() } else { store.to_vec() }
    }

    fn set_time(&self, now_ms: u64) {
        std::fs::write(self.clock.path(), now_ms.to_string()).expect("the time");
        self.services.set_time(now_ms);
    }

    /// Lets the function call the API once, which must succeed. Returns the requests during the call.
    async fn get(&mut self) -> Vec<String> {
        let result = self.process.get(&["/orders"]).await;
        assert_eq!(result, Ok(json!([{"path": "/orders"}])), "{}", self.process.output());
        self.services.seen()
    }

    /// Lets the function call the API once, which must fail. Returns the error and the requests during the call.
    async fn fail(&mut self) -> (String, Vec<String>) {
        let error = self.process.get(&["/orders"]).await.expect_err("an error");
        (error, self.services.seen())
    }

    /// How the function reads this version after it requested the refresh.
    fn read_after_refresh(&self, version: &str) -> String {
        match self.example {
            Example::PythonExtension | Example::NodeExtension => format!("extension {version}"),
            Example::PythonBoto3 | Example::NodeSdk => "read AWSCURRENT".to_owned(),
            Example::Rust => format!("read {version}"),
        }
    }

    async fn current(&self) -> (String, Value) {
        let (version, text) = self.secrets.labelled(&self.name, "AWSCURRENT").await;
        (version, serde_json::from_str(&text).expect("JSON"))
    }

    /// The expiry of the current token.
    async fn expiry_ms(&self) -> u64 {
        let (_, document) = self.current().await;
        let in_ms = document["expiresAt"].as_u64();
        in_ms.unwrap_or_else(|| document["expires_at"].as_u64().expect("an expiry") * 1000)
    }

    /// Refreshes the token, as the schedule does.
    async fn scheduled_refresh(&self) {
        let event = if self.example == Example::Rust { r#"{"force":true}"# } else { "{}" };
        let report = self.refresher.invoke(event).await.expect("a report");
        assert_eq!(report["outcome"], "refreshed");
    }

    /// Fails if a token was used twice, or if any output shows a secret. Each story ends with it.
    fn assert_tokens_kept(&self) {
        assert_eq!(self.provider.reuses(), 0, "a refresh token was used twice");
        let mut secrets = self.provider.every_token_issued();
        secrets.extend([CLIENT_SECRET, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned));
        assert_no_secret(&self.process.output(), &secrets);
        if self.provider.exchanges() > 0 {
            self.refresher.assert_no_secret_shown(&secrets);
        }
    }
}

fn invoke(version: &str) -> String {
    format!(r#"invoke {{"force":true,"ifVersionId":"{version}"}}"#)
}

async fn a_token_is_cached_until_shortly_before_its_expiry_and_then_the_next_one_is_read(example: Example) {
    let mut world = World::start(example, "expiry").await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    assert_eq!(world.get().await, ["GET /orders 200"], "the token was not cached");
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "the token was not cached until its margin");

    world.scheduled_refresh().await;
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"], "the next token was not read");
    let expiry_ms = world.expiry_ms().await;
    world.set_time(expiry_ms - MARGIN_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"]);

    // The refresher is late: the token is used until it expires, and not longer.
    world.set_time(expiry_ms - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    world.set_time(expiry_ms - MARGIN_MS + PAUSE_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "the secret was read again too soon");
    world.set_time(expiry_ms - 1);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()));
    world.set_time(expiry_ms);
    let (error, seen) = world.fail().await;
    assert!(error.contains("has expired") && error.contains(&world.name), "{error}");
    assert!(!seen.iter().any(|call| call.starts_with("GET")), "an expired token was used: {seen:?}");
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_tokens_kept();
}

async fn a_401_causes_one_read_one_refresh_and_one_retry(example: Example) {
    // So short that the next token is read while the extension still caches the rejected one, which expires later.
    let lifetimes = (LIFETIME_MS, 240);
    let mut world = World::start_for(lifetimes, example, "refused", &[("REFRESHER_FUNCTION", REFRESHER)]).await;
    world.get().await;
    let (version, _) = world.current().await;
    world.services.reject_newest();
    let seen = world.get().await;
    let (next, _) = world.current().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    let expected = ["GET /orders 401", read[0], &invoke(&version), &world.read_after_refresh(&next), "GET /orders 200"];
    assert_eq!(seen, expected);
    assert_eq!(world.get().await, ["GET /orders 200"]);
    assert_eq!(world.provider.exchanges(), 1);
    if example == Example::Rust {
        return world.assert_tokens_kept();
    }
    assert!(world.process.output().contains("refreshed"), "nothing was printed");

    world.set_time(world.expiry_ms().await - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    world.set_time(world.expiry_ms().await - 1);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()), "it used the rejected token again");
    world.assert_tokens_kept();
}

async fn a_401_causes_no_refresh_if_there_is_a_newer_version(example: Example) {
    let mut world = World::start(example, "newer").await;
    world.get().await;
    let (version, _) = world.current().await;
    world.scheduled_refresh().await;
    let seen = world.get().await;
    let (next, _) = world.current().await;
    // The extension does not have the newer version yet. The refresher names it, and exchanges nothing.
    let (invoked, by_id) = (invoke(&version), format!("extension {next}"));
    let expected = world.by_source(
        &["GET /orders 401", "read AWSCURRENT", "GET /orders 200"],
        &["GET /orders 401", "extension AWSCURRENT, cached", &invoked, &by_id, "GET /orders 200"],
    );
    assert_eq!(seen, expected);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_tokens_kept();
}

async fn a_second_401_is_an_error_and_causes_no_other_refresh_for_ten_minutes(example: Example) {
    let mut world = World::start(example, "refused-twice").await;
    world.services.set_api(Accepts::Nothing);
    let (error, seen) = world.fail().await;
    let (version, _) = world.current().await;
    assert!(error.contains("/orders answered 401") && error.contains(&version), "{error}");
    let gets: Vec<_> = seen.iter().filter(|call| call.starts_with("GET")).collect();
    assert_eq!(gets, ["GET /orders 401", "GET /orders 401"]);
    assert_eq!(seen.iter().filter(|call| call.starts_with("invoke")).count(), 1, "{seen:?}");

    for (now_ms, requests) in
        [(world.start_ms + REQUEST_PAUSE_MS - 1, false), (world.start_ms + REQUEST_PAUSE_MS, true)]
    {
        world.set_time(now_ms);
        let (error, seen) = world.fail().await;
        assert_eq!(seen.iter().any(|call| call.starts_with("invoke")), requests, "{now_ms}: {seen:?}");
        assert!(error.contains(if requests { "answered 401" } else { "there is no newer one" }), "{error}");
        assert_eq!(world.provider.exchanges(), if requests { 2 } else { 1 });
    }
    world.assert_tokens_kept();
}

async fn a_401_waits_for_a_refresh_in_progress(example: Example) {
    let mut world = World::start(example, "busy").await;
    world.get().await;
    world.services.reject_newest();
    world.services.be_busy_once();
    let seen = world.get().await;
    assert_eq!((seen.first(), seen.last()), (Some(&"GET /orders 401".into()), Some(&"GET /orders 200".into())));
    let invocations = seen.iter().filter(|call| call.starts_with("invoke")).count();
    // With the extension, only the refresher knows when the other refresh is complete. The others may find its version first.
    let least = if example.uses_the_extension() { 2 } else { 1 };
    assert!((least..=5).contains(&invocations), "{seen:?}");
    assert!(example == Example::Rust || world.process.output().contains("under way"));
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_tokens_kept();
}

async fn a_401_asks_again_while_the_refresher_is_busy_with_another_secret(example: Example) {
    let mut world = World::start(example, "busy-with-another").await;
    world.get().await;
    world.services.reject_newest();
    world.services.be_busy_with_another_secret(2);
    let seen = world.get().await;
    assert_eq!((seen.first(), seen.last()), (Some(&"GET /orders 401".into()), Some(&"GET /orders 200".into())));
    assert_eq!(seen.iter().filter(|call| call.starts_with("invoke")).count(), 3, "{seen:?}");
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_tokens_kept();
}

async fn a_failed_refresh_is_reported_with_its_remedy(example: Example) {
    let mut world = World::start(example, "withdrawn").await;
    world.get().await;
    world.services.reject_newest();
    world.provider.withdraw_consent();
    let (error, seen) = world.fail().await;
    assert!(error.contains("ReauthorizationRequired") && error.contains("a person must consent again"), "{error}");
    assert_eq!(seen.iter().filter(|call| call.starts_with("GET")).count(), 1, "{seen:?}");
    world.assert_tokens_kept();
}

async fn a_401_without_a_refresher_causes_one_read(example: Example) {
    let mut world = World::start_with(example, "alone", &[]).await;
    world.get().await;
    world.services.reject_newest();
    let (error, seen) = world.fail().await;
    assert!(error.contains("there is no newer one"), "{error}");
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(seen, ["GET /orders 401", read[0]]);
    world.assert_tokens_kept();
}

async fn the_cached_token_is_used_while_the_store_fails_and_the_token_is_valid(example: Example) {
    let mut world = World::start(example, "failing").await;
    world.get().await;
    world.services.set_store(Store::Fails);
    let at_margin_ms = world.start_ms + LIFETIME_MS - MARGIN_MS;
    world.set_time(at_margin_ms);
    let seen = world.get().await;
    // The SDKs try twice.
    let tries = world.by_source(&["read AWSCURRENT", "read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(seen, [tries.as_slice(), &["GET /orders 200"]].concat());
    world.set_time(at_margin_ms + PAUSE_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "each call waits for the failing store");
    assert!(world.process.output().contains("could not be read"), "the failure was not printed");

    world.set_time(world.start_ms + LIFETIME_MS - 1);
    assert_eq!(world.get().await, [tries.as_slice(), &["GET /orders 200"]].concat());
    world.set_time(world.start_ms + LIFETIME_MS);
    let (_, seen) = world.fail().await;
    assert!(!seen.iter().any(|call| call.starts_with("GET")), "an expired token was used: {seen:?}");

    world.services.set_store(Store::Works);
    world.scheduled_refresh().await;
    world.set_time(world.start_ms + LIFETIME_MS + PAUSE_MS);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()), "it did not recover");
    world.assert_tokens_kept();
}

async fn a_store_that_denies_access_causes_an_error_although_the_token_is_valid(example: Example) {
    let mut world = World::start(example, "denied").await;
    world.get().await;
    world.services.set_store(Store::Denies);
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS);
    let (error, seen) = world.fail().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(seen, read, "{error}");
    assert!(error.contains(if example.uses_the_extension() { "answered 400" } else { "not you" }), "{error}");
    world.assert_tokens_kept();
}

async fn a_401_with_a_published_secret_causes_one_read_one_refresh_and_one_retry(example: Example) {
    // With this story name the function reads the published secret.
    let mut world = World::start(example, "published").await;
    let published = format!("{}-token", world.name);
    world.scheduled_refresh().await;
    world.get().await;
    let (version, _) = world.secrets.labelled(&published, "AWSCURRENT").await;
    world.services.reject_newest();
    let seen = world.get().await;
    let (next, _) = world.secrets.labelled(&published, "AWSCURRENT").await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(
        seen,
        ["GET /orders 401", read[0], &invoke(&version), &world.read_after_refresh(&next), "GET /orders 200"]
    );
    assert_eq!(world.provider.exchanges(), 2);
    world.assert_tokens_kept();
}

/// Calls in one invocation: Python and Rust make them one after the other, Node all at once.
async fn many_calls_at_once_cause_one_read_and_one_refresh(example: Example) {
    let mut world = World::start(example, "many").await;
    let paths = ["/1", "/2", "/3", "/4", "/late"];
    let reads = |seen: &[String]| seen.iter().filter(|call| !call.starts_with("GET")).cloned().collect::<Vec<_>>();
    world.process.get(&paths).await.expect("answers");
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(reads(&world.services.seen()), read);

    let (version, _) = world.current().await;
    world.services.reject_newest();
    world.process.get(&paths).await.expect("answers");
    let (next, _) = world.current().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(reads(&world.services.seen()), [read[0], &invoke(&version), &world.read_after_refresh(&next)]);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_tokens_kept();
}

macro_rules! stories {
    ($example:ident: $($story:ident)*) => {
        $(
            #[tokio::test]
            #[ignore = "needs the real peers: run tests/run"]
            async fn $story() {
                $crate::readers::$story($crate::readers::Example::$example).await;
            }
        )*
    };
}

macro_rules! examples {
    ($($module:ident $example:ident)*) => {
        $(
            mod $module {
                stories! {
                    $example:
                    a_token_is_cached_until_shortly_before_its_expiry_and_then_the_next_one_is_read
                    a_401_causes_one_read_one_refresh_and_one_retry
                    a_401_causes_no_refresh_if_there_is_a_newer_version
                    a_second_401_is_an_error_and_causes_no_other_refresh_for_ten_minutes
                    a_401_waits_for_a_refresh_in_progress
                    a_401_asks_again_while_the_refresher_is_busy_with_another_secret
                    a_failed_refresh_is_reported_with_its_remedy
                    a_401_with_a_published_secret_causes_one_read_one_refresh_and_one_retry
                    a_401_without_a_refresher_causes_one_read
                    the_cached_token_is_used_while_the_store_fails_and_the_token_is_valid
                    a_store_that_denies_access_causes_an_error_although_the_token_is_valid
                    many_calls_at_once_cause_one_read_and_one_refresh
                }
            }
        )*
    };
}

examples! {
    python_boto3 PythonBoto3
    python_extension PythonExtension
    node_sdk NodeSdk
    node_extension NodeExtension
}

/// The reader of the Rust example is the crate's own, which has its own tests and other times. These tests check that the example
/// uses it correctly, in real time.
mod rust {
    use super::*;

    stories! {
        Rust:
        a_401_causes_one_read_one_refresh_and_one_retry
        a_401_causes_no_refresh_if_there_is_a_newer_version
        a_401_waits_for_a_refresh_in_progress
        a_401_asks_again_while_the_refresher_is_busy_with_another_secret
        a_failed_refresh_is_reported_with_its_remedy
        a_401_with_a_published_secret_causes_one_read_one_refresh_and_one_retry
        many_calls_at_once_cause_one_read_and_one_refresh
    }

    #[tokio::test]
    #[ignore = "needs the real peers: run tests/run"]
    async fn a_second_401_is_an_error() {
        let mut world = World::start(Example::Rust, "refused-twice").await;
        world.services.set_api(Accepts::Nothing);
        let (error, seen) = world.fail().await;
        assert!(error.contains("/orders answered 401") && error.contains(&world.name), "{error}");
        assert_eq!(seen.iter().filter(|call| *call == "GET /orders 401").count(), 2, "{seen:?}");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_tokens_kept();
    }

    #[tokio::test]
    #[ignore = "needs the real peers: run tests/run"]
    async fn the_cached_token_is_used_while_the_store_fails_until_it_expires_and_then_the_next_one() {
        const LIFETIME_MS: u64 = 4_000;
        let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_millis();
        let mut world = World::start_for((LIFETIME_MS, 3_600), Example::Rust, "failing", &[]).await;
        let expiry_ms = u128::from(world.start_ms + LIFETIME_MS);
        assert_eq!(world.get().await, ["read AWSCURRENT", "GET /orders 200"]);
        world.services.set_store(Store::Fails);
        let (mut reads, mut seen) = (0, Vec::new());
        let error = loop {
            let before_ms = now_ms();
            match world.process.get(&["/orders"]).await {
                Ok(_) => assert!(before_ms < expiry_ms, "an expired token was used"),
                Err(error) => break error,
            }
            seen.extend(world.services.seen());
            reads += usize::from(seen.iter().any(|call| call.starts_with("read")));
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(now_ms() + u128::from(LIFETIME_MS / 10) >= expiry_ms, "an error although the token was valid: {error}");
        assert!(reads > 0, "the store was not read: {seen:?}");
        assert!(error.contains("no token to send") && error.contains(&world.name), "{error}");

        world.services.set_store(Store::Works);
        world.scheduled_refresh().await;
        // The reader caches an error for a short time.
        let used = async { while world.process.get(&["/orders"]).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), used).await.expect("the next token");
        assert!(!world.services.seen().contains(&"GET /orders 401".to_owned()), "the expired token was used");
        world.assert_tokens_kept();
    }
}

/// The examples that do not use this crate's `Reader`.
const IN_OTHER_LANGUAGES: [Example; 4] =
    [Example::PythonBoto3, Example::PythonExtension, Example::NodeSdk, Example::NodeExtension];

/// Every documented form of `expiresAt`, as `TimeForm` reads it.
#[test]
#[ignore = "needs the real peers: run tests/run"]
fn every_example_parses_every_form_of_a_time() {
    let table = json!([
        [1_767_225_600_000_u64, 1_767_225_600_000_u64],
        [1_767_225_600_123_u64, 1_767_225_600_123_u64],
        [1_767_225_600, 1_767_225_600_000_u64],
        [1_767_225_600.123, 1_767_225_600_123_u64],
        [100_000_000_000_u64, 100_000_000_000_u64],
        [99_999_999_999_u64, 99_999_999_999_000_u64],
        ["1767225600000", 1_767_225_600_000_u64],
        ["1767225600", 1_767_225_600_000_u64],
        ["2026-01-01T00:00:00Z", 1_767_225_600_000_u64],
        ["2026-01-01T00:00:00.123Z", 1_767_225_600_123_u64],
        ["2026-01-01T00:00:00.123456789Z", 1_767_225_600_123_u64],
        ["2026-01-01T01:00:00+01:00", 1_767_225_600_000_u64],
        ["2025-12-31 20:30:00.12-03:30", 1_767_225_600_120_u64],
        ["2026-01-01T07:00:00.123456789+07:00", 1_767_225_600_123_u64],
        ["2026-01-01t00:00:00z", 1_767_225_600_000_u64],
        // Without a zone it is UTC.
        ["2026-01-01T00:00:00", 1_767_225_600_000_u64],
        ["2026-01-01 00:00:00", 1_767_225_600_000_u64],
        ["2026-01-01T00:00:00.123456", 1_767_225_600_123_u64],
        ["2026-01-01 00:00:00.1", 1_767_225_600_100_u64],
        ["2026-01-01T00:00:00.123456789", 1_767_225_600_123_u64],
    ]);
    let written: Vec<_> = table.as_array().expect("rows").iter().map(|row| row[0].clone()).collect();
    for example in IN_OTHER_LANGUAGES {
        let read = example.points_in_time(&written);
        for (row, read) in table.as_array().expect("rows").iter().zip(read) {
            assert_eq!(read, row[1].as_u64().expect("milliseconds"), "{example:?}: {}", row[0]);
        }
    }
}

/// 2026-01-01T00:00:00Z.
const SECONDS: u64 = 1_767_225_600;
const AT: Option<&str> = Some("AT");
const MIDNIGHT: Option<u64> = Some(SECONDS * 1000);
const LATER: Option<u64> = Some(SECONDS * 1000 + 123);

/// The files in `tests/fixtures/documents`, with the access token and its end in milliseconds since the epoch.
const FILES: [(&str, Option<&str>, Option<u64>); 32] = [
    ("auth-js", AT, LATER),
    ("base64", None, None),
    ("fyers", AT, None),
    ("gcloud", None, None),
    ("genesys-cloud", AT, None),
    ("golang-oauth2", AT, LATER),
    ("google-ads", None, None),
    ("google-api-php-client", AT, MIDNIGHT),
    ("google-auth", AT, LATER),
    ("google-auth-constructor", AT, None),
    ("google-auth-library", AT, LATER),
    ("google-camel-case", AT, LATER),
    ("jira-resolver", AT, LATER),
    ("league-oauth2-client", AT, MIDNIGHT),
    ("nango", AT, LATER),
    ("oauth2client", AT, MIDNIGHT),
    ("openid-client", AT, MIDNIGHT),
    ("python-isoformat", AT, LATER),
    ("python-social-auth", AT, MIDNIGHT),
    ("quickbooks-lambda", AT, None),
    ("raw", AT, None),
    ("raw-entra", AT, None),
    ("salesforce", AT, None),
    ("schwab-py", AT, MIDNIGHT),
    ("simple-oauth2", AT, LATER),
    ("singer-tap", None, None),
    ("spotipy", AT, MIDNIGHT),
    ("strava-lambda", AT, MIDNIGHT),
    ("stravalib", AT, MIDNIGHT),
    ("withings-api", AT, LATER),
    ("xero-python", AT, LATER),
    ("zoom-helper", AT, LATER),
];

fn document_of_another_program(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/documents/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn with_member_names(mut document: Value, member_names: Value) -> Value {
    document["memberNames"] = member_names;
    document
}

fn with_tokens(mut document: Value) -> Value {
    document["access_token"] = "AT".into();
    document["refresh_token"] = "RT".into();
    document
}

/// How the end is found in documents with the tokens at the top.
fn ends() -> Vec<(Value, Option<u64>)> {
    const S: u64 = SECONDS;
    vec![
        (json!({"expires_at": S, "expiry": S - 9, "created": 9, "expires_in": 9}), MIDNIGHT),
        (json!({"expires_at": null, "expiry": S}), MIDNIGHT),
        (json!({"expiry": S + 9, "expiryTime": (S * 1000).to_string(), "accessExpiry": S + 1}), MIDNIGHT),
        (json!({"token_expiry_date": S, "created": 9, "expires_in": 9}), MIDNIGHT),
        (json!({"tokenExpiresAt": S}), MIDNIGHT),
        (json!({"expiration_time_milliseconds": S * 1000 + 123}), LATER),
        // A value that is not a time has another meaning.
        (json!({"expiry": true, "expiresOn": {"at": S}, "expires_on": [S], "expiry_date": "soon"}), None),
        (json!({"expiry": "", "expiryTime": "2026-01-01", "token_expiry": "2026-13-01T00:00:00Z"}), None),
        (json!({"expiry": true, "access_expiry": S}), MIDNIGHT),
        // Both sides of the boundary of `expires`.
        (json!({"expires": "2026-01-01 00:00:00.123"}), LATER),
        (json!({"expires": 1_325_376_000_u64, "auth_time": S}), Some(1_325_376_000_000)),
        (json!({"expires": 1_325_375_999_u64, "auth_time": S}), Some((S + 1_325_375_999) * 1000)),
        (json!({"expires": "3600", "auth_time": S - 3600}), MIDNIGHT),
        (json!({"expires": 3600}), None),
        // Start and lifetime.
        (json!({"expires_in": 3600}), None),
        (json!({"created": S}), None),
        (json!({"IssuedUtc": "2025-12-31T23:00:00", "expiresIn": "3600"}), MIDNIGHT),
        (json!({"auth_time": 9, "created_at": S - 60, "expires_in": 60}), MIDNIGHT),
        (json!({"created": "yesterday", "created_at": S - 60, "expires_in": 60}), MIDNIGHT),
        (json!({"created": S, "expires_in": "an hour"}), None),
        // What `memberNames` names has no other meaning.
        (json!({"expires_on": S, "memberNames": {"refreshTokenExpiresAt": "/expires_on"}}), None),
        (json!({"expires_at": 9, "a/b": {"~": S}, "member_names": {"expires_at": "/a~1b/~0"}}), MIDNIGHT),
        (json!({"expires_at": S, "memberNames": ""}), MIDNIGHT),
        (json!({"expires_at": S, "memberNames": null}), MIDNIGHT),
    ]
}

/// Where the tokens are found. No other text than `AT` is the access token.
fn places() -> Vec<(Value, Option<&'static str>, Option<u64>)> {
    const S: u64 = SECONDS;
    let confluence = json!({"accessToken": "/confluenceAccessToken", "refreshToken": "/confluenceRefreshToken"});
    let teslapy = json!({
        "accessToken": "/e@x/sso/access_token",
        "refreshToken": "/e@x/sso/refresh_token",
        "expiresAt": "/e@x/sso/expires_at",
    });
    let teslapy_as_text = teslapy.to_string().into();
    vec![
        // A published secret has no refresh token.
        (json!({"accessToken": "AT", "expiresAt": S * 1000, "tokenResponse": {"refresh_token": "RT"}}), AT, MIDNIGHT),
        (json!({"access_token": "AT", "expires_at": S, "token": "other"}), AT, MIDNIGHT),
        (json!({"token": "other"}), None, None),
        // In an object, or not.
        (json!({"name": "n", "data": with_tokens(json!({"expiry": S}))}), AT, MIDNIGHT),
        (json!({"data": {"token": "AT", "refreshToken": "RT", "expires_at": S}, "expires_at": 9}), AT, MIDNIGHT),
        (with_tokens(json!({"data": {"access_token": "other", "refresh_token": "RT", "expiry": S}})), AT, None),
        (json!({"refresh_token": "", "access_token": "other", "data": with_tokens(json!({}))}), AT, None),
        (json!({"access_token": "AT", "token_response": {"access_token": "other", "refresh_token": "RT"}}), AT, None),
        // `token` is the access token only beside a refresh token, and if no member has our name.
        (json!({"token": "AT", "refresh_token": "RT"}), AT, None),
        (json!({"token": "other", "access_token": "AT", "refresh_token": "RT"}), AT, None),
        (json!({"token": {"a": 1}, "refresh_token": "RT"}), None, None),
        // `memberNames` wins.
        (with_member_names(document_of_another_program("confluence-kendra"), confluence), AT, None),
        (with_member_names(document_of_another_program("teslapy"), teslapy), AT, LATER),
        (with_member_names(document_of_another_program("teslapy"), teslapy_as_text), AT, LATER),
        (json!({"memberNames": {"access_token": "/a"}, "a": "AT", "accessToken": "b", "refreshToken": "RT"}), AT, None),
        (json!({"memberNames": {"accessToken": "/t/a"}, "t": {}, "token": "b", "refreshToken": "RT"}), None, None),
        (
            json!({
                "memberNames": {"accessToken": "/data/a"},
                "data": {"a": "AT", "access_token": "other", "refresh_token": "RT", "expiry": S},
            }),
            AT,
            MIDNIGHT,
        ),
    ]
}

/// As the crate's own reader finds them.
#[test]
#[ignore = "needs the real peers: run tests/run"]
fn every_example_finds_the_token_and_its_end_in_documents_of_other_programs() {
    let files = FILES.map(|(name, access, end)| (document_of_another_program(name), access, end));
    let ends = ends().into_iter().map(|(members, end)| (with_tokens(members), AT, end));
    let table: Vec<_> = files.into_iter().chain(ends).chain(places()).collect();
    let documents: Vec<_> = table.iter().map(|(document, ..)| document.clone()).collect();
    for example in IN_OTHER_LANGUAGES {
        let found = example.ends_of(&documents);
        assert_eq!(found.len(), table.len(), "{example:?}");
        for ((document, access, end), found) in table.iter().zip(found) {
            assert_eq!((found.0.as_deref(), found.1), (*access, *end), "{example:?}: {document}");
        }
    }
}

#[test]
#[ignore = "needs the real peers: run tests/run"]
fn the_typescript_examples_pass_strict_checks_and_compile() {
    for file in ["node_sdk.mjs", "node_extension.mjs"] {
        assert!(compiled().join(file).is_file(), "{file}");
    }
}
