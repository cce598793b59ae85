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
        // With a member that is no string: a document of strings gets strings.
        let mut token = bench.due_token_but(&json!({"attempts": 1}));
        if expires_at.is_null() {
            token.as_object_mut().unwrap().remove("expiresAt");
        } else {
            token["expiresAt"] = expires_at.clone();
        }
        bench.secret(SECRET, &token);
        let explicit_null = bench.due_token_but(&json!({"attempts": 1})).to_string().replace("1700000000000", "null");
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

/// Runs with a document that is refused, and with the same document corrected. Returns the error.
async fn refused_then_corrected(wrong: &serde_json::Value) -> String {
    let bench = Bench::new().await;
    let corrected = bench.due_token();
    let mut document = corrected.clone();
    for (name, value) in wrong.as_object().expect("an object") {
        document[name] = match value.as_str() {
            // `{}` stands for the right value.
            Some(text) => text.replace("{}", corrected[name].as_str().expect("a text")).into(),
            None => value.clone(),
        };
        bench.hide(document[name].as_str().unwrap_or("unseen-value"));
    }
    bench.secret(SECRET, &document);
    let process = bench.process().await;
    let (error_type, message) = process.error("{}").await;
    assert_eq!(error_type, "InvalidSecret", "{message}");
    assert_eq!((bench.sm.version_count(SECRET), bench.provider.exchanges()), (1, 0), "{message}");
    bench.secret("crm/corrected", &corrected);
    assert_eq!(outcome_of(&process.report(r#"{"secretId":"crm/corrected"}"#).await), ("refreshed", "due"));
    message
}

#[tokio::test]
async fn white_space_that_cannot_belong_to_a_token_or_a_credential_is_refused_by_name() {
    for (member, value, what) in [
        ("refreshToken", "{}\n", "a line break at its end"),
        ("refreshToken", "{}\r\n", "a line break at its end"),
        ("accessToken", "{} ", "a blank at its end"),
        ("clientId", " {}", "a blank at its start"),
        ("clientSecret", "{}\n", "a line break at its end"),
        ("clientSecret", "\t{}", "a tab at its start"),
        ("clientSecret", "{}\u{200b}", "a zero-width character at its end"),
        ("clientSecret", "\u{feff}{}", "a zero-width character at its start"),
        ("clientSecret", "{}\u{a0}", "a blank at its end"),
        ("refreshToken", "a long token\nwith a break", "a line break in it"),
        ("tokenEndpoint", "{} ", "a blank at its end"),
    ] {
        let message = refused_then_corrected(&json!({member: value})).await;
        let expected =
            format!("secret `{SECRET}` cannot be used: its member `{member}` has {what}; take it out (version");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[tokio::test]
async fn a_document_of_strings_as_the_console_writes_it_gets_strings_and_its_texts_are_read() {
    let provider = Provider::rotating().with_members(json!({
        "instance_url": "https://x.example", "refresh_token_expires_in": 86_400, "limits": {"rate": 5},
    }));
    let bench = Bench::with(provider).await;
    bench.secret(
        SECRET,
        bench.due_token_but(&json!({
            "expiresAt": "", "tokenEndpointAuthMethod": "", "publishTo": "", "refreshMarginSeconds": "600",
            "defaultLifetimeSeconds": "1800", "extraHeaders": r#"{"X-A":"b"}"#, "extraParameters": "", "refreshedAt": "",
        })),
    );
    let process = bench.process().await;
    for event in ["{}", r#"{"force":true}"#] {
        assert_eq!(outcome_of(&process.report(event).await).0, "refreshed");
        let current = bench.current(SECRET);
        for (name, value) in current.as_object().unwrap() {
            assert!(value.is_string(), "{name} is no string");
        }
        let response: serde_json::Value = serde_json::from_str(current["tokenResponse"].as_str().unwrap()).unwrap();
        assert_eq!(response, json!({"instance_url": "https://x.example", "limits": {"rate": 5}}));
        for name in ["expiresAt", "refreshedAt", "refreshTokenExpiresAt"] {
            let milliseconds: i64 = current[name].as_str().unwrap().parse().unwrap();
            assert!(milliseconds > 1_767_225_600_000, "{name}");
        }
        assert_eq!(current["extraHeaders"], r#"{"X-A":"b"}"#);
    }
    assert_eq!(bench.provider.requests()[0].header("x-a"), Some("b"));
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
}

#[tokio::test]
async fn member_names_in_the_document_say_where_the_members_are() {
    let bench = Bench::new().await;
    let (access, refresh) = bench.provider.issue();
    let document = json!({
        "memberNames": {
            "accessToken": "/login/a~1b", "refreshToken": "/login/r", "expiresAt": "/ends", "clientId": "/id",
        },
        "login": {"a/b": access, "r": refresh, "refresh_token": "of another login"},
        "ends": "2026-01-01T00:00:00", "id": CLIENT_ID, "client_secret": CLIENT_SECRET, "tokenEndpoint": bench.provider.url(),
    });
    bench.secret(SECRET, document);
    let process = bench.process().await;
    assert_eq!(outcome_of(&process.report("{}").await), ("refreshed", "due"));
    let current = bench.current(SECRET);
    assert!(bench.provider.is_alive(current["login"]["r"].as_str().unwrap()));
    assert_ne!(current["login"]["a/b"], access);
    assert_eq!(current["login"]["refresh_token"], "of another login");
    let ends = chrono::NaiveDateTime::parse_from_str(current["ends"].as_str().unwrap(), "%Y-%m-%dT%H:%M:%S").unwrap();
    assert!((ends.and_utc() - Utc::now() - TimeDelta::hours(1)).num_seconds().abs() < 30, "{ends}");
    assert_eq!(outcome_of(&process.report("{}").await), ("skipped", "not_due"));
}

#[tokio::test]
async fn a_document_whose_tokens_are_not_found_gets_an_error_that_says_what_is_there() {
    let holder = |name: &str| json!({"refresh_token": format!("a refresh token of {name}"), "access_token": "a"});
    for (document, problem) in [
        (
            json!({"personal": holder("personal"), "work": holder("work")}),
            "it has two refresh tokens, `personal.refresh_token` and `work.refresh_token`; say which one to use with `memberNames`, \
             for example {\"refreshToken\":\"/personal/refresh_token\"}",
        ),
        (
            json!({"confluenceRefreshToken": "a confluence refresh token", "confluenceAccessToken": "a"}),
            "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `confluenceRefreshToken`: if that is it, rename it, or add \
             `memberNames`: {\"refreshToken\":\"/confluenceRefreshToken\",\"accessToken\":\"/confluenceAccessToken\"}",
        ),
        (
            json!({"access_token": "a", "refresh_tokn": "a misspelt refresh token"}),
            "its member `refresh_token` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `refresh_tokn`: if that is it, rename it",
        ),
        (
            json!({"e@x": {"sso": holder("sso")}}),
            "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `e@x.sso.refresh_token`: if that is it, rename it, or add \
             `memberNames`: {\"refreshToken\":\"/e@x/sso/refresh_token\",\"accessToken\":\"/e@x/sso/access_token\"}",
        ),
        (
            json!({"a/b": {"c.d": {"refershToken": "a misspelt refresh token"}}}),
            "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `a/b.c.d.refershToken`: if that is it, rename it, or add \
             `memberNames`: {\"refreshToken\":\"/a~1b/c.d/refershToken\"}",
        ),
        (
            json!({"memberNames": {"refreshToken": "/ref"}, "reff": "x", "refreshTok": "a refresh token"}),
            "its member `ref` is missing or empty, which `memberNames` or the setting MEMBER_NAMES names; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `refreshTok`: if",
        ),
        (
            json!({"memberName": {"refreshToken": "/r", "accessToken": "/a"}, "r": "a refresh token", "a": "b"}),
            "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `memberName.refreshToken`",
        ),
        (
            json!({"memberNames": {"refreshToken": "/memberNames/refreshToken"}}),
            "its `memberNames` points `refreshToken` into itself",
        ),
        (
            json!({"refreshToken": "a refresh token", "memberNames": {"accessToken": "/refreshToken"}}),
            "its `memberNames` points `accessToken` to the member `refreshToken`",
        ),
        (
            json!({"refreshToken": "a refresh token", "memberNames": {"accessToken": "/a/b"}}),
            "its `memberNames` points `accessToken` into `a`, which is missing or not an object",
        ),
        (
            json!({"refreshToken": "a refresh token", "memberNames": {"refresh": "/a"}}),
            "its `memberNames` contains `refresh`, which is not a member of a token secret",
        ),
    ] {
        let bench = Bench::new().await;
        bench.secret(SECRET, &document);
        let process = bench.process().await;
        let (error_type, message) = process.error("{}").await;
        assert_eq!(error_type, "InvalidSecret");
        assert!(message.starts_with(&format!("secret `{SECRET}` cannot be used: {problem}")), "{message}");
        assert_eq!((bench.sm.version_count(SECRET), bench.provider.exchanges()), (1, 0));
    }
}

#[tokio::test]
async fn a_misspelt_member_is_named_in_the_report_and_in_the_log_however_the_run_ends() {
    let warning = |found: &str, meant: &str| {
        format!("the member `{found}` of the token secret has no effect; `{meant}` is probably meant")
    };
    for format in ["Text", "JSON"] {
        let bench = Bench::new().await;
        bench.secret(
            SECRET,
            bench.due_token_but(
                &json!({"refreshMarginSecond": 60, "publishto": "x", "scopes": ["s"], "token_uri": "x"}),
            ),
        );
        let no_endpoint = json!({"tokenEndpoint": null, "tokenEndpiont": bench.provider.url()});
        bench.secret("crm/no-endpoint", bench.due_token_but(&no_endpoint));
        let process = bench.process_with(&[("AWS_LAMBDA_LOG_FORMAT", format)]).await;
        // In the order of the document, which `json!` sorts.
        let both = [warning("publishto", "publishTo"), warning("refreshMarginSecond", "refreshMarginSeconds")];
        for (event, outcome) in [(r#"{"dryRun":true}"#, "would_refresh"), ("{}", "refreshed"), ("{}", "skipped")] {
            let report = process.report(event).await;
            assert_eq!((report["outcome"].as_str(), &report["warnings"]), (Some(outcome), &json!(both)), "{report}");
        }
        process.error(r#"{"secretId":"crm/no-endpoint"}"#).await;
        let output = process.function.output();
        for (warning, count) in [(&both[0], 3), (&both[1], 3), (&warning("tokenEndpiont", "tokenEndpoint"), 1)] {
            assert_eq!(output.matches(warning.as_str()).count(), count, "{format}: {warning}: {output}");
        }
    }
}
