//! The functions of `examples/readers`, each in a process of its own as Lambda runs it, while the release binary
//! refreshes their token underneath. Each story tells what the function asked of the world, in order.

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

#[path = "readers/reading.rs"]
pub mod reading;
#[path = "readers/surroundings.rs"]
mod surroundings;

use reading::{Example, Reading, compiled};
use surroundings::{ACCESS_KEY_ID, REFRESHER, SECRET_ACCESS_KEY, SESSION_TOKEN, Store, Surroundings, Takes};

/// From so long before its expiry on the examples look for the next token.
const MARGIN_MS: u64 = 60_000;
/// How often they look then.
const PAUSE_MS: u64 = 5_000;
/// How long they do not ask for another refresh.
const ASK_MS: u64 = 600_000;
/// The lifetime of the first token: inside the refresher's margin.
const LIFETIME_MS: u64 = 600_000;

/// One token secret, its refresher, its provider, and a function that reads it.
struct World {
    example: Example,
    name: String,
    secrets: Secrets,
    provider: Arc<Provider>,
    refresher: Arc<Lambda>,
    around: Surroundings,
    reading: Reading,
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

    /// The first token lives for so many milliseconds, those that the provider issues for so many seconds.
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
        // Whole seconds, so that expiry is the same in either unit.
        let start_ms = now.as_secs() * 1000;
        let (access, refresh) = provider.issue();
        // Two of the four meet the names of RFC 6749, and seconds.
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
            // It reads in the background from the refresher's margin on.
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
        let around = Surroundings::start(&secrets.url, Arc::clone(&refresher), Arc::clone(&provider)).await;
        let clock = NamedTempFile::new().expect("a file for the time");
        std::fs::write(clock.path(), start_ms.to_string()).expect("the time");
        around.set_time(start_ms);

        let address = format!("http://127.0.0.1:{}", around.port);
        let (api, port) = (format!("{address}/api"), around.port.to_string());
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
        let reading = Reading::start(example, &all).await;
        Self { example, name, secrets, provider, refresher, around, reading, clock, start_ms }
    }

    /// What is in the list for a function that reads the store itself, or through the extension.
    fn by_source<'a>(&self, store: &[&'a str], extension: &[&'a str]) -> Vec<&'a str> {
        if self.example.uses_the_extension() { extension.to_vec() } else { store.to_vec() }
    }

    fn set_time(&self, now_ms: u64) {
        std::fs::write(self.clock.path(), now_ms.to_string()).expect("the time");
        self.around.set_time(now_ms);
    }

    /// Has the function ask the API once, which must go well, and tells what was asked meanwhile.
    async fn get(&mut self) -> Vec<String> {
        let answered = self.reading.get(&["/orders"]).await;
        assert_eq!(answered, Ok(json!([{"path": "/orders"}])), "{}", self.reading.said());
        self.around.seen()
    }

    /// Has the function ask the API once, which must fail.
    async fn fail(&mut self) -> (String, Vec<String>) {
        let error = self.reading.get(&["/orders"]).await.expect_err("an error");
        (error, self.around.seen())
    }

    /// How the function reads this version when it was refreshed for its sake.
    fn reading_of(&self, version: &str) -> String {
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

    /// When the current token expires.
    async fn expiry_ms(&self) -> u64 {
        let (_, document) = self.current().await;
        let in_ms = document["expiresAt"].as_u64();
        in_ms.unwrap_or_else(|| document["expires_at"].as_u64().expect("an expiry") * 1000)
    }

    /// What the schedule does.
    async fn refresh_underneath(&self) {
        let event = if self.example == Example::Rust { r#"{"force":true}"# } else { "{}" };
        let report = self.refresher.invoke(event).await.expect("a report");
        assert_eq!(report["outcome"], "refreshed");
    }

    /// To be called at the end of each story.
    fn assert_kept(&self) {
        assert_eq!(self.provider.reuses(), 0, "a refresh token was spent twice");
        let mut secrets = self.provider.every_token_issued();
        secrets.extend([CLIENT_SECRET, SECRET_ACCESS_KEY, SESSION_TOKEN].map(str::to_owned));
        assert_no_secret(&self.reading.said(), &secrets);
        if self.provider.exchanges() > 0 {
            self.refresher.assert_kept(&secrets);
        }
    }
}

fn invoke(version: &str) -> String {
    format!(r#"invoke {{"force":true,"ifVersionId":"{version}"}}"#)
}

async fn keeps_a_token_until_shortly_before_its_expiry_and_picks_up_the_next(example: Example) {
    let mut world = World::start(example, "expiry").await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    assert_eq!(world.get().await, ["GET /orders 200"], "the token was not kept");
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "the token was not kept until its margin");

    world.refresh_underneath().await;
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"], "the next token was not picked up");
    let expiry_ms = world.expiry_ms().await;
    world.set_time(expiry_ms - MARGIN_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"]);

    // The refresher is late: the token is used to its end, and no further.
    world.set_time(expiry_ms - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    world.set_time(expiry_ms - MARGIN_MS + PAUSE_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "it looks for the next token all the time");
    world.set_time(expiry_ms - 1);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()));
    world.set_time(expiry_ms);
    let (error, seen) = world.fail().await;
    assert!(error.contains("has expired") && error.contains(&world.name), "{error}");
    assert!(!seen.iter().any(|call| call.starts_with("GET")), "an expired token was used: {seen:?}");
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_kept();
}

async fn a_401_is_met_with_one_reading_one_refresh_and_one_retry(example: Example) {
    // So short that the next token is looked for while the extension still has the refused one, which expires later.
    let lifetimes = (LIFETIME_MS, 240);
    let mut world = World::start_for(lifetimes, example, "refused", &[("REFRESHER_FUNCTION", REFRESHER)]).await;
    world.get().await;
    let (version, _) = world.current().await;
    world.around.refuse_the_newest();
    let seen = world.get().await;
    let (next, _) = world.current().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    let expected = ["GET /orders 401", read[0], &invoke(&version), &world.reading_of(&next), "GET /orders 200"];
    assert_eq!(seen, expected);
    assert_eq!(world.get().await, ["GET /orders 200"]);
    assert_eq!(world.provider.exchanges(), 1);
    if example == Example::Rust {
        return world.assert_kept();
    }
    assert!(world.reading.said().contains("refreshed"), "nothing was printed");

    world.set_time(world.expiry_ms().await - MARGIN_MS);
    assert_eq!(world.get().await, [read[0], "GET /orders 200"]);
    world.set_time(world.expiry_ms().await - 1);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()), "it went back to the refused token");
    world.assert_kept();
}

