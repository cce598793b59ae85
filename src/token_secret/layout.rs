//! Which members of a document are ours, and where: under our own names or under those that other programs use, at the top, in one
//! object, or where `memberNames` says. One pass over the members; values are read in [`member`](super::member).
//!
//! `docs/token-secret.md` has the programs that these names come from.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    SecretProblem,
    document::Document,
    member::{Member, Style},
    member_names::MemberNames,
    place::{Place, Value},
    time_form::{TimeForm, Unit},
};
use crate::sanitize::sanitize_line;

/// Other names for the end of the access token. With a unit: the values are always in it.
const EXPIRIES: [(&str, &str, Option<Unit>); 11] = [
    ("expiry", "expiry", None),            // golang.org/x/oauth2, google-auth
    ("expiryDate", "expiry_date", None),   // google-auth-library for Node
    ("tokenExpiry", "token_expiry", None), // oauth2client
    ("tokenExpiryDate", "token_expiry_date", None),
    ("expiresOn", "expires_on", None),
    ("accessTokenExpiresAt", "access_token_expires_at", None), // Auth.js
    ("tokenExpiresAt", "token_expires_at", None),
    ("expiryTime", "expiry_time", None),
    ("accessExpiry", "access_expiry", None),
    ("expirationTimeMilliseconds", "expiration_time_milliseconds", Some(Unit::Milliseconds)),
    (EXPIRES, EXPIRES, None),
];

/// A time (league/oauth2-client), or a lifetime if it is small (python-social-auth).
const EXPIRES: &str = "expires";

/// An `expires` of at least this is a time: 2012 in seconds. No token lives so long.
const FIRST_EXPIRES: f64 = 1_325_376_000.0;

/// When the tokens were issued, beside a lifetime.
const STARTS: [&str; 5] = [
    "created", // google-api-php-client, withings-api
    "createdAt",
    "created_at",
    "IssuedUtc",
    "auth_time", // python-social-auth
];

const LIFETIMES: [&str; 2] = ["expires_in", "expiresIn"];

/// Members of a provider's response that are renewed where a document has them: its readers use them. In both styles.
const RESPONSE_MEMBERS: [(&str, &str); 5] = [
    ("id_token", "idToken"),
    ("instance_url", "instanceUrl"),    // Salesforce
    ("api_domain", "apiDomain"),        // Zoho
    ("issued_at", "issuedAt"),          // Salesforce
    ("ext_expires_in", "extExpiresIn"), // Entra
];

/// The access token of google-auth, where no member has one of our names.
const TOKEN: &str = "token";

/// A document, and where our members are in it. Shows no value.
#[derive(Clone)]
pub(super) struct Layout {
    pub document: Document,
    places: Vec<(Member, Place)>,
    /// The other members that end with the access token.
    pub expiries: Vec<(Place, DateTime<Utc>, TimeForm)>,
    /// When the tokens were issued, and how many seconds they live.
    pub lifetime: Option<Lifetime>,
    /// Members that a provider's response may renew: the name in the response, and the place.
    pub renewed: Vec<(&'static str, Place)>,
    /// The member that is an object with the tokens in it.
    holder: Option<String>,
    pub style: Style,
    /// Whether all members beside the tokens are strings, as the console's key/value form writes them.
    pub is_all_text: bool,
}

/// The lifetime of the access token in a document.
#[derive(Clone)]
pub(super) struct Lifetime {
    pub place: Place,
    seconds: f64,
    /// When it began.
    pub start: Option<(Place, DateTime<Utc>, TimeForm)>,
}

/// What one pass over an object finds.
#[derive(Default)]
struct Found {
    places: Vec<(Member, Place)>,
    expiries: Vec<(Place, DateTime<Utc>, TimeForm)>,
    starts: Vec<(usize, Place, DateTime<Utc>, TimeForm)>,
    lifetimes: Vec<(Place, f64)>,
    renewed: Vec<(&'static str, Place)>,
    token: Option<Place>,
    /// The members that are objects.
    objects: Vec<String>,
    is_all_text: bool,
}

impl Layout {
    /// The layout of a document in which our members have only our own names.
    pub(super) fn plain(document: Document) -> Self {
        let Found { places, .. } = Found::of(&document, None);
        Self {
            document,
            places,
            expiries: Vec::new(),
            lifetime: None,
            renewed: Vec::new(),
            holder: None,
            style: Style::CamelCase,
            is_all_text: false,
        }
    }

