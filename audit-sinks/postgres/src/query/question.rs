//! What is asked, made ready to be put into SQL.

use std::collections::BTreeMap;

use agent_audit_query::{Cursor, Filter, Order, Predicate};

use crate::store::text;

/// Columns that hold no text: no word is ever equal to one of them.
const NOT_TEXT: [&str; 5] =
    ["sequence", "event_hash", "timestamp_utc", "occurred_at", "decided_after_us"];

pub(super) const CHAIN: &str = "chain_id";
pub(super) const SEQUENCE: &str = "sequence";
pub(super) const EVENT: &str = "event_id";

/// The conditions of a filter, those on one number together; text as the database keeps it.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    pub(super) any_of: Vec<(&'static str, Vec<String>)>,
    pub(super) prefixes: Vec<(&'static str, String)>,
    pub(super) numbers: BTreeMap<&'static str, Range>,
    /// Keys, where they count, and values.
    pub(super) externals: Vec<(Vec<Option<String>>, Vec<String>)>,
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

impl Question {
    /// `None` where no event can match.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let mut question = Self::default();
        for predicate in filter.predicates() {
            match predicate {
                Predicate::AnyOf { column, .. } | Predicate::Prefix { column, .. }
                    if NOT_TEXT.contains(&column) =>
                {
                    return None;
                }
                Predicate::AnyOf { column: EVENT, values } => {
                    // What is no event id is none of an event.
                    let is_id = |text: &&str| text.parse::<agent_audit_core::id::EventId>().is_ok();
                    let ids = values.into_iter().filter(is_id).map(str::to_owned).collect();
                    question.any_of.push((EVENT, ids));
                }
                Predicate::AnyOf { column, values } => {
                    let values = values.into_iter().map(|value| text::encode(value).into_owned());
                    question.any_of.push((column, values.collect()));
                }
                Predicate::Prefix { column: EVENT, .. } => return None,
                Predicate::Prefix { column, prefix } => {
                    question.prefixes.push((column, text::encode(prefix).into_owned()));
                }
                Predicate::AtLeast { column, value } => {
                    let range = question.numbers.entry(column).or_default();
                    range.from = range.from.max(Some(value));
                }
                Predicate::Below { column, value } => {
                    let range = question.numbers.entry(column).or_default();
                    range.to = Some(range.to.map_or(value, |to| to.min(value)));
                }
                Predicate::External(wanted) => {
                    let encode = |text: &String| text::encode(text).into_owned();
                    let keys = wanted.iter().map(|(key, _)| key.as_ref().map(encode)).collect();
                    let values = wanted.iter().map(|(_, value)| encode(value)).collect();
                    question.externals.push((keys, values));
                }
            }
        }
        let possible = question.any_of.iter().all(|(_, values)| !values.is_empty())
            && question.numbers.values().all(Range::is_possible);
        possible.then_some(question)
    }

    /// Goes on behind a place; `None` where nothing can be there.
    pub(super) fn after(mut self, place: &Cursor, order: Order, descending: bool) -> Option<Self> {
        let sequence = i64::try_from(place.sequence()).unwrap_or(i64::MAX);
        // No chain has this character in its name, and the database no text that has it: up to there
        // the order is the same, and no chain lies between.
        let place = match place.chain().split_once('\0') {
            None => Place { time: place.timestamp(), chain: place.chain().to_owned(), sequence },
            Some((chain, _)) => {
                Place { time: place.timestamp(), chain: chain.to_owned(), sequence: i64::MAX }
            }
        };
        if order == Order::Chain {
            // Of the chains that are named, those before the place are over.
            for (_, chains) in self.any_of.iter_mut().filter(|(column, _)| *column == CHAIN) {
                chains.retain(|chain| match descending {
                    false => *chain >= place.chain,
                    true => *chain <= place.chain,
                });
                if chains.is_empty() {
                    return None;
                }
            }
        }
        self.after = Some(place);
        Some(self)
    }

    /// The alternatives of a column.
    pub(super) fn values_of(&self, column: &str) -> Option<&[String]> {
        let found = self.any_of.iter().find(|(name, _)| *name == column);
        found.map(|(_, values)| values.as_slice())
    }
}

impl Range {
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
    fn what_no_event_can_have_is_not_asked() {
        for columns in [r#"[["sequence",["5"]]]"#, r#"[["event_id",["' OR 1=1"]]]"#] {
            let filter = format!(r#"{{"columns":{columns}}}"#);
            let filter: Filter = serde_json::from_str(&filter).unwrap();
            filter.check().unwrap();
            assert!(Question::of(&filter).is_none());
        }
    }

    #[test]
    fn a_place_is_one_that_the_database_can_name() {
        let after = |chain: &str| {
            let place = Cursor::new(7, chain, 3);
            Question::default().after(&place, Order::Time, false).unwrap().after.unwrap()
        };
        assert_eq!((after("c").chain.as_str(), after("c").sequence), ("c", 3));
        assert_eq!((after("c\0d").chain.as_str(), after("c\0d").sequence), ("c", i64::MAX));
    }
}
