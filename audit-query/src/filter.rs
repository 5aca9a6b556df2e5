//! Which events are asked about.

use std::{borrow::Cow, collections::BTreeSet};

use agent_audit_core::{
    columns::{COLUMNS, Columns, Value},
    id::{AgentId, CallId, ChainId, EventId, SessionId, SubjectId, TraceId},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{QueryError, found::column};

/// Which events are asked about: those for which everything that is said here holds.
///
/// Values of one kind are alternatives: `.session(a).session(b)` is "in session a or b".
///
/// ```
/// use agent_audit_query::Filter;
/// let filter = Filter::new()
///     .event_type("tool.attempted")
///     .event_type("tool.completed")
///     .tool("refund")
///     .since("2026-11-01T00:00:00.000000000Z".parse()?)
///     .before("2026-12-01T00:00:00.000000000Z".parse()?);
/// assert_eq!(filter.check()?, ());
/// assert_eq!(filter.to_string(), "event_type = tool.attempted | tool.completed, tool_name = refund, \
///     since 2026-11-01T00:00:00.000000000Z, before 2026-12-01T00:00:00.000000000Z");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Alternatives by the name of a column.
    #[serde(rename = "columns", skip_serializing_if = "Vec::is_empty")]
    any_of: Vec<(Cow<'static, str>, BTreeSet<String>)>,
    /// What the event type begins with.
    #[serde(skip_serializing_if = "Option::is_none")]
    family: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", with = "external")]
    external: Vec<(Option<String>, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to_sequence: Option<u64>,
}

/// Things outside as objects that leave the key out where any will do: a filter has a canonical form,
/// which an export signs, and that knows no `null`.
mod external {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing<'a> {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<std::borrow::Cow<'a, str>>,
        value: std::borrow::Cow<'a, str>,
    }

    pub(super) fn serialize<S: Serializer>(
        things: &[(Option<String>, String)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            things.iter().map(|(key, value)| Thing {
                key: key.as_deref().map(Into::into),
                value: value.into(),
            }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Option<String>, String)>, D::Error> {
        let things = Vec::<Thing<'_>>::deserialize(deserializer)?;
        let owned = |thing: Thing<'_>| (thing.key.map(Into::into), thing.value.into_owned());
        Ok(things.into_iter().map(owned).collect())
    }
}

/// One condition, as a store translates it. Names of columns are those of
/// [`COLUMNS`].
///
/// ```
/// use agent_audit_query::{Filter, Predicate};
/// let filter = Filter::new().tool("refund");
/// let conditions: Vec<_> = filter.predicates().collect();
/// assert_eq!(conditions, [Predicate::AnyOf { column: "tool_name", values: vec!["refund"] }]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a store must translate each of them")]
pub enum Predicate<'a> {
    /// The column, of text, is one of these values.
    AnyOf {
        /// The column.
        column: &'static str,
        /// The values, sorted byte by byte; there is at least one.
        values: Vec<&'a str>,
    },
    /// The column, of text, begins with this, byte by byte. It holds no character that is special
    /// in a pattern but `_`, `%`, `\` and the like must not be taken for one.
    Prefix {
        /// The column.
        column: &'static str,
        /// The beginning.
        prefix: &'a str,
    },
    /// The column, of a number, is this or more.
    AtLeast {
        /// The column.
        column: &'static str,
        /// The bound.
        value: i64,
    },
    /// The column, of a number, is less than this.
    Below {
        /// The column.
        column: &'static str,
        /// The bound.
        value: i64,
    },
    /// The event names one of these things outside; without a key, under any key.
    External(&'a [(Option<String>, String)]),
}

macro_rules! alternatives {
    ($($(#[$doc:meta])* $name:ident($type:ty) = $column:literal;)*) => { $(
        $(#[$doc])*
        #[must_use]
        pub fn $name(self, value: $type) -> Self {
            self.or($column, value)
        }
    )* };
}

impl Filter {
    /// Every event of the tenant.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    alternatives! {
        /// In this chain.
        chain(ChainId) = "chain_id";
        /// This event.
        event(EventId) = "event_id";
        /// Of this type, as `tool.completed`.
        event_type(&str) = "event_type";
        /// In this session.
        session(SessionId) = "session_id";
        /// Of this agent.
        agent(AgentId) = "agent_id";
        /// Directly under this event.
        parent(EventId) = "parent_event_id";
        /// In this trace.
        trace(TraceId) = "trace_id";
        /// About this person, named by a token.
        subject(SubjectId) = "subject_id";
        /// That ended so, as `ok` or `panicked`.
        status(&str) = "status";
        /// Of a model of this provider.
        provider(&str) = "provider";
        /// Of this model: the one that answered, else the one that was asked.
        model(&str) = "model";
        /// Of this version of a model.
        model_version(&str) = "model_version";
        /// Of this tool.
        tool(&str) = "tool_name";
        /// Of the tool call with this id of the provider.
        call(CallId) = "call_id";
        /// That relies on this `review.decided`.
        approval(EventId) = "approval_event_id";
        /// Of this review.
        review(&str) = "review_id";
        /// Decided by this reviewer.
        reviewer(&str) = "reviewer_id";
        /// Decided so, as `approve` or `reject`.
        decision(&str) = "decision";
        /// Whose decision rests on this `review.presented`.
        presented(EventId) = "presented_event_id";
        /// A session that was spawned in this one.
        parent_session(SessionId) = "parent_session_id";
        /// A session that was spawned by this event.
        spawned_by(EventId) = "spawned_by";
    }

    /// Of a type that begins so: `review.` for everything of reviews.
    #[must_use]
    pub fn family(mut self, prefix: impl Into<String>) -> Self {
        self.family = Some(prefix.into());
        self
    }

    /// Touched this thing outside, named by key and value.
    #[must_use]
    pub fn external(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.external.push((Some(key.into()), value.into()));
        self
    }

    /// Touched the thing outside that has this value under any key.
    #[must_use]
    pub fn external_value(mut self, value: impl Into<String>) -> Self {
        self.external.push((None, value.into()));
        self
    }

    /// Recorded then or later.
    #[must_use]
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Recorded before then.
    #[must_use]
    pub fn before(mut self, time: Timestamp) -> Self {
        self.before = Some(time);
        self
    }

    /// At this position of its chain or behind it.
    #[must_use]
    pub fn from_sequence(mut self, sequence: u64) -> Self {
        self.from_sequence = Some(sequence);
        self
    }

    /// Before this position of its chain.
    #[must_use]
    pub fn to_sequence(mut self, sequence: u64) -> Self {
        self.to_sequence = Some(sequence);
        self
    }

    fn or(mut self, column: &'static str, value: impl ToString) -> Self {
        let value = value.to_string();
        match self.any_of.iter_mut().find(|(name, _)| name == column) {
            Some((_, values)) => {
                values.insert(value);
            }
            None => self.any_of.push((Cow::Borrowed(column), BTreeSet::from([value]))),
        }
        self
    }

    /// Whether the question makes sense.
    ///
    /// # Errors
    /// [`Invalid`](crate::QueryErrorKind::Invalid) for a range that is turned round, an empty value,
    /// or, in a filter that was read from somewhere, a column that nobody has.
    pub fn check(&self) -> Result<(), QueryError> {
        if let (Some(since), Some(before)) = (self.since, self.before)
            && since >= before
        {
            return Err(QueryError::invalid(format!(
                "the time range is turned round: it begins at {since} and ends before {before}"
            )));
        }
        if let (Some(from), Some(to)) = (self.from_sequence, self.to_sequence)
            && from >= to
        {
            return Err(QueryError::invalid(format!(
                "the range of positions is turned round: it begins at {from} and ends before {to}"
            )));
        }
        for (name, values) in &self.any_of {
            if !COLUMNS.contains(&&**name) {
                return Err(QueryError::invalid(format!(
                    "there is no column `{name}` to filter by"
                )));
            }
            if values.is_empty() || values.contains("") {
                return Err(QueryError::invalid(format!("{name} is filtered by an empty value")));
            }
        }
        Ok(())
    }

    /// Whether it lets every event through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The conditions, all of which hold of an event that matches.
    pub fn predicates(&self) -> impl Iterator<Item = Predicate<'_>> {
        let any_of = self.any_of.iter().filter_map(|(name, values)| {
            let column = COLUMNS.iter().find(|column| **column == &**name)?;
            Some(Predicate::AnyOf { column, values: values.iter().map(String::as_str).collect() })
        });
        let family = self.family.as_deref();
        let family = family.map(|prefix| Predicate::Prefix { column: "event_type", prefix });
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let at_least = |column, value| Predicate::AtLeast { column, value };
        let below = |column, value| Predicate::Below { column, value };
        let since = self.since.map(|time| at_least("timestamp_utc", time.as_nanos_i64()));
        let before = self.before.map(|time| below("timestamp_utc", time.as_nanos_i64()));
        let from = self.from_sequence.map(|at| at_least("sequence", number(at)));
        let to = self.to_sequence.map(|at| below("sequence", number(at)));
        let external = (!self.external.is_empty()).then_some(Predicate::External(&self.external));
        any_of.chain(family).chain(since).chain(before).chain(from).chain(to).chain(external)
    }

    /// The values that a column is filtered by, sorted; none where it is not.
    #[must_use]
    pub fn values_of(&self, column: &str) -> Vec<&str> {
        let found = self.any_of.iter().find(|(name, _)| name == column);
        found.map_or_else(Vec::new, |(_, values)| values.iter().map(String::as_str).collect())
    }

    /// The time from which on events are asked about.
    #[must_use]
    pub fn start(&self) -> Option<Timestamp> {
        self.since
    }

    /// The time before which events are asked about.
    #[must_use]
    pub fn end(&self) -> Option<Timestamp> {
        self.before
    }

    /// Whether an event matches, by the columns that its canonical bytes give: what a store's own
    /// selection is held against.
    #[must_use]
    pub fn matches(&self, columns: &Columns<'_>, values: &[Value<'_>; COLUMNS.len()]) -> bool {
        self.predicates().all(|predicate| match predicate {
            Predicate::AnyOf { column: name, values: wanted } => values[column(name)]
                .as_text()
                .is_some_and(|text| wanted.binary_search(&text).is_ok()),
            Predicate::Prefix { column: name, prefix } => {
                values[column(name)].as_text().is_some_and(|text| text.starts_with(prefix))
            }
            Predicate::AtLeast { column: name, value } => {
                values[column(name)].as_integer().is_some_and(|number| number >= value)
            }
            Predicate::Below { column: name, value } => {
                values[column(name)].as_integer().is_some_and(|number| number < value)
            }
            Predicate::External(wanted) => columns.external_ids().any(|(key, value)| {
                wanted.iter().any(|(wanted_key, wanted_value)| {
                    wanted_value == value
                        && wanted_key.as_deref().is_none_or(|wanted| wanted == key)
                })
            }),
        })
    }
}

impl std::fmt::Display for Filter {
    /// As a person reads it. The values are shown as they are: make them
    /// [visible](agent_audit_core::timeline::visible) before they reach a terminal.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut between = "";
        let mut item = |f: &mut std::fmt::Formatter<'_>, text: String| {
            let done = write!(f, "{between}{text}");
            between = ", ";
            done
        };
        for (name, values) in &self.any_of {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            item(f, format!("{name} = {}", values.join(" | ")))?;
        }
        if let Some(family) = &self.family {
            item(f, format!("event_type = {family}*"))?;
        }
        for (key, value) in &self.external {
            item(f, format!("external {} = {value}", key.as_deref().unwrap_or("*")))?;
        }
        if let Some(since) = self.since {
            item(f, format!("since {since}"))?;
        }
        if let Some(before) = self.before {
            item(f, format!("before {before}"))?;
        }
        if let Some(from) = self.from_sequence {
            item(f, format!("from position {from}"))?;
        }
        if let Some(to) = self.to_sequence {
            item(f, format!("before position {to}"))?;
        }
        if self.is_empty() { f.write_str("everything") } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let turned = Filter::new()
            .since(time("2026-02-01T00:00:00.000000000Z"))
            .before(time("2026-01-01T00:00:00.000000000Z"));
        let error = turned.check().unwrap_err().to_string();
        assert!(error.contains("turned round") && error.contains("2026-02-01"), "{error}");
        let error = Filter::new().from_sequence(5).to_sequence(5).check().unwrap_err();
        assert!(error.to_string().contains("positions"), "{error}");
        assert!(Filter::new().tool("").check().unwrap_err().to_string().contains("tool_name"));
    }

    #[test]
    fn a_filter_survives_as_json_and_an_unknown_column_does_not() {
        let filter = Filter::new().tool("refund").tool("sql").family("tool.").external_value("R-7");
        let text = serde_json::to_string(&filter).unwrap();
        assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
        let filter = filter.external("order", "A-1");
        let text = agent_audit_core::canonical::to_vec(&filter).unwrap();
        assert_eq!(serde_json::from_slice::<Filter>(&text).unwrap(), filter);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#"[{"value":"R-7"},{"key":"order","value":"A-1"}]"#), "{text}");
        let foreign: Filter = serde_json::from_str(r#"{"columns":[["tenant_id",["x"]]]}"#).unwrap();
        assert!(foreign.check().unwrap_err().to_string().contains("tenant_id"));
    }
}
