//! How delivery waits, retries and gives way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    error::AuditError,
    variables::{self, Variables},
};

/// How delivery waits and retries; start from [`DeliveryOptions::default`].
///
/// In a file of settings durations are text, as `30s`; what is left out has its default.
///
/// ```
/// use std::time::Duration;
/// use agent_audit_core::delivery::DeliveryOptions;
///
/// let options = DeliveryOptions::default().with_append_timeout(Duration::from_secs(5));
/// assert_eq!(options.append_timeout, Duration::from_secs(5));
/// assert_eq!(options.longest_retry, Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeliveryOptions {
    /// How long a sink may take for one call, 30 s; then it is called again.
    #[serde(with = "variables::text_duration")]
    pub append_timeout: Duration,
    /// The bound of the delay before the first retry, 100 ms; it doubles with each failure in a row.
    #[serde(with = "variables::text_duration")]
    pub shortest_retry: Duration,
    /// The bound of all delays, 30 s, unless the sink asks for more.
    #[serde(with = "variables::text_duration")]
    pub longest_retry: Duration,
    /// How often a cursor is stored at most, 1 s.
    #[serde(with = "variables::text_duration")]
    pub cursor_interval: Duration,
    /// What happens with an event that a sink refuses for good: [`OnRejected::Halt`].
    pub on_rejected: OnRejected,
    /// How many refused events are kept aside for each sink, 1,000; behind that a refusal halts its
    /// chain, because a sink that refuses that much is set up wrongly.
    pub quarantine_max_events: usize,
    /// How many entries an optional sink may hold back in the journal, 1,000,000.
    pub optional_max_events: u64,
    /// How many bytes an optional sink may hold back in the journal, 1 GiB. Where the journal itself
    /// is bounded, it is never more than half of that.
    pub optional_max_bytes: u64,
    /// How old what an optional sink holds back in the journal may become, 1 day.
    #[serde(with = "variables::text_duration")]
    pub optional_max_age: Duration,
}

/// What happens with an event that a sink refuses for good.
///
/// Either way the events before it are delivered, and other chains go on.
///
/// ```
/// use agent_audit_core::delivery::OnRejected;
/// assert_eq!(OnRejected::default(), OnRejected::Halt);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnRejected {
    /// Its chain is halted there for that sink, and the journal keeps the event and what follows.
    #[default]
    Halt,
    /// It is kept aside in the directory `quarantine`, and its chain goes on behind it; the hole is
    /// listed in [`SinkHealth::missing`](super::SinkHealth::missing). Only sinks that
    /// [accept gaps](crate::sink::SinkInfo::accepts_gaps) take that; for every other sink the chain
    /// is halted all the same.
    Quarantine,
}

/// What depends on a sink.
///
/// ```
/// use agent_audit_core::delivery::Role;
/// assert_ne!(Role::Required, Role::Optional);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The journal keeps what it has not acknowledged, and
    /// [`Durability::Delivered`](crate::log::Durability::Delivered) waits for it.
    Required,
    /// Nobody waits for it, and it holds back the journal within bounds: see
    /// [`DeliveryOptions::optional_max_bytes`].
    Optional,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            append_timeout: Duration::from_secs(30),
            shortest_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(30),
            cursor_interval: Duration::from_secs(1),
            on_rejected: OnRejected::Halt,
            quarantine_max_events: 1_000,
            optional_max_events: 1_000_000,
            optional_max_bytes: 1 << 30,
            optional_max_age: Duration::from_secs(86_400),
        }
    }
}

impl DeliveryOptions {
    /// The defaults, but for what the environment says.
    ///
    /// | variable | sets | as |
    /// |---|---|---|
    /// | `AGENT_AUDIT_APPEND_TIMEOUT` | `append_timeout` | `30s` |
    /// | `AGENT_AUDIT_SHORTEST_RETRY` | `shortest_retry` | `100ms` |
    /// | `AGENT_AUDIT_LONGEST_RETRY` | `longest_retry` | `30s` |
    /// | `AGENT_AUDIT_CURSOR_INTERVAL` | `cursor_interval` | `1s` |
    /// | `AGENT_AUDIT_ON_REJECTED` | `on_rejected` | `halt`, `quarantine` |
    /// | `AGENT_AUDIT_QUARANTINE_MAX_EVENTS` | `quarantine_max_events` | `1000` |
    /// | `AGENT_AUDIT_OPTIONAL_MAX_EVENTS` | `optional_max_events` | `1000000` |
    /// | `AGENT_AUDIT_OPTIONAL_MAX_BYTES` | `optional_max_bytes` | `1GiB` |
    /// | `AGENT_AUDIT_OPTIONAL_MAX_AGE` | `optional_max_age` | `1d` |
    ///
    /// ```
    /// use agent_audit_core::delivery::DeliveryOptions;
    /// // No such variable is set here.
    /// assert_eq!(DeliveryOptions::from_env()?, DeliveryOptions::default());
    /// # Ok::<(), agent_audit_core::error::AuditError>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where a variable does not say what it
    /// should.
    pub fn from_env() -> Result<Self, AuditError> {
        Variables::with_process(Self::from_variables)
    }

