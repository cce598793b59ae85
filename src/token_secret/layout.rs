//! A document, and where our members are in it: at the top, in one object, or where `memberNames` says.

use std::fmt;

use chrono::{DateTime, Datelike, TimeDelta, Utc};

#[cfg(feature = "refresher")]
use super::found::NameMeaning;
use super::{
    SecretProblem,
    document::{Document, json_string},
    found::{Found, FoundLifetime, FoundTime},
    member::{Member, Style},
    member_names::MemberNames,
    place::{Place, Value},
    time_form::TimeForm,
};

/// A document, and where our members are in it. Shows no value.
#[derive(Clone)]
pub(super) struct Layout {
    pub document: Document,
    places: Vec<(Member, Place)>,
    /// The other members that show the expiry of the access token.
    pub expiries: Vec<FoundTime>,
    /// How long the access token lives.
    pub lifetimes: Vec<FoundLifetime>,
    /// When that began.
    pub issue_time: Option<FoundTime>,
    /// Members that a provider's response may replace: the name in the response, and the place.
    pub response_members: Vec<(&'static str, Place)>,
    /// The names that lead to the object with the tokens; none if that is the document.
    token_object: Vec<String>,
    pub style: Style,
    /// Whether all values of the object with the tokens are strings, as the console's key/value form writes them.
    pub is_all_text: bool,
    /// Whether `memberNames` says where the refresh token is.
    pub has_named_refresh_token: bool,
    /// Whether a refresh replaces the refresh token. If not, it is a member like any other.
    pub writes_refresh_token: bool,
}

impl Layout {
    /// The layout of a client's secret: our members have only our own names.
    pub(super) fn of_client(document: Document) -> Self {
        let Found { places, .. } = Found::of(&document, &[]);
        Self {
            document,
            places,
            expiries: Vec::new(),
            lifetimes: Vec::new(),
            issue_time: None,
            response_members: Vec::new(),
            token_object: Vec::new(),
            style: Style::CamelCase,
            is_all_text: false,
            has_named_refresh_token: false,
            writes_refresh_token: false,
        }
    }

    /// The layout of a document with tokens. `names`: where members are, if the document has no `memberNames`.
    ///
    /// # Errors
    ///
    /// `memberNames` is wrong, or the tokens are in two objects.
    pub(super) fn of_tokens(document: Document, names: &MemberNames) -> Result<Self, SecretProblem> {
        let mut found = Found::of(&document, &[]);
        let own_names = found.places.iter().find(|(member, _)| *member == Member::MemberNames);
        let own_names = own_names.map(|(_, place)| MemberNames::read(place, &document)).transpose()?.flatten();
        let fitting = if own_names.is_none() { names.fitting(&document, &found) } else { MemberNames::default() };
        let names = own_names.as_ref().unwrap_or(&fitting);
        names.check(&document)?;
        let has_named_refresh_token = names.place_of(Member::RefreshToken).is_some();
        let token_object = match names.place_of(Member::RefreshToken) {
            Some(place) => place.path().to_vec(),
            None => token_object(&found, &document)?,
        };
        if !token_object.is_empty() {
            let object = object_at(&document, &token_object).unwrap_or_default();
            let outer = std::mem::replace(&mut found, Found::of(&object, &token_object));
            found.merge_settings(outer);
        }
        found.apply_names(names, &token_object)?;
        found.take_google_auth_token();
        let style = found.style();
        let has_ambiguous_expires = found.lifetimes.iter().any(|lifetime| lifetime.needs_start);
        // python-social-auth has both `expires` and `auth_time`; another start may be that of something else.
        let rank = |rank: usize| if has_ambiguous_expires { usize::MAX - rank } else { rank };
        let issue_time = found.issue_times.into_iter().min_by_key(|(own, _)| rank(*own)).map(|(_, time)| time);
        // Without a start, a small `expires` has no known meaning.
        let has_meaning = |lifetime: &FoundLifetime| issue_time.is_some() || !lifetime.needs_start;
        Ok(Self {
            document,
            places: found.places,
            expiries: found.expiries,
            lifetimes: found.lifetimes.into_iter().filter(has_meaning).collect(),
            issue_time,
            response_members: found.response_members,
            token_object,
            style,
            is_all_text: found.is_all_text,
            has_named_refresh_token,
            writes_refresh_token: true,
        })
    }

    /// Where the member is.
    ///
    /// # Errors
    ///
    /// It is there twice: under the same name, or under both its names.
    pub(super) fn find(&self, member: Member) -> Result<Option<(&Place, Value<'_>)>, SecretProblem> {
        let mut places = self.places.iter().filter(|(other, _)| *other == member).map(|(_, place)| place);
        let Some(first) = places.next() else { return Ok(None) };
        if let Some(second) = places.next() {
            return Err(SecretProblem::Duplicate(first.to_string(), second.to_string()));
        }
        Ok(first.get(&self.document).map(|value| (first, value)))
    }

    /// The JSON text of the member's value.
    pub(super) fn get(&self, member: Member) -> Option<Value<'_>> {
        self.find(member).ok().flatten().map(|(_, value)| value)
    }

