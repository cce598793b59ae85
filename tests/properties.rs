//! Rules that hold for every value: time forms, the margin, merging, version ids, and the decisions about room and claims. The
//! random values are the same in every run.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use proptest::{prelude::*, test_runner::RngSeed};
use token_refresher::{
    oauth::{client::Client, grant::Grant},
    protocol::{
        Mode,
        decision::{self, ClaimState, Decision, claim_state},
        ids::{ClientDigest, TokenKey, merged},
        record::{Claim, ClaimEnd},
    },
    store::{Label, Labels, Limits, Listed, VersionId},
    token_secret::{
        TokenSecret, Tokens,
        client_settings::ClientSettings,
        document::Document,
        member::{Member, Style},
        time_form::{TimeForm, Unit, Zone},
    },
};

/// Numbers from here on are milliseconds, smaller ones are seconds.
const FIRST_MILLISECONDS: i64 = 100_000_000_000;

/// The key of tokens that are exchanged by their refresh token.
fn key_of(arn: &str, tokens: &Tokens) -> TokenKey {
    TokenKey::of(arn, tokens, &ClientSettings::default())
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() }
}

/// The times that every form can write: from March 1973 to the year 5138, in nanoseconds.
fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    let seconds = FIRST_MILLISECONDS / 1000..99_972_403_200;
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).unwrap())
}

fn any_form() -> impl Strategy<Value = TimeForm> {
    let unit = || prop_oneof![Just(Unit::Milliseconds), Just(Unit::Seconds)];
    let offset = (-1439..=1439_i32).prop_map(|minutes| FixedOffset::east_opt(minutes * 60).unwrap());
    let zone = prop_oneof![Just(Zone::Utc), Just(Zone::Unnamed), offset.prop_map(Zone::Offset)];
    prop_oneof![
        unit().prop_map(|unit| TimeForm::Number(unit, 0)),
        (1..=6_u8).prop_map(|decimals| TimeForm::Number(Unit::Seconds, decimals)),
        unit().prop_map(TimeForm::Digits),
        (zone, any::<bool>(), 0..=9_u8).prop_map(|(zone, is_blank_separated, decimals)| TimeForm::Text {
            zone,
            is_blank_separated,
            decimals
        }),
    ]
}

/// A JSON value whose text changes if it is parsed and written again.
fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("12345678901234567890.10".to_owned()),
        Just("1.50e+3".to_owned()),
        Just(r#"{"b" : 1, "a" : [ ] }"#.to_owned()),
        Just(r#""\u00e9\/""#.to_owned()),
        "[a-z]{0,8}".prop_map(|text| format!("\"{text}\"")),
    ]
}

/// A token secret in one of the styles: tokens, an expiry, and unknown members, in any order.
fn any_secret() -> impl Strategy<Value = TokenSecret> {
    let style = prop_oneof![Just(Style::CamelCase), Just(Style::SnakeCase)];
    let others = proptest::collection::btree_map("x-[a-c]{1,2}", any_value(), 0..4);
    let tokens = ("[rs]{1,3}", proptest::option::of("[at]{1,3}"), any_time(), any_form(), any_form());
    (style, others, tokens).prop_flat_map(|(style, others, (refresh_token, access_token, time, expiry_form, form))| {
        let name = |member: Member| member.name(style).to_owned();
        let mut members: Vec<(String, String)> = others.into_iter().collect();
        members.push((name(Member::RefreshToken), format!("\"{refresh_token}\"")));
        members.extend(access_token.map(|token| (name(Member::AccessToken), format!("\"{token}\""))));
        members.push((name(Member::ExpiresAt), expiry_form.write(time + TimeDelta::hours(1))));
        members.push((name(Member::RefreshedAt), form.write(time)));
        Just(members).prop_shuffle().prop_map(|members| {
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            TokenSecret::parse(&format!("{{{}}}", members.join(", "))).unwrap()
        })
    })
}

