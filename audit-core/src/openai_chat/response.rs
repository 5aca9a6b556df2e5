//! The answer of a chat completion endpoint.

use std::fmt;

use serde_json::value::RawValue;

use super::{
    fields::Fields,
    message::{JSON, Message},
    transcript::placed,
};
use crate::{
    content::Part,
    event::model::{ModelDecided, ModelStatus, Usage},
    id::CallId,
};

/// A chat completion, read once: what the model decided, and the calls to carry out.
///
/// ```
/// use agent_audit_core::{event::model::DecisionKind, openai_chat::ChatResponse};
/// let body = br#"{"id":"chatcmpl-1","model":"gpt-4o-2024-08-06","choices":[{"index":0,
///     "finish_reason":"tool_calls","message":{"role":"assistant","content":null,"tool_calls":[
///     {"id":"call_1","type":"function","function":{"name":"refund","arguments":"{\"order\": 7}"}}]}}],
///     "usage":{"prompt_tokens":812,"completion_tokens":17}}"#;
/// let response = ChatResponse::parse(body)?;
/// assert_eq!(response.tool_calls()[0].arguments, r#"{"order": 7}"#);
///
/// let (decided, parts) = response.decided("gpt-4o");
/// assert_eq!(decided.served_model.as_deref(), Some("gpt-4o-2024-08-06"));
/// assert_eq!(decided.decision.map(|decision| decision.kind), Some(DecisionKind::Tools));
/// assert_eq!(parts[0].name(), "output");
/// # Ok::<(), agent_audit_core::openai_chat::InvalidResponse>(())
/// ```
#[derive(Clone)]
pub struct ChatResponse {
    decided: ModelDecided,
    parts: Vec<Part>,
    tool_calls: Vec<ToolCallRequest>,
    message: String,
    text: Option<String>,
}

/// A tool call that a model asks for.
///
/// ```
/// use agent_audit_core::{id::CallId, openai_chat::ToolCallRequest};
/// let call = ToolCallRequest::new(CallId::new("call_1")?, "refund", r#"{"order":7}"#);
/// assert_eq!(call.name, "refund");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolCallRequest {
    /// The provider's id of the call.
    pub call_id: CallId,
    /// The name of the tool.
    pub name: String,
    /// The arguments exactly as the model wrote them: usually, but not always, valid JSON.
    pub arguments: String,
}

impl ToolCallRequest {
    /// A call.
    pub fn new(call_id: CallId, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        Self { call_id, name: name.into(), arguments: arguments.into() }
    }
}

impl fmt::Debug for ToolCallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments are content, and content is in no log but ours.
        f.debug_struct("ToolCallRequest")
            .field("call_id", &self.call_id)
            .field("name", &self.name)
            .field("arguments", &self.arguments.len())
            .finish()
    }
}

/// Why bytes are not a chat completion.
///
/// ```
/// use agent_audit_core::openai_chat::ChatResponse;
/// let body = br#"{"error":{"message":"no such model","code":"model_not_found"}}"#;
/// let error = ChatResponse::parse(body).unwrap_err();
/// assert_eq!(error.to_string(), "the endpoint answered with an error: model_not_found");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidResponse(String);

/// Reads a chat completion as the event that records it, and its content.
///
/// Short for [`ChatResponse::parse`] and [`ChatResponse::decided`].
///
/// # Errors
/// As [`ChatResponse::parse`].
///
/// ```
/// use agent_audit_core::openai_chat::decided;
/// let body = br#"{"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}]}"#;
/// let (decided, parts) = decided(body, "gpt-4o")?;
/// assert_eq!(decided.finish_reason.as_deref(), Some("stop"));
/// assert_eq!(parts[0].bytes(), br#"{"role":"assistant","content":"hi"}"#);
/// # Ok::<(), agent_audit_core::openai_chat::InvalidResponse>(())
/// ```
pub fn decided(
    response_json: &[u8],
    requested_model: &str,
) -> Result<(ModelDecided, Vec<Part>), InvalidResponse> {
    Ok(ChatResponse::parse(response_json)?.decided(requested_model))
}

