//! One pass over the members of an object: which of them are ours or follow the tokens, under our names or under those that other
//! programs use. `docs/token-secret.md` has these programs.

use chrono::{DateTime, Utc};

use super::{
    SecretProblem,
    document::{Document, is_filled_string, unquoted},
    member::{Member, Style},
    member_names::MemberNames,
    place::Place,
    time_form::{TimeForm, Unit},
};

/// Other names of the expiry of the access token. With a unit: the values are always in it.
const EXPIRY_NAMES: [(&str, &str, Option<Unit>); 10] = [
    ("expiry", "expiry", None),            // golang.org/x/oauth2, google-auth
    ("expiryDate", "expiry_date", None),   // google-auth-library for Node
    ("tokenExpiry", "token_expiry", None), // oauth2client
    ("tokenExpiryDate", "token_expiry_date", None),
    ("expiresOn", "expires_on", None),                         // Entra ID v1, MSAL
    ("accessTokenExpiresAt", "access_token_expires_at", None), // Auth.js
    ("tokenExpiresAt", "token_expires_at", None),
    ("expiryTime", "expiry_time", None),
    ("accessExpiry", "access_expiry", None),
    ("expirationTimeMilliseconds", "expiration_time_milliseconds", Some(Unit::Milliseconds)), // google-oauth-java-client
];

/// google-auth-library for Node writes milliseconds only.
const MILLISECONDS_IF_ZERO: [&str; 2] = ["expiryDate", "expiry_date"];

/// A time (league/oauth2-client), or a lifetime if it is small (python-social-auth).
const AMBIGUOUS_EXPIRES: &str = "expires";

/// An `expires` below this number of seconds is a lifetime: 2012 as a time.
const MIN_POINT_IN_TIME: f64 = 1_325_376_000.0;

/// When the tokens were issued, beside a lifetime.
const ISSUE_TIME_NAMES: [&str; 5] = [
    "created", // google-api-php-client, withings-api
    "createdAt",
    "created_at",
    "IssuedUtc", // Google.Apis.Auth for .NET
    "auth_time", // python-social-auth
];

const LIFETIME_NAMES: [&str; 2] = ["expires_in", "expiresIn"];

/// Members of a provider's response. They are replaced by the response's values if the document has them, because its readers use them.
const RESPONSE_NAMES: [(&str, &str); 5] = [
    ("id_token", "idToken"),
    ("instance_url", "instanceUrl"),    // Salesforce
    ("api_domain", "apiDomain"),        // Zoho
    ("issued_at", "issuedAt"),          // Salesforce
    ("ext_expires_in", "extExpiresIn"), // Entra ID
];

/// The access token of google-auth, where no member has one of our names.
const GOOGLE_AUTH_TOKEN: &str = "token";