/// The members that a refresh does not write, in order.
fn others(text: &str) -> Vec<(String, String)> {
    let written = |name: &str| {
        Member::WRITTEN
            .iter()
            .any(|member| [Style::CamelCase, Style::SnakeCase].map(|s| member.name(s)).contains(&name))
    };
    let document = Document::parse(text).unwrap();
    let others = document.members().filter(|(name, _)| !written(name));
    others.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn token(expires_at: i64, refreshed_at: Option<i64>, margin: Option<i64>) -> TokenSecret {
    let refreshed_at = refreshed_at.map_or(String::new(), |time| format!(r#","refreshedAt":{time}"#));
    let margin = margin.map_or(String::new(), |seconds| format!(r#","refreshMarginSeconds":{seconds}"#));
    TokenSecret::parse(&format!(r#"{{"refreshToken":"r","expiresAt":{expires_at}{refreshed_at}{margin}}}"#)).unwrap()
}

fn is_due(token: &TokenSecret, default_margin_seconds: u64, now: DateTime<Utc>) -> bool {
    let margin = Duration::from_secs(default_margin_seconds);
    matches!(decision::decide(token, |_| true, &Mode::Scheduled, margin, now), Decision::Refresh(_))
}

fn client() -> ClientDigest {
    let settings = ClientSettings {
        token_endpoint: Some("https://id.example/token".into()),
        client_id: Some("id".into()),
        client_secret: Some("secret".into()),
        ..ClientSettings::default()
    };
    ClientDigest::of(&Client::new(settings, &Grant::RefreshToken("r".into())).unwrap())
}

/// The parts of a token key, made of few letters, so that two of them are often similar.
fn any_tokens() -> impl Strategy<Value = (String, Tokens)> {
    let text = || "[ab]{0,2}";
    let refreshed_at = proptest::option::of((0..3_i64).prop_map(|ms| DateTime::from_timestamp_millis(ms).unwrap()));
    (text(), text(), proptest::option::of(text()), refreshed_at).prop_map(|(arn, refresh, access, refreshed_at)| {
        let access_token = access.map(Into::into);
        (arn, Tokens { grant: Grant::RefreshToken(refresh.as_str().into()), access_token, refreshed_at })
    })
}

fn all_ids(key: &TokenKey) -> Vec<VersionId> {
    let now = DateTime::UNIX_EPOCH;
    let mut ids = vec![key.staged(), key.refusal(client(), now), key.staged_second(&"body".into())];
    ids.extend((0..4).map(|attempt| key.claim(attempt)));
    ids.push(merged(&ids[0], &ids[1]));
    ids.push(merged(&ids[1], &ids[0]));
    ids
}

fn rank(state: ClaimState) -> u8 {
    match state {
        ClaimState::Leased { .. } => 0,
        ClaimState::BackingOff { .. } => 1,
        ClaimState::Free => 2,
    }
}

fn any_claim() -> impl Strategy<Value = (Claim, DateTime<Utc>)> {
    (0..40_u32, -2000..2000_i64, any_time()).prop_map(|(attempt, lease, created)| {
        let lease_ends_at = created + TimeDelta::seconds(lease);
        (Claim { attempt, lease_ends_at, client_settings: None }, created)
    })
}

fn any_claim_end() -> impl Strategy<Value = ClaimEnd> {
    prop_oneof![Just(ClaimEnd::Unknown), Just(ClaimEnd::WithoutTokens), Just(ClaimEnd::Refused)]
}

fn any_versions() -> impl Strategy<Value = Vec<(bool, i64)>> {
    proptest::collection::vec((any::<bool>(), -86_400..200_000_i64), 0..150)
}

fn listed(versions: &[(bool, i64)], now: DateTime<Utc>) -> Vec<Listed> {
    let listed = |&(labelled, age)| Listed {
        id: "v".into(),
        created: now - TimeDelta::seconds(age),
        labels: if labelled { Labels::from([Label::Claim]) } else { Labels::default() },
    };
    versions.iter().map(listed).collect()
}

#[test]
fn keys_differ_if_the_same_bytes_are_split_differently() {
    // The bytes that separate the parts.
    let texts = ["", "\u{0}", "\u{1}", "\u{0}\u{0}", "\u{0}\u{1}", "\u{1}\u{0}", "\u{1}\u{1}"];
    let mut keys = HashSet::new();
    for arn in texts {
        for refresh_token in texts {
            for access_token in texts.into_iter().map(|text| Some(text.into())).chain([None]) {
                let tokens =
                    Tokens { grant: Grant::RefreshToken(refresh_token.into()), access_token, refreshed_at: None };
                keys.insert(key_of(arn, &tokens).to_string());
            }
        }
    }
    assert_eq!(keys.len(), texts.len() * texts.len() * (texts.len() + 1));
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_time_is_read_back_in_the_form_it_was_written_in(time in any_time(), form in any_form()) {
        let text = form.write(time);
        let (read, read_form) = TimeForm::read(&text).unwrap();
        prop_assert_eq!(read_form, form, "{}", text);
        // Only the digits that the form cannot hold are dropped.
        let step = match form {
            TimeForm::Number(Unit::Seconds, 0)
            | TimeForm::Digits(Unit::Seconds)
            => TimeDelta::seconds(1),
            TimeForm::Number(Unit::Seconds, 1) => TimeDelta::milliseconds(100),
            TimeForm::Number(Unit::Seconds, 2) => TimeDelta::milliseconds(10),
            TimeForm::Text { decimals, .. } => TimeDelta::nanoseconds(10_i64.pow(9 - u32::from(decimals))),
            _ => TimeDelta::milliseconds(1),
        };
        // Numbers are read to the nearest millisecond.
        let is_rounded = matches!(form, TimeForm::Number(Unit::Seconds, 4..));
        if is_rounded {
            prop_assert!((time - read).abs() < step, "{}", text);
        } else {
            prop_assert!(read <= time && time - read < step, "{}", text);
            prop_assert_eq!(form.write(read), text);
        }
    }

    #[test]
    fn a_number_is_seconds_below_ten_to_the_eleventh_and_milliseconds_from_there_on(
        number in prop_oneof![FIRST_MILLISECONDS - 2..FIRST_MILLISECONDS + 2, -62_000_000_000..253_402_300_800_000_i64],
    ) {
        let unit = if number < FIRST_MILLISECONDS { Unit::Seconds } else { Unit::Milliseconds };
        let milliseconds = if unit == Unit::Seconds { number * 1000 } else { number };
        let time = DateTime::from_timestamp_millis(milliseconds).unwrap();
        prop_assert_eq!(TimeForm::read(&number.to_string()), Some((time, TimeForm::Number(unit, 0))));
        let digits = (number >= 0).then_some((time, TimeForm::Digits(unit)));
        prop_assert_eq!(TimeForm::read(&format!("\"{number}\"")), digits);
    }

    #[test]
    fn a_time_written_later_is_later_in_every_form(time in any_time(), previous in any_time(), form in any_form()) {
        let text = form.write_later(time, Some(previous));
        let (read, _) = TimeForm::read(&text).unwrap();
        prop_assert!(read > previous, "{} after {}", text, previous);
        if time - previous >= TimeDelta::seconds(1) {
            prop_assert_eq!(text, form.write(time));
        }
    }

    #[test]
    fn a_token_is_due_at_its_margin_and_at_most_a_third_of_its_lifetime_before_its_expiry(
        third in prop_oneof![1..2_000_000_i64, -1000..1000_i64],
        margin in 0..5000_i64,
        own in any::<bool>(),
        known in any::<bool>(),
        // Thirds are rounded by a nanosecond or two, so the boundary itself is not tested.
        microseconds in prop_oneof![Just(-1), Just(1), -1_000_000..-1_i64, 1..1_000_000_i64],
    ) {
        let expires_at = 1_767_225_600_000;
        let token = token(expires_at, known.then_some(expires_at - 3 * third), own.then_some(margin));
        let default_margin = if own { 900 } else { margin.unsigned_abs() };
        let longest_margin = if known && third > 0 { third } else { i64::MAX };
        let at = |ms| DateTime::from_timestamp_millis(ms).unwrap();
        let due_at = at(expires_at - longest_margin.min(margin * 1000));
        prop_assert_eq!(is_due(&token, default_margin, due_at + TimeDelta::microseconds(microseconds)), microseconds > 0);
        prop_assert!(is_due(&token, default_margin, at(expires_at)), "no margin is negative");
    }

    #[test]
    fn a_due_token_stays_due(token in any_secret(), margin in 60..=86_400_u64, now in any_time(), later in 0..100_000_000_i64) {
        if is_due(&token, margin, now) {
            prop_assert!(is_due(&token, margin, now + TimeDelta::seconds(later)));
        }
    }

    #[test]
    fn a_merge_takes_the_tokens_of_one_secret_and_all_other_members_of_the_other(ours in any_secret(), theirs in any_secret()) {
        let text = |secret: &TokenSecret| {
            // The secret with the tokens of another one. Its other members are its own.
            let probe = TokenSecret::parse(r#"{"refreshToken":"probe","probe":1}"#).unwrap();
            secret.with_tokens_of(&probe).unwrap().expose().to_owned()
        };
        match ours.with_tokens_of(&theirs) {
            None => prop_assert_eq!(others(&text(&ours)), others(&text(&theirs))),
            Some(merged) => {
                let read = TokenSecret::parse(merged.expose()).unwrap();
                prop_assert_eq!(&read.tokens, &theirs.tokens);
                prop_assert_eq!(read.expires_at, theirs.expires_at);
                prop_assert_eq!(others(merged.expose()), others(&text(&ours)));
                let twice = read.with_tokens_of(&theirs);
                prop_assert_eq!(twice, Some(merged), "a second merge changes nothing");
            }
        }
    }

    #[test]
    fn ids_are_the_same_only_for_the_same_tokens((arn, tokens) in any_tokens(), (other_arn, other) in any_tokens()) {
        let same = arn == other_arn && tokens == other;
        let (ids, other_ids) = (all_ids(&key_of(&arn, &tokens)), all_ids(&key_of(&other_arn, &other)));
        prop_assert_eq!(ids == other_ids, same);
        let distinct: HashSet<_> = ids.iter().chain(&other_ids).collect();
        prop_assert_eq!(distinct.len(), if same { ids.len() } else { 2 * ids.len() });
        for id in distinct {
            let parsed = uuid::Uuid::parse_str(id.as_str()).unwrap();
            prop_assert_eq!(id.as_str().len(), 36);
            prop_assert_eq!(parsed.to_string(), id.as_str());
        }
    }

    #[test]
    fn ids_do_not_depend_on_the_expiry_or_on_other_members(
        refreshed_at in any_time(), form in any_form(), expiry in any_time(), value in any_value(),
    ) {
        let key = |members: String| {
            let refreshed_at = form.write(refreshed_at);
            let text = format!(r#"{{"refreshToken":"r","accessToken":"a","refreshedAt":{refreshed_at}{members}}}"#);
            key_of("arn", &TokenSecret::parse(&text).unwrap().tokens)
        };
        let plain = key(String::new());
        prop_assert_eq!(key(format!(r#","expiresAt":{}"#, form.write(expiry))), plain);
        prop_assert_eq!(key(format!(r#","expiresAt":0,"note":{value},"scope":"s","tokenResponse":{{"n":{value}}}"#)), plain);
    }

    #[test]
    fn a_refusal_has_the_same_id_only_in_the_same_six_hours(
        seconds in -1_000_000_000..10_000_000_000_i64,
        apart in prop_oneof![-50_000..50_000_i64, Just(21_599), Just(21_600), Just(-1)],
    ) {
        let key = key_of("arn", &TokenSecret::parse(r#"{"refreshToken":"r"}"#).unwrap().tokens);
        let id = |seconds| key.refusal(client(), DateTime::from_timestamp(seconds, 0).unwrap());
        let window = |seconds: i64| seconds.div_euclid(21_600);
        prop_assert_eq!(id(seconds) == id(seconds + apart), window(seconds) == window(seconds + apart));
        let begin = window(seconds) * 21_600;
        prop_assert!(id(begin) == id(begin + 21_599) && id(begin) != id(begin - 1) && id(begin) != id(begin + 21_600));
    }

    #[test]
    fn a_claim_never_becomes_less_free_and_is_free_after_45_minutes(
        (claim, created) in any_claim(), end in any_claim_end(), overrides in any::<bool>(), after in 0..4000_i64,
        later in 0..4000_i64,
    ) {
        let now = created + TimeDelta::seconds(after);
        let found = claim_state(&claim, created, end, overrides, now);
        let one_later = Claim { attempt: claim.attempt + 1, ..claim.clone() };
        prop_assert!(rank(found) <= rank(claim_state(&claim, created, end, overrides, now + TimeDelta::seconds(later))));
        prop_assert!(rank(found) <= rank(claim_state(&claim, created, end, true, now)), "a run that overrides the back-off does not wait longer");
        let ended = claim_state(&claim, created, ClaimEnd::WithoutTokens, overrides, now);
        prop_assert!(rank(found) <= rank(ended), "a claim that ended does not make a run wait longer");
        prop_assert!(rank(found) >= rank(claim_state(&one_later, created, end, overrides, now)), "a later attempt does not wait less");
        match found {
            ClaimState::Leased { until } => prop_assert!(now < until && until <= created + TimeDelta::minutes(15)),
            ClaimState::BackingOff { retry_at } => prop_assert!(!overrides && now < retry_at && retry_at <= created + TimeDelta::minutes(45)),
            ClaimState::Free => {}
        }
        prop_assert_eq!(claim_state(&claim, created, end, overrides, created + TimeDelta::minutes(45)), ClaimState::Free);
    }

    #[test]
    fn room_grows_with_time_and_shrinks_with_versions(
        versions in any_versions(), more in any_versions(), now in any_time(), later in 0..200_000_i64,
    ) {
        let before = listed(&versions, now);
        let room = decision::room(&before, Limits::SECRETS_MANAGER, now);
        prop_assert!(room <= Limits::SECRETS_MANAGER.versions && room + before.len() >= Limits::SECRETS_MANAGER.versions);
        prop_assert!(decision::room(&before, Limits::SECRETS_MANAGER, now + TimeDelta::seconds(later)) >= room);
        let all = [before, listed(&more, now)].concat();
        prop_assert!(decision::room(&all, Limits::SECRETS_MANAGER, now) <= room);
        let labelled = all.iter().filter(|version| version.labels.any()).count();
        let in_two_weeks = now + TimeDelta::days(14);
        prop_assert_eq!(decision::room(&all, Limits::SECRETS_MANAGER, in_two_weeks), Limits::SECRETS_MANAGER.versions.saturating_sub(labelled));
    }

    #[test]
    fn the_deadline_in_use_is_never_past_and_at_most_15_minutes_ahead(now in any_time(), given in any_time(), off in -10..1000_i64) {
        for given in [given, now + TimeDelta::seconds(off)] {
            let deadline = decision::deadline(given, now);
            prop_assert!(deadline >= now && deadline - now <= TimeDelta::minutes(15));
            prop_assert!(deadline == given || deadline == now + TimeDelta::seconds(60));
        }
    }
}
