//! `agent-audit usage`.

use agent_audit_query::{
    Access,
    questions::usage::{By, Prices, Usage},
};

use super::Asking;
use crate::{
    args::{ByArg, UsageArgs},
    failure::Failure,
    output::grouped,
    table::Table,
};

pub(super) async fn ask(args: &UsageArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filter = args.filters.filter(&asking.zone)?;
    let prices = match &args.prices {
        None => Prices::default(),
        Some(file) => {
            let fail = |why: &dyn std::fmt::Display| {
                Failure::new(format!("cannot read the prices `{}`: {why}", file.display()))
            };
            let text = std::fs::read_to_string(file).map_err(|error| fail(&error))?;
            serde_json::from_str(&text).map_err(|error| fail(&error))?
        }
    };
    let (by, heading) = match args.by {
        ByArg::Model => (By::Model, "MODEL"),
        ByArg::Agent => (By::Agent, "AGENT"),
        ByArg::Session => (By::Session, "SESSION"),
        ByArg::Day => (By::Day, "DAY (UTC)"),
    };
    let rows = asking.ledger.usage(&filter, by, &prices).await?;
    let answer = Access::digest_of_table(&rows)?;
    asking.recorder.queried(&asking.ledger, "usage", &filter, answer).await?;
    if asking.args.json {
        return asking.out.line(serde_json::to_string(&rows)?);
    }
    if rows.is_empty() {
        return asking.out.line("no decision of a model, in what matches");
    }
    let head = [
        heading,
        "CALLS",
        "FAILED",
        "INPUT",
        "CACHED",
        "OUTPUT",
        "REASONING",
        "MEAN MS",
        "MAX MS",
        "COST",
    ];
    let mut table = Table::new(head).numbers_from(1);
    for row in &rows {
        let mean = row.latency_us.and_then(|all| all.checked_div(row.calls_with_latency));
        table.row([
            row.key.as_str(),
            &grouped(row.calls),
            &grouped(row.failed),
            &figure(row.input_tokens),
            &figure(row.cache_read_tokens),
            &figure(row.output_tokens),
            &figure(row.reasoning_tokens),
            &figure(mean.map(|us| us / 1_000)),
            &figure(row.longest_us.map(|us| us / 1_000)),
            &cost(row),
        ]);
    }
    asking.out.text(&table.to_string())?;
    asking.out.line("\n- is not known; a figure with + is of some of the calls")
}

fn figure(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), grouped)
}

fn cost(row: &Usage) -> String {
    let Some(micros) = row.cost_micros else { return "-".to_owned() };
    let partly = if row.calls_without_price + row.calls_without_usage > 0 { "+" } else { "" };
    format!("{}.{:06}{partly}", grouped(micros / 1_000_000), micros % 1_000_000)
}