/// What a member is, by its name. With the name itself, and of `ISSUE_TIME_NAMES` the rank.
#[derive(Clone, Copy)]
pub(super) enum NameMeaning {
    Ours(Member, &'static str),
    Expiry(&'static str, Option<Unit>),
    AmbiguousExpires,
    IssueTime(usize),
    Lifetime(&'static str),
    /// The name in a response, and the name here.
    Response(&'static str, &'static str),
    GoogleAuthToken,
    None,
}

impl NameMeaning {
    pub(super) fn of(name: &str) -> Self {
        if let Some((member, name)) = Member::of_name(name) {
            return Self::Ours(member, name);
        }
        let either = |camel: &'static str, snake: &'static str| [camel, snake].into_iter().find(|own| *own == name);
        let expiry = EXPIRY_NAMES.iter().find_map(|(camel, snake, unit)| Some((either(camel, snake)?, *unit)));
        let response = || RESPONSE_NAMES.iter().find_map(|(snake, camel)| Some((*snake, either(camel, snake)?)));
        let lifetime = || LIFETIME_NAMES.into_iter().find(|own| *own == name);
        let issue_time = || ISSUE_TIME_NAMES.iter().position(|own| *own == name);
        if let Some((name, unit)) = expiry {
            Self::Expiry(name, unit)
        } else if let Some(rank) = issue_time() {
            Self::IssueTime(rank)
        } else if let Some(name) = lifetime() {
            Self::Lifetime(name)
        } else if let Some((in_response, name)) = response() {
            Self::Response(in_response, name)
        } else {
            match name {
                AMBIGUOUS_EXPIRES => Self::AmbiguousExpires,
                GOOGLE_AUTH_TOKEN => Self::GoogleAuthToken,
                _ => Self::None,
            }
        }
    }
}

/// A time in a document: where, when, and in which form.
#[derive(Clone)]
pub(super) struct FoundTime {
    pub place: Place,
    pub at: DateTime<Utc>,
    pub form: TimeForm,
    /// A zero is a time in every unit, unless the name says which.
    pub shows_form: bool,
}

/// A lifetime in a document, in seconds.
#[derive(Clone)]
pub(super) struct FoundLifetime {
    pub place: Place,
    pub seconds: f64,
    /// Whether it is an `expires`, which without a start has no known meaning.
    pub needs_start: bool,
}

/// What one pass over an object finds.
#[derive(Default)]
pub(super) struct Found {
    pub places: Vec<(Member, Place)>,
    pub expiries: Vec<FoundTime>,
    /// With the rank of the name.
    pub issue_times: Vec<(usize, FoundTime)>,
    pub lifetimes: Vec<FoundLifetime>,
    /// The name in a response, and the place.
    pub response_members: Vec<(&'static str, Place)>,
    google_auth_token: Option<Place>,
    /// Where there is a refresh token, and not only its name.
    pub refresh_token: Option<Place>,
    /// The members that are objects, if the pass was over the whole document.
    pub objects: Vec<String>,
    /// Whether all values are strings, as the console's key/value form writes them.
    pub is_all_text: bool,
}

impl Found {
    /// One pass over an object. `path`: the names that lead to it; none for the document itself.
    pub(super) fn of(object: &Document, path: &[String]) -> Self {
        let mut found = Self { is_all_text: !object.is_empty(), ..Self::default() };
        for (name, value) in object.members() {
            found.is_all_text &= value.starts_with('"');
            // Other programs have objects of this name.
            let meaning = match NameMeaning::of(name) {
                NameMeaning::Ours(Member::Provider, _) if !value.starts_with('"') => NameMeaning::None,
                NameMeaning::Ours(Member::ProviderParameters, _)
                    if !object.get("provider").is_some_and(|provider| provider.starts_with('"')) =>
                {
                    NameMeaning::None
                }
                meaning => meaning,
            };
            found.add(meaning, value, |name| Place::within(path, name));
            let is_object = value.starts_with('{') && !matches!(meaning, NameMeaning::Ours(..));
            // A misspelt `memberNames` holds pointers, not tokens.
            if path.is_empty() && is_object && !name.to_ascii_lowercase().starts_with("member") {
                found.objects.push(name.to_owned());
            }
        }
        found
    }

    /// Adds a member. Of two with one name, the last counts, as in [`Document::get`].
    fn add(&mut self, meaning: NameMeaning, value: &str, place: impl Fn(&'static str) -> Place) {
        match meaning {
            NameMeaning::Ours(member, name) => {
                if member == Member::RefreshToken && is_filled_string(value) {
                    self.refresh_token.get_or_insert_with(|| place(name));
                }
                self.places.push((member, place(name)));
            }
            NameMeaning::Expiry(name, unit) => self.add_expiry(place(name), value, unit),
            NameMeaning::AmbiguousExpires => {
                let place = place(AMBIGUOUS_EXPIRES);
                self.expiries.retain(|time| time.place != place);
                self.lifetimes.retain(|lifetime| lifetime.place != place);
                match number(value) {
                    Some(seconds) if seconds < MIN_POINT_IN_TIME => {
                        self.lifetimes.push(FoundLifetime { place, seconds, needs_start: true });
                    }
                    _ => self.add_expiry(place, value, None),
                }
            }
            NameMeaning::IssueTime(rank) => {
                self.issue_times.retain(|(other, _)| *other != rank);
                let place = place(ISSUE_TIME_NAMES[rank]);
                let read = TimeForm::read(value);
                self.issue_times.extend(read.map(|(at, form)| (rank, FoundTime { place, at, form, shows_form: true })));
            }
            NameMeaning::Lifetime(name) => {
                let place = place(name);
                self.lifetimes.retain(|lifetime| lifetime.place != place);
                let seconds = number(value);
                self.lifetimes.extend(seconds.map(|seconds| FoundLifetime { place, seconds, needs_start: false }));
            }
            NameMeaning::Response(in_response, name) => {
                let place = place(name);
                self.response_members.retain(|(_, other)| *other != place);
                self.response_members.push((in_response, place));
            }
            NameMeaning::GoogleAuthToken => {
                let is_token = value.starts_with('"') || value == "null";
                self.google_auth_token = is_token.then(|| place(GOOGLE_AUTH_TOKEN));
            }
            NameMeaning::None => {}
        }
    }

    fn add_expiry(&mut self, place: Place, value: &str, unit: Option<Unit>) {
        self.expiries.retain(|time| time.place != place);
        let read = unit.map_or_else(|| TimeForm::read(value), |unit| TimeForm::read_in(value, unit));
        self.expiries.extend(read.map(|(at, form)| {
            let is_zero = at == DateTime::UNIX_EPOCH;
            let is_google_auth_library = MILLISECONDS_IF_ZERO.contains(&place.last_name());
            let form = if is_zero && is_google_auth_library { TimeForm::Number(Unit::Milliseconds, 0) } else { form };
            FoundTime { place, at, form, shows_form: !is_zero || unit.is_some() || is_google_auth_library }
        }));
    }

    pub(super) fn has(&self, member: Member) -> bool {
        self.places.iter().any(|(other, _)| *other == member)
    }

    /// Adds the settings that only the outer document has. Values of the tokens are not looked for there: they may be those of others.
    pub(super) fn merge_settings(&mut self, outer: Self) {
        for (member, place) in outer.places {
            if !self.has(member) && !Member::WRITTEN.contains(&member) {
                self.places.push((member, place));
            }
        }
    }

    /// Puts the members where `names` says. A member that it points to has no other meaning.
    ///
    /// # Errors
    ///
    /// It points to another member that a refresh writes, into it or around it. `path`: the object with the tokens.
    pub(super) fn apply_names(&mut self, names: &MemberNames, path: &[String]) -> Result<(), SecretProblem> {
        let is_free = |place: &Place| !names.has_place(place);
        self.expiries.retain(|time| is_free(&time.place));
        self.issue_times.retain(|(_, time)| is_free(&time.place));
        self.lifetimes.retain(|lifetime| is_free(&lifetime.place));
        self.response_members.retain(|(_, place)| is_free(place));
        self.google_auth_token = self.google_auth_token.take().filter(is_free);
        self.places.retain(|(member, place)| {
            // Documents of other programs have members of these names, too.
            let is_taken = member.is_of_others_too() && names.iter().any(|(_, named)| named.overlaps(place));
            names.place_of(*member).is_none() && !is_taken
        });
        for (member, place) in names.iter() {
            let name = member.name(Style::CamelCase);
            let own_name = Member::of_name(place.last_name()).map(|(other, _)| other);
            let own_name = own_name.filter(|other| other != member && !other.is_of_others_too());
            let ours = self.places.iter().find(|(_, other)| other.overlaps(place)).map(|(other, _)| *other);
            if let Some(other) = ours.or(own_name.filter(|_| place.path() == path || place.path().is_empty())) {
                let other = other.name(Style::CamelCase);
                return Err(SecretProblem::MemberNames(format!("points `{name}` to the member `{other}`")));
            }
            let of_others = self.expiries.iter().map(|time| &time.place);
            let of_others = of_others.chain(self.issue_times.iter().map(|(_, time)| &time.place));
            let of_others = of_others.chain(self.lifetimes.iter().map(|lifetime| &lifetime.place));
            let mut of_others = of_others.chain(self.response_members.iter().map(|(_, place)| place));
            if let Some(other) = of_others.find(|other| other.overlaps(place)) {
                return Err(SecretProblem::MemberNames(format!("points `{name}` to the member `{other}`")));
            }
        }
        self.places.splice(0..0, names.iter().cloned());
        Ok(())
    }

    /// Takes google-auth's `token` for the access token, if there is no other, and a refresh token.
    pub(super) fn take_google_auth_token(&mut self) {
        if !self.has(Member::AccessToken)
            && self.has(Member::RefreshToken)
            && let Some(token) = self.google_auth_token.take()
        {
            self.places.push((Member::AccessToken, token));
        }
    }

    /// The style of the refresh token's name, or else of the access token's or of the grant type's. Camel case if there is none.
    pub(super) fn style(&self) -> Style {
        let place = |member: Member| self.places.iter().find(|(other, _)| *other == member).map(|(_, place)| place);
        let place =
            place(Member::RefreshToken).or_else(|| place(Member::AccessToken)).or_else(|| place(Member::GrantType));
        if place.is_some_and(|place| place.last_name().contains('_')) { Style::SnakeCase } else { Style::CamelCase }
    }
}

/// A number that is not negative, or digits in a string.
fn number(json: &str) -> Option<f64> {
    let text = unquoted(json).unwrap_or(json);
    let starts_like_one = text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    text.parse().ok().filter(|number: &f64| starts_like_one && number.is_finite())
}
