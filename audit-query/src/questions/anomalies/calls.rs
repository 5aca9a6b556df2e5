//! Tool calls without an end, and without a decision.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use agent_audit_core::{event::Payload, id::EventId};

use super::{Anomaly, AnomalyKind};
use crate::{Filter, Found, Ledger, Order, QueryError};

/// How many events are asked about at a time.
const AT_ONCE: usize = 500;
/// How far up a call is followed to a decision.
const DEEPEST: usize = 64;

/// Looks at every tool call; also gives the approvals that they rely on.
pub(super) async fn look(
    ledger: &Ledger,
    filter: &Filter,
) -> Result<(Vec<Anomaly>, BTreeSet<EventId>), QueryError> {
    let mut approvals = BTreeSet::new();
    let mut open: BTreeMap<EventId, Found> = BTreeMap::new();
    let mut ended: HashSet<EventId> = HashSet::new();
    let mut unlinked: Vec<Found> = Vec::new();
    let filter = filter.clone().family("tool.");
    ledger
        .each(&filter, Order::Time, false, |found| {
            match found.event()?.payload {
                Payload::ToolAttempted(attempted) => {
                    approvals.extend(attempted.approval_event_id);
                    if attempted.decision_link.is_none() {
                        unlinked.push(found.clone());
                    }
                    // Another chain's clock can put the outcome before the intent.
                    if !ended.remove(&found.event_id()) {
                        open.insert(found.event_id(), found);
                    }
                }
                Payload::ToolCompleted(completed) => {
                    let attempted = open.remove(&completed.attempt_event_id);
                    if attempted.is_none() {
                        ended.insert(completed.attempt_event_id);
                    }
                }
                _ => {}
            }
            Ok(true)
        })
        .await?;
    let mut anomalies = no_outcome(ledger, open).await?;
    anomalies.extend(no_decision(ledger, unlinked).await?);
    Ok((anomalies, approvals))
}

async fn no_outcome(
    ledger: &Ledger,
    mut open: BTreeMap<EventId, Found>,
) -> Result<Vec<Anomaly>, QueryError> {
    let ids: Vec<EventId> = open.keys().copied().collect();
    for some in ids.chunks(AT_ONCE) {
        let filter = some.iter().copied().fold(Filter::new(), Filter::parent);
        ledger
            .each(&filter.event_type("tool.completed"), Order::Time, false, |found| {
                if let Payload::ToolCompleted(completed) = found.event()?.payload {
                    open.remove(&completed.attempt_event_id);
                }
                Ok(true)
            })
            .await?;
    }
    let anomaly = |found: &Found| {
        let tool = found.text("tool_name").unwrap_or_default();
        let detail = format!("tool {tool} was attempted, and no end of it was recorded");
        Anomaly::new(AnomalyKind::NoOutcome, found, detail)
    };
    Ok(open.values().map(anomaly).collect())
}

/// Calls that name no decision, and are under no event that leads to one.
async fn no_decision(ledger: &Ledger, unlinked: Vec<Found>) -> Result<Vec<Anomaly>, QueryError> {
    let mut above: HashMap<EventId, Found> = HashMap::new();
    let mut wanted: BTreeSet<EventId> = unlinked.iter().filter_map(Found::parent).collect();
    for _ in 0..DEEPEST {
        wanted.retain(|id| !above.contains_key(id));
        if wanted.is_empty() {
            break;
        }
        let level = ledger.by_id(&wanted, false).await?;
        wanted = level
            .iter()
            .filter(|found| found.event_type() != "model.decided")
            .filter_map(Found::parent)
            .collect();
        above.extend(level.into_iter().map(|found| (found.event_id(), found)));
    }
    let mut anomalies = Vec::new();
    for found in unlinked {
        let mut here = found.parent();
        let mut decided = false;
        for _ in 0..DEEPEST {
            let Some(parent) = here.and_then(|id| above.get(&id)) else { break };
            if parent.event_type() == "model.decided" {
                decided = true;
                break;
            }
            here = parent.parent();
        }
        if !decided {
            let tool = found.text("tool_name").unwrap_or_default();
            let detail = format!("tool {tool} was called, and no decision of a model leads to it");
            anomalies.push(Anomaly::new(AnomalyKind::NoDecision, &found, detail));
        }
    }
    Ok(anomalies)
}
