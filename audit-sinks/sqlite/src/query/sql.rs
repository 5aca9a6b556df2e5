//! Questions as statements: names of ours, and a place for each value.

use agent_audit_query::Order;
use rusqlite::types::Value;

use super::{
    question::{CHAIN, Question, SEQUENCE, TIME, behind},
    way::{BY_EXTERNAL_ID, Index, Way},
};

/// A statement in the making.
#[derive(Debug, Default)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
    conditions: usize,
}

/// The columns that order events, in each order.
pub(super) fn columns_of(order: Order) -> &'static [&'static str] {
    match order {
        Order::Time => &[TIME, CHAIN, SEQUENCE],
        Order::Chain => &[CHAIN, SEQUENCE],
    }
}

/// Events in an order: row, canonical bytes, and what they are ordered by.
pub(super) fn events(
    question: &Question<'_>,
    way: &Way,
    order: Order,
    descending: bool,
    limit: i64,
) -> (String, Vec<Value>) {
    let mut sql = Sql::default();
    let one = |sql: &mut Sql, index: Index, value: Option<(&str, &str)>| {
        sql.push("SELECT event_row, event, timestamp_utc, chain_id, sequence FROM events ");
        sql.push(index.0);
        sql.conditions(question, index, value);
        sql.after(question, order, descending, value);
    };
    match way {
        Way::Merge(column, index, values) => {
            for (at, value) in values.iter().enumerate() {
                sql.begin(if at == 0 { "" } else { " UNION ALL " });
                one(&mut sql, *index, Some((column, value)));
            }
        }
        Way::Gather(index) | Way::Walk(index) => one(&mut sql, *index, None),
    }
    let direction = if descending { " DESC" } else { "" };
    let by: Vec<String> =
        columns_of(order).iter().map(|column| format!("{column}{direction}")).collect();
    sql.push(" ORDER BY ");
    sql.push(&by.join(", "));
    sql.push(" LIMIT ");
    sql.bind(limit);
    sql.into_parts()
}

/// Sessions in their order, behind one where it is named.
pub(super) fn sessions(
    question: &Question<'_>,
    way: &Way,
    after: Option<&str>,
    limit: i64,
) -> (String, Vec<Value>) {
    let mut sql = Sql::default();
    sql.push(
        "SELECT session_id, min(agent_id), count(*), min(timestamp_utc), max(timestamp_utc) \
         FROM events ",
    );
    let (Way::Gather(index) | Way::Walk(index) | Way::Merge(_, index, _)) = way;
    sql.push(index.0);
    sql.conditions(question, *index, None);
    if let Some(after) = after {
        sql.and("session_id > ");
        sql.bind(after.to_owned());
    }
    sql.push(" GROUP BY session_id ORDER BY session_id LIMIT ");
    sql.bind(limit);
    sql.into_parts()
}

impl Sql {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn bind(&mut self, value: impl Into<Value>) {
        self.text.push('?');
        self.values.push(value.into());
    }

    pub(super) fn into_parts(self) -> (String, Vec<Value>) {
        (self.text, self.values)
    }

    /// A SELECT of its own.
    fn begin(&mut self, text: &str) {
        self.push(text);
        self.conditions = 0;
    }

    fn and(&mut self, text: &str) {
        self.push(if self.conditions == 0 { " WHERE " } else { " AND " });
        self.push(text);
        self.conditions += 1;
    }

    /// Values in brackets. Their number is rounded up, so that there are few different statements to
    /// prepare: the last one says nothing new when it is said again.
    fn list(&mut self, values: &[&str]) {
        let Some(last) = values.last() else { return self.push("(NULL)") };
        let places =
            if values.len() > 1_024 { values.len() } else { values.len().next_power_of_two() };
        self.push("(");
        for at in 0..places {
            self.push(if at == 0 { "" } else { ", " });
            self.bind(values.get(at).unwrap_or(last).to_string());
        }
        self.push(")");
    }

    pub(super) fn one_of(&mut self, column: &str, values: &[&str]) {
        self.and(column);
        self.push(" IN ");
        self.list(values);
    }

    pub(super) fn range(&mut self, column: &str, question: &Question<'_>) {
        let range = question.range(column);
        for (sign, bound) in [(" >= ", range.from), (" < ", range.to)] {
            if let Some(bound) = bound {
                self.and(column);
                self.push(sign);
                self.bind(bound);
            }
        }
    }

    pub(super) fn prefixes(&mut self, question: &Question<'_>) {
        for (column, prefix) in &question.prefixes {
            self.and(column);
            self.push(" >= ");
            self.bind((*prefix).to_owned());
            if let Some(behind) = behind(prefix) {
                self.and(column);
                self.push(" < ");
                self.bind(behind);
            }
        }
    }

