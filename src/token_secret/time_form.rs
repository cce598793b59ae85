//! The forms of a point in time in a token secret. A time is written back in the form in which it was read.

use chrono::{DateTime, Datelike, FixedOffset, NaiveDateTime, TimeDelta, Utc};

use super::{
    document::{json_string, unquoted},
    member::Style,
};

/// A number from here on is in milliseconds, a smaller one in seconds (10^11 seconds is the year 5138).
const MIN_MILLISECONDS: f64 = 1e11;

/// The form of a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// A JSON number, with this many digits after the point.
    Number(Unit, u8),
    /// A JSON string of digits.
    Digits(Unit),
    /// A JSON string: an RFC 3339 time, or one without a zone.
    Text {
        /// What follows the seconds.
        zone: Zone,
        /// Whether a blank separates date and time, as in Python's `str(datetime)`.
        is_blank_separated: bool,
        /// The number of digits of the fraction of a second, at most nine.
        decimals: u8,
    },
}

/// The unit of a number since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

/// The zone of a time in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// `Z`.
    Utc,
    /// An offset, such as `+01:00`.
    Offset(FixedOffset),
    /// None: the time is in UTC.
    Unnamed,
}

/// chrono reads no more digits of a second.
const MAX_TEXT_DECIMALS: u8 = 9;

/// The digits after the point of a number that are kept: more say nothing.
const MAX_DECIMALS: u8 = 6;

impl TimeForm {
    /// The form of a time that a document does not contain yet: seconds in RFC 6749's style.
    #[must_use]
    pub const fn of_style(style: Style, is_all_text: bool) -> Self {
        let unit = match style {
            Style::CamelCase => Unit::Milliseconds,
            Style::SnakeCase => Unit::Seconds,
        };
        if is_all_text { Self::Digits(unit) } else { Self::Number(unit, 0) }
    }

    /// Reads the JSON text of a time, and its form. `None`: it is not a point in time, or its year is not from 0 to 9999, the years
    /// of RFC 3339.
    #[must_use]
    pub fn read(json: &str) -> Option<(DateTime<Utc>, Self)> {
        Self::read_any(json).filter(|(time, _)| (0..=9999).contains(&time.year()))
    }

    /// The same, and numbers are always in this unit.
    #[must_use]
    pub fn read_in(json: &str, unit: Unit) -> Option<(DateTime<Utc>, Self)> {
        let (text, is_digits) = unquoted(json).map_or((json, false), |text| (text, true));
        if !text.as_bytes().first().is_some_and(u8::is_ascii_digit) {
            return None;
        }
        let time = in_unit(text.parse().ok()?, unit)?;
        let form = if is_digits { Self::Digits(unit) } else { Self::Number(unit, decimals(text)) };
        (0..=9999).contains(&time.year()).then_some((time, form))
    }