    pub(crate) fn from_variables(variables: Variables<'_>) -> Result<Self, AuditError> {
        use variables::{bytes, duration, number, one_of};
        let mut options = Self::default();
        let Self {
            append_timeout,
            shortest_retry,
            longest_retry,
            cursor_interval,
            on_rejected,
            quarantine_max_events,
            optional_max_events,
            optional_max_bytes,
            optional_max_age,
        } = &mut options;
        let choices = [("halt", OnRejected::Halt), ("quarantine", OnRejected::Quarantine)];
        let count =
            |text: &str| number(text).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        variables.set(append_timeout, "AGENT_AUDIT_APPEND_TIMEOUT", duration)?;
        variables.set(shortest_retry, "AGENT_AUDIT_SHORTEST_RETRY", duration)?;
        variables.set(longest_retry, "AGENT_AUDIT_LONGEST_RETRY", duration)?;
        variables.set(cursor_interval, "AGENT_AUDIT_CURSOR_INTERVAL", duration)?;
        variables.set(on_rejected, "AGENT_AUDIT_ON_REJECTED", |text| one_of(&choices, text))?;
        variables.set(quarantine_max_events, "AGENT_AUDIT_QUARANTINE_MAX_EVENTS", count)?;
        variables.set(optional_max_events, "AGENT_AUDIT_OPTIONAL_MAX_EVENTS", number)?;
        variables.set(optional_max_bytes, "AGENT_AUDIT_OPTIONAL_MAX_BYTES", bytes)?;
        variables.set(optional_max_age, "AGENT_AUDIT_OPTIONAL_MAX_AGE", duration)?;
        Ok(options)
    }

    /// Sets [`DeliveryOptions::append_timeout`].
    #[must_use]
    pub fn with_append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout = timeout;
        self
    }

    /// Sets the bounds of the delays before retries.
    #[must_use]
    pub fn with_retries(mut self, shortest: Duration, longest: Duration) -> Self {
        self.shortest_retry = shortest;
        self.longest_retry = longest;
        self
    }

    /// Sets [`DeliveryOptions::cursor_interval`].
    #[must_use]
    pub fn with_cursor_interval(mut self, interval: Duration) -> Self {
        self.cursor_interval = interval;
        self
    }

    /// Sets [`DeliveryOptions::on_rejected`].
    #[must_use]
    pub fn with_on_rejected(mut self, on_rejected: OnRejected) -> Self {
        self.on_rejected = on_rejected;
        self
    }

    /// Sets [`DeliveryOptions::quarantine_max_events`].
    #[must_use]
    pub fn with_quarantine_max_events(mut self, events: usize) -> Self {
        self.quarantine_max_events = events;
        self
    }

    /// Sets how much optional sinks may hold back in the journal.
    #[must_use]
    pub fn with_optional_bounds(mut self, events: u64, bytes: u64, age: Duration) -> Self {
        self.optional_max_events = events;
        self.optional_max_bytes = bytes;
        self.optional_max_age = age;
        self
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn the_environment_sets_what_it_names_and_nothing_else() {
        let lookup = |name: &str| match name {
            "AGENT_AUDIT_APPEND_TIMEOUT" => Some(OsString::from("5s")),
            "AGENT_AUDIT_ON_REJECTED" => Some(OsString::from("quarantine")),
            "AGENT_AUDIT_OPTIONAL_MAX_BYTES" => Some(OsString::from("64MiB")),
            _ => None,
        };
        let options = DeliveryOptions::from_variables(Variables::new(&lookup)).unwrap();
        let expected = DeliveryOptions {
            append_timeout: Duration::from_secs(5),
            on_rejected: OnRejected::Quarantine,
            optional_max_bytes: 64 << 20,
            ..DeliveryOptions::default()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn every_variable_that_is_wrong_is_named_with_its_value() {
        for name in [
            "AGENT_AUDIT_APPEND_TIMEOUT",
            "AGENT_AUDIT_SHORTEST_RETRY",
            "AGENT_AUDIT_LONGEST_RETRY",
            "AGENT_AUDIT_CURSOR_INTERVAL",
            "AGENT_AUDIT_ON_REJECTED",
            "AGENT_AUDIT_QUARANTINE_MAX_EVENTS",
            "AGENT_AUDIT_OPTIONAL_MAX_EVENTS",
            "AGENT_AUDIT_OPTIONAL_MAX_BYTES",
            "AGENT_AUDIT_OPTIONAL_MAX_AGE",
        ] {
            let lookup = |asked: &str| (asked == name).then(|| OsString::from("plenty"));
            let error = DeliveryOptions::from_variables(Variables::new(&lookup)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("plenty"), "{text}");
            assert!(text.contains("expected") && text.contains("unset it"), "{text}");
        }
    }

    #[test]
    fn a_file_of_settings_says_only_what_differs_and_nothing_unknown() {
        let options: DeliveryOptions =
            serde_json::from_str(r#"{"append_timeout":"5s","on_rejected":"quarantine"}"#).unwrap();
        assert_eq!(options.append_timeout, Duration::from_secs(5));
        assert_eq!(options.longest_retry, Duration::from_secs(30));
        let again = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<DeliveryOptions>(&again).unwrap(), options);
        let error = serde_json::from_str::<DeliveryOptions>(r#"{"append_timout":"5s"}"#);
        assert!(error.unwrap_err().to_string().contains("append_timout"));
    }
}
