//! Questions as statements: names of ours, and a place for each value.
//!
//! The planner is led where its guess would count. A subquery that ends with `OFFSET 0` is planned by
//! itself: rare events are found before they are sorted, whatever the limit outside. And one value
//! at a time is asked for in a `LATERAL` subquery with the limit inside: so each comes in order from
//! its index, and none is read further than needed.

use agent_audit_query::Order;
use tokio_postgres::types::{ToSql, Type};

use super::question::{CHAIN, EVENT, Question, SEQUENCE, behind};

/// A statement and its values, the tenant first.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) text: String,
    values: Vec<Value>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Texts(Vec<String>),
    Options(Vec<Option<String>>),
    Number(i64),
    Numbers(Vec<i64>),
}

impl Value {
    fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Text(text) => (text, Type::TEXT),
            Self::Texts(texts) => (texts, Type::TEXT_ARRAY),
            Self::Options(texts) => (texts, Type::TEXT_ARRAY),
            Self::Number(number) => (number, Type::INT8),
            Self::Numbers(numbers) => (numbers, Type::INT8_ARRAY),
        }
    }
}

/// How the rows of an answer are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// The rows of each value come in the order that is asked for, through one index.
    Merge(&'static str, Vec<String>),
    /// There are few of them: they are found by this column first, and sorted afterwards.
    Gather(&'static str),
    /// As `Gather`, by the things outside that they name.
    GatherExternal,
    /// As the planner thinks, who knows how many events there are of what.
    Plan,
}

/// Columns of which a value has few events, the fewest first.
const SELECTIVE: [&str; 8] = [
    EVENT,
    "approval_event_id",
    "spawned_by",
    "call_id",
    "review_id",
    "parent_event_id",
    "parent_session_id",
    "trace_id",
];

/// Columns of which a value may have many events, which their index has in the order of time.
const BY_VALUE_AND_TIME: [&str; 7] =
    ["session_id", "subject_id", "reviewer_id", "tool_name", "model", "event_type", "agent_id"];

/// Columns whose index has no values that are longer than this, in bytes.
const OF_ANY_LENGTH: [&str; 4] = ["model", "tool_name", "review_id", "reviewer_id"];
const INDEXED: usize = 1_000;

/// How many values are merged at most.
pub(super) const MERGED: usize = 16;

impl Way {
    /// The way to events in an order. The types are those of the family that is asked about.
    pub(super) fn to_events(question: &Question, types: Option<Vec<String>>, order: Order) -> Self {
        if let Some(way) = Self::to_few(question) {
            return way;
        }
        let mergeable = |column: &&&str| {
            question.values_of(column).is_some_and(|it| it.len() <= MERGED)
                && is_indexed(question, column)
        };
        let columns: &[&str] = match order {
            Order::Time => &BY_VALUE_AND_TIME,
            Order::Chain => &[CHAIN],
        };
        if let Some(column) = columns.iter().find(mergeable) {
            let values = question.values_of(column).unwrap_or_default().to_vec();
            return Self::Merge(column, values);
        }
        match types {
            Some(types) if order == Order::Time && types.len() <= MERGED => {
                Self::Merge("event_type", types)
            }
            _ => Self::Plan,
        }
    }

    /// The way through a column of which a value has few events.
    pub(super) fn to_few(question: &Question) -> Option<Self> {
        let asked =
            |column: &&&str| question.values_of(column).is_some() && is_indexed(question, column);
        if let Some(column) = SELECTIVE.iter().find(asked) {
            return Some(Self::Gather(column));
        }
        let short = |values: &[String]| values.iter().all(|value| value.len() <= INDEXED);
        let (_, values) = question.externals.first()?;
        short(values).then_some(Self::GatherExternal)
    }

    /// Whether the family's types would help, and are not known yet.
    pub(super) fn needs_types<'q>(&self, question: &'q Question, order: Order) -> Option<&'q str> {
        let family = question.prefixes.iter().find(|(column, _)| *column == "event_type");
        let family = family.filter(|(_, prefix)| !prefix.is_empty());
        family
            .filter(|_| *self == Self::Plan && order == Order::Time)
            .map(|(_, prefix)| prefix.as_str())
    }

    /// Whether there is one good plan, so that it may be kept whatever the values are.
    pub(super) fn is_certain(&self, question: &Question, order: Order) -> bool {
        let indexed = |column: &str| column == CHAIN || BY_VALUE_AND_TIME.contains(&column);
        *self != Self::Plan
            || (order == Order::Time
                && question.prefixes.is_empty()
                && !question.any_of.iter().any(|(column, _)| indexed(column)))
    }
}

fn is_indexed(question: &Question, column: &str) -> bool {
    let values = question.values_of(column).unwrap_or_default();
    !OF_ANY_LENGTH.contains(&column) || values.iter().all(|value| value.len() <= INDEXED)
}

