//! The token secret: a JSON object, ours or another program's. It is read into typed members, and written back with new tokens;
//! all other members are kept. Knows nothing about stores, clocks or providers.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::{sanitize::sanitize_line, secret::Secret};

pub mod client_settings;
pub mod document;
mod found;
mod layout;
pub mod member;
pub mod member_names;
#[cfg(feature = "refresher")]
mod misspelt;
pub mod place;
mod problem;
mod publishable;
pub mod readable;
pub mod time_form;

pub use problem::SecretProblem;

use client_settings::ClientSettings;
use document::{Document, json_string, unquoted};
use found::FoundTime;
use layout::Layout;
use member::{Member, Style};
use member_names::MemberNames;
use place::Place;
use time_form::TimeForm;

/// The lifetime of an access token if neither the provider nor the secret names one.
pub const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);

/// A token secret as read.
#[derive(Clone, Debug)]
pub struct TokenSecret {
    layout: Layout,
    /// The form of the times that the document does not contain yet.
    time_form: TimeForm,
    own_expiry_form: Option<TimeForm>,
    refresh_token_expiry_form: Option<TimeForm>,
    /// The tokens in it.
    pub tokens: Tokens,
    /// When the access token expires. `None` (missing or null): the token is due now.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the refresh token expires, if that is known.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// The margin of this secret, if it has its own.
    pub refresh_margin: Option<Duration>,
    /// The published secret: it gets the members that readers need, and none that only the refresher needs.
    pub publish_to: Option<String>,
    /// The settings of the client that are in this secret.
    pub client: ClientSettings,
}

/// The values that change with each refresh. The refresher derives version ids from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The current refresh token.
    pub refresh_token: Secret,
    /// The current access token; missing before the first refresh.
    pub access_token: Option<Secret>,
    /// When these tokens were obtained; later after each refresh. Missing before the first one.
    pub refreshed_at: Option<DateTime<Utc>>,
}

/// Tokens that a provider issued, ready to be written.
#[derive(Debug)]
pub struct NewTokens {
    /// The new access token.
    pub access_token: Secret,
    /// The new refresh token. `None`: the old one is kept (RFC 6749 section 6).
    pub refresh_token: Option<Secret>,
    /// `token_type`, if the response contains it.
    pub token_type: Option<String>,
    /// `scope`, if the response contains it.
    pub scope: Option<String>,
    /// When the tokens were requested.
    pub refreshed_at: DateTime<Utc>,
    /// When the access token expires.
    pub expires_at: DateTime<Utc>,
    /// When the refresh token expires.
    pub refresh_token_expires_at: RefreshTokenExpiry,
    /// The other members of the provider's response.
    pub rest: Document,
}

/// When the refresh token expires, according to a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshTokenExpiry {
    /// The response does not contain it.
    Unspecified,
    /// It does not expire.
    Never,
    /// It expires at this time.
    At(DateTime<Utc>),
}

impl TokenSecret {
    /// Reads a token secret.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is missing or wrong.
    pub fn parse(text: &str) -> Result<Self, SecretProblem> {
        Self::parse_with(text, &MemberNames::default())
    }