async fn a_401_asks_for_no_refresh_where_there_is_a_newer_version(example: Example) {
    let mut world = World::start(example, "newer").await;
    world.get().await;
    let (version, _) = world.current().await;
    world.refresh_underneath().await;
    let seen = world.get().await;
    let (next, _) = world.current().await;
    // The extension does not know the newer version yet; the refresher does, and exchanges nothing.
    let (invoked, by_id) = (invoke(&version), format!("extension {next}"));
    let expected = world.by_source(
        &["GET /orders 401", "read AWSCURRENT", "GET /orders 200"],
        &["GET /orders 401", "extension AWSCURRENT, cached", &invoked, &by_id, "GET /orders 200"],
    );
    assert_eq!(seen, expected);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_kept();
}

async fn a_second_401_is_an_error_and_asks_for_nothing_more_for_ten_minutes(example: Example) {
    let mut world = World::start(example, "refused-twice").await;
    world.around.set_api(Takes::Nothing);
    let (error, seen) = world.fail().await;
    let (version, _) = world.current().await;
    assert!(error.contains("/orders answered 401") && error.contains(&version), "{error}");
    let gets: Vec<_> = seen.iter().filter(|call| call.starts_with("GET")).collect();
    assert_eq!(gets, ["GET /orders 401", "GET /orders 401"]);
    assert_eq!(seen.iter().filter(|call| call.starts_with("invoke")).count(), 1, "{seen:?}");

    for (now_ms, asks) in [(world.start_ms + ASK_MS - 1, false), (world.start_ms + ASK_MS, true)] {
        world.set_time(now_ms);
        let (error, seen) = world.fail().await;
        assert_eq!(seen.iter().any(|call| call.starts_with("invoke")), asks, "{now_ms}: {seen:?}");
        assert!(error.contains(if asks { "answered 401" } else { "there is no newer one" }), "{error}");
        assert_eq!(world.provider.exchanges(), if asks { 2 } else { 1 });
    }
    world.assert_kept();
}

async fn a_401_waits_for_a_refresh_that_is_under_way(example: Example) {
    let mut world = World::start(example, "busy").await;
    world.get().await;
    world.around.refuse_the_newest();
    world.around.be_busy_once();
    let seen = world.get().await;
    assert_eq!((seen.first(), seen.last()), (Some(&"GET /orders 401".into()), Some(&"GET /orders 200".into())));
    let invocations = seen.iter().filter(|call| call.starts_with("invoke")).count();
    // Through the extension only the refresher can tell when the other's refresh is done.
    assert_eq!(invocations, if example.uses_the_extension() { 2 } else { 1 }, "{seen:?}");
    assert!(example == Example::Rust || world.reading.said().contains("under way"));
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_kept();
}

