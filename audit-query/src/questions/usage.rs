//! Tokens, cost and latency.

use std::collections::BTreeMap;

use agent_audit_core::{
    event::{Payload, model::ModelDecided},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Filter, Found, Ledger, Order, QueryError};

/// What usage is summed up by.
///
/// ```
/// use agent_audit_query::questions::usage::By;
/// assert_eq!(serde_json::from_str::<By>(r#""day""#)?, By::Day);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum By {
    /// The model that answered, else the one that was asked.
    Model,
    /// The agent.
    Agent,
    /// The session.
    Session,
    /// The day of recording, in UTC.
    Day,
}

/// What models cost, in micro-units of one currency (a millionth of a euro, of a dollar) for a
/// million tokens.
///
/// ```
/// use agent_audit_query::questions::usage::{Price, Prices};
/// let prices = Prices::default().with("gpt-4o", Price::new(2_500_000, 10_000_000));
/// assert!(prices.of("gpt-4o-2026-08-06").is_some(), "by the longest beginning of the name");
/// assert!(prices.of("claude").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Prices(BTreeMap<String, Price>);

/// What a million tokens of each kind cost, in micro-units.
///
/// ```
/// use agent_audit_query::questions::usage::Price;
/// let price = Price::new(2_500_000, 10_000_000);
/// assert_eq!((price.cache_read, price.cache_write), (2_500_000, 2_500_000), "as input unless said");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Price {
    /// Input.
    pub input: u64,
    /// Input that was read from a cache.
    pub cache_read: u64,
    /// Input that was written to a cache.
    pub cache_write: u64,
    /// Output, reasoning included.
    pub output: u64,
}

impl Price {
    /// A price of input and output; the cache at the price of input.
    #[must_use]
    pub fn new(input: u64, output: u64) -> Self {
        Self { input, cache_read: input, cache_write: input, output }
    }

    /// Sets the price of input that was read from a cache and written to one.
    #[must_use]
    pub fn with_cache(mut self, read: u64, write: u64) -> Self {
        (self.cache_read, self.cache_write) = (read, write);
        self
    }
}

impl Prices {
    /// Adds the price of the models whose names begin so.
    #[must_use]
    pub fn with(mut self, model: impl Into<String>, price: Price) -> Self {
        self.0.insert(model.into(), price);
        self
    }

    /// The price of a model: that of the longest beginning of its name.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Price> {
        let matching = self.0.iter().filter(|(name, _)| model.starts_with(name.as_str()));
        matching.max_by_key(|(name, _)| name.len()).map(|(_, price)| price)
    }
}

/// The usage of one model, agent, session or day.
///
/// Sums are over the calls that say the figure; `calls_without_usage` says how many do not. A figure
/// that no call says is absent, which is not 0.
///
/// ```
/// # use agent_audit_query::questions::usage::Usage;
/// # fn mean(usage: &Usage) -> Option<u64> {
/// usage.latency_us?.checked_div(usage.calls_with_latency)
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Usage {
    /// What it is summed up by.
    pub key: String,
    /// How many calls.
    pub calls: u64,
    /// How many of them failed, were cancelled or have an unknown end.
    pub failed: u64,
    /// How many say nothing of tokens.
    pub calls_without_usage: u64,
    /// Tokens of input.
    pub input_tokens: Option<u64>,
    /// Tokens that were read from a cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens that were written to a cache.
    pub cache_write_tokens: Option<u64>,
    /// Tokens of output.
    pub output_tokens: Option<u64>,
    /// Tokens of reasoning; they are also counted as output by most providers.
    pub reasoning_tokens: Option<u64>,
    /// How many calls say how long they took.
    pub calls_with_latency: u64,
    /// The time of these calls together, in microseconds.
    pub latency_us: Option<u64>,
    /// The longest of them.
    pub longest_us: Option<u64>,
    /// The cost in micro-units, of the calls whose tokens and price are known.
    pub cost_micros: Option<u64>,
    /// How many calls have tokens and no price.
    pub calls_without_price: u64,
}

impl Ledger {
    /// The usage of models by the decisions that match, sorted by key.
    ///
    /// Every decision is read, in bounded memory but for one row a key. Cost needs prices; without,
    /// there is none.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn usage(
        &self,
        filter: &Filter,
        by: By,
        prices: &Prices,
    ) -> Result<Vec<Usage>, QueryError> {
        let filter = filter.clone().event_type("model.decided");
        let mut rows: BTreeMap<String, Sums> = BTreeMap::new();
        self.each(&filter, Order::Chain, false, |found| {
            if let Payload::ModelDecided(decided) = found.event()?.payload {
                let key = key_of(&found, &decided, by);
                rows.entry(key).or_default().add(&decided, prices);
            }
            Ok(true)
        })
        .await?;
        Ok(rows.into_iter().map(|(key, sums)| sums.into_usage(key)).collect())
    }
}

fn key_of(found: &Found, decided: &ModelDecided, by: By) -> String {
    match by {
        By::Model => model(decided).to_owned(),
        By::Agent => found.agent_id().to_owned(),
        By::Session => found.session_id().to_owned(),
        By::Day => {
            let at = Timestamp::from_nanos(u64::try_from(found.timestamp()).unwrap_or_default());
            at.to_string().chars().take("2026-01-01".len()).collect()
        }
    }
}

fn model(decided: &ModelDecided) -> &str {
    decided.served_model.as_deref().unwrap_or(&decided.requested_model)
}

/// A row while it is summed up; the cost in millionths of a micro-unit, so that nothing is rounded
/// before the end.
#[derive(Debug, Default)]
struct Sums {
    row: Usage,
    cost: Option<u128>,
}

impl Sums {
    fn add(&mut self, decided: &ModelDecided, prices: &Prices) {
        let row = &mut self.row;
        row.calls += 1;
        row.failed += u64::from(!decided.status.is_ok());
        if let Some(latency) = decided.latency_us {
            row.calls_with_latency += 1;
            add(&mut row.latency_us, Some(latency));
            row.longest_us = row.longest_us.max(Some(latency));
        }
        let Some(usage) = &decided.usage else {
            row.calls_without_usage += 1;
            return;
        };
        add(&mut row.input_tokens, usage.input_tokens);
        add(&mut row.cache_read_tokens, usage.cache_read_tokens);
        add(&mut row.cache_write_tokens, usage.cache_write_tokens);
        add(&mut row.output_tokens, usage.output_tokens);
        add(&mut row.reasoning_tokens, usage.reasoning_tokens);
        let Some(price) = prices.of(model(decided)) else {
            row.calls_without_price += 1;
            return;
        };
        let of = |tokens: Option<u64>, price: u64| {
            u128::from(tokens.unwrap_or_default()) * u128::from(price)
        };
        let cost = of(usage.input_tokens, price.input)
            + of(usage.cache_read_tokens, price.cache_read)
            + of(usage.cache_write_tokens, price.cache_write)
            + of(usage.output_tokens, price.output);
        self.cost = Some(self.cost.unwrap_or_default() + cost);
    }

    fn into_usage(self, key: String) -> Usage {
        let cost = self.cost.map(|cost| u64::try_from((cost + 500_000) / 1_000_000));
        Usage { key, cost_micros: cost.map(|cost| cost.unwrap_or(u64::MAX)), ..self.row }
    }
}

fn add(sum: &mut Option<u64>, figure: Option<u64>) {
    if let Some(figure) = figure {
        *sum = Some(sum.unwrap_or_default().saturating_add(figure));
    }
}
