//! Model calls.

use std::time::Instant;

use super::{
    Parent,
    outcome::{self, micros_since},
};
use crate::{
    content::Part,
    context::AuditContext,
    error::AuditError,
    event::model::{
        ContextItem, ContextRole, ModelDecided, ModelRequested, ModelStatus, Parameters,
    },
    id::EventId,
    log::{Draft, Receipt},
};

/// What a model is about to be asked.
///
/// ```
/// use agent_audit_core::{attempt::ModelCall, event::model::ContextRole};
/// let call = ModelCall::new("openai", "gpt-4o")
///     .with_context(ContextRole::System, "application/json", r#"{"role":"system"}"#);
/// assert_eq!(call.model(), "gpt-4o");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a call is recorded by `attempt_model`"]
pub struct ModelCall {
    requested: ModelRequested,
    parts: Vec<Part>,
    parent: Option<Parent>,
}

impl ModelCall {
    /// A call of a model at a provider.
    pub fn new(provider: impl Into<String>, model: impl Into<String>) -> Self {
        let requested = ModelRequested::new(provider, model);
        Self { requested, parts: Vec::new(), parent: None }
    }

    /// Adds one item of the prompt's context, by role, as it is sent.
    pub fn with_context(
        mut self,
        role: ContextRole,
        media_type: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        let name = format!("context.{}", self.requested.context.len());
        self.requested.context.push(ContextItem::new(role, name.clone()));
        self.parts.push(Part::new(name, media_type, bytes));
        self
    }

    /// Says how the model is asked.
    pub fn with_parameters(mut self, parameters: Parameters) -> Self {
        self.requested.parameters = Some(parameters);
        self
    }

    /// Adds content.
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Says that a parameter was left out of the record on purpose.
    pub fn with_omitted_input(mut self, name: impl Into<String>) -> Self {
        self.requested.omitted_inputs.push(name.into());
        self
    }

    /// Says that the context holds only what was added since that earlier decision.
    pub fn with_context_after(mut self, decided: EventId) -> Self {
        self.requested.context_after = Some(decided);
        self
    }

    /// Names what the call follows from.
    pub fn with_parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// The model that is asked for.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.requested.requested_model
    }
}

/// How a model call ended.
///
/// ```
/// use agent_audit_core::{attempt::ModelOutcome, event::model::ModelStatus};
/// let outcome = ModelOutcome::failed(ModelStatus::Error).with_error_code("rate_limited");
/// assert!(format!("{outcome:?}").contains("rate_limited"));
/// ```
#[derive(Debug, Clone)]
#[must_use = "an outcome is recorded by `complete`"]
pub struct ModelOutcome {
    decided: Option<ModelDecided>,
    status: ModelStatus,
    error_code: Option<String>,
    parts: Vec<Part>,
}

impl ModelOutcome {
    /// The model answered, and this was decided. Provider and requested model are those of the
    /// call where the payload leaves them empty.
    pub fn decided(decided: ModelDecided) -> Self {
        let status = decided.status.clone();
        Self { decided: Some(decided), status, error_code: None, parts: Vec::new() }
    }

    /// The model did not answer.
    pub fn failed(status: ModelStatus) -> Self {
        Self { decided: None, status, error_code: None, parts: Vec::new() }
    }

    /// Names the type or code of the error; its message is content.
    pub fn with_error_code(mut self, code: impl Into<String>) -> Self {
        self.error_code = Some(code.into());
        self
    }

    /// Adds content: `output`, `reasoning` or `error`.
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Adds content.
    pub fn with_parts(mut self, parts: impl IntoIterator<Item = Part>) -> Self {
        self.parts.extend(parts);
        self
    }
}

