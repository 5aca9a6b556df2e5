//! Models: what a model was asked, what it answered and what was decided from it.
//!
//! Content of `model.requested`: `context.0`, `context.1`, … (the prompt, one part for each item of
//! the context) and `tools` (the tools that were offered). Content of `model.decided`: the same,
//! and `output` (the raw answer, before any filtering), `reasoning` and `error` (the error message).
//!
//! Figures that JSON would write as floats are decimal text: no float is ever hashed.

use super::{
    payload::{payload, words},
    session::Provenance,
};
use crate::id::{CallId, EventId};

words! {
    /// How a model call ended.
    ///
    /// ```
    /// use agent_audit_core::event::model::ModelStatus;
    /// assert_eq!(ModelStatus::from("cancelled"), ModelStatus::Cancelled);
    /// ```
    ModelStatus {
        /// The model answered.
        Ok = "ok",
        /// The call failed.
        Error = "error",
        /// It was dropped before it finished.
        Cancelled = "cancelled",
        /// The process died in the middle: whether the model answered is not known.
        Unknown = "unknown",
        /// It panicked.
        Panicked = "panicked",
    }
    /// What a model's answer amounts to.
    ///
    /// ```
    /// use agent_audit_core::event::model::DecisionKind;
    /// assert_eq!(DecisionKind::Tools.as_str(), "tools");
    /// ```
    DecisionKind {
        /// It selected tools.
        Tools = "tools",
        /// It selected a way through the program.
        Branch = "branch",
        /// It is an answer in words.
        Content = "content",
        /// It declined.
        Refusal = "refusal",
    }
    /// Whose voice an item of the context has.
    ///
    /// ```
    /// use agent_audit_core::event::model::ContextRole;
    /// assert_eq!(ContextRole::ToolsOffered.as_str(), "tools_offered");
    /// ```
    ContextRole {
        /// The instructions of the application.
        System = "system",
        /// What the agent remembered from before.
        Memory = "memory",
        /// What was looked up for this call.
        Retrieved = "retrieved",
        /// A person.
        User = "user",
        /// The model itself, earlier.
        Assistant = "assistant",
        /// The result of a tool.
        Tool = "tool",
        /// The tools that it could choose from.
        ToolsOffered = "tools_offered",
    }
}