    fn read_any(json: &str) -> Option<(DateTime<Utc>, Self)> {
        let Some(b'"') = json.as_bytes().first() else {
            let (time, unit) = since_epoch(json)?;
            return Some((time, Self::Number(unit, decimals(json))));
        };
        let text: String = serde_json::from_str(json).ok()?;
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let (time, unit) = since_epoch(&text)?;
            return Some((time, Self::Digits(unit)));
        }
        let is_blank_separated = text.as_bytes().get(10) == Some(&b' ');
        let (time, zone) = match DateTime::parse_from_rfc3339(&text) {
            Ok(time) if text.ends_with(['Z', 'z']) => (time.to_utc(), Zone::Utc),
            Ok(time) => (time.to_utc(), Zone::Offset(*time.offset())),
            Err(_) => {
                let form = if is_blank_separated { "%Y-%m-%d %H:%M:%S%.f" } else { "%Y-%m-%dT%H:%M:%S%.f" };
                (NaiveDateTime::parse_from_str(&text, form).ok()?.and_utc(), Zone::Unnamed)
            }
        };
        let digits = text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
        let decimals = u8::try_from(digits).unwrap_or(MAX_TEXT_DECIMALS).min(MAX_TEXT_DECIMALS);
        Some((time, Self::Text { zone, is_blank_separated, decimals }))
    }

    /// The JSON text of a time in this form. Digits that the form does not have are cut off.
    #[must_use]
    pub fn write(self, time: DateTime<Utc>) -> String {
        match self {
            Self::Number(unit, 0) => whole(time, unit).to_string(),
            Self::Number(Unit::Milliseconds, decimals) => {
                let fraction = time.timestamp_subsec_nanos() % 1_000_000;
                with_decimals(time.timestamp_millis(), fraction, 6, decimals)
            }
            Self::Number(Unit::Seconds, decimals) => {
                with_decimals(time.timestamp(), time.timestamp_subsec_nanos(), 9, decimals)
            }
            Self::Digits(unit) => json_string(&whole(time, unit).to_string()),
            Self::Text { zone, is_blank_separated, decimals } => {
                let (local, suffix) = match zone {
                    Zone::Utc => (time.naive_utc(), "Z".to_owned()),
                    Zone::Unnamed => (time.naive_utc(), String::new()),
                    Zone::Offset(offset) => (time.with_timezone(&offset).naive_local(), offset.to_string()),
                };
                let separator = if is_blank_separated { ' ' } else { 'T' };
                let mut text = format!("{}{separator}{}", local.format("%Y-%m-%d"), local.format("%H:%M:%S"));
                if decimals > 0 {
                    let digits = format!("{:09}", time.timestamp_subsec_nanos());
                    text = format!("{text}.{}", &digits[..usize::from(decimals)]);
                }
                json_string(&(text + &suffix))
            }
        }
    }

    /// The JSON text of `time`. If that is not later than `previous` in this form, the next later time that the form can express.
    #[must_use]
    pub fn write_later(self, time: DateTime<Utc>, previous: Option<DateTime<Utc>>) -> String {
        let written = self.write(time);
        let Some(previous) = previous else { return written };
        match Self::read(&written) {
            Some((read, _)) if read > previous => written,
            _ => self.write(previous + self.resolution()),
        }
    }

    /// The smallest difference that this form can express, but at least a millisecond.
    fn resolution(self) -> TimeDelta {
        match self {
            Self::Number(Unit::Seconds, decimals @ 0..=2) | Self::Text { decimals: decimals @ 0..=2, .. } => {
                TimeDelta::milliseconds([1000, 100, 10][usize::from(decimals)])
            }
            Self::Digits(Unit::Seconds) => TimeDelta::seconds(1),
            _ => TimeDelta::milliseconds(1),
        }
    }
}

fn whole(time: DateTime<Utc>, unit: Unit) -> i64 {
    match unit {
        Unit::Milliseconds => time.timestamp_millis(),
        Unit::Seconds => time.timestamp(),
    }
}

/// A number with some of the digits of its fraction, which has `digits` of them.
fn with_decimals(whole: i64, fraction: u32, digits: u32, decimals: u8) -> String {
    let decimals = u32::from(decimals);
    let fraction = fraction / 10_u32.pow(digits - decimals);
    format!("{whole}.{fraction:0width$}", width = decimals as usize)
}

/// How many digits after the point a number is written with. 0 with an exponent.
fn decimals(number: &str) -> u8 {
    let Some((_, fraction)) = number.split_once('.') else { return 0 };
    let is_plain = fraction.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { u8::try_from(fraction.len()).unwrap_or(MAX_DECIMALS).min(MAX_DECIMALS) } else { 0 }
}

fn since_epoch(number: &str) -> Option<(DateTime<Utc>, Unit)> {
    // A float can represent every millisecond of the next 280,000 years. Some languages write whole numbers as floats, or seconds
    // with a fraction (Python's `time.time()`).
    let number: f64 = number.parse().ok()?;
    let unit = if number >= MIN_MILLISECONDS { Unit::Milliseconds } else { Unit::Seconds };
    Some((in_unit(number, unit)?, unit))
}

