//! Writes new tokens into a token secret, and merges them with what a person edited meanwhile. All other members are unchanged.

use chrono::{DateTime, Utc};

use super::{
    NewTokens, RefreshTokenExpiry, TokenSecret,
    document::{is_nothing, json_string, unquoted},
    found::FoundTime,
    member::Member,
    place::Place,
};
use crate::secret::Secret;

impl TokenSecret {
    /// The secret's text with new tokens, in its own naming style and time form. All other members are unchanged.
    ///
    /// - The new `refreshedAt` is always later than the previous one, even if the clock went back. So two states of a token always
    ///   differ.
    /// - If the other members of the provider's response would make the text longer than `max_bytes`, they are left out, and those of
    ///   earlier responses, too, if that is not enough: the tokens matter more.
    #[must_use]
    pub fn with_new_tokens(&self, new: &NewTokens, max_bytes: usize) -> Secret {
        let layout = &self.layout;
        let mut document = layout.document.clone();
        let mut set = |place: &Place, value: String| place.set(&mut document, layout.in_document_type(value));
        let place = |member: Member| layout.place_of(member);
        set(&place(Member::AccessToken), json_string(new.access_token.expose()));
        for (place, value) in self.expiries_at(new.refreshed_at, new.expires_at) {
            set(&place, value);
        }
        if let Some(token_type) = &new.token_type {
            set(&place(Member::TokenType), json_string(token_type));
        }
        if let Some(scope) = &new.scope {
            let is_list = layout.get(Member::Scope).is_some_and(|scope| scope.starts_with('['));
            set(&place(Member::Scope), if is_list { json_list(scope) } else { json_string(scope) });
        }
        let refreshed_at = self.time_form.write_later(new.refreshed_at, self.tokens.refreshed_at);
        set(&place(Member::RefreshedAt), refreshed_at);
        // A refresh token in the response to another grant is not stored (RFC 6749 section 4.4.3: there should be none).
        if let Some(old) = self.tokens.refresh_token() {
            let new_refresh_token = new.refresh_token.as_ref();
            if let Some(refresh_token) = new_refresh_token {
                set(&place(Member::RefreshToken), json_string(refresh_token.expose()));
            }
            match new.refresh_token_expires_at {
                RefreshTokenExpiry::At(time) => {
                    let form = self.refresh_token_expiry_form.unwrap_or(self.time_form);
                    set(&place(Member::RefreshTokenExpiresAt), form.write(time));
                }
                // The known expiry belongs to the old refresh token. It is kept only if that token is kept.
                RefreshTokenExpiry::Unspecified if new_refresh_token.is_none_or(|token| token == old) => {}
                RefreshTokenExpiry::Unspecified | RefreshTokenExpiry::Never => {
                    if self.refresh_token_expires_at.is_some() {
                        set(&place(Member::RefreshTokenExpiresAt), "null".to_owned());
                    }
                }
            }
        }
        let rest_place = place(Member::TokenResponse);
        // Members of earlier responses are kept: QuickBooks returns its `realmId` at the consent and never again.
        let mut rest = Member::TokenResponse.object(layout).ok().flatten().unwrap_or_default();
        let mut has_new_rest = false;
        for (name, value) in new.rest.members() {
            let renewed = layout.response_members.iter().find(|(in_response, _)| *in_response == name);
            // Nothing in a response replaces nothing here.
            if let Some((_, place)) = renewed.filter(|_| !is_nothing(value)) {
                place.set(
                    &mut document,
                    layout.in_document_type(in_type_of(place.get(&layout.document).as_deref(), value)),
                );
            }
            if renewed.is_none() || rest.get(name).is_some_and(|_| value != "null") {
                rest.set(name, value.to_owned());
                has_new_rest = true;
            }
        }
        let without_rest = document.to_text();
        if !has_new_rest && without_rest.expose().len() <= max_bytes {
            return without_rest;
        }
        rest_place.set(&mut document, layout.in_document_type(rest.to_text().expose().to_owned()));
        let text = document.to_text();
        if text.expose().len() <= max_bytes {
            return text;
        }
        if without_rest.expose().len() <= max_bytes {
            return without_rest;
        }
        // The tokens matter more than members of earlier responses, too.
        rest_place.remove(&mut document);
        document.to_text()
    }

