//! The forms in which people write a point in time, read and written back as they were found.

use chrono::{DateTime, Datelike, FixedOffset, SecondsFormat, TimeDelta, Utc};

use super::document::json_string;

/// A number from here on counts milliseconds, below it seconds (10^11 seconds is the year 5138).
const FIRST_MILLISECONDS: f64 = 1e11;

/// How a point in time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// A JSON number.
    Number(Unit),
    /// A JSON string of digits.
    Digits(Unit),
    /// An RFC 3339 string.
    Rfc3339 {
        /// The offset it is given in; `None` is `Z`.
        offset: Option<FixedOffset>,
        /// How many digits of a second's fraction it has.
        fraction: SecondsFormat,
    },
}

/// What a plain number counts since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
}

impl TimeForm {
    /// The form for a time that was never written before.
    pub const DEFAULT: Self = Self::Number(Unit::Milliseconds);

    /// Reads the JSON text of a time and the form it is in. `None`: it is no point in time, or not one of the years 0 to
    /// 9999, the ones that RFC 3339 can write.
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

    /// The JSON text of a time in this form; what the form cannot hold is cut off.
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

    /// The JSON text of `time`, or of the first moment this form can tell from `previous` where `time` is not later.
    #[must_use]
    pub fn write_later(self, time: DateTime<Utc>, previous: Option<DateTime<Utc>>) -> String {
        let written = self.write(time);
        let Some(previous) = previous else { return written };
        match Self::read(&written) {
            Some((read, _)) if read > previous => written,
            _ => self.write(previous + self.resolution()),
        }
    }

    /// The smallest step that shows in this form.
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
    // A float holds every millisecond of the next 280,000 years exactly, and some languages write whole numbers as
    // floats, or seconds with a fraction (Python's `time.time()`).
    let number: f64 = number.parse().ok()?;
    let (milliseconds, unit) =
        if number >= FIRST_MILLISECONDS { (number, Unit::Milliseconds) } else { (number * 1000.0, Unit::Seconds) };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the cast saturates, and chrono refuses what is out of its range"
    )]
    let time = DateTime::from_timestamp_millis(milliseconds.round() as i64)?;
    Some((time, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_back_as_it_was_found() {
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
    fn what_is_no_point_in_time_is_refused() {
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
    fn a_later_time_is_written_later_in_every_form_however_coarse() {
        for (json, same, later) in [
            ("1767225600000", "1767225600001", "1767225605000"),
            ("1767225600", "1767225601", "1767225605"),
            (r#""1767225600""#, r#""1767225601""#, r#""1767225605""#),
            (r#""2026-01-01T00:00:00Z""#, r#""2026-01-01T00:00:01Z""#, r#""2026-01-01T00:00:05Z""#),
            (r#""2026-01-01T00:00:00.000Z""#, r#""2026-01-01T00:00:00.001Z""#, r#""2026-01-01T00:00:05.000Z""#),
        ] {
            let (time, form) = TimeForm::read(json).unwrap();
            assert_eq!(form.write_later(time, None), json, "nothing before");
            assert_eq!(form.write_later(time, Some(time)), same, "the clock stood still");
            assert_eq!(form.write_later(time - TimeDelta::hours(1), Some(time)), same, "the clock went back");
            assert_eq!(form.write_later(time + TimeDelta::seconds(5), Some(time)), later, "time has passed");
        }
    }
}
