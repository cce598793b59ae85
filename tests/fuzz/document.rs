//! Any bytes as a token secret: read, or rejected without quoting a secret; written back with new tokens, and merged, with
//! everything else unchanged.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use token_refresher::token_secret::{
    NewTokens, RefreshTokenExpiry, TokenSecret, check_publication,
    document::Document,
    member::{Member, Style},
    time_form::TimeForm,
};

use crate::text::assert_one_printable_line;

/// The secret in the seeds: no message may show it.
const SECRET: &str = "s3cr3t-of-the-seeds";

pub fn target(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let document = match Document::parse(&text) {
        Ok(document) => document,
        Err(problem) => {
            assert!(
                serde_json::from_str::<serde_json::Map<_, _>>(&text).is_err(),
                "a JSON object was rejected: {problem:?}"
            );
            return;
        }
    };
    assert_keeps_text_and_order(&document, &text);
    match TokenSecret::parse(&text) {
        Ok(secret) => {
            assert_written_back(&document, &secret);
            assert_merged(&document, &secret);
            assert_published(&document, &secret);
        }
        Err(problem) => {
            let message = problem.to_string();
            // It may name three members that look like a refresh token, each with the objects around it, and suggest pointers to two.
            assert_one_printable_line(&message, 1500);
            let named = document.members().any(|(name, value)| name.contains(SECRET) || in_a_name(value));
            assert!(named || !message.contains(SECRET), "a message quotes a value");
        }
    }
}

/// Whether the value is an object with a member whose name contains the secret. Names may be shown.
fn in_a_name(value: &str) -> bool {
    Document::parse(value).is_ok_and(|document| document.members().any(|(name, _)| name.contains(SECRET)))
}

/// Names and values (JSON text), in order.
type Members<'a> = Vec<(&'a str, &'a str)>;

fn members(document: &Document) -> Members<'_> {
    document.members().collect()
}

fn assert_keeps_text_and_order(document: &Document, text: &str) {
    let mut rest = text;
    for (_, value) in document.members() {
        let at = rest.find(value).expect("a value that is unchanged in the text, after the one before");
        rest = &rest[at + value.len()..];
    }
    let again = Document::parse(document.to_text().expose()).expect("the written text is a document");
    assert_eq!(members(&again), members(document), "the written document differs from the read one");
}

fn assert_written_back(before: &Document, secret: &TokenSecret) {
    let sent_at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
    for new in [new_tokens(sent_at, true), new_tokens(sent_at, false)] {
        let text = secret.with_new_tokens(&new, usize::MAX);
        let after = Document::parse(text.expose()).expect("the written text is a document");
        let written = TokenSecret::parse(text.expose()).expect("the written text is a token secret");
        assert_is(&written, &new, secret);
        assert_others_untouched(before, &after);
        assert_form_kept(before, &after);
        assert_style_kept(before, &after);
        let again = written.with_new_tokens(&new, usize::MAX);
        let again = Document::parse(again.expose()).unwrap();
        assert_eq!(but_refreshed_at(&again), but_refreshed_at(&after), "the second text differs from the first one");
        let no_rest = secret.with_new_tokens(&new, 0);
        assert!(no_rest.expose().len() <= text.expose().len());
        assert_is(&TokenSecret::parse(no_rest.expose()).expect("a token secret without the rest"), &new, secret);
    }
}

/// The document without `refreshedAt`, also in the object with the tokens.
fn but_refreshed_at(document: &Document) -> Vec<(String, String)> {
    let (camel, snake) = names(Member::RefreshedAt);
    let others = members(document).into_iter().filter(|(name, _)| *name != camel && *name != snake);
    let of_value = |value: &str| match Document::parse(value) {
        Ok(inner) => members(&inner)
            .into_iter()
            .filter(|(name, _)| *name != camel && *name != snake)
            .fold(String::new(), |text, (name, value)| text + name + value),
        Err(_) => value.to_owned(),
    };
    others.map(|(name, value)| (name.to_owned(), of_value(value))).collect()
}

