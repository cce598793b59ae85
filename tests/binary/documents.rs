//! What a refresh writes: the tokens and their times, in the style and the time form that it finds. Every other byte is unchanged.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{json, value::RawValue};

use crate::{
    bench::{Bench, SECRET, outcome_of},
    support::provider::{CLIENT_ID, CLIENT_SECRET, Provider, World},
};

/// The JSON text of each member.
fn texts(document: &str) -> BTreeMap<String, String> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(document).expect("an object");
    members.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
}

/// Writes a time in one form.
type Write = fn(DateTime<Utc>) -> String;

/// Every form of `expiresAt`: its name, how a time is written, and whether it holds whole seconds only.
const FORMS: [(&str, Write, bool); 8] = [
    ("milliseconds", |time| time.timestamp_millis().to_string(), false),
    ("seconds", |time| time.timestamp().to_string(), true),
    ("milliseconds in a string", |time| format!("\"{}\"", time.timestamp_millis()), false),
    ("seconds in a string", |time| format!("\"{}\"", time.timestamp()), true),
    ("RFC 3339", |time| format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%SZ")), true),
    ("RFC 3339 with milliseconds", |time| format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3fZ")), false),
    ("RFC 3339 with microseconds", |time| format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.6fZ")), false),
    (
        "RFC 3339 with an offset",
        |time| format!("\"{}+02:00\"", (time + TimeDelta::hours(2)).format("%Y-%m-%dT%H:%M:%S")),
        true,
    ),
];

/// The time in a member's text, read by the rules of its form.
fn read(text: &str) -> DateTime<Utc> {
    let text = text.trim_matches('"');
    match text.parse::<i64>() {
        Ok(number) if number < 100_000_000_000 => DateTime::from_timestamp(number, 0).unwrap(),
        Ok(number) => DateTime::from_timestamp_millis(number).unwrap(),
        Err(_) => DateTime::parse_from_rfc3339(text).unwrap().to_utc(),
    }
}

/// The document with member names in `snake_case`, as in RFC 6749.
fn in_snake_case(document: &str) -> String {
    let names = [
        ("accessToken", "access_token"),
        ("refreshToken", "refresh_token"),
        ("expiresAt", "expires_at"),
        ("tokenType", "token_type"),
        ("refreshedAt", "refreshed_at"),
        ("tokenEndpoint", "token_endpoint"),
        ("clientId", "client_id"),
        ("clientSecret", "client_secret"),
    ];
    let quoted = |name: &str| format!("\"{name}\":");
    names.iter().fold(document.to_owned(), |text, (camel, snake)| text.replace(&quoted(camel), &quoted(snake)))
}

#[tokio::test]
async fn a_refresh_changes_its_own_members_and_keeps_every_other_byte() {
    for ((form, write, whole_seconds), snake) in FORMS.into_iter().flat_map(|form| [(form, false), (form, true)]) {
        let bench = Bench::new().await;
        let url = bench.provider.url();
        let document = |access: &str, refresh: &str, expires_at: &str, more: &str| {
            let document = [
                r#"{"price":1.50,"accessToken":""#,
                access,
                r#"","n":12345678901234567890,"refreshToken":""#,
                refresh,
                r#"","deep":{"z" : [1e400, -0.0,{}],"a":"\u00e9\/"},"expiresAt":"#,
                expires_at,
                r#","AccessToken":"keep","é":"ü","":null,"tokenEndpoint":""#,
                &url,
                r#"","clientId":""#,
                CLIENT_ID,
                r#"","clientSecret":""#,
                CLIENT_SECRET,
                r#"","note":"a \"quoted\" one""#,
                more,
                "}",
            ];
            if snake { in_snake_case(&document.concat()) } else { document.concat() }
        };
        let (access, refresh) = bench.provider.issue();
        let started = Utc::now();
        // In the future, but within the margin. With a wrong unit it would be far in the future, or long past.
        let soon = write(started + TimeDelta::seconds(600));
        bench.secret(SECRET, document(&access, &refresh, &soon, ""));
        let process = bench.process().await;
        let dry = process.report(r#"{"dryRun":true}"#).await;
        let left = dry["expiresInSeconds"].as_i64().unwrap();
        assert!((585..=600).contains(&left), "{form}: {left} s left");

        assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"), "{form}");

        let after = bench.sm.current(SECRET).1;
        let texts = texts(&after);
        let time = |camel: &str, snake: &str| texts.get(camel).or(texts.get(snake)).expect("a time").as_str();
        let (expires, refreshed) = (time("expiresAt", "expires_at"), time("refreshedAt", "refreshed_at"));
        let issued = bench.provider.every_token_issued();
        let more = format!(r#","tokenType":"Bearer","refreshedAt":{refreshed}"#);
        assert!(after == document(&issued[2], &issued[3], expires, &more), "{form}: another byte changed");

        assert_eq!((write(read(expires)).as_str(), write(read(refreshed)).as_str()), (expires, refreshed), "{form}");
        let earliest = started - TimeDelta::seconds(i64::from(whole_seconds)) - TimeDelta::milliseconds(1);
        assert!(read(refreshed) >= earliest && read(refreshed) <= Utc::now(), "{form}");
        assert_eq!(read(expires) - read(refreshed), TimeDelta::hours(1), "{form}");

        // The function reads it back: the token is now far from expiry.
        assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"), "{form}");
    }
}

#[tokio::test]
async fn a_token_with_a_missing_null_or_zero_expiry_is_due_and_gets_one_in_milliseconds() {
    for expires_at in [json!(null), json!(0), json!("0")] {
        let bench = Bench::new().await;
        let mut token = bench.due_token();
        if expires_at.is_null() {
            token.as_object_mut().unwrap().remove("expiresAt");
        } else {
            token["expiresAt"] = expires_at.clone();
        }
        bench.secret(SECRET, &token);
        let explicit_null = bench.due_token().to_string().replace("1700000000000", "null");
        bench.secret("crm/null", explicit_null);
        let process = bench.process().await;
        for event in ["{}", r#"{"secretId":"crm/null"}"#] {
            assert_eq!(outcome_of(&process.report(event).await), ("refreshed", "due"), "{expires_at}");
        }
        for name in [SECRET, "crm/null"] {
            let milliseconds = bench.current(name)["expiresAt"].as_i64().expect("a number");
            let left = milliseconds - Utc::now().timestamp_millis();
            assert!((3_500_000..=3_600_000).contains(&left), "{expires_at}: {left}");
        }
    }
}

#[tokio::test]
async fn an_expiry_of_zero_is_replaced_in_the_form_of_the_last_refresh_time() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.due_token_but(&json!({"expiresAt": 0, "refreshedAt": "2026-01-01T00:00:00Z"})));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let current = bench.current(SECRET);
    for name in ["expiresAt", "refreshedAt"] {
        assert!(DateTime::parse_from_rfc3339(current[name].as_str().expect("a text")).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn the_first_refresh_adds_a_missing_access_token() {
    let bench = Bench::new().await;
    bench.secret(SECRET, bench.due_token_but(&json!({"accessToken": null, "expiresAt": null})));
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    bench.assert_alive(SECRET);
}

#[tokio::test]
async fn a_refresh_token_that_the_provider_repeats_is_kept_and_the_next_refresh_works() {
    for world in [World::Echo, World::RepeatAll] {
        let bench = Bench::with(Provider::rotating().in_world(world)).await;
        bench.due_secret();
        let refresh = bench.current(SECRET)["refreshToken"].clone();
        let process = bench.process().await;
        for run in 0..3 {
            let report = process.report(r#"{"force":true}"#).await;
            assert_eq!(outcome_of(&report), ("refreshed", "forced"), "{world:?} {run}");
            assert_eq!(bench.current(SECRET)["refreshToken"], refresh, "{world:?}");
        }
        assert_eq!(bench.provider.granted(), 3, "{world:?}");
    }
}

#[tokio::test]
async fn an_edit_that_a_person_makes_during_an_exchange_is_kept_with_the_new_tokens() {
    let bench = Bench::new().await;
    bench.due_secret();
    let mut edited = bench.current(SECRET);
    edited["note"] = "edited during the exchange".into();
    let text = edited.to_string();
    bench.sm.before(crate::support::secrets_manager::MOVE, 1, move |versions, now| {
        versions.put(&"0".repeat(36).into(), &text.into(), None, now).expect("a person's put");
    });
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    assert_eq!(bench.current(SECRET)["note"], "edited during the exchange");
    bench.assert_alive(SECRET);
    assert_eq!(bench.provider.exchanges(), 1);
}
