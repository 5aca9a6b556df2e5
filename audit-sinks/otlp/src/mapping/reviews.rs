//! Reviews. OpenTelemetry has no convention for them, so their names are the project's own.

use agent_audit_core::event::review::{
    ReviewApplied, ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed, ReviewerKind,
};

use super::{
    FAILURE, Told,
    attributes::{Attributes, text},
    body::{Took, known, line},
    names,
};

const ID: &str = "agent_audit.review.id";
const PROPOSED: &str = "agent_audit.review.proposed_event.id";
const EXPIRES_AT: &str = "agent_audit.review.expires_at";

pub(super) fn proposed(payload: &ReviewProposed, out: &mut Attributes) -> Told {
    out.text(ID, payload.review_id.as_str());
    out.text("agent_audit.review.action", payload.action.as_str());
    out.optional(names::TOOL_CALL_ID, payload.proposed_call_id.as_ref());
    out.optional("agent_audit.review.action_digest", payload.action_digest.as_ref());
    out.optional(EXPIRES_AT, payload.expires_at.as_ref());
    out.optional("agent_audit.review.policy", payload.policy.as_ref());
    out.list(names::OMITTED_INPUTS, payload.omitted_inputs.iter().map(text));
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    Told::pending(line(format_args!("review {} of {} proposed", payload.review_id, payload.action)))
}

pub(super) fn presented(payload: &ReviewPresented, out: &mut Attributes) -> Told {
    out.text(ID, payload.review_id.as_str());
    out.text("agent_audit.review.presented_to", payload.presented_to.as_str());
    out.text("agent_audit.review.channel", payload.channel.as_str());
    out.optional(PROPOSED, payload.proposed_event_id.as_ref());
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    Told::pending(line(format_args!(
        "review {} presented to {} in {}",
        payload.review_id, payload.presented_to, payload.channel
    )))
}

pub(super) fn decided(payload: &ReviewDecided, out: &mut Attributes) -> Told {
    let reviewer = &payload.reviewer;
    out.text(ID, payload.review_id.as_str());
    out.text("agent_audit.review.decision", payload.decision.as_str());
    out.text("agent_audit.review.reviewer.id", reviewer.reviewer_id.as_str());
    out.text("agent_audit.review.reviewer.kind", reviewer.kind.as_str());
    out.optional("agent_audit.review.reviewer.role", reviewer.role.as_ref());
    out.list("agent_audit.review.reviewer.credentials", reviewer.credentials.iter().map(text));
    out.optional("agent_audit.review.scope", payload.scope.as_ref());
    out.optional(PROPOSED, payload.proposed_event_id.as_ref());
    out.optional("agent_audit.review.presented_event.id", payload.presented_event_id.as_ref());
    out.optional_integer("agent_audit.review.decided_after_us", payload.decided_after_us);
    out.optional(EXPIRES_AT, payload.expires_at.as_ref());
    out.optional("agent_audit.review.escalated_to", payload.escalated_to.as_ref());
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    let body = line(format_args!(
        "review {}: {} by {} {}{}",
        payload.review_id,
        payload.decision,
        reviewer.kind,
        reviewer.reviewer_id,
        known(" after ", payload.decided_after_us.map(Took)),
    ));
    let told = match payload.decision {
        ReviewDecision::Approve | ReviewDecision::Modify => Told::success(body),
        // Decided all the same; an operator may want to look.
        ReviewDecision::Reject | ReviewDecision::Escalate => Told::warning(super::SUCCESS, body),
        _ => Told::warning(FAILURE, body),
    };
    let kind = match reviewer.kind {
        ReviewerKind::Human => names::ACTOR_USER,
        ReviewerKind::Policy => names::ACTOR_SYSTEM,
        _ => names::ACTOR_SERVICE,
    };
    told.by(reviewer.reviewer_id.as_str(), kind)
}

pub(super) fn applied(payload: &ReviewApplied, out: &mut Attributes) -> Told {
    out.text(ID, payload.review_id.as_str());
    out.text("agent_audit.review.resulting_state", payload.resulting_state.as_str());
    out.optional("agent_audit.review.decided_event.id", payload.decided_event_id.as_ref());
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    Told::success(line(format_args!(
        "review {} applied: agent {}",
        payload.review_id, payload.resulting_state
    )))
}
