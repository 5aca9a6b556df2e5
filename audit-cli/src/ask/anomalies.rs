//! `agent-audit anomalies`.

use std::time::Duration;

use agent_audit_core::timeline::visible;
use agent_audit_query::{
    Access,
    questions::anomalies::{Anomaly, Bounds},
};
use serde::Serialize;

use super::{Asking, json};
use crate::{args::AnomaliesArgs, failure::Failure, output::counted, table::Table};

#[derive(Serialize)]
struct Row<'a> {
    at_utc: String,
    #[serde(flatten)]
    anomaly: &'a Anomaly,
}

pub(super) async fn ask(args: &AnomaliesArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filter = args.filters.filter(&asking.zone)?;
    let hasty = Duration::try_from_secs_f64(args.hasty)
        .map_err(|_| Failure::new(format!("--hasty {} is no number of seconds", args.hasty)))?;
    let bounds = Bounds::default()
        .hasty(hasty)
        .streak(args.streak)
        .silence(Duration::from_secs(args.silence.saturating_mul(3_600)));
    let anomalies = asking.ledger.anomalies(&filter, &bounds).await?;
    let answer = Access::digest_of_table(&anomalies)?;
    asking.recorder.queried(&asking.ledger, "anomalies", &filter, answer).await?;
    if asking.args.json {
        let rows: Vec<Row<'_>> = anomalies
            .iter()
            .map(|anomaly| Row { at_utc: json::time(anomaly.at), anomaly })
            .collect();
        return asking.out.line(serde_json::to_string(&rows)?);
    }
    if anomalies.is_empty() {
        return asking.out.line("no anomaly, in what matches");
    }
    let mut table = Table::new(["TIME", "KIND", "SESSION", "WHAT", "EVENT"]);
    for anomaly in &anomalies {
        let kind = serde_json::to_value(anomaly.kind)?;
        table.row([
            asking.zone.show(anomaly.at).as_str(),
            kind.as_str().unwrap_or_default(),
            &anomaly.session_id,
            &anomaly.detail,
            &anomaly.event_id.to_string(),
        ]);
    }
    asking.out.text(&table.to_string())?;
    let count = u64::try_from(anomalies.len()).unwrap_or(u64::MAX);
    let noun = if count == 1 { "anomaly".to_owned() } else { "anomalies".to_owned() };
    asking.out.line(format!(
        "\n{}: what led to one, says agent-audit why {} EVENT --tenant {}",
        counted(count, "").trim_end_matches('s').trim_end().to_owned() + " " + &noun,
        visible(&asking.args.store),
        asking.args.tenant
    ))
}