/// A model call that is going on. Dropped without [`complete`](Self::complete), it is recorded as
/// cancelled, or as panicked while the thread unwinds.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{attempt::{ModelCall, ModelOutcome}, content::Part, log::AuditLog};
/// use agent_audit_core::event::model::{ModelDecided, ModelStatus};
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "session-1", "support-agent")?;
///
/// let attempt = session.attempt_model_blocking(ModelCall::new("openai", "gpt-4o"))?;
/// let decided = ModelDecided::new("openai", "gpt-4o", ModelStatus::Ok);
/// let outcome = ModelOutcome::decided(decided).with_part(Part::text("output", "Hello."));
/// assert_eq!(attempt.complete_blocking(outcome)?.sequence, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping an attempt records that it was cancelled"]
pub struct ModelAttempt {
    /// The place where the call was made: its decision is in force there.
    context: AuditContext,
    provider: String,
    model: String,
    receipt: Receipt,
    started: Instant,
    done: bool,
}

impl AuditContext {
    /// Records that a model is about to be asked; on return that is durable.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    ///
    /// # Cancel safety
    /// As [`attempt_tool`](Self::attempt_tool).
    pub async fn attempt_model(&self, call: ModelCall) -> Result<ModelAttempt, AuditError> {
        let ModelCall { requested, parts, parent } = call;
        let (provider, model) = (requested.provider.clone(), requested.requested_model.clone());
        let mut draft = Draft::new(requested).with_parts(parts);
        draft.parent_event_id = match &parent {
            Some(parent) => self.decision_for(Some(parent), None).0,
            None => self.parent(),
        };
        let started = Instant::now();
        let intent = outcome::place_intent(self, draft).await?;
        let (context, receipt) = (self.clone(), intent.receipt.clone());
        let mut attempt = ModelAttempt { context, provider, model, receipt, started, done: false };
        outcome::confirm_intent(self, intent, &mut attempt.done).await?;
        Ok(attempt)
    }

    /// [`attempt_model`](Self::attempt_model), waiting on this thread.
    ///
    /// # Errors
    /// As [`attempt_model`](Self::attempt_model).
    pub fn attempt_model_blocking(&self, call: ModelCall) -> Result<ModelAttempt, AuditError> {
        pollster::block_on(self.attempt_model(call))
    }
}

impl ModelAttempt {
    /// The identity of the `model.requested` event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.receipt.event_id
    }

    /// The place where the call was made.
    #[must_use]
    pub fn context(&self) -> &AuditContext {
        &self.context
    }

    /// Records the outcome. From here on the decision is in force: tool calls find it by their call
    /// ids, or by scope.
    ///
    /// # Errors
    /// As [`AuditContext::record`].
    ///
    /// # Cancel safety
    /// The outcome is recorded even if the future is dropped.
    pub async fn complete(mut self, outcome: ModelOutcome) -> Result<Receipt, AuditError> {
        self.done = true;
        let draft = self.decided(outcome);
        outcome::record(&self.context, draft).await
    }

    /// [`complete`](Self::complete), waiting on this thread.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn complete_blocking(self, outcome: ModelOutcome) -> Result<Receipt, AuditError> {
        pollster::block_on(self.complete(outcome))
    }

    fn decided(&self, outcome: ModelOutcome) -> Draft {
        let ModelOutcome { decided, status, error_code, parts } = outcome;
        let mut decided = decided.unwrap_or_else(|| ModelDecided::new("", "", status));
        if decided.provider.is_empty() {
            decided.provider.clone_from(&self.provider);
        }
        if decided.requested_model.is_empty() {
            decided.requested_model.clone_from(&self.model);
        }
        decided.request_event_id = Some(self.receipt.event_id);
        decided.latency_us.get_or_insert(micros_since(self.started));
        if error_code.is_some() {
            decided.error_code = error_code;
        }
        Draft::new(decided).with_parts(parts).with_parent(self.receipt.event_id)
    }
}

impl Drop for ModelAttempt {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let panicked = std::thread::panicking();
        let status = if panicked { ModelStatus::Panicked } else { ModelStatus::Cancelled };
        outcome::record_detached(&self.context, self.decided(ModelOutcome::failed(status)));
    }
}