    /// The expiry for each member that shows it, in its own form. If none does, `expiresAt`.
    fn expiries_at(&self, refreshed_at: DateTime<Utc>, expires_at: DateTime<Utc>) -> Vec<(Place, String)> {
        let layout = &self.layout;
        let mut written = Vec::new();
        for FoundTime { place, form, shows_form, .. } in &layout.expiries {
            let form = if *shows_form { *form } else { self.time_form };
            written.push((place.clone(), form.write(expires_at)));
        }
        for lifetime in &layout.lifetimes {
            let seconds = (expires_at - refreshed_at).num_seconds().to_string();
            let old = lifetime.place.get(&layout.document);
            written.push((lifetime.place.clone(), in_type_of(old.as_deref(), &seconds)));
        }
        written.extend(layout.issue_time().map(|time| (time.place.clone(), time.form.write(refreshed_at))));
        let is_shown = !layout.expiries.is_empty() || layout.issue_time().is_some();
        if layout.get(Member::ExpiresAt).is_some() || !is_shown {
            let form = self.own_expiry_form.unwrap_or(self.time_form);
            written.push((layout.place_of(Member::ExpiresAt), form.write(expires_at)));
        }
        written
    }

    /// The secret's text with the tokens of `other`, and all members that a refresh writes. `None`: the secrets differ in nothing
    /// else, so the text of `other` can be used as it is.
    #[must_use]
    pub fn with_tokens_of(&self, other: &Self) -> Option<Secret> {
        let other_members = |secret: &Self| {
            let mut rest = secret.layout.document.clone();
            secret.layout.written_places().for_each(|place| place.remove(&mut rest));
            rest.to_text()
        };
        if self.layout.writes_same_members_as(&other.layout) && other_members(self) == other_members(other) {
            return None;
        }
        let mut document = self.layout.document.clone();
        for member in self.layout.written_members() {
            let place = self.layout.place_of(member);
            match other.layout.get(member) {
                Some(value) => place.set(&mut document, value.to_string()),
                None => place.remove(&mut document),
            }
        }
        let refreshed_at = other.tokens.refreshed_at.unwrap_or_default();
        let has_own_expiry = other.layout.get(Member::ExpiresAt).is_some();
        for (place, value) in other.expires_at.map(|time| self.expiries_at(refreshed_at, time)).unwrap_or_default() {
            if has_own_expiry && place == self.layout.place_of(Member::ExpiresAt) {
                continue;
            }
            // Copied as text where possible: a calculated time could round differently.
            let is_written = other.layout.written_places().any(|written| written.is_same_as(&place));
            let same = is_written.then(|| place.get(&other.layout.document)).flatten();
            place.set(&mut document, same.map_or(value, |value| value.to_string()));
        }
        for (_, place) in &self.layout.response_members {
            if let Some(value) = place.get(&other.layout.document) {
                place.set(&mut document, value.to_string());
            }
        }
        Some(document.to_text())
    }
}

/// A list of the words of a text.
fn json_list(text: &str) -> String {
    let words: Vec<String> = text.split_ascii_whitespace().map(json_string).collect();
    format!("[{}]", words.join(","))
}