async fn a_refresh_that_fails_is_told_with_its_remedy(example: Example) {
    let mut world = World::start(example, "withdrawn").await;
    world.get().await;
    world.around.refuse_the_newest();
    world.provider.withdraw_consent();
    let (error, seen) = world.fail().await;
    assert!(error.contains("ReauthorizationRequired") && error.contains("a person must consent again"), "{error}");
    assert_eq!(seen.iter().filter(|call| call.starts_with("GET")).count(), 1, "{seen:?}");
    world.assert_kept();
}

async fn without_a_refresher_a_401_is_met_with_one_reading(example: Example) {
    let mut world = World::start_with(example, "alone", &[]).await;
    world.get().await;
    world.around.refuse_the_newest();
    let (error, seen) = world.fail().await;
    assert!(error.contains("there is no newer one"), "{error}");
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(seen, ["GET /orders 401", read[0]]);
    world.assert_kept();
}

async fn a_failing_store_is_bridged_while_the_token_is_valid(example: Example) {
    let mut world = World::start(example, "failing").await;
    world.get().await;
    world.around.set_store(Store::Fails);
    let at_margin_ms = world.start_ms + LIFETIME_MS - MARGIN_MS;
    world.set_time(at_margin_ms);
    let seen = world.get().await;
    // The SDKs try twice.
    let tries = world.by_source(&["read AWSCURRENT", "read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(seen, [tries.as_slice(), &["GET /orders 200"]].concat());
    world.set_time(at_margin_ms + PAUSE_MS - 1);
    assert_eq!(world.get().await, ["GET /orders 200"], "each call waits for the failing store");
    assert!(world.reading.said().contains("could not be read"), "the failure was not told");

    world.set_time(world.start_ms + LIFETIME_MS - 1);
    assert_eq!(world.get().await, [tries.as_slice(), &["GET /orders 200"]].concat());
    world.set_time(world.start_ms + LIFETIME_MS);
    let (_, seen) = world.fail().await;
    assert!(!seen.iter().any(|call| call.starts_with("GET")), "an expired token was used: {seen:?}");

    world.around.set_store(Store::Works);
    world.refresh_underneath().await;
    world.set_time(world.start_ms + LIFETIME_MS + PAUSE_MS);
    assert!(world.get().await.contains(&"GET /orders 200".to_owned()), "it did not recover");
    world.assert_kept();
}

async fn a_store_that_denies_is_told_though_the_token_is_valid(example: Example) {
    let mut world = World::start(example, "denied").await;
    world.get().await;
    world.around.set_store(Store::Denies);
    world.set_time(world.start_ms + LIFETIME_MS - MARGIN_MS);
    let (error, seen) = world.fail().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(seen, read, "{error}");
    assert!(error.contains(if example.uses_the_extension() { "answered 400" } else { "not you" }), "{error}");
    world.assert_kept();
}

async fn a_401_is_met_the_same_way_by_readers_of_a_published_secret(example: Example) {
    // By this name it reads the secret that the token secret publishes to.
    let mut world = World::start(example, "published").await;
    let published = format!("{}-token", world.name);
    world.refresh_underneath().await;
    world.get().await;
    let (version, _) = world.secrets.labelled(&published, "AWSCURRENT").await;
    world.around.refuse_the_newest();
    let seen = world.get().await;
    let (next, _) = world.secrets.labelled(&published, "AWSCURRENT").await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(seen, ["GET /orders 401", read[0], &invoke(&version), &world.reading_of(&next), "GET /orders 200"]);
    assert_eq!(world.provider.exchanges(), 2);
    world.assert_kept();
}

/// Calls in one invocation: Python and Rust make them one after the other, Node all at once.
async fn many_calls_at_once_make_one_reading_and_one_refresh(example: Example) {
    let mut world = World::start(example, "many").await;
    let paths = ["/1", "/2", "/3", "/4", "/late"];
    let reads = |seen: &[String]| seen.iter().filter(|call| !call.starts_with("GET")).cloned().collect::<Vec<_>>();
    world.reading.get(&paths).await.expect("answers");
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT"]);
    assert_eq!(reads(&world.around.seen()), read);

    let (version, _) = world.current().await;
    world.around.refuse_the_newest();
    world.reading.get(&paths).await.expect("answers");
    let (next, _) = world.current().await;
    let read = world.by_source(&["read AWSCURRENT"], &["extension AWSCURRENT, cached"]);
    assert_eq!(reads(&world.around.seen()), [read[0], &invoke(&version), &world.reading_of(&next)]);
    assert_eq!(world.provider.exchanges(), 1);
    world.assert_kept();
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
                    keeps_a_token_until_shortly_before_its_expiry_and_picks_up_the_next
                    a_401_is_met_with_one_reading_one_refresh_and_one_retry
                    a_401_asks_for_no_refresh_where_there_is_a_newer_version
                    a_second_401_is_an_error_and_asks_for_nothing_more_for_ten_minutes
                    a_401_waits_for_a_refresh_that_is_under_way
                    a_refresh_that_fails_is_told_with_its_remedy
                    a_401_is_met_the_same_way_by_readers_of_a_published_secret
                    without_a_refresher_a_401_is_met_with_one_reading
                    a_failing_store_is_bridged_while_the_token_is_valid
                    a_store_that_denies_is_told_though_the_token_is_valid
                    many_calls_at_once_make_one_reading_and_one_refresh
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

/// The Rust example's reader is the crate's own, with tests of its own and another pace; here it is seen to be put
/// together rightly, by the machine's clock.
mod rust {
    use super::*;

    stories! {
        Rust:
        a_401_is_met_with_one_reading_one_refresh_and_one_retry
        a_401_asks_for_no_refresh_where_there_is_a_newer_version
        a_401_waits_for_a_refresh_that_is_under_way
        a_refresh_that_fails_is_told_with_its_remedy
        a_401_is_met_the_same_way_by_readers_of_a_published_secret
        many_calls_at_once_make_one_reading_and_one_refresh
    }

    #[tokio::test]
    #[ignore = "needs the real peers: run tests/run"]
    async fn a_second_401_is_an_error() {
        let mut world = World::start(Example::Rust, "refused-twice").await;
        world.around.set_api(Takes::Nothing);
        let (error, seen) = world.fail().await;
        assert!(error.contains("/orders answered 401") && error.contains(&world.name), "{error}");
        assert_eq!(seen.iter().filter(|call| *call == "GET /orders 401").count(), 2, "{seen:?}");
        assert_eq!(world.provider.exchanges(), 1);
        world.assert_kept();
    }

    #[tokio::test]
    #[ignore = "needs the real peers: run tests/run"]
    async fn a_failing_store_is_bridged_until_the_token_expires_and_then_the_next_one_is_used() {
        const LIFETIME_MS: u64 = 4_000;
        let now_ms = || SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock past 1970").as_millis();
        let mut world = World::start_for((LIFETIME_MS, 3_600), Example::Rust, "failing", &[]).await;
        let expiry_ms = u128::from(world.start_ms + LIFETIME_MS);
        assert_eq!(world.get().await, ["read AWSCURRENT", "GET /orders 200"]);
        world.around.set_store(Store::Fails);
        let (mut bridged, mut seen) = (0, Vec::new());
        let error = loop {
            let before_ms = now_ms();
            match world.reading.get(&["/orders"]).await {
                Ok(_) => assert!(before_ms < expiry_ms, "an expired token was used"),
                Err(error) => break error,
            }
            seen.extend(world.around.seen());
            bridged += usize::from(seen.iter().any(|call| call.starts_with("read")));
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(now_ms() + u128::from(LIFETIME_MS / 10) >= expiry_ms, "it gave up on a good token: {error}");
        assert!(bridged > 0, "the store was not asked: {seen:?}");
        assert!(error.contains("no token to send") && error.contains(&world.name), "{error}");

        world.around.set_store(Store::Works);
        world.refresh_underneath().await;
        // An error is remembered for a moment.
        let used = async { while world.reading.get(&["/orders"]).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(30), used).await.expect("the next token");
        assert!(!world.around.seen().contains(&"GET /orders 401".to_owned()), "the expired token was used");
        world.assert_kept();
    }
}

/// What `TimeForm` reads, in every form of the contract.
#[test]
#[ignore = "needs the real peers: run tests/run"]
fn every_example_reads_a_point_in_time_in_every_form() {
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
    ]);
    let written: Vec<_> = table.as_array().expect("rows").iter().map(|row| row[0].clone()).collect();
    for example in [Example::PythonBoto3, Example::PythonExtension, Example::NodeSdk, Example::NodeExtension] {
        let read = example.points_in_time(&written);
        for (row, read) in table.as_array().expect("rows").iter().zip(read) {
            assert_eq!(read, row[1].as_u64().expect("milliseconds"), "{example:?}: {}", row[0]);
        }
    }
}

#[test]
#[ignore = "needs the real peers: run tests/run"]
fn the_typescript_examples_pass_the_strictest_checks_and_compile() {
    for file in ["node_sdk.mjs", "node_extension.mjs"] {
        assert!(compiled().join(file).is_file(), "{file}");
    }
}
