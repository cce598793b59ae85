//! How long tokens live, in all the ways that providers say it. Pure.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use crate::token_secret::document::Document;

/// No token lives longer. A number above it is in another unit, or a mistake.
const MAX_LIFETIME: TimeDelta = TimeDelta::days(3_653);

/// No time that is further off is accepted. No calculation with it overflows.
pub(super) const HUNDRED_YEARS: TimeDelta = TimeDelta::days(36_525);

/// A number from here on is a point in time in seconds (2001), and from [`MIN_MILLISECONDS`] on in milliseconds. No lifetime is so long.
const MIN_POINT_IN_TIME: f64 = 1e9;
const MIN_MILLISECONDS: f64 = 1e11;

/// The members that say how long an access token lives, in order of precedence.
const ACCESS_TOKEN: [&str; 20] = [
    "expires_in_sec", // beside an `expires_in` in milliseconds (seen with Google's OAuth2 library for Apps Script)
    "expires_in_secs",
    "expires_in_seconds",
    "expiresInSec",
    "expiresInSeconds",
    "expires_in", // RFC 6749
    "expiresIn",  // IAM Identity Center
    "expires_at", // Square
    "expiresAt",
    "expires_on", // Entra, version 1
    "expiresOn",
    "expires", // Eclipse Dataspace Components
    "expirationTime",
    "expiration_time",
    "expiration",
    "expiryDate",
    "expiry_date",
    "expiry",
    "accessTokenExpiresAt",
    "access_token_expires_at",
];

/// The same for a refresh token.
const REFRESH_TOKEN: [&str; 9] = [
    "refresh_token_expires_in", // GitHub
    "refreshTokenExpiresIn",
    "x_refresh_token_expires_in", // QuickBooks
    "refresh_expires_in",         // Keycloak
    "refreshExpiresIn",
    "refresh_token_expires_at",
    "refreshTokenExpiresAt",
    "refresh_expires_at",
    "refreshExpiresAt",
];

/// When a token ends, as a response says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// So long after the request.
    In(TimeDelta),
    At(DateTime<Utc>),
}

impl End {
    /// The lifetime from `sent_at` on.
    pub fn lifetime(self, sent_at: DateTime<Utc>) -> TimeDelta {
        match self {
            Self::In(lifetime) => lifetime,
            Self::At(time) => time - sent_at,
        }
    }
}

/// Whether a token can live so long.
pub(super) fn is_possible(lifetime: TimeDelta) -> bool {
    TimeDelta::zero() < lifetime && lifetime <= MAX_LIFETIME
}

/// When the access token ends, and the member that says so: the first one with a possible end, otherwise the first one at all.
pub(super) fn access_token_end(document: &Document, sent_at: DateTime<Utc>) -> Option<(&'static str, End)> {
    let ends = || ACCESS_TOKEN.into_iter().filter_map(|name| Some((name, parse_end(document.get(name)?)?)));
    ends().find(|(_, end)| is_possible(end.lifetime(sent_at))).or_else(|| ends().next())
}

/// When the refresh token ends. Zero means never (Keycloak).
pub(super) fn refresh_token_end(document: &Document) -> Option<End> {
    REFRESH_TOKEN.into_iter().find_map(|name| parse_end(document.get(name)?))
}

/// The members that `tokenResponse` leaves out. `used`: the one that says when the access token ends.
pub(super) fn members_not_stored(used: Option<&'static str>) -> impl Iterator<Item = &'static str> {
    REFRESH_TOKEN.into_iter().chain(["expires_in", "expiresIn"]).chain(used)
}

/// A number, a string with a number, or a date.
fn parse_end(json: &str) -> Option<End> {
    let text = serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then(|| from_number(number));
    }
    date(text).map(End::At)
}

fn from_number(number: f64) -> End {
    let milliseconds = if number >= MIN_MILLISECONDS { number } else { number * 1000.0 };
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and what is too long is not believed")]
    let milliseconds = milliseconds as i64;
    if number >= MIN_POINT_IN_TIME {
        DateTime::from_timestamp_millis(milliseconds).map_or(End::In(TimeDelta::MAX), End::At)
    } else {
        End::In(TimeDelta::try_milliseconds(milliseconds).unwrap_or(TimeDelta::zero()))
    }
}

/// RFC 3339, the same without an offset (UTC), or the date of an HTTP header.
fn date(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc2822(text)) {
        return Some(time.to_utc());
    }
    let naive = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    naive.into_iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok()).map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const SENT_AT: i64 = 1_767_225_600;

    fn sent_at() -> DateTime<Utc> {
        DateTime::from_timestamp(SENT_AT, 0).unwrap()
    }

    fn seconds(members: &str) -> Option<i64> {
        let document = Document::parse(&format!("{{{members}}}")).unwrap();
        access_token_end(&document, sent_at()).map(|(_, end)| end.lifetime(sent_at()).num_seconds())
    }

    #[test]
    fn a_lifetime_is_read_from_every_form_of_a_number_and_a_date() {
        for (members, lifetime) in [
            ("", None),
            (r#""expires_in":"soon""#, None),
            (r#""expires_in":null"#, None),
            (r#""expires_in":{}"#, None),
            (r#""expires_in":60"#, Some(60)),
            (r#""expires_in":60.9"#, Some(60)),
            (r#""expires_in":" 60 ""#, Some(60)),
            (r#""expires_in":0"#, Some(0)),
            (r#""expires_in":-1"#, Some(-1)),
            (r#""expiresIn":300"#, Some(300)),
            (r#""expires_in":3600000,"expires_in_sec":3600"#, Some(3600)),
            (r#""expires":300"#, Some(300)),
            (r#""expires":1767226200"#, Some(600)),
            (r#""expires_at":1767226200,"expires_in":20566"#, Some(20_566)),
            (r#""expires_at":"2026-01-31T00:00:00Z""#, Some(30 * 86_400)),
            (r#""expires_at":"2026-01-01T02:00:00+01:00""#, Some(3600)),
            (r#""expires_in":"2026-01-01T00:20:00Z""#, Some(1200)),
            (r#""expires_in":"2026-01-01T00:20:00""#, Some(1200)),
            (r#""expires_in":"2026-01-01 00:20:00.5""#, Some(1200)),
            (r#""expires_in":"Thu, 01 Jan 2026 00:20:00 GMT""#, Some(1200)),
            (r#""expires_on":"1767229199""#, Some(3599)),
            (r#""expirationTime":1767226200000"#, Some(600)),
            (r#""expires_in":999999999"#, Some(999_999_999)),
            (r#""expires_in":1000000000"#, Some(1_000_000_000 - SENT_AT)),
            // An impossible lifetime does not hide a possible one.
            (r#""expires_in":0,"expires_at":1767226200"#, Some(600)),
            (r#""expires_in":99999999999,"expires_at":1767226200"#, Some(600)),
        ] {
            assert_eq!(seconds(members), lifetime, "{members}");
        }
    }

    #[test]
    fn a_lifetime_of_more_than_ten_years_or_in_the_past_is_impossible() {
        let ten_years = 3_653 * 86_400;
        for (seconds, expected) in [(-1, false), (0, false), (1, true), (ten_years, true), (ten_years + 1, false)] {
            assert_eq!(is_possible(TimeDelta::seconds(seconds)), expected, "{seconds}");
        }
        for number in [1e18, 1e300, -1e300] {
            assert!(!is_possible(from_number(number).lifetime(sent_at())), "{number}");
        }
    }
}