    /// The layout of a document with tokens. `names`: where members are that the document itself does not name.
    ///
    /// # Errors
    ///
    /// `memberNames` is wrong, or the tokens are in two objects.
    pub(super) fn of_tokens(document: Document, names: &MemberNames) -> Result<Self, SecretProblem> {
        let mut found = Found::of(&document, None);
        let own_names = found.places.iter().find(|(member, _)| *member == Member::MemberNames);
        let own_names = own_names.map(|(_, place)| MemberNames::read(place, &document)).transpose()?.flatten();
        let names = own_names.as_ref().unwrap_or(names);
        names.check(&document)?;
        let mut holder = None;
        if !found.has_refresh_token(&document) && names.place_of(Member::RefreshToken).is_none() {
            let mut holders = found.objects.iter().filter_map(|name| {
                let inner = Document::parse(document.get(name)?).ok()?;
                let inner_found = Found::of(&inner, Some(name));
                inner_found.has_refresh_token(&document).then_some((name.clone(), inner_found))
            });
            let (first, second) = (holders.next(), holders.next());
            if let (Some((first, _)), Some((second, _))) = (&first, &second) {
                return Err(SecretProblem::TwoHolders(first.clone(), second.clone()));
            }
            if let Some((name, inner)) = first {
                holder = Some(name);
                found = inner.or_outside(found);
            }
        }
        found.forget_places_of(names);
        found.add_places_of(names)?;
        if !found.has(Member::AccessToken)
            && found.has_refresh_token(&document)
            && let Some(token) = found.token.take()
        {
            found.places.push((Member::AccessToken, token));
        }
        let style = found.style();
        let mut starts = found.starts;
        starts.sort_by_key(|(rank, ..)| *rank);
        let start = starts.into_iter().next().map(|(_, place, time, form)| (place, time, form));
        let lifetime = found
            .lifetimes
            .into_iter()
            .next()
            .map(|(place, seconds)| Lifetime { place, seconds, start })
            // Alone, a small `expires` means nothing that is known.
            .filter(|lifetime| lifetime.start.is_some() || lifetime.place.last_name() != EXPIRES);
        Ok(Self {
            document,
            places: found.places,
            expiries: found.expiries,
            lifetime,
            renewed: found.renewed,
            holder,
            style,
            is_all_text: found.is_all_text,
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
        if let Some(second) = places.next().filter(|second| second.depth() == first.depth()) {
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
        known.unwrap_or_else(|| {
            let name = member.name(self.style);
            self.holder.as_ref().map_or(Place::Top(name), |holder| Place::Deep(vec![holder.clone(), name.to_owned()]))
        })
    }

    /// When the access token expires by the members under other names: the earliest, or else the sum of start and lifetime.
    pub(super) fn other_expiry(&self) -> Option<(DateTime<Utc>, TimeForm)> {
        if let Some((_, time, form)) = self.expiries.iter().min_by_key(|(_, time, _)| *time) {
            return Some((*time, *form));
        }
        let lifetime = self.lifetime.as_ref()?;
        let (_, start, form) = lifetime.start.as_ref()?;
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
        let length = TimeDelta::try_milliseconds((lifetime.seconds * 1000.0) as i64)?;
        Some((start.checked_add_signed(length)?, *form))
    }

    /// All places that a refresh writes.
    pub(super) fn written(&self) -> impl Iterator<Item = Place> {
        let members = Member::WRITTEN.into_iter().map(|member| self.place_of(member));
        let lifetime = self.lifetime.iter().flat_map(|lifetime| {
            let start = lifetime.start.as_ref().map(|(place, ..)| place.clone());
            std::iter::once(lifetime.place.clone()).chain(start)
        });
        let expiries = self.expiries.iter().map(|(place, ..)| place.clone());
        members.chain(expiries).chain(lifetime).chain(self.renewed.iter().map(|(_, place)| place.clone()))
    }

    /// Whether a refresh writes the same members of both documents.
    pub(super) fn has_places_of(&self, other: &Self) -> bool {
        self.written().eq(other.written())
    }

    /// The error if there is no refresh token: what looks like one.
    pub(super) fn no_refresh_token(&self) -> SecretProblem {
        let mut seen = Vec::new();
        look_for_refresh_tokens(&self.document, &mut Vec::new(), &mut seen);
        SecretProblem::NoRefreshToken { member: self.place_of(Member::RefreshToken).to_string(), seen }
    }

    /// Removes the member, under all its names.
    pub(super) fn remove(&mut self, member: Member) {
        for (_, place) in self.places.iter().filter(|(other, _)| *other == member) {
            place.remove(&mut self.document);
        }
    }

    /// The document without the object with the tokens, and that object.
    pub(super) fn into_documents(mut self) -> (Document, Option<Document>) {
        let Some(holder) = self.holder else { return (self.document, None) };
        let inner = self.document.get(&holder).and_then(|text| Document::parse(text).ok());
        self.document.remove(&holder);
        (self.document, inner)
    }

    /// The names of members that have no meaning here: beside the tokens, and outside of the object with them.
    #[cfg(feature = "refresher")]
    pub(super) fn other_names(&self) -> Vec<String> {
        let inner = self.holder.as_ref().and_then(|holder| Document::parse(self.document.get(holder)?).ok());
        let is_other = |name: &str| {
            let is_ours =
                Member::of_name(name).is_some() || expiry_name(name).is_some() || response_member(name).is_some();
            let follows = name == TOKEN || LIFETIMES.contains(&name) || STARTS.contains(&name);
            !is_ours && !follows && self.holder.as_deref() != Some(name)
        };
        let names = [inner.as_ref(), Some(&self.document)].into_iter().flatten().flat_map(Document::members);
        names.map(|(name, _)| name).filter(|name| is_other(name)).map(str::to_owned).collect()
    }

    /// A value of this document: a string if all its members are strings.
    pub(super) fn value(&self, json: String) -> String {
        match json.as_str() {
            _ if !self.is_all_text || json.starts_with('"') => json,
            "null" => "\"\"".to_owned(),
            _ => super::document::json_string(&json),
        }
    }
}

impl Found {
    /// One pass over the members of an object. `holder`: the member that is this object.
    fn of(document: &Document, holder: Option<&str>) -> Self {
        let mut found = Self { is_all_text: !document.is_empty(), ..Self::default() };
        let place = |name: &'static str| match holder {
            None => Place::Top(name),
            Some(holder) => Place::Deep(vec![holder.to_owned(), name.to_owned()]),
        };
        for (name, value) in document.members() {
            found.is_all_text &= value.starts_with('"');
            if let Some((member, name)) = Member::of_name(name) {
                found.places.push((member, place(name)));
            } else if name == TOKEN && !value.starts_with('{') {
                let is_token = value.starts_with('"') || value == "null";
                found.token = is_token.then(|| place(TOKEN)).or(found.token);
            } else {
                found.read_other(name, value, place);
            }
            if holder.is_none() && value.starts_with('{') && Member::of_name(name).is_none() {
                found.objects.push(name.to_owned());
            }
        }
        found
    }

    /// A member that is not ours, but may follow the tokens.
    fn read_other(&mut self, name: &str, value: &str, place: impl Fn(&'static str) -> Place) {
        if name == EXPIRES && number(value).is_some_and(|seconds| seconds < FIRST_EXPIRES) {
            self.lifetimes.extend(number(value).map(|seconds| (place(EXPIRES), seconds)));
        } else if let Some((name, unit)) = expiry_name(name) {
            let read = unit.map_or_else(|| TimeForm::read(value), |unit| TimeForm::read_in(value, unit));
            self.expiries.extend(read.map(|(time, form)| (place(name), time, form)));
        } else if let Some(rank) = STARTS.iter().position(|start| *start == name) {
            let read = TimeForm::read(value);
            self.starts.extend(read.map(|(time, form)| (rank, place(STARTS[rank]), time, form)));
        } else if let Some(name) = LIFETIMES.iter().find(|lifetime| **lifetime == name) {
            self.lifetimes.extend(number(value).map(|seconds| (place(name), seconds)));
        } else if let Some((in_response, name)) = response_member(name) {
            self.renewed.push((in_response, place(name)));
        }
    }

    fn has(&self, member: Member) -> bool {
        self.places.iter().any(|(other, _)| *other == member)
    }

    /// Forgets what other members mean by their names, where `names` says that they are ours.
    fn forget_places_of(&mut self, names: &MemberNames) {
        let is_other = |place: &Place| !names.has_place(place);
        self.expiries.retain(|(place, ..)| is_other(place));
        self.starts.retain(|(_, place, ..)| is_other(place));
        self.lifetimes.retain(|(place, _)| is_other(place));
        self.renewed.retain(|(_, place)| is_other(place));
        self.token = self.token.take().filter(is_other);
    }

    /// Puts the places that `names` says before all others.
    ///
    /// # Errors
    ///
    /// One of them is the place of another member.
    fn add_places_of(&mut self, names: &MemberNames) -> Result<(), SecretProblem> {
        self.places.retain(|(member, _)| names.place_of(*member).is_none());
        for (member, place) in names.iter() {
            if let Some((other, _)) = self.places.iter().find(|(_, other_place)| other_place.is_same_as(place)) {
                let (name, other) = (member.name(Style::CamelCase), other.name(Style::CamelCase));
                return Err(SecretProblem::MemberNames(format!("has the place of `{other}` for `{name}`")));
            }
        }
        self.places.splice(0..0, names.iter().cloned());
        Ok(())
    }

    /// Whether there is a refresh token, and not only its name.
    fn has_refresh_token(&self, document: &Document) -> bool {
        let mut places = self.places.iter().filter(|(member, _)| *member == Member::RefreshToken);
        places.any(|(_, place)| place.get(document).is_some_and(|value| value.len() > 2 && value.starts_with('"')))
    }

    /// What is in the object with the tokens, and what is only outside.
    fn or_outside(mut self, outside: Self) -> Self {
        let knows_expiry = self.has(Member::ExpiresAt)
            || !self.expiries.is_empty()
            || !(self.starts.is_empty() || self.lifetimes.is_empty());
        for (member, place) in outside.places {
            if !self.has(member) && (member != Member::ExpiresAt || !knows_expiry) {
                self.places.push((member, place));
            }
        }
        if !knows_expiry {
            self.expiries = outside.expiries;
        }
        self
    }

    /// The style of the refresh token's name, or else of the access token's. Camel case if there is neither.
    fn style(&self) -> Style {
        let place = |member: Member| self.places.iter().find(|(other, _)| *other == member).map(|(_, place)| place);
        let place = place(Member::RefreshToken).or_else(|| place(Member::AccessToken));
        if place.is_some_and(|place| place.last_name().contains('_')) { Style::SnakeCase } else { Style::CamelCase }
    }
}

/// How deep a document is searched, and how many members a message names.
const MAX_DEPTH: usize = 4;
const MAX_SEEN: usize = 3;

/// Texts in members whose names contain `refresh` and `token`, or almost.
fn look_for_refresh_tokens(document: &Document, outer: &mut Vec<String>, seen: &mut Vec<String>) {
    for (name, value) in document.members() {
        if seen.len() == MAX_SEEN {
            return;
        }
        let letters: String = name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        outer.push(sanitize_line(name, 64));
        let is_like_one = letters.contains("refresh") && (letters.contains("tok") || letters.ends_with("refresh"));
        if is_like_one && value.starts_with('"') && value.len() > 2 {
            seen.push(outer.join("."));
        } else if outer.len() < MAX_DEPTH
            && value.starts_with('{')
            && let Ok(inner) = Document::parse(value)
        {
            look_for_refresh_tokens(&inner, outer, seen);
        }
        outer.pop();
    }
}

fn expiry_name(name: &str) -> Option<(&'static str, Option<Unit>)> {
    // Most names are none of them.
    if !name.as_bytes().iter().any(|byte| byte.eq_ignore_ascii_case(&b'x')) {
        return None;
    }
    EXPIRIES.iter().find_map(|(camel, snake, unit)| {
        let name = if *camel == name {
            camel
        } else if *snake == name {
            snake
        } else {
            return None;
        };
        Some((*name, *unit))
    })
}

fn response_member(name: &str) -> Option<(&'static str, &'static str)> {
    RESPONSE_MEMBERS.iter().find_map(|(snake, camel)| {
        if *snake == name { Some((*snake, *snake)) } else { (*camel == name).then_some((*snake, *camel)) }
    })
}

/// A number, or digits in a string.
fn number(json: &str) -> Option<f64> {
    let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json);
    let starts_like_one = text.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    text.parse().ok().filter(|number: &f64| starts_like_one && number.is_finite())
}

impl fmt::Debug for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Layout").field("style", &self.style).finish_non_exhaustive()
    }
}
