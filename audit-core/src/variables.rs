//! Settings from the environment: one variable, one value, and an error that names both.

use std::{ffi::OsString, fmt, time::Duration};

use serde::{Deserializer, Serializer};

use crate::error::AuditError;

/// Where settings are looked up by name.
#[derive(Clone, Copy)]
pub(crate) struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl<'a> Variables<'a> {
    #[cfg(test)]
    pub(crate) fn new(lookup: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self(lookup)
    }

    /// Runs with the variables of this process.
    pub(crate) fn with_process<T>(run: impl FnOnce(Variables<'_>) -> T) -> T {
        run(Variables(&|name| std::env::var_os(name)))
    }

    /// What a variable says; none where it is missing or empty.
    ///
    /// # Errors
    /// Where it does not say what it should: `parse` then says what that is.
    pub(crate) fn read<T>(
        self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, AuditError> {
        let Some(value) = (self.0)(name).filter(|value| !value.is_empty()) else { return Ok(None) };
        let shown: String = value.to_string_lossy().chars().take(64).collect();
        let parsed = match value.to_str() {
            Some(text) => parse(text.trim()),
            None => Err("expected text in UTF-8".to_owned()),
        };
        parsed.map(Some).map_err(|expected| {
            AuditError::invalid(format!(
                "the environment variable {name} is {shown:?}: {expected}; change it or unset it"
            ))
        })
    }

    /// Replaces a setting if a variable says something else.
    pub(crate) fn set<T>(
        self,
        setting: &mut T,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<(), AuditError> {
        if let Some(value) = self.read(name, parse)? {
            *setting = value;
        }
        Ok(())
    }
}

impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A duration as people write it: `250ms`, `30s`, `5m`, `12h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration as `250ms`, `30s`, `5m`, `12h` or `7d`".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].trim();
    let number: u64 = digits.trim().parse().map_err(|_| expected())?;
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(expected)
}

/// A number of bytes as people write it: `1048576`, `512KiB`, `64MiB`, `2GiB`.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected bytes as `1048576`, `512KiB`, `64MiB` or `2GiB`".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1_u64 << 40,
        _ => return Err(expected()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| expected())?;
    number.checked_mul(factor).ok_or_else(expected)
}

/// A whole number.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a whole number".to_owned())
}

/// One of a few words.
pub(crate) fn one_of<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("expected {}", known.join(" or "))
    })
}

/// A duration in a file of settings: the text form, to whole milliseconds.
pub(crate) mod text_duration {
    use super::{Deserializer, Duration, Serializer, duration};
    use serde::{Deserialize as _, de::Error as _};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(&super::text(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(input)?;
        duration(&text).map_err(D::Error::custom)
    }
}

fn text(value: Duration) -> String {
    let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let whole = |(_, unit): &&(&str, u64)| millis.is_multiple_of(*unit);
    // Nothing is 0 of the largest unit that fits, so that 0 is `0ms`.
    let (name, unit) = match millis {
        0 => UNITS[0],
        _ => *UNITS.iter().rev().find(whole).unwrap_or(&UNITS[0]),
    };
    format!("{}{name}", millis / unit)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_as_written() {
        for (written, millis) in
            [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000), ("0s", 0)]
        {
            assert_eq!(duration(written), Ok(Duration::from_millis(millis)), "{written}");
        }
        for (written, size) in [("7", 7), ("7B", 7), ("2KiB", 2048), ("1GiB", 1 << 30)] {
            assert_eq!(bytes(written), Ok(size), "{written}");
        }
        for wrong in ["", "s", "5", "5 years", "-1s", "18446744073709551615d", "1.5s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "KiB", "5kb", "-1", "99999999999TiB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_duration_survives_its_text() {
        for millis in [0, 1, 999, 1_000, 90_000, 60_000, 3_600_000, 86_400_000, 90_061_001] {
            let value = Duration::from_millis(millis);
            assert_eq!(duration(&text(value)), Ok(value), "{}", text(value));
        }
        assert_eq!(text(Duration::from_secs(1800)), "30m");
    }

    #[test]
    fn an_error_names_the_variable_the_value_and_the_way_out() {
        let lookup = |name: &str| (name == "X").then(|| OsString::from("soon"));
        let error = Variables::new(&lookup).read("X", duration).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the environment variable X is \"soon\": expected a duration as `250ms`, `30s`, `5m`, \
             `12h` or `7d`; change it or unset it"
        );
        assert_eq!(Variables::new(&lookup).read("Y", duration).unwrap(), None);
    }
}