fn in_unit(number: f64, unit: Unit) -> Option<DateTime<Utc>> {
    let milliseconds = if unit == Unit::Milliseconds { number } else { number * 1000.0 };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and chrono rejects a value out of its range"
    )]
    DateTime::from_timestamp_millis(milliseconds.round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_written_back_as_it_was_read() {
        for (json, milliseconds) in [
            ("1767225600000", 1_767_225_600_000),
            ("1767225600123", 1_767_225_600_123),
            ("1767225600", 1_767_225_600_000),
            ("100000000000", 100_000_000_000),
            ("99999999999", 99_999_999_999_000),
            ("-5", -5_000),
            ("253402300799999", 253_402_300_799_999),
            (r#""1767225600000""#, 1_767_225_600_000),
            (r#""1767225600""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00Z""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00.000Z""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00.123456Z""#, 1_767_225_600_123),
            (r#""2026-01-01T01:00:00+01:00""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00+00:00""#, 1_767_225_600_000),
            (r#""2026-01-01 00:00:00+00:00""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00""#, 1_767_225_600_000),
            (r#""2026-01-01T00:00:00.123456""#, 1_767_225_600_123),
            (r#""2026-01-01 00:00:00.123""#, 1_767_225_600_123),
            (r#""2026-01-01T00:00:00.1Z""#, 1_767_225_600_100),
            (r#""2026-01-01T00:00:00.12+00:30""#, 1_767_223_800_120),
            (r#""2026-01-01T00:00:00.1234567Z""#, 1_767_225_600_123),
            (r#""2025-12-31T12:00:00.123456789-12:00""#, 1_767_225_600_123),
            (r#""0001-01-01T00:00:00Z""#, -62_135_596_800_000),
            ("1767225600.0", 1_767_225_600_000),
            ("1767225600.123", 1_767_225_600_123),
            ("1767225600123.0", 1_767_225_600_123),
        ] {
            let (time, form) = TimeForm::read(json).unwrap();
            assert_eq!(time.timestamp_millis(), milliseconds, "{json}");
            assert_eq!(form.write(time), json, "{form:?}");
        }
    }

    #[test]
    fn what_a_number_cannot_keep_is_cut_off() {
        for (json, milliseconds, written) in [
            ("1.7672256e12", 1_767_225_600_000, "1767225600000"),
            ("1767225600.1234567", 1_767_225_600_123, "1767225600.123000"),
        ] {
            let (time, form) = TimeForm::read(json).unwrap();
            assert_eq!((time.timestamp_millis(), form.write(time).as_str()), (milliseconds, written), "{json}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_point_in_time_is_rejected() {
        for json in [
            "true",
            "null",
            "{}",
            "[1]",
            r#""""#,
            r#""soon""#,
            r#""12 h""#,
            r#""-5""#,
            r#""2026-01-01""#,
            r#""2026-01-01T00:00""#,
            r#""2026-01-01 soon""#,
            "1e300",
            "-1e300",
            r#""99999999999999999999""#,
            "253402300800000",
            "99999999999999e1",
        ] {
            assert_eq!(TimeForm::read(json), None, "{json}");
        }
    }

    #[test]
    fn a_time_is_written_later_than_the_previous_one_in_every_form() {
        for (json, same, later) in [
            ("1767225600000", "1767225600001", "1767225605000"),
            ("1767225600", "1767225601", "1767225605"),
            (r#""1767225600""#, r#""1767225601""#, r#""1767225605""#),
            ("1767225600.00", "1767225600.01", "1767225605.00"),
            ("1767225600.0000", "1767225600.0010", "1767225605.0000"),
            (r#""2026-01-01T00:00:00""#, r#""2026-01-01T00:00:01""#, r#""2026-01-01T00:00:05""#),
            (r#""2026-01-01T00:00:00.0Z""#, r#""2026-01-01T00:00:00.1Z""#, r#""2026-01-01T00:00:05.0Z""#),
            (r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T00:00:01Z""#, r#""2026-01-01T00:00:05Z""#),
            (r#""2026-01-01T00:00:00.000Z""#, r#""2026-01-01T00:00:00.001Z""#, r#""2026-01-01T00:00:05.000Z""#),
        ] {
            let (time, form) = TimeForm::read(json).unwrap();
            assert_eq!(form.write_later(time, None), json, "no previous time");
            assert_eq!(form.write_later(time, Some(time)), same, "the clock stood still");
            assert_eq!(form.write_later(time - TimeDelta::hours(1), Some(time)), same, "the clock went back");
            assert_eq!(form.write_later(time + TimeDelta::seconds(5), Some(time)), later, "time has passed");
        }
    }
}
