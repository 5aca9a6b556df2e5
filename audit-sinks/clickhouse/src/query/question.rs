//! A question in the server's words: conditions, and the values that they speak of.

use agent_audit_core::id::TenantId;
use agent_audit_query::{Cursor, Filter, Order, Predicate};

use crate::store::{Params, is_text};

/// The conditions that a row meets, and their values. The first one is the tenant, always.
#[derive(Debug, Clone)]
pub(super) struct Question {
    conditions: Vec<String>,
    pub(super) params: Params,
}

impl Question {
    /// Every row of a tenant.
    pub(super) fn of(tenant: &TenantId) -> Self {
        let mut params = Params::default();
        let tenant = params.text(tenant.as_str());
        Self { conditions: vec![format!("tenant_id = {tenant}")], params }
    }

    /// Adds a condition that is written here, with values of [`params`](Self::params) alone.
    pub(super) fn with(mut self, condition: impl FnOnce(&mut Params) -> String) -> Self {
        let condition = condition(&mut self.params);
        self.conditions.push(condition);
        self
    }

    /// Those rows that match a filter.
    pub(super) fn matching(self, filter: &Filter) -> Self {
        filter
            .predicates()
            .fold(self, |question, predicate| question.with(|params| words(&predicate, params)))
    }

    /// Those rows that come behind a place.
    pub(super) fn after(self, place: &Cursor, order: Order, descending: bool) -> Self {
        self.with(|params| {
            let behind = if descending { "<" } else { ">" };
            let chain = params.text(place.chain());
            let sequence = params.number(i64::try_from(place.sequence()).unwrap_or(i64::MAX));
            // The first half is one that the server has an index for.
            let in_chain = format!(
                "chain_id {behind}= {chain} AND (chain_id {behind} {chain} OR sequence {behind} {sequence})"
            );
            match order {
                Order::Chain => in_chain,
                Order::Time => {
                    let time = time(params, place.timestamp());
                    format!(
                        "timestamp_utc {behind}= {time} AND (timestamp_utc {behind} {time} OR ({in_chain}))"
                    )
                }
            }
        })
    }

    /// All conditions together.
    pub(super) fn conditions(&self) -> String {
        self.conditions.join(" AND ")
    }
}

/// What rows are sorted by.
pub(super) fn sorted(order: Order, descending: bool) -> &'static str {
    match (order, descending) {
        (Order::Time, false) => "timestamp_utc, chain_id, sequence",
        (Order::Time, true) => "timestamp_utc DESC, chain_id DESC, sequence DESC",
        (Order::Chain, false) => "chain_id, sequence",
        (Order::Chain, true) => "chain_id DESC, sequence DESC",
    }
}

fn words(predicate: &Predicate<'_>, params: &mut Params) -> String {
    match predicate {
        // What holds no text is like no text.
        Predicate::AnyOf { column, .. } | Predicate::Prefix { column, .. } if !is_text(column) => {
            "0".to_owned()
        }
        Predicate::AnyOf { column, values } => {
            format!("{column} IN {}", params.texts(values.iter().copied()))
        }
        Predicate::Prefix { column, prefix } => {
            format!("startsWith({column}, {})", params.text(prefix))
        }
        Predicate::AtLeast { column, value } => {
            format!("{column} >= {}", bound(column, params, *value))
        }
        Predicate::Below { column, value } => {
            format!("{column} < {}", bound(column, params, *value))
        }
        Predicate::External(wanted) => {
            let values = params.texts(wanted.iter().map(|(_, value)| value.as_str()));
            let one = |(key, value): &(Option<String>, String)| {
                let value = params.text(value);
                match key {
                    Some(key) => format!("(key = {} AND value = {value})", params.text(key)),
                    None => format!("value = {value}"),
                }
            };
            let alternatives: Vec<_> = wanted.iter().map(one).collect();
            // The first half is one that the server has an index for.
            format!(
                "hasAny(external_ids.value, {values}) AND arrayExists((key, value) -> {}, \
                 external_ids.key, external_ids.value)",
                alternatives.join(" OR ")
            )
        }
    }
}

fn bound(column: &str, params: &mut Params, value: i64) -> String {
    match column {
        "timestamp_utc" | "occurred_at" => time(params, value),
        _ => params.number(value),
    }
}

fn time(params: &mut Params, nanos: i64) -> String {
    format!("fromUnixTimestamp64Nano({}, 'UTC')", params.number(nanos))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn acme() -> Question {
        Question::of(&TenantId::new("acme").unwrap())
    }

    #[test]
    fn values_are_never_a_part_of_the_statement() {
        let hostile = "x' OR 1 --";
        let filter = Filter::new()
            .tool(hostile)
            .status(hostile)
            .review(hostile)
            .family(hostile)
            .external(hostile, hostile)
            .external_value(hostile);
        let place = Cursor::new(7, hostile, 7);
        let question = acme().matching(&filter).after(&place, Order::Time, false);
        assert!(!question.conditions().contains("OR 1"), "{}", question.conditions());
        assert_eq!(question.conditions().matches("tenant_id = {p0:String}").count(), 1);
    }

    #[test]
    fn a_column_without_text_is_like_no_text() {
        let filter: Filter =
            serde_json::from_str(r#"{"columns":[["sequence",["7"]],["event_hash",["x"]]]}"#)
                .unwrap();
        filter.check().unwrap();
        assert_eq!(acme().matching(&filter).conditions(), "tenant_id = {p0:String} AND 0 AND 0");
    }

    #[test]
    fn a_place_is_exact_in_both_orders() {
        let place = Cursor::new(7, "c", 9);
        let chain = acme().after(&place, Order::Chain, true).conditions();
        assert_eq!(
            chain,
            "tenant_id = {p0:String} AND chain_id <= {p1:String} AND \
             (chain_id < {p1:String} OR sequence < {p2:Int64})"
        );
        let time = acme().after(&place, Order::Time, false).conditions();
        assert!(
            time.contains(
                "(timestamp_utc > fromUnixTimestamp64Nano({p3:Int64}, 'UTC') OR (chain_id >= "
            ),
            "{time}"
        );
    }
}
