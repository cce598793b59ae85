//! Documents as other programs write them, generated: after a refresh, each reader's rule gives the new access token and its true end,
//! and the text of every other member is as it was.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use proptest::{prelude::*, sample::subsequence, test_runner::RngSeed};
use serde_json::{json, value::RawValue};
use token_refresher::token_secret::{
    NewTokens, RefreshTokenExpiry, TokenSecret, document::Document, member_names::MemberNames, readable::ReadableToken,
};

fn config() -> ProptestConfig {
    ProptestConfig { cases: 3000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

/// Other names of the end of the access token, in both styles.
const EXPIRIES: [&str; 17] = [
    "expiry",
    "expiryDate",
    "expiry_date",
    "tokenExpiry",
    "token_expiry",
    "tokenExpiryDate",
    "token_expiry_date",
    "expiresOn",
    "expires_on",
    "accessTokenExpiresAt",
    "access_token_expires_at",
    "tokenExpiresAt",
    "token_expires_at",
    "expiryTime",
    "expiry_time",
    "accessExpiry",
    "expires",
];

/// How programs write a time.
#[derive(Clone, Copy, Debug)]
enum Form {
    Milliseconds,
    Seconds,
    Float,
    Digits,
    Iso,
    Offset,
    Naive,
}

const FORMS: [Form; 7] =
    [Form::Milliseconds, Form::Seconds, Form::Float, Form::Digits, Form::Iso, Form::Offset, Form::Naive];

impl Form {
    fn write(self, time: DateTime<Utc>) -> String {
        match self {
            Self::Milliseconds => time.timestamp_millis().to_string(),
            Self::Seconds => time.timestamp().to_string(),
            Self::Float => format!("{}.123456", time.timestamp()),
            Self::Digits => format!("\"{}\"", time.timestamp()),
            Self::Iso => format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.3fZ")),
            Self::Offset => format!("\"{}+07:00\"", (time + TimeDelta::hours(7)).format("%Y-%m-%dT%H:%M:%S%.9f")),
            Self::Naive => format!("\"{}\"", time.format("%Y-%m-%dT%H:%M:%S%.6f")),
        }
    }

    /// The time, as a program that expects this form reads it. It fails on any other form.
    fn read(self, json: &str) -> DateTime<Utc> {
        let number = |text: &str| text.parse::<i64>().unwrap_or_else(|_| panic!("{self:?} is wanted: {json}"));
        let text = || json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).expect("a text");
        match self {
            Self::Milliseconds => {
                assert!(number(json) > 100_000_000_000, "{json} is read as milliseconds");
                DateTime::from_timestamp_millis(number(json)).unwrap()
            }
            Self::Seconds | Self::Digits => {
                let seconds = if matches!(self, Self::Seconds) { number(json) } else { number(text()) };
                assert!(seconds < 100_000_000_000, "{json} is read as seconds");
                DateTime::from_timestamp(seconds, 0).unwrap()
            }
            Self::Float => {
                let (seconds, fraction) = json.split_once('.').expect("a fraction");
                assert!(fraction.parse::<u32>().is_ok(), "{json}");
                DateTime::from_timestamp(number(seconds), 0).unwrap()
            }
            Self::Iso => {
                assert!(text().ends_with('Z'), "{json}");
                DateTime::parse_from_rfc3339(text()).unwrap().to_utc()
            }
            Self::Offset => {
                assert!(text().ends_with("+07:00"), "{json}");
                DateTime::parse_from_rfc3339(text()).unwrap().to_utc()
            }
            Self::Naive => NaiveDateTime::parse_from_str(text(), "%Y-%m-%dT%H:%M:%S%.f").unwrap().and_utc(),
        }
    }
}

/// A document, and what its readers expect.
#[derive(Clone, Debug)]
struct Case {
    document: String,
    /// The member with the tokens in it, if they are in one.
    holder: Option<&'static str>,
    /// For the members that the document itself does not name.
    member_names: String,
    access_token: &'static str,
    refresh_token: &'static str,
    expiries: Vec<(&'static str, Form)>,
    /// The start and the lifetime.
    sum: Option<((&'static str, Form), &'static str)>,
    others: Vec<(String, String)>,
}

fn issued() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_222_000, 0).unwrap()
}

fn any_form() -> impl Strategy<Value = Form> {
    (0..FORMS.len()).prop_map(|index| FORMS[index])
}

/// A value of somebody else's member: its text changes if it is parsed and written again.
fn any_other_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("12345678901234567890.10".to_owned()),
        Just("1.50e+3".to_owned()),
        Just(r#"{"b" : 1, "a" : [ ] }"#.to_owned()),
        Just(r#""\u00e9\/""#.to_owned()),
        Just(r#"["s",  "t"]"#.to_owned()),
        Just("null".to_owned()),
        "[a-z]{0,8}".prop_map(|text| format!("\"{text}\"")),
    ]
}

fn any_case() -> impl Strategy<Value = Case> {
    let holder = prop_oneof![
        3 => Just(None),
        1 => (0..3_usize).prop_map(|index| Some(["token", "credentials", "tokens"][index])),
    ];
    let names = (0..4_usize).prop_map(|index| {
        [
            ("accessToken", "refreshToken"),
            ("access_token", "refresh_token"),
            ("token", "refresh_token"),
            ("confluenceAccessToken", "confluenceRefreshToken"),
        ][index]
    });
    let expiries = (subsequence(EXPIRIES.to_vec(), 0..3), proptest::collection::vec(any_form(), 3));
    let starts = ["created", "createdAt", "created_at", "IssuedUtc", "auth_time"];
    let sum =
        proptest::option::of((0..starts.len(), any_form(), any::<bool>()).prop_map(move |(index, form, snake)| {
            ((starts[index], form), if snake { "expires_in" } else { "expiresIn" })
        }));
    let others = proptest::collection::btree_map("x[a-c]{1,2}", any_other_value(), 0..4);
    (holder, names, expiries, sum, others).prop_flat_map(|(holder, (access, refresh), (names, forms), sum, others)| {
        let expiries: Vec<_> = names.into_iter().zip(forms).collect();
        let text = |text: &str| json!(text).to_string();
        let mut members = vec![(access.to_owned(), text("a1")), (refresh.to_owned(), text("r1"))];
        let end = issued() + TimeDelta::hours(1);
        members.extend(expiries.iter().map(|(name, form)| ((*name).to_owned(), form.write(end))));
        if let Some(((start, form), lifetime)) = sum {
            members.push((start.to_owned(), form.write(issued())));
            members.push((lifetime.to_owned(), "3600".to_owned()));
        }
        let others: Vec<_> = others.into_iter().collect();
        members.extend(others.iter().cloned());
        Just(members).prop_shuffle().prop_map(move |members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            let object = format!("{{{}}}", members.join(", "));
            let (is_named, outer) =
                (access.starts_with("confluence"), holder.map_or(String::new(), |it| format!("/{it}")));
            Case {
                document: holder
                    .map_or(object.clone(), |holder| format!(r#"{{"a":1.50,"{holder}":{object},"z":[ ]}}"#)),
                holder,
                member_names: if is_named {
                    json!({"accessToken": format!("{outer}/{access}"), "refreshToken": format!("{outer}/{refresh}")})
                        .to_string()
                } else {
                    "{}".to_owned()
                },
                access_token: access,
                refresh_token: refresh,
                expiries: expiries.clone(),
                sum,
                others: others.clone(),
            }
        })
    })
}

/// Names and JSON texts, in order.
fn members(json: &str) -> Vec<(String, String)> {
    let document = Document::parse(json).unwrap();
    document.members().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn new_tokens() -> NewTokens {
    let refreshed_at = DateTime::from_timestamp(1_767_300_000, 0).unwrap();
    NewTokens {
        access_token: "a2".into(),
        refresh_token: Some("r2".into()),
        token_type: Some("Bearer".to_owned()),
        scope: None,
        refreshed_at,
        expires_at: refreshed_at + TimeDelta::seconds(1800),
        refresh_token_expires_at: RefreshTokenExpiry::Unspecified,
        rest: Document::parse(r#"{"more":1.50}"#).unwrap(),
    }
}

impl Case {
    /// Fails unless each reader finds the new tokens by its own rule in the written text.
    fn assert_read(&self, text: &str, new: &NewTokens) {
        let outer: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).unwrap();
        let inner = self.holder.map_or(text, |holder| outer[holder].get());
        let found: BTreeMap<String, Box<RawValue>> = serde_json::from_str(inner).unwrap();
        let value = |name: &str| found[name].get();
        assert_eq!((value(self.access_token), value(self.refresh_token)), ("\"a2\"", "\"r2\""));
        let is_close = |time: DateTime<Utc>, to: DateTime<Utc>| (time - to).abs() < TimeDelta::seconds(1);
        for (name, form) in &self.expiries {
            assert!(is_close(form.read(value(name)), new.expires_at), "{name}: {}", value(name));
        }
        if let Some(((start, form), lifetime)) = &self.sum {
            assert!(is_close(form.read(value(start)), new.refreshed_at), "{start}: {}", value(start));
            assert_eq!(value(lifetime), "1800");
        }
        for (name, other) in &self.others {
            assert_eq!(value(name), other, "{name}");
        }
        if self.holder.is_some() {
            assert_eq!((outer["a"].get(), outer["z"].get()), ("1.50", "[ ]"));
        }
    }

    /// Fails unless the old names are there in their old order, and new ones, which are all ours, at the end.
    fn assert_order(&self, text: &str) {
        let names = |json: &str| members(json).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let inner = |json: &str| match self.holder {
            None => names(json),
            Some(holder) => names(&members(json).into_iter().find(|(name, _)| name == holder).unwrap().1),
        };
        let (before, after) = (inner(&self.document), inner(text));
        assert_eq!(after[..before.len()], before[..]);
        let (before, after) = (names(&self.document), names(text));
        assert_eq!(after[..before.len()], before[..]);
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn after_a_refresh_each_reader_finds_the_new_token_and_its_end_and_nothing_else_is_changed(case in any_case()) {
        let names = MemberNames::parse(&case.member_names).unwrap();
        let secret = TokenSecret::parse_with(&case.document, &names).unwrap();
        let knows_end = !case.expiries.is_empty() || case.sum.is_some();
        prop_assert_eq!(secret.expires_at.is_some(), knows_end);
        if let Some(expires_at) = secret.expires_at {
            prop_assert!((expires_at - issued() - TimeDelta::hours(1)).abs() < TimeDelta::seconds(1), "{}", expires_at);
        }

        let new = new_tokens();
        let text = secret.with_new_tokens(&new, usize::MAX);
        case.assert_read(text.expose(), &new);
        case.assert_order(text.expose());

        let read = ReadableToken::parse_with(text.expose(), &names).unwrap();
        prop_assert!(read.access_token.as_ref().is_some_and(|token| token.expose() == "a2"));
        prop_assert!((read.expires_at.unwrap() - new.expires_at).abs() < TimeDelta::seconds(1));
    }

    #[test]
    fn tokens_that_are_merged_into_an_edited_document_are_found_by_each_reader(case in any_case()) {
        let names = MemberNames::parse(&case.member_names).unwrap();
        let parse = |text: &str| TokenSecret::parse_with(text, &names).unwrap();
        let new = new_tokens();
        let refreshed = parse(parse(&case.document).with_new_tokens(&new, usize::MAX).expose());
        let edited = case.document.replacen('{', r#"{"edited": [ true ], "#, 1);
        let merged = parse(&edited).with_tokens_of(&refreshed).expect("the edit is noticed");
        case.assert_read(merged.expose(), &new);
        prop_assert_eq!(&members(merged.expose())[0], &("edited".to_owned(), "[ true ]".to_owned()));
        prop_assert!(parse(&case.document).with_tokens_of(&refreshed).is_none(), "a merge although only tokens differ");
    }
}

/// The text after a refresh whose response has these other members.
fn refreshed(document: &str, rest: &str) -> String {
    let secret = TokenSecret::parse(document).unwrap_or_else(|problem| panic!("{document}: {problem}"));
    let new = NewTokens { token_type: None, rest: Document::parse(rest).unwrap(), ..new_tokens() };
    let text = secret.with_new_tokens(&new, usize::MAX).expose().to_owned();
    let again = TokenSecret::parse(&text).unwrap_or_else(|problem| panic!("{text}: {problem}"));
    assert_eq!(again.tokens.refresh_token().unwrap().expose(), "r2", "{text}");
    assert!((again.expires_at.unwrap() - new.expires_at).abs() < TimeDelta::seconds(1), "{text}");
    text
}

#[test]
fn each_member_is_written_in_its_own_place_and_form_or_not_at_all() {
    for (document, rest, written) in [
        // What is outside of the object with the tokens belongs to others.
        (
            r#"{"expires_on":"2099-01-01T00:00:00Z","expires_at":5,"scope":["admin"],"accessToken":"x","c":{"access_token":"a1","refresh_token":"r1"}}"#,
            "{}",
            r#"{"expires_on":"2099-01-01T00:00:00Z","expires_at":5,"scope":["admin"],"accessToken":"x","c":{"access_token":"a2","refresh_token":"r2","expires_at":"1767301800","refreshed_at":"1767300000"}}"#,
        ),
        (
            r#"{"accessToken":null,"c":{"token":"a1","refresh_token":"r1","n":1}}"#,
            "{}",
            r#"{"accessToken":null,"c":{"token":"a2","refresh_token":"r2","n":1,"expires_at":1767301800,"refreshed_at":1767300000}}"#,
        ),
        // Of two members with one name, the last is read and written.
        (
            r#"{"refresh_token":"r1","access_token":"a1","expiry":"2020-01-01T00:00:00Z","expiry":"2026-01-01T00:00:00Z"}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","expiry":"2020-01-01T00:00:00Z","expiry":"2026-01-01T21:10:00Z","refreshed_at":"2026-01-01T20:40:00Z"}"#,
        ),
        // A zero has the form that the name says, or else that of `refreshedAt`.
        (
            r#"{"refresh_token":"r1","access_token":"a1","n":1,"expiry_date":0}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","n":1,"expiry_date":1767301800000,"refreshed_at":1767300000000}"#,
        ),
        (
            r#"{"refresh_token":"r1","access_token":"a1","expirationTimeMilliseconds":0}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","expirationTimeMilliseconds":1767301800000,"refreshed_at":1767300000000}"#,
        ),
        (
            r#"{"refresh_token":"r1","access_token":"a1","expires_at":0,"created_at":"2025-12-31T23:00:00","expires_in":3600,"refreshed_at":1767222000}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","expires_at":1767301800,"created_at":"2026-01-01T20:40:00","expires_in":1800,"refreshed_at":1767300000}"#,
        ),
        // Every lifetime, and the start that belongs to it.
        (
            r#"{"refresh_token":"r1","access_token":"a1","created":1500000000,"auth_time":1767222000,"expires":3600,"expires_in":3600,"expiresIn":"3600"}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","created":1500000000,"auth_time":1767300000,"expires":1800,"expires_in":1800,"expiresIn":"1800","refreshed_at":1767300000}"#,
        ),
        (
            r#"{"refresh_token":"r1","access_token":"a1","expires":60,"expires_in":60}"#,
            "{}",
            r#"{"refresh_token":"r2","access_token":"a2","expires":60,"expires_in":1800,"expires_at":1767301800,"refreshed_at":1767300000}"#,
        ),
        // A response's value in the type of the old one, and never text that is no JSON.
        (
            r#"{"refresh_token":"r1","access_token":"a1","issued_at":1,"ext_expires_in":5,"id_token":"i","instance_url":"u","api_domain":null}"#,
            r#"{"issued_at":"0176","ext_expires_in":"7","id_token":null,"instance_url":"","api_domain":"5"}"#,
            r#"{"refresh_token":"r2","access_token":"a2","issued_at":"0176","ext_expires_in":7,"id_token":"i","instance_url":"u","api_domain":"5","expires_at":1767301800,"refreshed_at":1767300000}"#,
        ),
        // Also in an object with a name of ours.
        (
            r#"{"memberNames":{"refreshToken":"/token_response/r"},"token_response":{"r":"r1","access_token":"a1","n":1}}"#,
            r#"{"id":1.50}"#,
            r#"{"memberNames":{"refreshToken":"/token_response/r"},"token_response":{"r":"r2","access_token":"a2","n":1,"expiresAt":1767301800000,"refreshedAt":1767300000000,"tokenResponse":{"id":1.50}}}"#,
        ),
        // Where a response's member is twice, both places get it.
        (
            r#"{"refresh_token":"r1","access_token":"a1","n":1,"instance_url":"u","token_response":{"instance_url":"u","id":1.50}}"#,
            r#"{"instance_url":"v","x":1}"#,
            r#"{"refresh_token":"r2","access_token":"a2","n":1,"instance_url":"v","token_response":{"instance_url":"v","id":1.50,"x":1},"expires_at":1767301800,"refreshed_at":1767300000}"#,
        ),
    ] {
        assert_eq!(refreshed(document, rest), written);
    }
}

#[test]
fn names_that_would_destroy_another_member_are_refused() {
    let deep = format!("/{}", ["a"; 9].join("/"));
    for (names, problem) in [
        (r#"{"tokenResponse":"/c"}"#, "points `tokenResponse` to the member `refreshToken`"),
        (
            r#"{"accessToken":"/c/refresh_token/x"}"#,
            "points `accessToken` into `c.refresh_token`, which is missing or not an object",
        ),
        (r#"{"accessToken":"/c/refresh_token"}"#, "points `accessToken` to the member `refreshToken`"),
        (r#"{"accessToken":"/clientId"}"#, "points `accessToken` to the member `clientId`"),
        (&format!(r#"{{"accessToken":"{deep}"}}"#), "has a pointer for `accessToken` with more than 8 names"),
    ] {
        let document = format!(
            r#"{{"memberNames":{names},"tokenResponse":{{"r":"r1"}},"c":{{"refresh_token":"r1","expiry":5}}}}"#
        );
        let found = TokenSecret::parse(&document).map_or_else(|problem| problem.to_string(), |_| "accepted".to_owned());
        assert_eq!(found, format!("its `memberNames` {problem}"), "{names}");
    }
}

#[test]
fn names_of_the_setting_do_not_hide_what_has_our_names() {
    let names = MemberNames::parse(r#"{"accessToken":"/x/a","refreshToken":"/x/r","expiresAt":"/x/e"}"#).unwrap();
    for (text, access_token) in [
        (r#"{"accessToken":"a","expiresAt":1767225600}"#, "a"),
        (r#"{"access_token":"a","refresh_token":"r"}"#, "a"),
        (r#"{"x":{"a":"b","r":"r","e":1767225600}}"#, "b"),
    ] {
        let token = ReadableToken::parse_with(text, &names).unwrap();
        assert!(token.access_token.as_ref().is_some_and(|token| token.expose() == access_token), "{text}");
    }
    let secret = TokenSecret::parse_with(r#"{"refreshToken":"r1","n":1}"#, &names).unwrap();
    let text = secret.with_new_tokens(&new_tokens(), usize::MAX);
    assert!(text.expose().starts_with(r#"{"refreshToken":"r2","n":1,"accessToken":"a2""#), "the plain names");
}

#[test]
fn a_publication_has_our_names_and_what_responses_renew() {
    let publication = |text: &str| TokenSecret::parse(text).unwrap().publication().unwrap().expose().to_owned();
    assert_eq!(
        publication(
            r#"{"token":"a","refresh_token":"r1-long","expiry":"2026-01-01T00:00:00Z","instance_url":"u","id_token":"r1-long"}"#
        ),
        r#"{"access_token":"a","token_response":"{\"instance_url\":\"u\"}","expires_at":"2026-01-01T00:00:00Z"}"#
    );
    assert_eq!(
        publication(
            r#"{"c":{"access_token":"a","refresh_token":"r","x":1},"memberNames":{"tokenType":"/t"},"t":"Bearer"}"#
        ),
        r#"{"access_token":"a","token_type":"Bearer"}"#
    );
}

#[test]
fn a_reader_gets_no_secret_and_no_panic_from_a_hostile_document() {
    let token = ReadableToken::parse(
        r#"{"clientSecret":"outer","memberNames":{"refreshToken":"/rt"},"rt":"r","refreshToken":"x","access_token":"a"}"#,
    )
    .unwrap();
    for name in ["clientSecret", "refreshToken", "rt"] {
        assert_eq!(token.member::<serde_json::Value>(name).unwrap(), None, "{name}");
    }
    for lifetime in ["-8334601228800", "8334601228800000", "1e300"] {
        let text = format!(r#"{{"access_token":"a","refresh_token":"r","created":0,"expires_in":{lifetime}}}"#);
        assert_eq!(ReadableToken::parse(&text).unwrap().expires_at, None, "{lifetime}");
    }
}

#[test]
fn messages_show_no_long_name_and_no_line_break_and_warnings_are_few() {
    let problem = |text: &str| TokenSecret::parse(text).map(|_| ()).unwrap_err().to_string();
    let long = "ya29-".repeat(12);
    let found = problem(&format!(r#"{{"{long}":{{"refresh_tok":"r-long"}}}}"#));
    assert_eq!(
        found,
        "its member `refreshToken` is missing or empty; without it, the secret needs a `grantType`, such as \"client_credentials\"; there is `….refresh_tok`: if that is it, rename it, or add `memberNames`"
    );
    let found = problem(r#"{"a\n[ERROR] b":{"refresh_token":"r"},"c":{"refresh_token":"r"}}"#);
    assert!(!found.contains('\n') && found.contains("`c.refresh_token`"), "{found}");
    let many = (0..1000).map(|n| format!(r#""clientI{}":0"#, "D".repeat(n % 2))).collect::<Vec<_>>().join(",");
    let warnings = TokenSecret::parse(&format!(r#"{{"refreshToken":"r",{many},"publishto":1,"acessToken":1,"clientSecrt":1,"tokenEndpiont":1,"extraHeader":1}}"#)).unwrap().warnings();
    assert_eq!(warnings.len(), 5, "{warnings:?}");
}