/// The columns that order events.
fn ordered_by(order: Order, descending: bool) -> String {
    let columns: &[&str] = match order {
        Order::Time => &["timestamp_utc", CHAIN, SEQUENCE],
        Order::Chain => &[CHAIN, SEQUENCE],
    };
    let direction = if descending { " DESC" } else { "" };
    let columns: Vec<_> = columns.iter().map(|column| format!("{column}{direction}")).collect();
    format!(" ORDER BY {}", columns.join(", "))
}

/// Events in an order: canonical bytes, id, chain and position.
pub(super) fn events(
    tenant: &str,
    question: &Question,
    way: &Way,
    order: Order,
    descending: bool,
    limit: i64,
) -> Sql {
    let mut sql = Sql::of(tenant, "SELECT e.event, e.event_id::text, e.chain_id, e.sequence FROM ");
    let ordered = ordered_by(order, descending);
    sql.rows(
        "SELECT event, event_id, timestamp_utc, chain_id, sequence",
        question,
        way,
        Some((order, descending, limit)),
        None,
    );
    sql.push(&ordered);
    sql.push(" LIMIT ");
    sql.bind(Value::Number(limit));
    sql
}

/// Sessions in their order, behind one where it is named.
pub(super) fn sessions(
    tenant: &str,
    question: &Question,
    way: &Way,
    after: Option<&str>,
    limit: i64,
) -> Sql {
    let mut sql = Sql::of(
        tenant,
        "SELECT session_id, min(agent_id), count(*), min(timestamp_utc), max(timestamp_utc) FROM ",
    );
    sql.rows("SELECT session_id, agent_id, timestamp_utc", question, way, None, after);
    sql.push(" GROUP BY session_id ORDER BY session_id LIMIT ");
    sql.bind(Value::Number(limit));
    sql
}

/// The types that a tenant has of a family, up to one more than can be merged.
pub(super) fn types(tenant: &str, family: &str) -> Sql {
    let mut sql = Sql::of(tenant, "WITH RECURSIVE type (name) AS (");
    let least =
        "SELECT min(event_type) FROM agent_audit.audit_events WHERE tenant_id = $1 AND event_type";
    sql.push(&format!("({least} >= "));
    sql.bind(Value::Text(family.to_owned()));
    sql.push(&format!(
        ") UNION ALL SELECT ({least} > type.name) FROM type WHERE starts_with(type.name, "
    ));
    sql.bind(Value::Text(family.to_owned()));
    sql.push(")) SELECT name FROM type WHERE starts_with(name, ");
    sql.bind(Value::Text(family.to_owned()));
    sql.push(&format!(") LIMIT {}", MERGED + 1));
    sql
}

impl Sql {
    fn of(tenant: &str, text: &str) -> Self {
        Self { text: text.to_owned(), values: vec![Value::Text(tenant.to_owned())] }
    }

    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.values.iter().map(Value::parameter).collect()
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn bind(&mut self, value: Value) {
        let type_ = match &value {
            Value::Text(_) => "text",
            Value::Texts(_) | Value::Options(_) => "text[]",
            Value::Number(_) => "bigint",
            Value::Numbers(_) => "bigint[]",
        };
        self.values.push(value);
        self.text.push_str(&format!("${}::{type_}", self.values.len()));
    }

    /// The rows that are asked for, as `e`.
    fn rows(
        &mut self,
        select: &str,
        question: &Question,
        way: &Way,
        order: Option<(Order, bool, i64)>,
        after_session: Option<&str>,
    ) {
        match way {
            Way::Merge(CHAIN, values) => {
                self.push("unnest(");
                self.bind(Value::Texts(values.clone()));
                self.push(", ");
                self.bind(Value::Numbers(positions(question, values, order)));
                self.push(") AS t (value, position) CROSS JOIN LATERAL (");
            }
            Way::Merge(_, values) => {
                self.push("unnest(");
                self.bind(Value::Texts(values.clone()));
                self.push(") AS t (value) CROSS JOIN LATERAL (");
            }
            Way::GatherExternal => {
                self.push("(SELECT DISTINCT x.event_id FROM ");
                self.wanted(question.externals.first());
                self.push(
                    " AS w (key, value) CROSS JOIN LATERAL (SELECT x.event_id \
                     FROM agent_audit.audit_external_ids x WHERE x.tenant_id = $1 \
                     AND x.value = w.value AND octet_length(x.value) <= 1000 \
                     AND (w.key IS NULL OR x.key = w.key) OFFSET 0) x OFFSET 0) t CROSS JOIN LATERAL (",
                );
            }
            Way::Gather(_) | Way::Plan => self.push("("),
        }
        self.push(select);
        self.push(" FROM agent_audit.audit_events e WHERE e.tenant_id = $1");
        self.conditions(question, way);
        if let Some(session) = after_session {
            self.push(" AND e.session_id > ");
            self.bind(Value::Text(session.to_owned()));
        }
        if let Some((order, descending, _)) = order {
            self.after(question, way, order, descending);
        }
        match (way, order) {
            (Way::Merge(..), Some((order, descending, limit))) => {
                self.push(&ordered_by(order, descending));
                self.push(" LIMIT ");
                self.bind(Value::Number(limit));
            }
            (Way::Gather(_) | Way::GatherExternal, _) => self.push(" OFFSET 0"),
            (Way::Merge(..) | Way::Plan, _) => {}
        }
        self.push(") e");
    }

