//! Writers that say what they could not write, and writers that say nothing any more.

use agent_audit_core::event::Payload;

use super::{Anomaly, AnomalyKind, Bounds};
use crate::{Filter, Ledger, Order, QueryError, Select};

pub(super) async fn look(
    ledger: &Ledger,
    filter: &Filter,
    bounds: &Bounds,
) -> Result<Vec<Anomaly>, QueryError> {
    let mut anomalies = Vec::new();
    let gaps = filter.clone().event_type("chain.gap");
    ledger
        .each(&gaps, Order::Time, false, |found| {
            if let Payload::ChainGap(gap) = found.event()?.payload {
                let detail = format!("{} events could not be recorded", gap.lost_events);
                anomalies.push(Anomaly::new(AnomalyKind::Gap, &found, detail));
            }
            Ok(true)
        })
        .await?;
    let silence = i64::try_from(bounds.silence.as_nanos()).unwrap_or(i64::MAX);
    let since = bounds.now.as_nanos_i64().saturating_sub(silence);
    for chain in ledger.chains().await? {
        let last = Select::new(Filter::new().chain(chain.clone()), Order::Chain, 1).descending();
        for found in ledger.select(&last).await? {
            if found.timestamp() < since && found.event_type() != "chain.closed" {
                let detail = format!(
                    "the writer of chain {chain} has recorded nothing since, and did not close it"
                );
                anomalies.push(Anomaly::new(AnomalyKind::SilentWriter, &found, detail));
            }
        }
    }
    Ok(anomalies)
}
