//! What is asked, made ready to be put into SQL.

use std::collections::BTreeMap;

use agent_audit_query::{Cursor, Filter, Order, Predicate};

/// Columns that hold no text: no word is ever equal to one of them.
const NOT_TEXT: [&str; 5] =
    ["sequence", "event_hash", "timestamp_utc", "occurred_at", "decided_after_us"];

pub(super) const TIME: &str = "timestamp_utc";
pub(super) const SEQUENCE: &str = "sequence";
pub(super) const CHAIN: &str = "chain_id";

/// The conditions of a filter, those on one number together.
#[derive(Debug, Clone, Default)]
pub(super) struct Question<'a> {
    pub(super) any_of: Vec<(&'static str, Vec<&'a str>)>,
    pub(super) prefixes: Vec<(&'static str, &'a str)>,
    pub(super) numbers: BTreeMap<&'static str, Range>,
    pub(super) externals: Vec<&'a [(Option<String>, String)]>,
    /// Where the answer goes on behind, unless the numbers say that already.
    pub(super) after: Option<Place>,
}

/// From a number on, up to another one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Range {
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

/// A place in an order, in columns.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) time: i64,
    pub(super) chain: String,
    pub(super) sequence: i64,
}

impl<'a> Question<'a> {
    /// `None` where no event can match.
    pub(super) fn of(filter: &'a Filter) -> Option<Self> {
        let mut question = Self::default();
        for predicate in filter.predicates() {
            match predicate {
                Predicate::AnyOf { column, values } => {
                    if NOT_TEXT.contains(&column) {
                        return None;
                    }
                    question.any_of.push((column, values));
                }
                Predicate::Prefix { column, prefix } => {
                    if NOT_TEXT.contains(&column) {
                        return None;
                    }
                    question.prefixes.push((column, prefix));
                }
                Predicate::AtLeast { column, value } => {
                    let range = question.numbers.entry(column).or_default();
                    range.from = range.from.max(Some(value));
                }
                Predicate::Below { column, value } => {
                    let range = question.numbers.entry(column).or_default();
                    range.to = Some(range.to.map_or(value, |to| to.min(value)));
                }
                Predicate::External(wanted) => question.externals.push(wanted),
            }
        }
        question.numbers.values().all(Range::is_possible).then_some(question)
    }

    /// Goes on behind a place. In the order of time the place and the bounds of time are made one: an
    /// index is entered at one bound, and of two it might take the wrong one.
    pub(super) fn after(mut self, place: &Cursor, order: Order, descending: bool) -> Option<Self> {
        let place = Place {
            time: place.timestamp(),
            chain: place.chain().to_owned(),
            sequence: i64::try_from(place.sequence()).unwrap_or(i64::MAX),
        };
        let mut needed = true;
        if order == Order::Time
            && let Some(range) = self.numbers.get_mut(TIME)
        {
            if descending {
                needed = range.to.is_none_or(|to| to > place.time);
                range.to = range.to.filter(|_| !needed);
            } else {
                needed = range.from.is_none_or(|from| from <= place.time);
                range.from = range.from.filter(|_| !needed);
            }
        }
        if order == Order::Chain && self.any_of.iter().any(|(column, _)| *column == CHAIN) {
            // Of the chains that are named, those before the place are over; see `Way::Merge`.
            for (_, chains) in self.any_of.iter_mut().filter(|(column, _)| *column == CHAIN) {
                chains.retain(|chain| match descending {
                    false => *chain >= place.chain.as_str(),
                    true => *chain <= place.chain.as_str(),
                });
                if chains.is_empty() {
                    return None;
                }
            }
        }
        self.after = needed.then_some(place);
        Some(self)
    }

    pub(super) fn range(&self, column: &str) -> Range {
        self.numbers.get(column).copied().unwrap_or_default()
    }

    /// The alternatives of a column.
    pub(super) fn values_of(&self, column: &str) -> Option<&[&'a str]> {
        let found = self.any_of.iter().find(|(name, _)| *name == column);
        found.map(|(_, values)| values.as_slice())
    }
}

impl Range {
    pub(super) fn is_empty(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    fn is_possible(&self) -> bool {
        !matches!((self.from, self.to), (Some(from), Some(to)) if from >= to)
    }
}

/// The first text behind all that begin with this, byte by byte; `None` where there is none.
pub(super) fn behind(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            // What lies between are halves of characters, which no text holds.
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_beginning_is_behind_all_of_it() {
        for (prefix, expected) in [
            ("review.", Some("review/")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(behind(prefix).as_deref(), expected, "{prefix:?}");
        }
    }

    #[test]
    fn a_number_is_never_equal_to_a_word() {
        let filter: Filter = serde_json::from_str(r#"{"columns":[["sequence",["5"]]]}"#).unwrap();
        filter.check().unwrap();
        assert!(Question::of(&filter).is_none());
    }

    #[test]
    fn a_place_and_the_bounds_of_time_are_one() {
        let at = |nanos| agent_audit_core::timestamp::Timestamp::from_nanos(nanos);
        let filter = Filter::new().since(at(10)).before(at(20));
        let asked = |time, order, descending| {
            let place = Cursor::new(time, "c", 3);
            let question = Question::of(&filter).unwrap().after(&place, order, descending).unwrap();
            let range = question.range(TIME);
            (range.from, range.to, question.after.is_some())
        };
        assert_eq!(asked(15, Order::Time, false), (None, Some(20), true));
        assert_eq!(asked(5, Order::Time, false), (Some(10), Some(20), false));
        assert_eq!(asked(15, Order::Time, true), (Some(10), None, true));
        assert_eq!(asked(25, Order::Time, true), (Some(10), Some(20), false));
        assert_eq!(asked(15, Order::Chain, false), (Some(10), Some(20), true));
    }
}