    fn conditions(&mut self, question: &Question, way: &Way) {
        match way {
            Way::Merge(column, _) => {
                self.push(&format!(" AND e.{column} = t.value"));
                self.indexed(column);
            }
            Way::Gather(column) => self.indexed(column),
            Way::GatherExternal => self.push(" AND e.event_id = t.event_id"),
            Way::Plan => {}
        }
        for (column, values) in &question.any_of {
            // What is merged was chosen from these already.
            if !matches!(way, Way::Merge(of, chosen) if of == column && chosen == values) {
                self.one_of(column, values);
            }
        }
        for (column, prefix) in &question.prefixes {
            self.push(&format!(" AND e.{column} >= "));
            self.bind(Value::Text(prefix.clone()));
            if let Some(behind) = behind(prefix) {
                self.push(&format!(" AND e.{column} < "));
                self.bind(Value::Text(behind));
            }
        }
        for (column, range) in &question.numbers {
            for (sign, bound) in [(">=", range.from), ("<", range.to)] {
                if let Some(bound) = bound {
                    self.push(&format!(" AND e.{column} {sign} "));
                    self.bind(Value::Number(bound));
                }
            }
        }
        let found = usize::from(*way == Way::GatherExternal);
        for wanted in question.externals.iter().skip(found) {
            self.push(" AND EXISTS (SELECT FROM agent_audit.audit_external_ids x JOIN ");
            self.wanted(Some(wanted));
            self.push(
                " AS w (key, value) ON x.value = w.value AND (w.key IS NULL OR x.key = w.key) \
                 WHERE x.tenant_id = $1 AND x.event_id = e.event_id)",
            );
        }
    }

    fn one_of(&mut self, column: &str, values: &[String]) {
        self.push(&format!(" AND e.{column} = "));
        let uuid = if column == EVENT { "::uuid" } else { "" };
        if let [value] = values {
            self.bind(Value::Text(value.clone()));
            self.push(uuid);
        } else {
            self.push("ANY (");
            self.bind(Value::Texts(values.to_vec()));
            self.push(if column == EVENT { "::uuid[])" } else { ")" });
        }
    }

    /// Says that the index of the column has the values that are asked for.
    fn indexed(&mut self, column: &str) {
        if OF_ANY_LENGTH.contains(&column) {
            self.push(&format!(" AND octet_length(e.{column}) <= {INDEXED}"));
        }
    }

    fn wanted(&mut self, wanted: Option<&(Vec<Option<String>>, Vec<String>)>) {
        let (keys, values) = wanted.cloned().unwrap_or_default();
        self.push("unnest(");
        self.bind(Value::Options(keys));
        self.push(", ");
        self.bind(Value::Texts(values));
        self.push(")");
    }

    /// Only what comes after the place.
    fn after(&mut self, question: &Question, way: &Way, order: Order, descending: bool) {
        let Some(place) = &question.after else { return };
        let sign = if descending { "<" } else { ">" };
        if order == Order::Chain && matches!(way, Way::Merge(..)) {
            self.push(&format!(" AND e.sequence {sign} t.position"));
            return;
        }
        match order {
            Order::Time => {
                self.push(&format!(" AND (e.timestamp_utc, e.chain_id, e.sequence) {sign} ("));
                self.bind(Value::Number(place.time));
                self.push(", ");
            }
            Order::Chain => self.push(&format!(" AND (e.chain_id, e.sequence) {sign} (")),
        }
        self.bind(Value::Text(place.chain.clone()));
        self.push(", ");
        self.bind(Value::Number(place.sequence));
        self.push(")");
    }
}

/// From which position on each chain is asked for: behind the place in its own chain, and from the
/// start in the chains behind it.
fn positions(
    question: &Question,
    chains: &[String],
    order: Option<(Order, bool, i64)>,
) -> Vec<i64> {
    let start = if matches!(order, Some((_, true, _))) { i64::MAX } else { i64::MIN };
    let of = |chain: &String| match &question.after {
        Some(place) if place.chain == *chain => place.sequence,
        _ => start,
    };
    chains.iter().map(of).collect()
}
