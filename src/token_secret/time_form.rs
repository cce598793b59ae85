//! The forms of a point in time in a token secret. A time is written back in the form in which it was read.

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, TimeDelta, Utc};

use super::document::json_string;

/// A number from here on is in milliseconds, a smaller one in seconds (10^11 seconds is the year 5138).
const MIN_MILLISECONDS: f64 = 1e11;

/// The form of a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// A JSON number.
    Number(Unit),
    /// A JSON string of digits.
    Digits(Unit),
    /// An RFC 3339 string.
    Rfc3339 {
        /// The offset from UTC; `None` is `Z`.
        offset: Option<FixedOffset>,
        /// The number of digits of the fraction of a second.
        fraction: SecondsFormat,
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

impl TimeForm {
    /// The form of a time that the secret does not contain yet.
    pub const DEFAULT: Self = Self::Number(Unit::Milliseconds);

    /// Reads the JSON text of a time, and its form. `None`: it is not a point in time, or its year is not from 0 to 9999, the years
    /// of RFC 3339.
    #[must_use]
    pub fn read(json: &str) -> Option<(DateTime<Utc>, Self)> {
        Self::read_any(json).filter(|(time, _)| (0..=9999).contains(&time.year()))
    }

    fn read_any(json: &str) -> Option<(DateTime<Utc>, Self)> {
        let Some(b'"') = json.as_bytes().first() else {
            let (time, unit) = since_epoch(json)?;
            return Some((time, Self::Number(unit)));
        };
        let text: String = serde_json::from_str(json).ok()?;
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            let (time, unit) = since_epoch(&text)?;
            return Some((time, Self::Digits(unit)));
        }
        let time = DateTime::parse_from_rfc3339(&text).ok()?;
        let fraction_digits =
            text.split_once('.').map_or(0, |(_, rest)| rest.bytes().take_while(u8::is_ascii_digit).count());
        let fraction = match fraction_digits {
            0 => SecondsFormat::Secs,
            1..=3 => SecondsFormat::Millis,
            4..=6 => SecondsFormat::Micros,
            _ => SecondsFormat::Nanos,
        };
        let offset = (!text.ends_with(['Z', 'z'])).then(|| *time.offset());
        Some((time.to_utc(), Self::Rfc3339 { offset, fraction }))
    }

    /// The JSON text of a time in this form. Digits that the form does not have are cut off.
    #[must_use]
    pub fn write(self, time: DateTime<Utc>) -> String {
        match self {
            Self::Number(Unit::Milliseconds) => time.timestamp_millis().to_string(),
            Self::Number(Unit::Seconds) => time.timestamp().to_string(),
            Self::Digits(unit) => json_string(&Self::Number(unit).write(time)),
            Self::Rfc3339 { offset: None, fraction } => json_string(&time.to_rfc3339_opts(fraction, true)),
            Self::Rfc3339 { offset: Some(offset), fraction } => {
                json_string(&time.with_timezone(&offset).to_rfc3339_opts(fraction, false))
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
            Self::Number(Unit::Seconds)
            | Self::Digits(Unit::Seconds)
            | Self::Rfc3339 { fraction: SecondsFormat::Secs, .. } => TimeDelta::seconds(1),
            _ => TimeDelta::milliseconds(1),
        }
    }
}

fn since_epoch(number: &str) -> Option<(DateTime<Utc>, Unit)> {
    // A float can represent every millisecond of the next 280,000 years. Some languages write whole numbers as floats, or seconds
    // with a fraction (Python's `time.time()`).
    let number: f64 = number.parse().ok()?;
    let (milliseconds, unit) =
        if number >= MIN_MILLISECONDS { (number, Unit::Milliseconds) } else { (number * 1000.0, Unit::Seconds) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and chrono rejects a value out of its range"
    )]
    let time = DateTime::from_timestamp_millis(milliseconds.round() as i64)?;
    Some((time, unit))
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
        ] {
            let (time, form) = TimeForm::read(json).unwrap();
            assert_eq!(time.timestamp_millis(), milliseconds, "{json}");
            assert_eq!(form.write(time), json, "{form:?}");
        }
    }

    #[test]
    fn floats_are_read_and_written_back_as_whole_numbers() {
        for (json, milliseconds, written) in
            [("1767225600.123", 1_767_225_600_123, "1767225600"), ("1.7672256e12", 1_767_225_600_000, "1767225600000")]
        {
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
            r#""2026-01-01T00:00:00""#,
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