/// A JSON value as text or as a number, as the old value was. One that cannot be converted is used as it is.
fn in_type_of(old: Option<&str>, new: &str) -> String {
    let was_text = old.is_some_and(|old| old.starts_with('"'));
    let was_number = old.is_some_and(|old| old.starts_with(|first: char| first.is_ascii_digit() || first == '-'));
    match unquoted(new) {
        None if was_text && new != "null" && !new.starts_with(['{', '[']) => json_string(new),
        // JSON allows no leading zero in a number.
        Some(digits) if was_number && digits.parse::<u64>().is_ok_and(|number| number.to_string() == digits) => {
            digits.to_owned()
        }
        _ => new.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token_secret::{SecretProblem, document::Document};

    const NO_LIMIT: usize = usize::MAX;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap()
    }

    fn new_tokens() -> NewTokens {
        NewTokens {
            access_token: "a2".into(),
            refresh_token: Some("r2".into()),
            token_type: None,
            scope: None,
            refreshed_at: time(0),
            expires_at: time(3600),
            refresh_token_expires_at: RefreshTokenExpiry::Unspecified,
            rest: Document::default(),
        }
    }

    fn written(secret: &str, new: &NewTokens) -> String {
        TokenSecret::parse(secret).unwrap().with_new_tokens(new, NO_LIMIT).expose().to_owned()
    }

    #[test]
    fn new_tokens_replace_the_old_ones_and_all_other_members_are_unchanged() {
        assert_eq!(
            written(
                r#"{ "note": "mine", "refreshToken":"r1","big":12345678901234567890.10, "accessToken":null,
                     "expiresAt":1767222000000, "nested": {"b" : 1, "a" : [ ] } }"#,
                &new_tokens()
            ),
            r#"{"note":"mine","refreshToken":"r2","big":12345678901234567890.10,"accessToken":"a2","expiresAt":1767229200000,"nested":{"b" : 1, "a" : [ ] },"refreshedAt":1767225600000}"#
        );
    }

    #[test]
    fn each_naming_style_is_written_back_in_that_style() {
        assert_eq!(
            written(r#"{"refresh_token":"r1","client_id":7}"#, &new_tokens()),
            r#"{"refresh_token":"r2","client_id":7,"access_token":"a2","expires_at":1767229200,"refreshed_at":1767225600}"#
        );
        assert_eq!(
            written(r#"{"refreshToken":"r1","client_id":7}"#, &new_tokens()),
            r#"{"refreshToken":"r2","client_id":7,"accessToken":"a2","expiresAt":1767229200000,"refreshedAt":1767225600000}"#
        );
        assert_eq!(
            written(r#"{"refreshToken":"r1","expires_at":"1767222000"}"#, &new_tokens()),
            r#"{"refreshToken":"r2","expires_at":"1767229200","accessToken":"a2","refreshedAt":"1767225600"}"#
        );
    }

    #[test]
    fn an_expires_at_of_zero_does_not_show_its_unit() {
        for (members, expires_at) in [
            (r#""expiresAt":0"#, "1767229200000"),
            (r#""expiresAt":"0""#, "1767229200000"),
            (r#""expiresAt":0,"refreshedAt":1767222000"#, "1767229200"),
            (r#""expiresAt":0,"refreshedAt":"2025-12-31T00:00:00Z""#, r#""2026-01-01T01:00:00Z""#),
            (r#""expiresAt":1"#, "1767229200"),
            (r#""expiresAt":null,"refreshedAt":1767222000"#, "1767229200000"),
        ] {
            let text = written(&format!(r#"{{"refreshToken":"r1","n":1,{members}}}"#), &new_tokens());
            assert!(text.contains(&format!(r#""expiresAt":{expires_at}"#)), "{members}: {text}");
        }
    }

    #[test]
    fn a_response_without_a_refresh_token_keeps_the_old_one() {
        let new = NewTokens { refresh_token: None, ..new_tokens() };
        assert!(written(r#"{"refreshToken":"r1"}"#, &new).contains(r#""refreshToken":"r1""#));
    }

    #[test]
    fn refreshed_at_is_always_later_than_the_previous_one() {
        for (previous, written_at) in [
            (1_767_225_600_000_i64 - 1, 1_767_225_600_000_i64),
            (1_767_225_600_000, 1_767_225_600_001),
            (1_767_999_999_999, 1_768_000_000_000),
        ] {
            let text = written(&format!(r#"{{"refreshToken":"r1","refreshedAt":{previous}}}"#), &new_tokens());
            assert!(text.contains(&format!(r#""refreshedAt":{written_at}"#)), "{text}");
        }
    }

    #[test]
    fn a_refreshed_at_that_leaves_no_room_for_a_later_one_is_refused() {
        for (refreshed_at, later) in [
            ("5137-12-31T23:59:59.999Z", Some("99972403200")),
            ("5138-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
        ] {
            let text = format!(r#"{{"refreshToken":"r1","expiresAt":1767222000,"refreshedAt":"{refreshed_at}"}}"#);
            match (TokenSecret::parse(&text), later) {
                (Ok(secret), Some(later)) => {
                    let text = secret.with_new_tokens(&new_tokens(), NO_LIMIT);
                    assert!(text.expose().contains(&format!(r#""refreshedAt":{later}"#)), "{refreshed_at}");
                }
                (Err(SecretProblem::WrongType { member, .. }), None) => assert_eq!(member, "refreshedAt"),
                (other, _) => panic!("{refreshed_at}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_known_expiry_of_an_old_refresh_token_is_not_kept_for_a_new_one() {
        use RefreshTokenExpiry::{At, Never, Unspecified};
        for (rotated, expiry, expected) in [
            (false, Unspecified, r#""refreshTokenExpiresAt":1767300000000"#),
            (true, Unspecified, r#""refreshTokenExpiresAt":null"#),
            (false, Never, r#""refreshTokenExpiresAt":null"#),
            (true, At(time(86_400)), r#""refreshTokenExpiresAt":1767312000000"#),
        ] {
            let refresh_token = Some(if rotated { "r2" } else { "r1" }.into());
            let new = NewTokens { refresh_token, refresh_token_expires_at: expiry, ..new_tokens() };
            let text = written(r#"{"refreshToken":"r1","refreshTokenExpiresAt":1767300000000}"#, &new);
            assert!(text.contains(expected), "{rotated} {expiry:?}: {text}");
        }
        let text = written(r#"{"refreshToken":"r1"}"#, &new_tokens());
        assert!(!text.contains("refreshTokenExpiresAt"), "{text}");
    }

    #[test]
    fn other_members_of_a_response_are_merged_with_those_of_earlier_ones() {
        let new = NewTokens { rest: Document::parse(r#"{"n":1.50,"id":"new"}"#).unwrap(), ..new_tokens() };
        let text = written(r#"{"refreshToken":"r1","tokenResponse":{"realmId":"5","id":"old"}}"#, &new);
        assert!(text.contains(r#""tokenResponse":{"realmId":"5","id":"new","n":1.50}"#), "{text}");
    }

    #[test]
    fn other_members_of_a_response_are_left_out_if_the_text_would_be_too_long() {
        let rest = Document::parse(r#"{"id_token":"very long"}"#).unwrap();
        let new = NewTokens { rest, ..new_tokens() };
        let secret = TokenSecret::parse(r#"{"refreshToken":"r1"}"#).unwrap();
        let whole = secret.with_new_tokens(&new, NO_LIMIT);
        for (limit, kept) in [(whole.expose().len(), true), (whole.expose().len() - 1, false)] {
            let text = secret.with_new_tokens(&new, limit);
            assert_eq!(text.expose().contains("id_token"), kept);
            assert!(text.expose().contains(r#""accessToken":"a2""#));
        }
    }

    #[test]
    fn tokens_of_another_version_are_merged_only_where_other_members_differ() {
        let staged = r#"{"refreshToken":"r2","accessToken":"a2","note":1,"expiresAt":5,"refreshedAt":4}"#;
        for (current, merged) in [
            (r#"{"refreshToken":"r1","accessToken":"a1","note":1,"expiresAt":0}"#, None),
            (
                r#"{"mine":true,"refreshToken":"r1","expiresAt":0,"note":2,"scope":"old"}"#,
                Some(r#"{"mine":true,"refreshToken":"r2","expiresAt":5,"note":2,"accessToken":"a2","refreshedAt":4}"#),
            ),
            (
                r#"{"refresh_token":"r1","note":1}"#,
                Some(r#"{"refresh_token":"r2","note":1,"access_token":"a2","expires_at":5,"refreshed_at":4}"#),
            ),
        ] {
            let current = TokenSecret::parse(current).unwrap();
            let text = current.with_tokens_of(&TokenSecret::parse(staged).unwrap());
            assert_eq!(text.as_ref().map(Secret::expose), merged);
        }
    }
}
