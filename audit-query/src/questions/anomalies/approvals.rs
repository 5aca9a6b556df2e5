//! What was executed, held against what was approved.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use agent_audit_core::{
    event::{
        Payload,
        review::{ReviewDecided, ReviewDecision, ReviewProposed, ReviewScope},
        tool::ToolAttempted,
    },
    id::EventId,
    timestamp::Timestamp,
};
use serde_json::Value;

use super::{Anomaly, AnomalyKind};
use crate::{Filter, Found, Ledger, Order, QueryError};

/// How many approvals are looked at at a time; their calls come with content.
const AT_ONCE: usize = 50;

/// Looks at every call that relies on one of these approvals.
pub(super) async fn look(
    ledger: &Ledger,
    approvals: BTreeSet<EventId>,
) -> Result<Vec<Anomaly>, QueryError> {
    let approvals: Vec<EventId> = approvals.into_iter().collect();
    let mut anomalies = Vec::new();
    for some in approvals.chunks(AT_ONCE) {
        let ids: BTreeSet<EventId> = some.iter().copied().collect();
        let mut decisions: HashMap<EventId, (Found, ReviewDecided)> = HashMap::new();
        for found in ledger.by_id(&ids, true).await? {
            if let Payload::ReviewDecided(decided) = found.event()?.payload {
                decisions.insert(found.event_id(), (found, decided));
            }
        }
        let ids = decisions.values().filter_map(|(_, decided)| decided.proposed_event_id).collect();
        let mut proposals: HashMap<EventId, (Found, ReviewProposed)> = HashMap::new();
        for found in ledger.by_id(&ids, true).await? {
            if let Payload::ReviewProposed(proposed) = found.event()?.payload {
                proposals.insert(found.event_id(), (found, proposed));
            }
        }
        let mut calls: BTreeMap<EventId, Vec<(Found, ToolAttempted)>> = BTreeMap::new();
        let filter = some.iter().copied().fold(Filter::new(), Filter::approval);
        ledger
            .each(&filter, Order::Time, true, |found| {
                if let Payload::ToolAttempted(attempted) = found.event()?.payload
                    && let Some(approval) = attempted.approval_event_id
                {
                    calls.entry(approval).or_default().push((found, attempted));
                }
                Ok(true)
            })
            .await?;
        for (approval, calls) in calls {
            let decided = decisions.get(&approval);
            let proposed = decided
                .and_then(|(_, decided)| decided.proposed_event_id)
                .and_then(|id| proposals.get(&id));
            anomalies.extend(judge(approval, decided, proposed, &calls)?);
        }
    }
    Ok(anomalies)
}

fn judge(
    approval: EventId,
    decided: Option<&(Found, ReviewDecided)>,
    proposed: Option<&(Found, ReviewProposed)>,
    calls: &[(Found, ToolAttempted)],
) -> Result<Vec<Anomaly>, QueryError> {
    let mut anomalies = Vec::new();
    for (nth, (found, attempted)) in calls.iter().enumerate() {
        let tool = &attempted.tool_name;
        let mut add = |kind, detail: String, reviewer: Option<&str>| {
            let anomaly = Anomaly::new(kind, found, detail).with([approval]);
            anomalies.push(match reviewer {
                Some(reviewer) => anomaly.by(reviewer),
                None => anomaly,
            });
        };
        let Some((decision, decided)) = decided else {
            let detail =
                format!("tool {tool} relies on event {approval}, which is no decision here");
            add(AnomalyKind::UnknownApproval, detail, None);
            continue;
        };
        let reviewer = Some(decided.reviewer.reviewer_id.as_str());
        let review = &decided.review_id;
        if !decided.decision.allows() {
            let detail =
                format!("tool {tool} relies on review {review}, which says {}", decided.decision);
            add(AnomalyKind::NotApproved, detail, reviewer);
        }
        if decision.chain_id() == found.chain_id() && decision.sequence() > found.sequence() {
            let detail = format!("tool {tool} was attempted before review {review} was decided");
            add(AnomalyKind::ApprovedAfterwards, detail, reviewer);
        }
        let expires = decided.expires_at.or(proposed.and_then(|(_, proposed)| proposed.expires_at));
        if let Some(expires) = expires
            && found.timestamp() > Timestamp::as_nanos_i64(expires)
        {
            let detail =
                format!("tool {tool} relies on review {review}, which expired at {expires}");
            add(AnomalyKind::ApprovalExpired, detail, reviewer);
        }
        match decided.scope.clone().unwrap_or(ReviewScope::Once) {
            ReviewScope::Once if nth > 0 => {
                let detail = format!(
                    "tool {tool} relies on review {review}, which allows it once; this is time {}",
                    nth + 1
                );
                add(AnomalyKind::ApprovalReused, detail, reviewer);
            }
            ReviewScope::Session if decision.session_id() != found.session_id() => {
                let detail = format!("tool {tool} relies on review {review} of another session");
                add(AnomalyKind::ApprovalOutOfScope, detail, reviewer);
            }
            _ => {}
        }
        if let Some(proposed) = proposed
            && let Some(what) = difference(proposed, (decision, decided), (found, attempted))?
        {
            let detail = format!("tool {tool} was called, and review {review} approved {what}");
            add(AnomalyKind::ActionMismatch, detail, reviewer);
        }
    }
    Ok(anomalies)
}

/// In which way the call is another one than the approved one; without content.
fn difference(
    (proposal, proposed): &(Found, ReviewProposed),
    (decision, decided): (&Found, &ReviewDecided),
    (found, attempted): (&Found, &ToolAttempted),
) -> Result<Option<String>, QueryError> {
    if proposed.action != attempted.tool_name {
        return Ok(Some(proposed.action.clone()));
    }
    if decided.scope.clone().is_none_or(|scope| scope == ReviewScope::Once)
        && let (Some(approved), Some(called)) = (&proposed.proposed_call_id, &attempted.call_id)
        && approved != called
    {
        return Ok(Some(format!("call {approved} instead of {called}")));
    }
    let json = |found: &Found, part| -> Result<Option<Value>, QueryError> {
        let content = found.content(part)?;
        let text = content.as_ref().and_then(crate::Content::as_text);
        Ok(text.and_then(|text| serde_json::from_str(text).ok()))
    };
    let (Some(mut approved), Some(called)) = (json(proposal, "proposal")?, json(found, "input")?)
    else {
        return Ok(None);
    };
    if decided.decision == ReviewDecision::Modify
        && let Some(diff) = json(decision, "diff")?
    {
        let patch: Option<json_patch::Patch> = serde_json::from_value(diff).ok();
        if patch.is_none_or(|patch| json_patch::patch(&mut approved, &patch).is_err()) {
            return Ok(Some("a change that cannot be applied to the proposal".to_owned()));
        }
    }
    // A proposal may tell the action in other words; what both name must be the same.
    let (Value::Object(approved), Value::Object(called)) = (approved, called) else {
        return Ok(None);
    };
    let differs =
        |(key, value): &(&String, &Value)| called.get(*key).is_some_and(|other| other != *value);
    Ok(approved.iter().find(differs).map(|(key, _)| format!("another value of `{key}`")))
}
