//! Which index a question goes through.
//!
//! It is decided here and not by `SQLite`, which has no statistics of a ledger and would have to guess:
//! each statement names its index, so that a question takes the same way in every ledger.

use agent_audit_query::Order;
use rusqlite::{Connection, params_from_iter};

use super::{
    question::{CHAIN, Question, SEQUENCE, TIME},
    sql::Sql,
};

/// How the rows of an answer are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The rows of each value come in the order that is asked for, through one index, and are merged.
    Merge(&'static str, Index, Vec<String>),
    /// There are few of them: they are found first and sorted afterwards.
    Gather(Index),
    /// All rows in the order that is asked for, from which those are taken that match.
    Walk(Index),
}

/// An index, as a statement names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Index(pub(super) &'static str);

pub(super) const BY_TIME: Index = Index("INDEXED BY events_by_time");
pub(super) const BY_PLACE: Index = Index("INDEXED BY sqlite_autoindex_events_2");
pub(super) const BY_SESSION: Index = Index("INDEXED BY events_by_session");
const BY_TYPE: Index = Index("INDEXED BY events_by_type");
/// The rows of `external_ids`, which say the rows of `events`.
pub(super) const BY_EXTERNAL_ID: Index = Index("NOT INDEXED");

/// Columns of which a value has few events, the fewest first.
const SELECTIVE: [(&str, Index); 8] = [
    ("event_id", Index("INDEXED BY sqlite_autoindex_events_1")),
    ("approval_event_id", Index("INDEXED BY events_by_approval")),
    ("spawned_by", Index("INDEXED BY events_by_spawner")),
    ("call_id", Index("INDEXED BY events_by_call")),
    ("review_id", Index("INDEXED BY events_by_review")),
    ("parent_event_id", Index("INDEXED BY events_by_parent")),
    ("parent_session_id", Index("INDEXED BY events_by_parent_session")),
    ("trace_id", Index("INDEXED BY events_by_trace")),
];

/// Columns of which a value may have many events, which their index has in the order of time.
const BY_VALUE_AND_TIME: [(&str, Index); 7] = [
    ("session_id", BY_SESSION),
    ("subject_id", Index("INDEXED BY events_by_subject")),
    ("reviewer_id", Index("INDEXED BY events_by_reviewer")),
    ("tool_name", Index("INDEXED BY events_by_tool")),
    ("model", Index("INDEXED BY events_by_model")),
    ("event_type", BY_TYPE),
    ("agent_id", Index("INDEXED BY events_by_agent")),
];

/// How many values are merged at most.
const MERGED: usize = 64;

/// How many rows are sorted at most where the way in order is open too.
///
/// Sorting reads all of them for each page, walking reads past all that do not match, once.
const FEW: usize = 32_768;

/// The way to events in an order.
pub(super) fn to_events(
    conn: &Connection,
    question: &Question<'_>,
    order: Order,
) -> rusqlite::Result<Way> {
    if let Some(index) = selective(question) {
        return Ok(Way::Gather(index));
    }
    let walk = match order {
        Order::Time => {
            if let Some(way) = merged(conn, question)? {
                return Ok(way);
            }
            BY_TIME
        }
        Order::Chain => {
            if let Some(chains) = question.values_of(CHAIN).filter(|it| it.len() <= MERGED) {
                return Ok(Way::Merge(CHAIN, BY_PLACE, owned(chains)));
            }
            BY_PLACE
        }
    };
    gathered_or(conn, question, walk)
}

/// The way to sessions, which come in their own order.
pub(super) fn to_sessions(conn: &Connection, question: &Question<'_>) -> rusqlite::Result<Way> {
    match selective(question) {
        Some(index) => Ok(Way::Gather(index)),
        None if question.values_of("session_id").is_some() => Ok(Way::Walk(BY_SESSION)),
        None => gathered_or(conn, question, BY_SESSION),
    }
}

