//! Points in time as the record shows them: RFC 3339, nine fractional digits, always `Z`.

use std::{fmt, str::FromStr, time::SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::{Date, Month, OffsetDateTime, Time};

/// A point in UTC with nanoseconds, from year 1970 to 2262.
///
/// The text form has exactly 30 bytes, `2026-11-23T07:52:56.123456789Z`, so that it sorts as text.
///
/// ```
/// use agent_audit_core::timestamp::Timestamp;
/// let text = "2026-11-23T07:52:56.000000001Z";
/// let at: Timestamp = text.parse()?;
/// assert_eq!(at.to_string(), text);
/// assert_eq!(at.as_nanos() % 1_000_000_000, 1);
/// # Ok::<(), agent_audit_core::timestamp::InvalidTimestamp>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

/// A text that is not a [`Timestamp`].
///
/// ```
/// use agent_audit_core::timestamp::Timestamp;
/// let error = "yesterday".parse::<Timestamp>().unwrap_err();
/// assert!(error.to_string().contains("yesterday"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("timestamp {0:?} is not of the form 2026-11-23T07:52:56.123456789Z between 1970 and 2262")]
pub struct InvalidTimestamp(String);

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// The last nanosecond that fits a signed 64-bit count, as databases keep it.
const MAX: u64 = i64::MAX.unsigned_abs();

impl Timestamp {
    /// The system clock's present time.
    ///
    /// A clock outside 1970 to 2262 is shown as the nearest end of that range.
    #[must_use]
    pub fn now() -> Self {
        let nanos = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(MAX));
        Self(nanos.min(MAX))
    }

    /// The point so many nanoseconds after 1970-01-01T00:00:00Z; values past 2262 become its end.
    #[must_use]
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos.min(MAX))
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z, at most `i64::MAX`.
    #[must_use]
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z as a database keeps them.
    #[must_use]
    pub fn as_nanos_i64(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }

    /// Writes the 30-byte text form.
    pub(crate) fn write_to(self, out: &mut [u8; 30]) {
        let (days, seconds) =
            (self.0 / NANOS_PER_SECOND / 86_400, self.0 / NANOS_PER_SECOND % 86_400);
        let (year, month, day) = civil_from_days(days);
        *out = *b"0000-00-00T00:00:00.000000000Z";
        digits(&mut out[0..4], year);
        digits(&mut out[5..7], month);
        digits(&mut out[8..10], day);
        digits(&mut out[11..13], seconds / 3600);
        digits(&mut out[14..16], seconds / 60 % 60);
        digits(&mut out[17..19], seconds % 60);
        digits(&mut out[20..29], self.0 % NANOS_PER_SECOND);
    }
}

fn digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).expect("a digit is below ten");
        value /= 10;
    }
}

/// Year, month and day of a day count since 1970 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`), for days that are not negative.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, day)
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        parse(text).ok_or_else(|| InvalidTimestamp(text.chars().take(64).collect()))
    }
}

fn parse(text: &str) -> Option<Timestamp> {
    let bytes: &[u8; 30] = text.as_bytes().try_into().ok()?;
    let number = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .try_fold(0u32, |value, b| b.is_ascii_digit().then(|| value * 10 + u32::from(b - b'0')))
    };
    let separators =
        [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (29, b'Z')];
    if separators.iter().any(|&(at, b)| bytes[at] != b) {
        return None;
    }
    let small = |range| number(range).and_then(|n| u8::try_from(n).ok());
    let month = Month::try_from(small(5..7)?).ok()?;
    let date =
        Date::from_calendar_date(i32::try_from(number(0..4)?).ok()?, month, small(8..10)?).ok()?;
    let time = Time::from_hms_nano(small(11..13)?, small(14..16)?, small(17..19)?, number(20..29)?)
        .ok()?;
    let nanos = OffsetDateTime::new_utc(date, time).unix_timestamp_nanos();
    u64::try_from(nanos).ok().filter(|&nanos| nanos <= MAX).map(Timestamp)
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 30];
        self.write_to(&mut text);
        f.write_str(std::str::from_utf8(&text).expect("digits and separators are ASCII"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_back(nanos in 0..=MAX) {
            let at = Timestamp::from_nanos(nanos);
            prop_assert_eq!(at.to_string().parse::<Timestamp>().ok(), Some(at));
        }
    }

    #[test]
    fn only_one_spelling_is_read() {
        for wrong in [
            "2026-11-23T07:52:56Z",
            "2026-11-23T07:52:56.123456789+00:00",
            "2026-02-30T07:52:56.123456789Z",
            "2026-11-23t07:52:56.123456789Z",
            "1969-12-31T23:59:59.999999999Z",
            "2026-11-23T07:52:60.000000000Z",
            "",
        ] {
            assert!(wrong.parse::<Timestamp>().is_err(), "{wrong}");
        }
    }
}
