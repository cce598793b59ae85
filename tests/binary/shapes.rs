//! The documents that other programs wrote (`tests/fixtures/documents`): after a refresh, each finds the new tokens and their end by
//! its own rule, and everything else as it was.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::{
    bench::{Bench, SECRET, outcome_of},
    support::provider::{AuthMethod, CLIENT_ID, CLIENT_SECRET, Provider},
};

/// How a program finds the end of the access token in its document. Names are JSON pointers.
#[derive(Clone, Copy, Debug)]
enum Expiry {
    /// It does not look.
    Ignored,
    Seconds(&'static str),
    Milliseconds(&'static str),
    /// RFC 3339.
    Iso(&'static str),
    /// A time without a zone, in UTC. One with a zone is an error.
    Naive(&'static str),
    /// Exactly `%Y-%m-%dT%H:%M:%SZ`.
    WholeSeconds(&'static str),
    /// `YYYY-MM-DDTHH:MM:SS` in UTC, whatever follows.
    Cut(&'static str),
    /// A start, in seconds or RFC 3339, and a lifetime.
    Sum(&'static str, &'static str),
    /// A time if it is in the future, else a lifetime from the start.
    TimeOrLifetime(&'static str, &'static str),
}

impl Expiry {
    #[expect(clippy::cast_possible_truncation, reason = "the programs do the same")]
    fn read(self, document: &Value, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let value = |pointer: &str| document.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
        let seconds = |pointer| value(pointer).as_f64().unwrap_or_else(|| panic!("{pointer} is no number"));
        let at = |seconds: f64| DateTime::from_timestamp_millis((seconds * 1000.0) as i64).expect("a time");
        let text = |pointer| value(pointer).as_str().unwrap_or_else(|| panic!("{pointer} is no text"));
        let iso = |pointer| DateTime::parse_from_rfc3339(text(pointer)).expect("RFC 3339").to_utc();
        let naive = |text: &str, form: &str| NaiveDateTime::parse_from_str(text, form).expect("a time").and_utc();
        Some(match self {
            Self::Ignored => return None,
            Self::Seconds(pointer) => at(seconds(pointer)),
            Self::Milliseconds(pointer) => at(seconds(pointer) / 1000.0),
            Self::Iso(pointer) => iso(pointer),
            Self::Naive(pointer) => naive(text(pointer), "%Y-%m-%dT%H:%M:%S%.f"),
            Self::WholeSeconds(pointer) => naive(text(pointer), "%Y-%m-%dT%H:%M:%SZ"),
            Self::Cut(pointer) => naive(text(pointer).split(['.', 'Z']).next().unwrap(), "%Y-%m-%dT%H:%M:%S"),
            Self::Sum(start, lifetime) => {
                let start = if value(start).is_number() { at(seconds(start)) } else { iso(start) };
                start + TimeDelta::seconds(seconds(lifetime) as i64)
            }
            Self::TimeOrLifetime(expires, start) => {
                let time = at(seconds(expires));
                if time > now { time } else { at(seconds(start)) + TimeDelta::seconds(seconds(expires) as i64) }
            }
        })
    }
}

/// A document, and how its program reads it.
struct Shape {
    /// The file without its extension.
    name: &'static str,
    access_token: &'static str,
    refresh_token: &'static str,
    expiry: Expiry,
    /// `MEMBER_NAMES`, for those that need it.
    member_names: &'static str,
}

const fn shape(name: &'static str, access_token: &'static str, refresh_token: &'static str, expiry: Expiry) -> Shape {
    Shape { name, access_token, refresh_token, expiry, member_names: "" }
}

impl Shape {
    const fn named(self, member_names: &'static str) -> Self {
        Self { member_names, ..self }
    }

    const fn snake_case(name: &'static str, expiry: Expiry) -> Self {
        shape(name, "/access_token", "/refresh_token", expiry)
    }

    const fn camel_case(name: &'static str, expiry: Expiry) -> Self {
        shape(name, "/accessToken", "/refreshToken", expiry)
    }
}

use Expiry::{Cut, Ignored, Iso, Milliseconds, Naive, Seconds, Sum, TimeOrLifetime, WholeSeconds};

const SHAPES: [Shape; 33] = [
    Shape::snake_case("jira-resolver", Iso("/expires_at")),
    shape("confluence-kendra", "/confluenceAccessToken", "/confluenceRefreshToken", Ignored).named(
        r#"{"accessToken":"/confluenceAccessToken","refreshToken":"/confluenceRefreshToken",
            "clientId":"/confluenceAppKey","clientSecret":"/confluenceAppSecret"}"#,
    ),
    Shape::camel_case("genesys-cloud", Ignored),
    Shape::snake_case("quickbooks-lambda", Ignored),
    Shape::snake_case("python-isoformat", Naive("/expires_at")),
    Shape::snake_case("strava-lambda", Seconds("/expires_at")),
    Shape::camel_case("zoom-helper", Iso("/expiresAt")),
    Shape::camel_case("google-camel-case", Milliseconds("/expiryDate")),
    shape("google-auth-constructor", "/token", "/refresh_token", Ignored),
    shape("schwab-py", "/token/access_token", "/token/refresh_token", Seconds("/token/expires_at")),
    Shape::snake_case("fyers", Ignored),
    Shape::snake_case("google-ads", Ignored),
    Shape::snake_case("golang-oauth2", Iso("/expiry")),
    shape("google-auth", "/token", "/refresh_token", Cut("/expiry")),
    Shape::snake_case("gcloud", Ignored),
    Shape::snake_case("oauth2client", WholeSeconds("/token_expiry")),
    Shape::snake_case("google-auth-library", Milliseconds("/expiry_date")),
    Shape::snake_case("spotipy", Seconds("/expires_at")),
    Shape::snake_case("stravalib", Seconds("/expires_at")),
    shape("teslapy", "/e@x/sso/access_token", "/e@x/sso/refresh_token", Seconds("/e@x/sso/expires_at")).named(
        r#"{"accessToken":"/e@x/sso/access_token","refreshToken":"/e@x/sso/refresh_token",
            "expiresAt":"/e@x/sso/expires_at"}"#,
    ),
    Shape::snake_case("withings-api", Sum("/created", "/expires_in")),
    Shape::snake_case("simple-oauth2", Iso("/expires_at")),
    Shape::snake_case("openid-client", Seconds("/expires_at")),
    Shape::snake_case("xero-python", Seconds("/expires_at")),
    Shape::snake_case("league-oauth2-client", Seconds("/expires")),
    Shape::snake_case("google-api-php-client", Sum("/created", "/expires_in")),
    Shape::snake_case("raw-entra", Ignored),
    Shape::snake_case("raw", Ignored),
    Shape::snake_case("salesforce", Ignored),
    Shape::snake_case("python-social-auth", TimeOrLifetime("/expires", "/auth_time")),
    Shape::snake_case("singer-tap", Ignored),
    shape("nango", "/credentials/access_token", "/credentials/refresh_token", Iso("/credentials/expires_at")),
    Shape::camel_case("auth-js", Milliseconds("/accessTokenExpiresAt")),
];

/// The documents in which nothing is found.
const REFUSED: [(&str, &str); 2] = [
    ("python-repr", "it is not JSON (from line 1, column 2 on)"),
    (
        "base64",
        "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"",
    ),
];

/// The document of a file with these tokens and this end. The files have 2026-01-01T00:00:00Z and some fraction of a second.
fn document(name: &str, access: &str, refresh: &str, expiry: DateTime<Utc>) -> String {
    let path = format!("{}/tests/fixtures/documents/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let local = |hours: i64| (expiry + TimeDelta::hours(hours)).format("%Y-%m-%dT%H:%M:%S").to_string();
    let seconds = |more: i64| (expiry.timestamp() + more).to_string();
    [
        ("2026-01-01T07:00:00", local(7)),
        ("2026-01-01T00:00:00", local(0)),
        ("2025-12-31T23:00:00", local(-1)),
        ("2025-12-31T21:00:00", local(-3)),
        ("1767225600", seconds(0)),
        ("1767222000", seconds(-3600)),
        ("1767222001", seconds(-3599)),
        ("1767312000", seconds(86_400)),
        ("\"AT\"", json!(access).to_string()),
        ("\"RT\"", json!(refresh).to_string()),
        ("\"CID\"", json!(CLIENT_ID).to_string()),
        ("\"CS\"", json!(CLIENT_SECRET).to_string()),
    ]
    .iter()
    .fold(text, |text, (old, new)| text.replace(old, new))
}

/// Members beside the tokens that a refresh renews, if the document has them.
const RENEWED: [&str; 6] = ["id_token", "instance_url", "issued_at", "ext_expires_in", "expires_in", "expiresIn"];

/// Our members that a refresh adds, if the document does not have them.
const ADDED: [&str; 8] = [
    "accessToken",
    "access_token",
    "expiresAt",
    "expires_at",
    "refreshedAt",
    "refreshed_at",
    "tokenType",
    "token_type",
];

/// Fails unless the documents differ only in what a refresh writes, and in values of the same type.
fn assert_others_unchanged(shape: &Shape, path: &str, before: &Map<String, Value>, after: &Map<String, Value>) {
    let is_added = |name: &str| ADDED.contains(&name) || ["tokenResponse", "token_response"].contains(&name);
    let new: Vec<_> = after.keys().filter(|name| !before.contains_key(*name)).collect();
    assert!(new.iter().all(|name| is_added(name)), "{}: {new:?}", shape.name);
    let of_expiry: &[&str] = match shape.expiry {
        Ignored => &[],
        Seconds(a) | Milliseconds(a) | Iso(a) | Naive(a) | WholeSeconds(a) | Cut(a) => &[a],
        Sum(a, b) | TimeOrLifetime(a, b) => &[a, b],
    };
    for (name, old) in before {
        let pointer = format!("{path}/{name}");
        let new = &after[name];
        let is_written = [shape.access_token, shape.refresh_token].contains(&&*pointer)
            || of_expiry.contains(&&*pointer)
            || RENEWED.contains(&&**name)
            || name == "created_at"
            || (name == "refreshTokenExpiresAt" && new.is_null())
            || ["tokenType", "token_type", "token_response"].contains(&&**name);
        match (old, new) {
            (Value::Object(old), Value::Object(new)) if shape.access_token.starts_with(&format!("{pointer}/")) => {
                assert_others_unchanged(shape, &pointer, old, new);
            }
            _ if is_written => {
                let is_same_type = std::mem::discriminant(old) == std::mem::discriminant(new);
                assert!(
                    is_same_type || old.is_null() || new.is_null(),
                    "{}: {pointer} was {old}, is {new}",
                    shape.name
                );
            }
            _ => assert_eq!(old, new, "{}: {pointer}", shape.name),
        }
    }
}

/// Fails unless the program reads the newest tokens from the secret.
fn assert_read(shape: &Shape, bench: &Bench, secret: &str, before: &Value) {
    let after = bench.current(secret);
    let text = |pointer: &str| {
        after.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{}: {pointer}", shape.name))
    };
    assert!(bench.provider.is_alive(text(shape.refresh_token)), "{}: an old refresh token", shape.name);
    let issued = bench.provider.every_token_issued();
    assert!(issued[issued.len() - 2..].contains(&text(shape.access_token).to_owned()), "{}: an old token", shape.name);
    let now = Utc::now();
    if let Some(expiry) = shape.expiry.read(&after, now) {
        let away = (expiry - now - TimeDelta::hours(1)).num_seconds().abs();
        assert!(away < 30, "{}: {:?} is {expiry}, at {now}", shape.name, shape.expiry);
    }
    for name in ["id_token", "instance_url", "issued_at", "ext_expires_in"] {
        if before.get(name).is_some_and(|value| !value.is_null()) {
            assert_ne!(after[name], before[name], "{}: an old {name}", shape.name);
        }
    }
    assert_others_unchanged(shape, "", before.as_object().unwrap(), after.as_object().unwrap());
}

#[tokio::test]
async fn each_program_finds_the_new_tokens_in_its_own_document() {
    let more = json!({
        "id_token": "a new identity",
        "instance_url": "https://y.my.salesforce.com",
        "issued_at": "1767225600999",
        "ext_expires_in": 7199,
    });
    for shape in SHAPES {
        let client_id = if shape.name == "stravalib" { "123456" } else { CLIENT_ID };
        let provider = Provider::rotating()
            .with_client(client_id, CLIENT_SECRET, AuthMethod::ClientSecretPost)
            .with_members(more.clone());
        let bench = Bench::with(provider).await;
        let tokens = |expiry| {
            let (access, refresh) = bench.provider.issue();
            document(shape.name, &access, &refresh, expiry)
        };
        let due = tokens(Utc::now() + TimeDelta::minutes(1));
        let before: Value = serde_json::from_str(&due).unwrap();
        bench.secret("far", tokens(Utc::now() + TimeDelta::hours(2)));
        bench.secret(SECRET, due);
        let url = bench.provider.url();
        let settings = [
            ("TOKEN_ENDPOINT", url.as_str()),
            ("CLIENT_ID", CLIENT_ID),
            ("CLIENT_SECRET", CLIENT_SECRET),
            ("MEMBER_NAMES", shape.member_names),
        ];
        let process = bench.process_with(&settings).await;

        let far = process.report(r#"{"secretId":"far","dryRun":true}"#).await;
        let outcome = if matches!(shape.expiry, Ignored) { "would_refresh" } else { "skipped" };
        assert_eq!(far["outcome"], outcome, "{}: {far}", shape.name);
        assert_eq!(far.get("warnings"), None, "{}", shape.name);

        for (event, expected) in
            [("{}", "refreshed"), ("{}", "skipped"), (r#"{"force":true}"#, "refreshed"), ("{}", "skipped")]
        {
            let report = process.report(event).await;
            assert_eq!(outcome_of(&report).0, expected, "{}: {report}", shape.name);
            assert_read(&shape, &bench, SECRET, &before);
        }
        assert_eq!((bench.provider.granted(), bench.provider.reuses()), (2, 0), "{}", shape.name);
    }
}

#[tokio::test]
async fn a_document_in_which_no_refresh_token_is_found_is_refused_before_anything_is_sent() {
    for (name, problem) in REFUSED {
        let bench = Bench::new().await;
        bench.secret(SECRET, document(name, "an access token", "a refresh token", Utc::now()));
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "InvalidSecret", "{name}");
        assert!(message.contains(problem), "{name}: {message}");
        assert_eq!((bench.sm.version_count(SECRET), bench.provider.exchanges()), (1, 0), "{name}");
    }
}

#[test]
fn every_document_is_in_one_of_the_tables() {
    let mut tried: Vec<_> = SHAPES.iter().map(|shape| shape.name).chain(REFUSED.map(|(name, _)| name)).collect();
    tried.sort_unstable();
    assert_eq!(crate::bench::fixtures("documents"), tried);
}