/// A publication is part of the document, unchanged. A token secret does not count as a publication.
fn assert_published(document: &Document, secret: &TokenSecret) {
    assert!(check_publication(secret.to_text().expose()).is_err(), "a token secret counts as a publication");
    let publication = secret.publication();
    assert_eq!(publication.is_some(), secret.tokens.access_token.is_some());
    let Some(publication) = publication else { return };
    assert_eq!(check_publication(publication.expose()), Ok(()));
    let publication = Document::parse(publication.expose()).expect("a publication is a document");
    let published: Vec<_> = Member::PUBLISHED.into_iter().map(names).collect();
    for (name, value) in publication.members() {
        assert!(published.iter().any(|(camel, snake)| name == *camel || name == *snake), "{name} is published");
        // The tokens may be in an object.
        let inner = members(document).into_iter().filter_map(|(_, value)| Document::parse(value).ok());
        let places: Vec<Document> = inner.chain([document.clone()]).collect();
        let found = |own: &str| own == value || ["null", "\"\""].contains(&own);
        let is_same = places.iter().any(|place| place.get(name).is_some_and(found))
            || places.iter().all(|place| place.get(name).is_none());
        // It may have another name in the secret.
        let text = serde_json::from_str::<String>(value).unwrap_or_default();
        let is_access_token = secret.tokens.access_token.as_ref().is_some_and(|token| token.expose() == text);
        let is_expiry = secret
            .expires_at
            .zip(TimeForm::read(value))
            .is_some_and(|(expiry, (time, _))| (expiry - time).abs() < TimeDelta::seconds(1));
        let is_response = names(Member::TokenResponse).0 == name || names(Member::TokenResponse).1 == name;
        assert!(
            is_same || is_access_token || is_expiry || is_response || has_member_names(document),
            "{name} has another value"
        );
    }
}

