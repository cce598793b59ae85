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

/// A member of somebody else's: its text changes if it is parsed and written again.
fn any_other() -> impl Strategy<Value = (String, String)> {
    let value = prop_oneof![
        Just("12345678901234567890.10".to_owned()),
        Just("1.50e+3".to_owned()),
        Just(r#"{"b" : 1, "a" : [ ] }"#.to_owned()),
        Just(r#""\u00e9\/""#.to_owned()),
        Just(r#"["s",  "t"]"#.to_owned()),
        Just("null".to_owned()),
        "[a-z]{0,8}".prop_map(|text| format!("\"{text}\"")),
    ];
    ("x[a-c]{1,2}", value)
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
    let others = proptest::collection::btree_map("x[a-c]{1,2}", any_other().prop_map(|(_, value)| value), 0..4);
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
                // Members around tokens that only `memberNames` finds are somebody else's.
                expiries: if is_named && holder.is_some() { Vec::new() } else { expiries.clone() },
                sum: sum.filter(|_| !(is_named && holder.is_some())),
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
