//! An event in one line.

use agent_audit_core::{
    event::{Event, Payload},
    timeline::visible,
};
use agent_audit_query::Found;

use crate::failure::Failure;

/// What an event tells, without content; safe for a terminal.
pub(super) fn brief(found: &Found) -> Result<String, Failure> {
    Ok(visible(&told(&found.event()?)).to_string())
}

fn told(event: &Event) -> String {
    match &event.payload {
        Payload::SessionStarted(started) => {
            let purpose = started.purpose.as_ref();
            with("session started", purpose.map(|purpose| format!(" for {purpose}")))
        }
        Payload::SessionEnded(ended) => format!("session ended: {}", ended.outcome),
        Payload::ModelRequested(requested) => format!("model {} asked", requested.requested_model),
        Payload::ModelDecided(decided) => {
            let model = decided.served_model.as_ref().unwrap_or(&decided.requested_model);
            if !decided.status.is_ok() {
                return format!("model {model}: {}", decided.status);
            }
            let calls: Vec<String> = decided
                .decision
                .iter()
                .flat_map(|decision| &decision.tool_calls)
                .map(|call| format!("{} ({})", call.tool_name, call.call_id))
                .collect();
            match calls.is_empty() {
                true => format!("model {model} answered"),
                false => format!("model {model} decided to call {}", calls.join(", ")),
            }
        }
        Payload::ToolAttempted(attempted) => {
            let call = attempted.call_id.as_ref().map(|call| format!(" ({call})"));
            let effect = attempted.effect.as_ref().map(|effect| format!(", {effect}"));
            with(&with(&format!("tool {} attempted", attempted.tool_name), call), effect)
        }
        Payload::ToolCompleted(completed) => {
            let code = completed.error_code.as_ref().map(|code| format!(" ({code})"));
            let touched: Vec<String> = completed
                .external_ids
                .iter()
                .map(|id| format!("{}={}", id.key, id.value))
                .collect();
            let touched = (!touched.is_empty()).then(|| format!(", touched {}", touched.join(" ")));
            let text = format!("tool {}: {}", completed.tool_name, completed.status);
            with(&with(&text, code), touched)
        }
        Payload::ReviewProposed(proposed) => {
            format!("review of {} proposed ({})", proposed.action, proposed.review_id)
        }
        Payload::ReviewPresented(presented) => {
            format!("presented to {} in {}", presented.presented_to, presented.channel)
        }
        Payload::ReviewDecided(decided) => {
            let reviewer = &decided.reviewer;
            format!(
                "review decided: {} by {} ({})",
                decided.decision, reviewer.reviewer_id, reviewer.kind
            )
        }
        Payload::ReviewApplied(applied) => format!("review applied: {}", applied.resulting_state),
        Payload::AccessQueried(queried) => format!("{} asked: {}", queried.actor, queried.query),
        Payload::AccessExported(exported) => {
            format!("{} exported as {}", exported.actor, exported.format)
        }
        Payload::ChainGap(gap) => format!("{} events could not be recorded", gap.lost_events),
        _ => event.payload.event_type().to_string(),
    }
}

fn with(text: &str, more: Option<String>) -> String {
    text.to_owned() + &more.unwrap_or_default()
}