fn new_tokens(sent_at: DateTime<Utc>, all: bool) -> NewTokens {
    let rest = if all { r#"{"id":"\u00e9","n":1.50}"# } else { "{}" };
    NewTokens {
        access_token: "new \"access\" token".into(),
        refresh_token: all.then(|| "new refresh\\ token".into()),
        token_type: all.then(|| "Bearer".to_owned()),
        scope: all.then(|| "a b".to_owned()),
        refreshed_at: sent_at,
        expires_at: sent_at + TimeDelta::milliseconds(3_600_123),
        refresh_token_expires_at: if all {
            RefreshTokenExpiry::At(sent_at + TimeDelta::days(30))
        } else {
            RefreshTokenExpiry::Unspecified
        },
        rest: Document::parse(rest).unwrap(),
    }
}

/// Fails unless the written secret has the new values. Times are compared to the second, as in the coarsest form.
fn assert_is(written: &TokenSecret, new: &NewTokens, before: &TokenSecret) {
    assert_eq!(written.tokens.access_token.as_ref(), Some(&new.access_token));
    let refresh_token = before.tokens.refresh_token().map(|before| new.refresh_token.as_ref().unwrap_or(before));
    assert_eq!(written.tokens.refresh_token(), refresh_token);
    let expires_at = written.expires_at.expect("an expiry was written");
    assert!((new.expires_at - expires_at).abs() < TimeDelta::seconds(1), "{expires_at}");
    let refreshed_at = written.tokens.refreshed_at.expect("the time of the refresh was written");
    match before.tokens.refreshed_at {
        Some(previous) => assert!(refreshed_at > previous, "{refreshed_at} is not later than {previous}"),
        None => assert!((new.refreshed_at - refreshed_at).abs() < TimeDelta::seconds(1), "{refreshed_at}"),
    }
    assert_eq!(written.refresh_margin, before.refresh_margin);
    assert_eq!(written.client.client_id, before.client.client_id);
    assert_eq!(written.client.client_secret, before.client.client_secret);
    assert_eq!(written.client.extra_headers, before.client.extra_headers);
}

fn names(member: Member) -> (&'static str, &'static str) {
    (member.name(Style::CamelCase), member.name(Style::SnakeCase))
}

/// The names of the end of an access token beside our own, of what it is the sum of, and of what a response renews.
const FOLLOWING: [&str; 37] = [
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
    "access_expiry",
    "expirationTimeMilliseconds",
    "expiration_time_milliseconds",
    "expires",
    "expires_in",
    "expiresIn",
    "created",
    "createdAt",
    "created_at",
    "IssuedUtc",
    "auth_time",
    "id_token",
    "idToken",
    "instance_url",
    "instanceUrl",
    "api_domain",
    "apiDomain",
    "issued_at",
    "issuedAt",
    "ext_expires_in",
    "extExpiresIn",
];

fn is_own(name: &str) -> bool {
    Member::WRITTEN.into_iter().map(names).any(|(camel, snake)| name == camel || name == snake)
}

fn is_written(name: &str) -> bool {
    is_own(name) || name == "token" || FOLLOWING.contains(&name)
}

fn has_member_names(document: &Document) -> bool {
    document.get("memberNames").or(document.get("member_names")).is_some()
}

/// Fails unless the names are in their old order, with new ones at the end, and the members that a refresh does not write have
/// their old values. The same in the object with the tokens.
fn assert_others_untouched(before: &Document, after: &Document) {
    if has_member_names(before) {
        // Any member may be ours. The members' names and their order stay.
        let names = |document| members(document).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(names(after)[..names(before).len()], names(before)[..], "a member moved or is missing");
        return;
    }
    let has_own = ["refreshToken", "refresh_token"].iter().any(|name| before.get(name).is_some_and(|v| v.len() > 2));
    let others = |document| members(document).into_iter().filter(|(name, _)| !is_written(name)).collect::<Vec<_>>();
    let mut holders = 0;
    let (others_before, others_after) = (others(before), others(after));
    assert_eq!(others_before.len(), others_after.len(), "a member is new or missing");
    for ((name, old), (name_after, new)) in others_before.into_iter().zip(others_after) {
        assert_eq!(name, name_after, "a member moved");
        if old != new {
            holders += 1;
            assert!(!has_own && holders == 1, "another member changed: {name}");
            let (old, new) = (Document::parse(old).unwrap(), Document::parse(new).unwrap());
            assert_members_untouched(&old, &new);
        }
    }
    if has_own || before.get("token").is_none_or(|token| !token.starts_with('{')) {
        assert_members_untouched(before, after);
    } else if let (Ok(old), Ok(new)) = (object(before, "token"), object(after, "token")) {
        assert_members_untouched(&old, &new);
    }
}

fn object(document: &Document, name: &str) -> Result<Document, token_refresher::token_secret::document::NotADocument> {
    Document::parse(document.get(name).unwrap_or_default())
}

/// The same for one object, whose own objects are compared by the caller.
fn assert_members_untouched(before: &Document, after: &Document) {
    let names = |document| members(document).into_iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let (names_before, names_after) = (names(before), names(after));
    assert_eq!(names_after[..names_before.len()], names_before, "a member moved or is missing");
    assert!(names_after[names_before.len()..].iter().all(|name| is_own(name)), "{names_after:?}");
    let plain = |document| {
        let all = members(document).into_iter();
        all.filter(|(name, value)| !is_written(name) && !value.starts_with('{')).collect::<Members>()
    };
    assert_eq!(plain(after), plain(before), "another member changed");
}

/// Each member that showed the end of the access token shows the new one, in its old form.
fn assert_form_kept(before: &Document, after: &Document) {
    let own = |document: &Document| {
        let (camel, snake) = names(Member::ExpiresAt);
        TimeForm::read(document.get(camel).or(document.get(snake))?)
    };
    if let (Some((time, form)), Some((_, written))) = (own(before), own(after))
        && time != DateTime::UNIX_EPOCH
    {
        assert_eq!(written, form);
    }
}

/// New members have the style of the refresh token's name, and no member is there under both names.
fn assert_style_kept(before: &Document, after: &Document) {
    if has_member_names(before) || (before.get("refresh_token").is_none() && before.get("refreshToken").is_none()) {
        return;
    }
    let snake_case = before.get("refresh_token").is_some();
    let present: HashSet<&str> = members(before).into_iter().map(|(name, _)| name).collect();
    for (name, _) in members(after).into_iter().filter(|(name, _)| !present.contains(name)) {
        let (camel, snake) = Member::WRITTEN.into_iter().map(names).find(|(c, s)| name == *c || name == *s).unwrap();
        assert_eq!(name, if snake_case { snake } else { camel });
    }
}

/// A person edits another member during a refresh: the edit and the new tokens are kept.
fn assert_merged(before: &Document, secret: &TokenSecret) {
    let new = new_tokens(DateTime::from_timestamp(1_767_225_600, 0).unwrap(), true);
    let refreshed = TokenSecret::parse(secret.with_new_tokens(&new, usize::MAX).expose()).unwrap();
    assert!(secret.with_tokens_of(&refreshed).is_none(), "a merge although only tokens differ");
    if before.get("note of a person").is_some_and(|note| note.starts_with('{')) {
        // It may hold the tokens.
        return;
    }
    let mut edited = before.clone();
    edited.set("note of a person", "[1.50, {}]".to_owned());
    let edited_secret = TokenSecret::parse(edited.to_text().expose()).unwrap();
    let Some(merged) = edited_secret.with_tokens_of(&refreshed) else {
        assert_eq!(before.get("note of a person"), Some("[1.50, {}]"), "the edit was not noticed");
        return;
    };
    let merged_secret = TokenSecret::parse(merged.expose()).expect("the merged text is a token secret");
    assert_is(&merged_secret, &new, secret);
    assert_eq!(merged_secret.tokens, refreshed.tokens);
    assert_eq!(merged_secret.expires_at, refreshed.expires_at);
    let merged_document = Document::parse(merged.expose()).unwrap();
    assert_others_untouched(&edited, &merged_document);
    assert_eq!(merged_secret.with_tokens_of(&refreshed), Some(merged), "the second merge differs from the first one");
    assert!(merged_secret.refresh_margin.unwrap_or_default() < Duration::from_secs(315_576_001));
}