fn selective(question: &Question<'_>) -> Option<Index> {
    let asked = |(column, _): &&(&str, Index)| question.values_of(column).is_some();
    let found = SELECTIVE.iter().find(asked).map(|(_, index)| *index);
    found.or_else(|| (!question.externals.is_empty()).then_some(BY_EXTERNAL_ID))
}

/// Values whose events come in the order of time.
fn merged(conn: &Connection, question: &Question<'_>) -> rusqlite::Result<Option<Way>> {
    for (column, index) in BY_VALUE_AND_TIME {
        if let Some(values) = question.values_of(column).filter(|it| it.len() <= MERGED) {
            return Ok(Some(Way::Merge(column, index, owned(values))));
        }
    }
    let Some((_, family)) = question.prefixes.iter().find(|(column, _)| *column == "event_type")
    else {
        return Ok(None);
    };
    let types = types_of(conn, family)?;
    let few = types.len() <= MERGED;
    Ok(few.then_some(Way::Merge("event_type", BY_TYPE, types)))
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// The types of a family that occur, as far as they can be merged: one step through the index each.
fn types_of(conn: &Connection, family: &str) -> rusqlite::Result<Vec<String>> {
    let first =
        "SELECT min(event_type) FROM events INDEXED BY events_by_type WHERE event_type >= ?1";
    let next = "SELECT min(event_type) FROM events INDEXED BY events_by_type WHERE event_type > ?1";
    let least = |sql, from: &str| -> rusqlite::Result<Option<String>> {
        conn.prepare_cached(sql)?.query_row([from], |row| row.get(0))
    };
    let mut types: Vec<String> = Vec::new();
    let mut found = least(first, family)?;
    while let Some(of_family) = found.take_if(|found| found.starts_with(family)) {
        if types.len() > MERGED {
            break;
        }
        found = least(next, &of_family)?;
        types.push(of_family);
    }
    Ok(types)
}

/// Through the index of a condition, where few rows meet it; else in order.
fn gathered_or(conn: &Connection, question: &Question<'_>, walk: Index) -> rusqlite::Result<Way> {
    let columns = BY_VALUE_AND_TIME.iter();
    let column = columns.filter(|(column, _)| question.values_of(column).is_some());
    let mut candidates: Vec<Index> = column.map(|(_, index)| *index).collect();
    if question.values_of(CHAIN).is_some() && !question.range(SEQUENCE).is_empty() {
        candidates.push(BY_PLACE);
    }
    if question.prefixes.iter().any(|(column, _)| *column == "event_type") {
        candidates.push(BY_TYPE);
    }
    if !question.range(TIME).is_empty() {
        candidates.push(BY_TIME);
    }
    for index in candidates.into_iter().filter(|index| *index != walk) {
        if has_few(conn, question, index)? {
            return Ok(Way::Gather(index));
        }
    }
    Ok(Way::Walk(walk))
}

/// Whether few rows meet the conditions that an index knows.
fn has_few(conn: &Connection, question: &Question<'_>, index: Index) -> rusqlite::Result<bool> {
    let mut sql = Sql::default();
    sql.push("SELECT count(*) FROM (SELECT 1 FROM events ");
    sql.push(index.0);
    for (column, values) in &question.any_of {
        let column_of = |(name, of): &&(&str, Index)| name == column && *of == index;
        if (index == BY_PLACE && *column == CHAIN)
            || BY_VALUE_AND_TIME.iter().any(|it| column_of(&it))
        {
            sql.one_of(column, values);
        }
    }
    if index == BY_TYPE {
        sql.prefixes(question);
    }
    sql.range(if index == BY_PLACE { SEQUENCE } else { TIME }, question);
    sql.push(" LIMIT ");
    sql.bind(i64::try_from(FEW + 1).unwrap_or(i64::MAX));
    sql.push(")");
    let (text, values) = sql.into_parts();
    let count: usize =
        conn.prepare_cached(&text)?.query_row(params_from_iter(values), |row| row.get(0))?;
    Ok(count <= FEW)
}