    /// The same. `names` says where members are if the secret does not.
    ///
    /// # Errors
    ///
    /// [`SecretProblem`] names the member that is missing or wrong.
    pub fn parse_with(text: &str, names: &MemberNames) -> Result<Self, SecretProblem> {
        let document = Document::parse(text).map_err(SecretProblem::NotADocument)?;
        let layout = Layout::of_tokens(document, names)?;
        let refresh_token = Member::RefreshToken.credential(&layout)?.ok_or_else(|| SecretProblem::NoRefreshToken {
            member: layout.place_of(Member::RefreshToken),
            is_named: layout.has_named_refresh_token,
            similar: problem::similar_tokens(&layout.document),
        })?;
        let refreshed_at = Member::RefreshedAt.time(&layout)?;
        let own_expiry = Member::ExpiresAt.time(&layout)?;
        let refresh_token_expiry = Member::RefreshTokenExpiresAt.time(&layout)?;
        // The refresher only writes these. A value of another type is not the refresher's: the parse fails, so the value is not
        // overwritten.
        Member::TokenType.text(&layout)?;
        Member::Scope.text_or_list(&layout)?;
        Member::TokenResponse.object(&layout)?;
        let other_expiry = layout.other_expiry();
        // Zero means "due now" and does not show its unit: users write it instead of milliseconds and of seconds.
        let shown = |(time, form): (DateTime<Utc>, TimeForm)| (time != DateTime::UNIX_EPOCH).then_some(form);
        let of_refreshed_at = refreshed_at.map(|(_, form)| form);
        let time_form = own_expiry.and_then(|own| shown(own).or(of_refreshed_at));
        let time_form = time_form.or_else(|| other_expiry.and_then(|(_, form)| form.or(of_refreshed_at)));
        Ok(Self {
            time_form: time_form.unwrap_or_else(|| TimeForm::of_style(layout.style, layout.is_all_text)),
            own_expiry_form: own_expiry.and_then(shown),
            refresh_token_expiry_form: refresh_token_expiry.and_then(shown),
            tokens: Tokens {
                refresh_token,
                access_token: Member::AccessToken.credential(&layout)?,
                refreshed_at: refreshed_at.map(|(time, _)| time),
            },
            expires_at: own_expiry.map(|(time, _)| time).or(other_expiry.map(|(time, _)| time)),
            refresh_token_expires_at: refresh_token_expiry.map(|(time, _)| time),
            refresh_margin: Member::RefreshMarginSeconds.seconds(&layout)?,
            publish_to: Member::PublishTo.secret_id(&layout)?,
            client: ClientSettings::of(&layout)?,
            layout,
        })
    }

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
        if let Some(refresh_token) = &new.refresh_token {
            set(&place(Member::RefreshToken), json_string(refresh_token.expose()));
        }
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
        let rotated = new.refresh_token.as_ref().is_some_and(|token| *token != self.tokens.refresh_token);
        match new.refresh_token_expires_at {
            RefreshTokenExpiry::At(time) => {
                let form = self.refresh_token_expiry_form.unwrap_or(self.time_form);
                set(&place(Member::RefreshTokenExpiresAt), form.write(time));
            }
            // The known expiry belongs to the old refresh token. It is kept only if that token is kept.
            RefreshTokenExpiry::Unspecified if !rotated => {}
            RefreshTokenExpiry::Unspecified | RefreshTokenExpiry::Never => {
                if self.refresh_token_expires_at.is_some() {
                    set(&place(Member::RefreshTokenExpiresAt), "null".to_owned());
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
            if let Some((_, place)) = renewed.filter(|_| !["null", "\"\""].contains(&value)) {
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
        let place = rest_place;
        place.set(&mut document, layout.in_document_type(rest.to_text().expose().to_owned()));
        let text = document.to_text();
        if text.expose().len() <= max_bytes {
            return text;
        }
        if without_rest.expose().len() <= max_bytes {
            return without_rest;
        }
        // The tokens matter more than members of earlier responses, too.
        place.remove(&mut document);
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

    /// The secret as text, with all members in their order.
    #[must_use]
    pub fn to_text(&self) -> Secret {
        self.layout.document.to_text()
    }

    /// The publication of this secret: the members that readers need, each with the same name and value as here. `None`: there is
    /// no access token yet.
    #[must_use]
    pub fn publication(&self) -> Option<Secret> {
        self.tokens.access_token.as_ref()?;
        let mut publication = Document::default();
        for member in Member::PUBLISHED {
            let Some(value) = self.layout.get(member) else { continue };
            if member != Member::TokenResponse {
                publication.set(self.published_name(member), value.to_string());
            }
        }
        if let Some(response) = self.published_response() {
            publication.set(self.published_name(Member::TokenResponse), response);
        }
        // The secret may have it under another name.
        if let Some(expires_at) = self.expires_at
            && self.layout.get(Member::ExpiresAt).is_none_or(|value| ["null", "\"\""].contains(&&*value))
        {
            publication.set(self.published_name(Member::ExpiresAt), self.time_form.write(expires_at));
        }
        Some(publication.to_text())
    }

    /// The `tokenResponse` of a publication, with the members of responses that the secret has in other places.
    fn published_response(&self) -> Option<String> {
        let layout = &self.layout;
        let own = layout.get(Member::TokenResponse);
        let elsewhere =
            layout.response_members.iter().filter_map(|(name, place)| Some((name, place.get(&layout.document)?)));
        let elsewhere: Vec<_> = elsewhere.filter(|(_, value)| !["null", "\"\""].contains(&&**value)).collect();
        if elsewhere.is_empty() {
            return own.map(|own| publishable::response_without_secrets(&own, &self.tokens.refresh_token));
        }
        let mut response = Member::TokenResponse.object(layout).ok().flatten().unwrap_or_default();
        for (name, value) in elsewhere {
            response.set(name, value.to_string());
        }
        let response = layout.in_document_type(response.to_text().expose().to_owned());
        Some(publishable::response_without_secrets(&response, &self.tokens.refresh_token))
    }

    /// The member's name in a publication: that in the secret if it is ours, or else ours in the secret's style.
    fn published_name(&self, member: Member) -> &'static str {
        let place = self.layout.place_of(member);
        let names = [Style::CamelCase, Style::SnakeCase].map(|style| member.name(style));
        let own = names.into_iter().find(|name| *name == place.last_name());
        own.unwrap_or_else(|| member.name(self.layout.style))
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
        for member in Member::WRITTEN {
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
        // Not a leading zero: that is no JSON number.
        Some(digits) if was_number && digits.parse::<u64>().is_ok_and(|number| number.to_string() == digits) => {
            digits.to_owned()
        }
        _ => new.to_owned(),
    }
}

/// Checks that a text is a publication or an empty object. No other content of a published secret is overwritten.
///
/// # Errors
///
/// The problem, in words that contain no value.
pub fn check_publication(text: &str) -> Result<(), String> {
    let document = Document::parse(text).map_err(|problem| SecretProblem::NotADocument(problem).to_string())?;
    let mut names = document.members().map(|(name, _)| name);
    match names.find(|name| !Member::PUBLISHED.iter().any(|member| member.has_name(name))) {
        None => Ok(()),
        Some(name) => Err(format!("it has a member `{}`, which is never published", sanitize_line(name, 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_wrong_member_is_named_without_its_value() {
        for (secret, problem) in [
            ("", "it is empty"),
            ("hunter2", "it is not JSON (from line 1, column 1 on)"),
            ("[]", "it is an array, where a JSON object is wanted"),
            ("{}", "its member `refreshToken` is missing or empty"),
            (r#"{"refreshToken":null}"#, "its member `refreshToken` is missing or empty"),
            (r#"{"refreshToken":""}"#, "its member `refreshToken` is missing or empty"),
            (r#"{"access_token":"a"}"#, "its member `refresh_token` is missing or empty"),
            (r#"{"refreshToken":5}"#, "its member `refreshToken` is a number, where a string is wanted"),
            (
                r#"{"refreshToken":"r","refresh_token":"s"}"#,
                "it has both `refreshToken` and `refresh_token`; take one out",
            ),
            (r#"{"refreshToken":"r","refreshToken":"s"}"#, "its member `refreshToken` is there twice; take one out"),
            (
                r#"{"refreshToken":"r","expires_at":"hunter2"}"#,
                "its member `expires_at` is a string, where milliseconds or seconds since the epoch (a number or a string \
                 of digits) or an RFC 3339 string such as \"2026-01-01T00:00:00Z\" is wanted",
            ),
            (
                r#"{"refreshToken":"r","refreshMarginSeconds":-1}"#,
                "its member `refreshMarginSeconds` is a number, where a whole number of seconds from 0 to 315576000 (ten \
                 years) is wanted",
            ),
            (
                r#"{"refreshToken":"r","tokenEndpointAuthMethod":"hunter2"}"#,
                "its member `tokenEndpointAuthMethod` is a string, where one of \"client_secret_post\", \
                 \"client_secret_basic\", \"client_secret_basic_raw\", \"none\" is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraHeaders":{"a":1}}"#,
                "its member `extraHeaders.a` is a number, where a string is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraHeaders":{"a\nb\u202e":1}}"#,
                "its member `extraHeaders.a?b?` is a number, where a string is wanted",
            ),
            (
                r#"{"refreshToken":"r","extraParameters":[]}"#,
                "its member `extraParameters` is an array, where an object of strings is wanted",
            ),
        ] {
            assert_eq!(TokenSecret::parse(secret).unwrap_err().to_string(), problem, "{secret}");
        }
    }

    #[test]
    fn debug_prints_no_value() {
        let secret = TokenSecret::parse(
            r#"{"refreshToken":"hunter2","accessToken":"hunter3","clientSecret":"hunter4","clientId":"hunter5",
                "extraHeaders":{"key":"hunter6"},"tokenEndpoint":"https://hunter7"}"#,
        );
        let debug = format!("{:?}", secret.unwrap());
        assert!(!debug.contains("hunter"), "Debug prints a value");
    }
}
