//! Times as a person gives and reads them.

use agent_audit_core::timestamp::Timestamp;
use jiff::{SignedDuration, civil, tz::TimeZone};

use crate::failure::Failure;

/// The zone that times are given and shown in.
#[derive(Debug, Clone)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    pub(crate) fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    /// The zone of this machine; UTC where it has none.
    pub(crate) fn local() -> Self {
        Self(TimeZone::try_system().unwrap_or(TimeZone::UTC))
    }

    /// A time that was recorded: to the millisecond, with the offset from UTC.
    pub(crate) fn show(&self, nanos: i64) -> String {
        let time = jiff::Timestamp::from_nanosecond(nanos.into()).unwrap_or_default();
        let shown = time.to_zoned_datetime(self.0.clone());
        if self.0 == TimeZone::UTC {
            return shown.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string();
        }
        shown.strftime("%Y-%m-%d %H:%M:%S%.3f%:z").to_string()
    }

    /// A time as a person gives it: a date, a time, or how long ago.
    pub(crate) fn parse(&self, option: &str, text: &str) -> Result<Timestamp, Failure> {
        let time = text
            .parse::<jiff::Timestamp>()
            .ok()
            .or_else(|| self.parse_local(text))
            .or_else(|| ago(text))
            .ok_or_else(|| {
                Failure::new(format!(
                    "{option} `{text}` is no time: give a date as 2026-11-01, a time as \
                     2026-11-01T09:30:00Z or 2026-11-01T09:30, or how long ago as 7d, 36h or 90m"
                ))
            })?;
        let nanos = u64::try_from(time.as_nanosecond()).map_err(|_| {
            Failure::new(format!("{option} `{text}` is before 1970: nothing was recorded then"))
        })?;
        Ok(Timestamp::from_nanos(nanos))
    }

    fn parse_local(&self, text: &str) -> Option<jiff::Timestamp> {
        let time = match text.parse::<civil::Date>() {
            // A date is its beginning; what has a time as well is not a date alone.
            Ok(date) if !text.contains(['T', ' ', ':']) => {
                date.to_datetime(civil::Time::midnight())
            }
            _ => text.parse::<civil::DateTime>().ok()?,
        };
        Some(time.to_zoned_datetime(self.0.clone()).ok()?.timestamp())
    }
}

fn ago(text: &str) -> Option<jiff::Timestamp> {
    let number: i64 = text.get(..text.len().checked_sub(1)?)?.parse().ok().filter(|n| *n >= 0)?;
    let hours = match text.chars().last()? {
        'm' => return jiff::Timestamp::now().checked_sub(SignedDuration::from_mins(number)).ok(),
        'h' => number,
        'd' => number.checked_mul(24)?,
        'w' => number.checked_mul(24 * 7)?,
        _ => return None,
    };
    // More hours than a timestamp can hold are refused by the subtraction.
    let hours = SignedDuration::try_from_hours(hours)?;
    jiff::Timestamp::now().checked_sub(hours).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone(TimeZone::fixed(jiff::tz::offset(2)))
    }

    #[test]
    fn times_are_taken_in_every_form_that_the_help_names() {
        let parse = |text| zone().parse("--since", text).unwrap().to_string();
        assert_eq!(parse("2026-11-01"), "2026-10-31T22:00:00.000000000Z");
        assert_eq!(parse("2026-11-01T09:30"), "2026-11-01T07:30:00.000000000Z");
        assert_eq!(parse("2026-11-01T09:30:00Z"), "2026-11-01T09:30:00.000000000Z");
        assert_eq!(parse("2026-11-01T09:30:00+05:00"), "2026-11-01T04:30:00.000000000Z");
        assert!(zone().parse("--since", "7d").unwrap() < zone().parse("--since", "36h").unwrap());
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in
            ["", "d", "yesterday", "2026-13-01", "-5d", "99999999999999999d", "1900-01-01", "é"]
        {
            let error = zone().parse("--until", text).unwrap_err().to_string();
            assert!(error.contains("--until") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn times_are_shown_with_their_offset() {
        let nanos = 1_793_500_000_123_000_000;
        assert_eq!(zone().show(nanos), "2026-11-01 04:26:40.123+02:00");
        assert_eq!(Zone::utc().show(nanos), "2026-11-01 02:26:40.123Z");
    }
}