impl ChatResponse {
    /// Reads the body of a response. Of several choices, the first is the decision.
    ///
    /// # Errors
    /// [`InvalidResponse`] where the body is an error of the endpoint, or no chat completion. The
    /// error never repeats the body, which may be personal.
    pub fn parse(response_json: &[u8]) -> Result<Self, InvalidResponse> {
        let invalid = |why: String| InvalidResponse(why);
        let fields: Fields<'_> = serde_json::from_slice(response_json)
            .map_err(|error| invalid(format!("the response is not a JSON object: {error}")))?;
        if let Some(error) = fields.object("error") {
            let code = error.text("code").or_else(|| error.text("type"));
            let code = code.unwrap_or("without a code".into());
            return Err(invalid(format!("the endpoint answered with an error: {code}")));
        }
        let choice = fields.list("choices").and_then(|choices| choices.first().copied());
        let choice = choice.map(Fields::of).unwrap_or_default();
        let raw = choice.field("message").ok_or_else(|| {
            invalid("the response has no `choices[0].message`: is it a chat completion?".to_owned())
        })?;
        Ok(Self::read(response_json, &fields, &choice, raw))
    }

    fn read(body: &[u8], fields: &Fields<'_>, choice: &Fields<'_>, raw: &RawValue) -> Self {
        let message = Message::read(raw);
        let response_id: Option<String> = fields.text("id").map(Into::into);
        let calls: Vec<_> = (0..)
            .zip(message.calls())
            .map(|(nth, call): (usize, _)| {
                let id = call.id.clone().unwrap_or_else(|| {
                    let of = format!("{}-call-{nth}", response_id.as_deref().unwrap_or("response"));
                    CallId::new(of).unwrap_or_else(|_| placed(&format!("response-call-{nth}")))
                });
                (id, call)
            })
            .collect();
        let mut decided = ModelDecided::new("openai", "", ModelStatus::Ok)
            .with_decision(message.decision(&calls));
        decided.served_model = fields.text("model").map(Into::into);
        decided.model_version = fields.text("system_fingerprint").map(Into::into);
        decided.finish_reason = choice.text("finish_reason").map(Into::into);
        decided.usage = fields.object("usage").map(|counted| usage(&counted));
        decided.response_id = response_id;
        let mut parts = vec![message.part("output"), Part::new("response", JSON, body)];
        let reasoning = message.text("reasoning_content").or_else(|| message.text("reasoning"));
        if let Some(reasoning) = reasoning.filter(|text| !text.is_empty()) {
            parts.push(Part::text("reasoning", reasoning));
        }
        let tool_calls = calls
            .into_iter()
            .map(|(id, call)| ToolCallRequest::new(id, call.name, call.input))
            .collect();
        Self {
            decided,
            parts,
            tool_calls,
            message: raw.get().to_owned(),
            text: message.text("content").map(Into::into),
        }
    }

    /// The event that records the answer, and its content: `output` is the message of the first
    /// choice and `response` the whole body, both byte for byte; `reasoning` where it was disclosed.
    ///
    /// The provider is called `openai`, after the protocol: set the field where another runs the
    /// model, and add the context and the latency, which the response does not know.
    #[must_use]
    pub fn decided(&self, requested_model: impl Into<String>) -> (ModelDecided, Vec<Part>) {
        let mut decided = self.decided.clone();
        decided.requested_model = requested_model.into();
        (decided, self.parts.clone())
    }

    /// The tool calls that the model asks for, in order.
    #[must_use]
    pub fn tool_calls(&self) -> &[ToolCallRequest] {
        &self.tool_calls
    }

    /// The message of the first choice as it was written, to go into the next request.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The answer in words, where there is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl fmt::Debug for ChatResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatResponse")
            .field("decided", &self.decided)
            .field("parts", &self.parts)
            .field("tool_calls", &self.tool_calls)
            .finish_non_exhaustive()
    }
}

/// What the endpoint counted; what it did not count is absent.
fn usage(counted: &Fields<'_>) -> Usage {
    let mut usage = Usage::new();
    usage.input_tokens = counted.number("prompt_tokens");
    usage.output_tokens = counted.number("completion_tokens");
    let detail = |of, name| counted.object(of).and_then(|details| details.number(name));
    usage.cache_read_tokens = detail("prompt_tokens_details", "cached_tokens");
    usage.reasoning_tokens = detail("completion_tokens_details", "reasoning_tokens");
    usage
}
