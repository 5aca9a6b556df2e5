//! What agents do: sessions, models and tools.

use agent_audit_core::event::{
    model::{Decision, ModelDecided, ModelRequested, ModelStatus, Parameters},
    session::{SessionEnded, SessionOutcome, SessionStarted},
    tool::{ToolAttempted, ToolCompleted, ToolStatus},
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::{
    FAILURE, Told, UNKNOWN,
    attributes::{Attributes, object, text},
    body::{Took, known, line},
    content::Carries,
    envelope::Envelope,
    names,
};

pub(super) fn session_started(
    event: &Envelope<'_>,
    payload: &SessionStarted,
    out: &mut Attributes,
) -> Told {
    out.text(names::OPERATION, "invoke_agent");
    out.optional(names::AGENT_NAME, payload.agent_name.as_ref());
    out.optional(names::AGENT_VERSION, payload.agent_version.as_ref());
    out.optional("agent_audit.session.purpose", payload.purpose.as_ref());
    out.optional("agent_audit.session.parent_id", payload.parent_session_id.as_ref());
    out.optional("agent_audit.session.spawned_by", payload.spawned_by.as_ref());
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    Told::pending(line(format_args!(
        "session {} of agent {} started",
        event.session_id, event.agent_id
    )))
}

pub(super) fn session_ended(
    event: &Envelope<'_>,
    payload: &SessionEnded,
    out: &mut Attributes,
) -> Told {
    out.text(names::OPERATION, "invoke_agent");
    out.text("agent_audit.session.outcome", payload.outcome.as_str());
    out.optional("agent_audit.session.reason", payload.reason.as_ref());
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    let body = line(format_args!(
        "session {} of agent {} {}{}",
        event.session_id,
        event.agent_id,
        payload.outcome,
        known(": ", payload.reason.as_ref())
    ));
    match payload.outcome {
        SessionOutcome::Completed => Told::success(body),
        SessionOutcome::Failed => {
            out.text(names::ERROR_TYPE, payload.reason.as_deref().unwrap_or("_OTHER"));
            Told::failure(body)
        }
        _ => Told::warning(UNKNOWN, body),
    }
}

pub(super) fn model_requested(payload: ModelRequested, out: &mut Attributes) -> Told {
    model(&payload.provider, &payload.requested_model, payload.parameters.as_ref(), out);
    out.optional("agent_audit.model.context_after", payload.context_after.as_ref());
    out.list(names::OMITTED_INPUTS, payload.omitted_inputs.iter().map(text));
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    Told::pending(line(format_args!(
        "model {} of {} asked",
        payload.requested_model, payload.provider
    )))
    .carrying(Carries::Request { context: payload.context })
}

pub(super) fn model_decided(payload: ModelDecided, out: &mut Attributes) -> Told {
    model(&payload.provider, &payload.requested_model, payload.parameters.as_ref(), out);
    out.optional(names::RESPONSE_MODEL, payload.served_model.as_ref());
    out.optional(names::RESPONSE_ID, payload.response_id.as_ref());
    out.list(names::RESPONSE_FINISH_REASONS, payload.finish_reason.iter().map(text));
    let seconds = payload.time_to_first_token_us.map(seconds);
    out.value(names::RESPONSE_TIME_TO_FIRST_CHUNK, seconds.map(Value::DoubleValue));
    if let Some(usage) = &payload.usage {
        out.optional_integer(names::USAGE_INPUT, usage.input_tokens);
        out.optional_integer(names::USAGE_OUTPUT, usage.output_tokens);
        out.optional_integer(names::USAGE_CACHE_READ, usage.cache_read_tokens);
        out.optional_integer(names::USAGE_CACHE_CREATION, usage.cache_write_tokens);
        out.optional_integer(names::USAGE_REASONING, usage.reasoning_tokens);
    }
    out.text("agent_audit.model.status", payload.status.as_str());
    out.optional("agent_audit.model.version", payload.model_version.as_ref());
    out.optional_integer("agent_audit.model.latency_us", payload.latency_us);
    out.optional("agent_audit.model.request_event.id", payload.request_event_id.as_ref());
    out.optional("agent_audit.model.context_after", payload.context_after.as_ref());
    if let Some(Decision { kind, branch, tool_calls, .. }) = &payload.decision {
        out.text("agent_audit.model.decision", kind.as_str());
        out.optional("agent_audit.model.branch", branch.as_ref());
        let calls = tool_calls.iter().map(|call| {
            object([
                ("call_id", Some(text(call.call_id.as_str()))),
                ("tool_name", Some(text(&call.tool_name))),
            ])
        });
        out.list("agent_audit.model.tool_calls", calls);
    }
    let confidence = payload.confidence.iter().map(|signal| {
        object([("name", Some(text(&signal.name))), ("value", Some(text(&signal.value)))])
    });
    out.list("agent_audit.model.confidence", confidence);
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    error_type(payload.status.is_ok(), payload.error_code.as_ref(), payload.status.as_str(), out);
    let decision = payload.decision.as_ref().map(|decision| {
        let tools: Vec<_> =
            decision.tool_calls.iter().map(|call| call.tool_name.as_str()).collect();
        if tools.is_empty() {
            decision.kind.to_string()
        } else {
            format!("{} {}", decision.kind, tools.join(", "))
        }
    });
    let body = line(format_args!(
        "model {} {}{}{}{}",
        payload.served_model.as_ref().unwrap_or(&payload.requested_model),
        payload.status,
        known(" in ", payload.latency_us.map(Took)),
        known(": ", decision),
        known(": ", payload.error_code.as_ref().filter(|_| !payload.status.is_ok())),
    ));
    let told = match payload.status {
        ModelStatus::Ok => Told::success(body),
        ModelStatus::Error | ModelStatus::Panicked => Told::failure(body),
        _ => Told::warning(UNKNOWN, body),
    };
    told.carrying(Carries::Answer {
        context: payload.context,
        finish_reason: payload.finish_reason,
    })
}

pub(super) fn tool_attempted(payload: &ToolAttempted, out: &mut Attributes) -> Told {
    out.text(names::OPERATION, "execute_tool");
    out.text(names::TOOL_NAME, payload.tool_name.as_str());
    out.optional(names::TOOL_CALL_ID, payload.call_id.as_ref());
    out.optional("agent_audit.tool.version", payload.tool_version.as_ref());
    out.optional("agent_audit.tool.effect", payload.effect.as_ref());
    out.optional("agent_audit.tool.decision_link", payload.decision_link.as_ref());
    out.optional("agent_audit.tool.approval_event.id", payload.approval_event_id.as_ref());
    out.list(names::OMITTED_INPUTS, payload.omitted_inputs.iter().map(text));
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    let effect = payload.effect.as_ref().map(|effect| format!("({effect})"));
    Told::pending(line(format_args!("tool {} attempted{}", payload.tool_name, known(" ", effect))))
        .carrying(Carries::Arguments)
}

pub(super) fn tool_completed(payload: &ToolCompleted, out: &mut Attributes) -> Told {
    out.text(names::OPERATION, "execute_tool");
    out.text(names::TOOL_NAME, payload.tool_name.as_str());
    out.optional(names::TOOL_CALL_ID, payload.call_id.as_ref());
    out.text("agent_audit.tool.status", payload.status.as_str());
    out.display("agent_audit.tool.attempt_event.id", payload.attempt_event_id);
    out.optional_integer("agent_audit.tool.duration_us", payload.duration_us);
    let ids = payload
        .external_ids
        .iter()
        .map(|id| object([("key", Some(text(&id.key))), ("value", Some(text(&id.value)))]));
    out.list("agent_audit.tool.external_ids", ids);
    out.optional(names::PROVENANCE, payload.provenance.as_ref());
    error_type(payload.status.is_ok(), payload.error_code.as_ref(), payload.status.as_str(), out);
    let body = line(format_args!(
        "tool {} {}{}{}",
        payload.tool_name,
        payload.status,
        known(" in ", payload.duration_us.map(Took)),
        known(": ", payload.error_code.as_ref().filter(|_| !payload.status.is_ok())),
    ));
    let told = match payload.status {
        ToolStatus::Ok => Told::success(body),
        ToolStatus::Error | ToolStatus::ToolError | ToolStatus::Panicked => Told::failure(body),
        // What a cancelled call had done by then stays done.
        ToolStatus::Cancelled | ToolStatus::Unknown => Told::warning(UNKNOWN, body),
        _ => Told::warning(FAILURE, body),
    };
    told.carrying(Carries::Result)
}

fn model(
    provider: &str,
    requested_model: &str,
    parameters: Option<&Parameters>,
    out: &mut Attributes,
) {
    out.text(names::OPERATION, "chat");
    out.text(names::PROVIDER, provider);
    out.text(names::REQUEST_MODEL, requested_model);
    let Some(parameters) = parameters else { return };
    out.optional_integer(names::REQUEST_MAX_TOKENS, parameters.max_output_tokens);
    out.decimal(names::REQUEST_TEMPERATURE, parameters.temperature.as_ref());
    out.decimal(names::REQUEST_TOP_P, parameters.top_p.as_ref());
    let top_k = parameters.top_k.and_then(|top_k| u32::try_from(top_k).ok());
    out.value(names::REQUEST_TOP_K, top_k.map(|top_k| Value::DoubleValue(top_k.into())));
    out.decimal(names::REQUEST_FREQUENCY_PENALTY, parameters.frequency_penalty.as_ref());
    out.decimal(names::REQUEST_PRESENCE_PENALTY, parameters.presence_penalty.as_ref());
    // A seed of 64 bits without sign does not fit; then the event alone has it.
    let seed = parameters.seed.as_ref().and_then(|seed| seed.parse().ok());
    out.value(names::REQUEST_SEED, seed.map(Value::IntValue));
    out.optional("agent_audit.model.reasoning_effort", parameters.reasoning_effort.as_ref());
    out.optional("agent_audit.model.tool_choice", parameters.tool_choice.as_ref());
    out.optional("agent_audit.model.response_format", parameters.response_format.as_ref());
}

/// The class of an error: its code, or how it ended where it has none.
fn error_type(ok: bool, code: Option<&String>, status: &str, out: &mut Attributes) {
    if !ok {
        out.text(names::ERROR_TYPE, code.map_or(status, String::as_str));
    }
}

/// Microseconds as the seconds of a convention. Past 71 minutes it is no longer exact to one.
fn seconds(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64()
}
