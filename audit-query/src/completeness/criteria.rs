//! What an index can be asked about.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use agent_audit_core::index::Field;
use serde::{Deserialize, Serialize};

use crate::{Filter, Predicate, QueryError, QueryErrorKind};

/// Which events a proof of completeness is about: those that have, in each field named here, one of
/// the values named for it.
///
/// ```
/// use agent_audit_query::{Filter, completeness::{Criteria, Field}};
/// let criteria = Criteria::of(Field::Session, "s-1").and(Field::EventType, "review.decided");
/// let filter = Filter::new().session("s-1".parse()?).event_type("review.decided");
/// assert_eq!(Criteria::from_filter(&filter)?, criteria);
/// assert_eq!(criteria.to_string(), "event_type = review.decided, session = s-1");
///
/// let error = Criteria::from_filter(&filter.tool("refund")).unwrap_err();
/// assert_eq!(error.to_string(), "no signed index covers tool_name: leave the condition out, or do \
///     without a proof that nothing is missing");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Criteria(BTreeMap<Field, BTreeSet<String>>);

impl Criteria {
    /// Events that have this value in this field.
    #[must_use]
    pub fn of(field: Field, value: impl Into<String>) -> Self {
        Self(BTreeMap::new()).and(field, value)
    }

    /// Demands a value of a further field, or allows a further value of the same.
    #[must_use]
    pub fn and(mut self, field: Field, value: impl Into<String>) -> Self {
        self.0.entry(field).or_default().insert(value.into());
        self
    }

    /// The criteria that say what a filter says.
    ///
    /// A condition on the chain is left out: a proof is always about one chain.
    ///
    /// # Errors
    /// [`Unsupported`](QueryErrorKind::Unsupported) names a condition that no index covers, as a
    /// tool, an agent or a time. A filter that lets every event through is unsupported too: the size
    /// of a checkpoint says how many there are.
    pub fn from_filter(filter: &Filter) -> Result<Self, QueryError> {
        let mut criteria = BTreeMap::new();
        for predicate in filter.predicates() {
            let column = match &predicate {
                Predicate::AnyOf { column: "chain_id", .. } => continue,
                Predicate::AnyOf { column, values } => match Field::of_column(column) {
                    Some(field) => {
                        let values: BTreeSet<_> = values.iter().map(ToString::to_string).collect();
                        criteria.insert(field, values);
                        continue;
                    }
                    None => column,
                },
                Predicate::Prefix { column, .. }
                | Predicate::AtLeast { column, .. }
                | Predicate::Below { column, .. } => column,
                Predicate::External(_) => "external_ids",
            };
            return Err(QueryError::new(
                QueryErrorKind::Unsupported,
                format!(
                    "no signed index covers {column}: leave the condition out, or do without a \
                     proof that nothing is missing"
                ),
            ));
        }
        if criteria.is_empty() {
            return Err(QueryError::new(
                QueryErrorKind::Unsupported,
                "a filter without a condition needs no index: compare the events with the size of \
                 a checkpoint",
            ));
        }
        Ok(Self(criteria))
    }

    /// Every field and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        self.0.iter().flat_map(|(field, values)| values.iter().map(|value| (*field, &**value)))
    }

    /// Whether there is a field without a value, or none at all.
    pub(super) fn asks_nothing(&self) -> bool {
        self.0.is_empty() || self.0.values().any(BTreeSet::is_empty)
    }

    /// The fields, each with its values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (Field, &BTreeSet<String>)> {
        self.0.iter().map(|(field, values)| (*field, values))
    }
}

impl fmt::Display for Criteria {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (field, values)) in self.fields().enumerate() {
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{} = {}", field.as_str(), values.join(" | "))?;
        }
        Ok(())
    }
}