    /// Everything that is asked, where one column may have this value alone.
    fn conditions(&mut self, question: &Question<'_>, index: Index, value: Option<(&str, &str)>) {
        if let Some((column, value)) = value {
            self.and(column);
            self.push(" = ");
            self.bind(value.to_owned());
        }
        for (column, values) in &question.any_of {
            // One value of several was chosen from these. Where the column is asked about twice, it
            // was from the first, and the second still counts.
            let chosen = value.is_some_and(|(of, value)| of == *column && values.contains(&value));
            if !chosen {
                self.one_of(column, values);
            }
        }
        self.prefixes(question);
        for column in question.numbers.keys() {
            self.range(column, question);
        }
        for (at, wanted) in question.externals.iter().enumerate() {
            if at == 0 && index == BY_EXTERNAL_ID {
                self.and("event_row IN (");
                self.rows_with(wanted);
                self.push(")");
            } else {
                self.and("EXISTS (SELECT 1 FROM external_ids x WHERE x.event_row = events.event_row AND (");
                self.is_one_of_these(wanted);
                self.push("))");
            }
        }
    }

    /// Only what comes after the place.
    fn after(
        &mut self,
        question: &Question<'_>,
        order: Order,
        descending: bool,
        value: Option<(&str, &str)>,
    ) {
        let Some(place) = &question.after else { return };
        let sign = if descending { " < " } else { " > " };
        if let Some((CHAIN, chain)) = value
            && order == Order::Chain
        {
            // Of chains before it none is asked, and those behind it are asked from their start.
            if chain == place.chain {
                self.and(SEQUENCE);
                self.push(sign);
                self.bind(place.sequence);
            }
            return;
        }
        let columns = columns_of(order);
        self.and("(");
        self.push(&columns.join(", "));
        self.push(")");
        self.push(sign);
        self.push("(");
        if order == Order::Time {
            self.bind(place.time);
            self.push(", ");
        }
        self.bind(place.chain.clone());
        self.push(", ");
        self.bind(place.sequence);
        self.push(")");
    }

    /// The rows of events that name one of these things outside, through the index of external ids.
    fn rows_with(&mut self, wanted: &[(Option<String>, String)]) {
        let (keyed, keyless) = parted(wanted);
        if !keyed.is_empty() {
            self.push("SELECT event_row FROM external_ids WHERE (key, value) IN ");
            self.pairs(&keyed);
        }
        if !keyless.is_empty() {
            self.push(if keyed.is_empty() { "" } else { " UNION ALL " });
            // There are few keys: one step through the index for each.
            self.push(
                "SELECT x.event_row FROM (
                    WITH RECURSIVE each_key (key) AS (
                        SELECT min(key) FROM external_ids
                        UNION ALL
                        SELECT (SELECT min(key) FROM external_ids WHERE key > each_key.key)
                        FROM each_key WHERE each_key.key IS NOT NULL
                    ) SELECT key FROM each_key WHERE key IS NOT NULL
                ) k CROSS JOIN external_ids x INDEXED BY external_ids_by_value \
                 WHERE x.key = k.key AND x.value IN ",
            );
            self.list(&keyless);
        }
    }

    fn is_one_of_these(&mut self, wanted: &[(Option<String>, String)]) {
        let (keyed, keyless) = parted(wanted);
        if !keyed.is_empty() {
            self.push("(x.key, x.value) IN ");
            self.pairs(&keyed);
        }
        if !keyless.is_empty() {
            self.push(if keyed.is_empty() { "x.value IN " } else { " OR x.value IN " });
            self.list(&keyless);
        }
    }

    fn pairs(&mut self, pairs: &[(&str, &str)]) {
        self.push("(VALUES ");
        for (at, (key, value)) in pairs.iter().enumerate() {
            self.push(if at == 0 { "(" } else { ", (" });
            self.bind((*key).to_owned());
            self.push(", ");
            self.bind((*value).to_owned());
            self.push(")");
        }
        self.push(")");
    }
}

/// Those with a key, and the values of those without.
fn parted(wanted: &[(Option<String>, String)]) -> (Vec<(&str, &str)>, Vec<&str>) {
    let keyed = wanted.iter().filter_map(|(key, value)| Some((key.as_deref()?, value.as_str())));
    let keyless = wanted.iter().filter(|(key, _)| key.is_none()).map(|(_, value)| value.as_str());
    (keyed.collect(), keyless.collect())
}