impl ModelStatus {
    /// Whether the model answered.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

payload! {
    /// `model.requested`: a model is about to be asked.
    ///
    /// ```
    /// use agent_audit_core::event::model::{ContextItem, ContextRole, ModelRequested};
    /// let payload = ModelRequested::new("openai", "gpt-5")
    ///     .with_context([ContextItem::new(ContextRole::User, "context.0")]);
    /// assert_eq!(payload.context[0].part, "context.0");
    /// ```
    ModelRequested {
        /// Who runs the model.
        provider: String,
        /// The model that was asked for.
        requested_model: String,
        [optional]
        /// What the model was told about how to answer.
        parameters: Parameters,
        /// The earlier `model.decided` whose context this one continues: the parts hold only what
        /// was added since.
        context_after: EventId,
        /// Set where the call was imported.
        provenance: Provenance,
        [lists]
        /// What the model saw, in order.
        context: ContextItem,
        /// Parameters that the application left out of the record on purpose.
        omitted_inputs: String,
    }
    /// `model.decided`: a model answered, failed or was cancelled.
    ///
    /// ```
    /// use agent_audit_core::event::model::{Decision, DecisionKind, ModelDecided, ModelStatus, Usage};
    /// let payload = ModelDecided::new("openai", "gpt-5", ModelStatus::Ok)
    ///     .with_served_model("gpt-5-2025-08-07")
    ///     .with_usage(Usage::new().with_input_tokens(812u64))
    ///     .with_decision(Decision::new(DecisionKind::Content));
    /// assert_eq!(payload.usage.map(|usage| usage.output_tokens), Some(None), "absent is not 0");
    /// ```
    ModelDecided {
        /// Who runs the model.
        provider: String,
        /// The model that was asked for.
        requested_model: String,
        /// How the call ended.
        status: ModelStatus,
        [optional]
        /// The model that answered, as the provider names it.
        served_model: String,
        /// The version or fingerprint of the model that answered.
        model_version: String,
        /// The provider's id of the answer.
        response_id: String,
        /// Why the model stopped, in the provider's word.
        finish_reason: String,
        /// The `model.requested` event of the call.
        request_event_id: EventId,
        /// The tokens that the provider counted.
        usage: Usage,
        /// How long the call took, in microseconds, by a monotonic clock.
        latency_us: u64,
        /// How long it took until the first token, in microseconds.
        time_to_first_token_us: u64,
        /// What the answer amounts to.
        decision: Decision,
        /// The type or code of the error; its message is content.
        error_code: String,
        /// The earlier `model.decided` whose context this one continues: the parts hold only what
        /// was added since.
        context_after: EventId,
        /// What the model was told about how to answer.
        parameters: Parameters,
        /// Set where the call was imported.
        provenance: Provenance,
        [lists]
        /// What the model saw, in order.
        context: ContextItem,
        /// Signals of how sure the model was.
        confidence: Confidence,
    }
    /// Tokens as the provider counted them. What it did not count is absent, which is not 0.
    ///
    /// ```
    /// use agent_audit_core::event::model::Usage;
    /// let usage = Usage::new().with_output_tokens(0u64);
    /// assert_eq!((usage.input_tokens, usage.output_tokens), (None, Some(0)));
    /// ```
    Usage {
        [optional]
        /// Tokens of the prompt.
        input_tokens: u64,
        /// Tokens of the prompt that came from a cache.
        cache_read_tokens: u64,
        /// Tokens of the prompt that were written to a cache.
        cache_write_tokens: u64,
        /// Tokens of the answer.
        output_tokens: u64,
        /// Tokens of the model's reasoning.
        reasoning_tokens: u64,
    }
    /// What a model's answer amounts to.
    ///
    /// ```
    /// use agent_audit_core::{event::model::{Decision, DecisionKind, SelectedCall}, id::CallId};
    /// let call = SelectedCall::new(CallId::new("call_1")?, "refund");
    /// let decision = Decision::new(DecisionKind::Tools).with_tool_calls([call]);
    /// assert_eq!(decision.tool_calls[0].tool_name, "refund");
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    Decision {
        /// What it is.
        kind: DecisionKind,
        [optional]
        /// The way through the program that it selected.
        branch: String,
        [lists]
        /// The tool calls that it selected, in order.
        tool_calls: SelectedCall,
    }
    /// One tool call that a model selected.
    ///
    /// ```
    /// use agent_audit_core::{event::model::SelectedCall, id::CallId};
    /// assert_eq!(SelectedCall::new(CallId::new("call_1")?, "refund").call_id.as_str(), "call_1");
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    SelectedCall {
        /// The provider's id of the call, by which `tool.attempted` finds it.
        call_id: CallId,
        /// The name of the tool.
        tool_name: String,
    }
    /// One item of what a model saw.
    ///
    /// ```
    /// use agent_audit_core::event::model::{ContextItem, ContextRole};
    /// assert_eq!(ContextItem::new(ContextRole::System, "context.0").part, "context.0");
    /// ```
    ContextItem {
        /// Whose voice it has.
        role: ContextRole,
        /// The content part that holds it.
        part: String,
    }
    /// One signal of how sure a model was, by the name of its measure.
    ///
    /// ```
    /// use agent_audit_core::event::model::Confidence;
    /// assert_eq!(Confidence::new("mean_logprob", "-0.12").value, "-0.12");
    /// ```
    Confidence {
        /// What was measured, as `mean_logprob`.
        name: String,
        /// The figure, as decimal text.
        value: String,
    }
    /// What a model was told about how to answer.
    ///
    /// ```
    /// use agent_audit_core::event::model::Parameters;
    /// let parameters = Parameters::new().with_temperature("0.2").with_max_output_tokens(512u64);
    /// assert_eq!(parameters.temperature.as_deref(), Some("0.2"));
    /// ```
    Parameters {
        [optional]
        /// The longest answer.
        max_output_tokens: u64,
        /// The sampling temperature, as decimal text.
        temperature: String,
        /// The nucleus to sample from, as decimal text.
        top_p: String,
        /// How many candidates to sample from.
        top_k: u64,
        /// The penalty of words by their frequency, as decimal text.
        frequency_penalty: String,
        /// The penalty of words that occurred, as decimal text.
        presence_penalty: String,
        /// The seed of the sampling, as decimal text.
        seed: String,
        /// How much it should reason, in the provider's word.
        reasoning_effort: String,
        /// Which tools it may or must choose, in the provider's word.
        tool_choice: String,
        /// The form of the answer, in the provider's word.
        response_format: String,
    }
}