    /// Where the member is, or would be added.
    pub(super) fn place_of(&self, member: Member) -> Place {
        let known = self.places.iter().find(|(other, _)| *other == member).map(|(_, place)| place.clone());
        known.unwrap_or_else(|| Place::within(&self.token_object, member.name(self.style)))
    }

    /// The expiry of the access token by the members with other names: the earliest, or else the sum of issue time and lifetime. With
    /// its form, if that shows.
    pub(super) fn other_expiry(&self) -> Option<(DateTime<Utc>, Option<TimeForm>)> {
        if let Some(FoundTime { at, form, shows_form, .. }) = self.expiries.iter().min_by_key(|time| time.at) {
            return Some((*at, shows_form.then_some(*form)));
        }
        let (issued, lifetime) = (self.issue_time.as_ref()?, self.lifetimes.first()?);
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
        let length = TimeDelta::try_milliseconds((lifetime.seconds * 1000.0) as i64)?;
        let sum = issued.at.checked_add_signed(length)?;
        (0..=9999).contains(&sum.year()).then_some((sum, Some(issued.form)))
    }

    /// When the tokens were issued, if their lifetime is beside it: a refresh writes both.
    pub(super) fn issue_time(&self) -> Option<&FoundTime> {
        self.issue_time.as_ref().filter(|_| !self.lifetimes.is_empty())
    }

    /// The members of ours that a refresh writes.
    pub(super) fn written_members(&self) -> impl Iterator<Item = Member> {
        let of_refresh_token = |member| matches!(member, Member::RefreshToken | Member::RefreshTokenExpiresAt);
        Member::WRITTEN.into_iter().filter(move |member| self.writes_refresh_token || !of_refresh_token(*member))
    }

    /// All places that a refresh writes.
    pub(super) fn written_places(&self) -> impl Iterator<Item = Place> {
        let members = self.written_members().map(|member| self.place_of(member));
        let expiries = self.expiries.iter().map(|time| time.place.clone());
        let issue_time = self.issue_time().map(|time| time.place.clone());
        let lifetimes = self.lifetimes.iter().map(|lifetime| lifetime.place.clone());
        let of_responses = self.response_members.iter().map(|(_, place)| place.clone());
        members.chain(expiries).chain(lifetimes).chain(issue_time).chain(of_responses)
    }

    /// Whether a refresh writes the same members of both documents.
    pub(super) fn writes_same_members_as(&self, other: &Self) -> bool {
        self.style == other.style && self.written_places().eq(other.written_places())
    }

    /// Removes the member, under all its names.
    pub(super) fn remove(&mut self, member: Member) {
        for (_, place) in self.places.iter().filter(|(other, _)| *other == member) {
            place.remove(&mut self.document);
        }
    }

    /// The document without the object with the tokens, and that object.
    pub(super) fn into_documents(mut self) -> (Document, Option<Document>) {
        let Some(place) = Place::of_path(&self.token_object) else { return (self.document, None) };
        let object = object_at(&self.document, &self.token_object);
        place.remove(&mut self.document);
        (self.document, object)
    }

    /// The names without a meaning: beside the tokens, and at the top.
    #[cfg(feature = "refresher")]
    pub(super) fn other_names(&self) -> Vec<String> {
        let object = object_at(&self.document, &self.token_object);
        let beside = object.iter().flat_map(Document::members);
        let outermost = self.token_object.first().map(String::as_str);
        let at_the_top = self.document.members().filter(|(name, _)| Some(*name) != outermost);
        let names = beside.chain(at_the_top).map(|(name, _)| name);
        names.filter(|name| matches!(NameMeaning::of(name), NameMeaning::None)).map(str::to_owned).collect()
    }

    /// The value as a string, if all values are strings. Null becomes an empty string.
    pub(super) fn in_document_type(&self, json: String) -> String {
        match json.as_str() {
            json_text if !self.is_all_text || json_text.starts_with('"') => json,
            "null" => "\"\"".to_owned(),
            _ => json_string(&json),
        }
    }
}

/// The path of the one object with a refresh token, if there is none outside of it.
fn token_object(found: &Found, document: &Document) -> Result<Vec<String>, SecretProblem> {
    if found.refresh_token.is_some() {
        return Ok(Vec::new());
    }
    let mut objects = found.objects.iter().filter_map(|name| {
        let path = vec![name.clone()];
        let refresh_token = Found::of(&object_at(document, &path)?, &path).refresh_token?;
        Some((path, refresh_token))
    });
    match (objects.next(), objects.next()) {
        (None, _) => Ok(Vec::new()),
        (Some((path, _)), None) => Ok(path),
        (Some((_, first)), Some((_, second))) => Err(SecretProblem::TwoRefreshTokens(first, second)),
    }
}

fn object_at(document: &Document, path: &[String]) -> Option<Document> {
    Document::parse(&Place::of_path(path)?.get(document)?).ok()
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout").field("style", &self.style).finish_non_exhaustive()
    }
}
