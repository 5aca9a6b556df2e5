//! Tool calls.

use std::time::Instant;

use super::{
    Parent,
    outcome::{self, micros_since},
};
use crate::{
    content::Part,
    context::AuditContext,
    error::AuditError,
    event::tool::{Effect, ExternalId, ToolAttempted, ToolCompleted, ToolStatus},
    id::{CallId, EventId},
    log::{Draft, Receipt},
};

/// What a tool is about to do.
///
/// ```
/// use agent_audit_core::{attempt::ToolCall, content::Part};
/// let call = ToolCall::new("refund").with_part(Part::text("input", "order A-1"));
/// assert_eq!(call.name(), "refund");
/// ```
#[derive(Debug, Clone)]
#[must_use = "a call is recorded by `attempt_tool`"]
pub struct ToolCall {
    attempted: ToolAttempted,
    parts: Vec<Part>,
    parent: Option<Parent>,
}

impl ToolCall {
    /// A call of the tool with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { attempted: ToolAttempted::new(name), parts: Vec::new(), parent: None }
    }

    /// Names the version of the tool.
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.attempted.tool_version = Some(version.into());
        self
    }

    /// Says what the call can do to the world.
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.attempted.effect = Some(effect);
        self
    }

    /// Adds content: `input`, or `input.<name>` for a parameter that is kept apart.
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Says that a parameter was left out of the record on purpose.
    pub fn with_omitted_input(mut self, name: impl Into<String>) -> Self {
        self.attempted.omitted_inputs.push(name.into());
        self
    }

    /// Names the provider's id of the call: the decision that made it is found by it.
    pub fn with_call_id(mut self, call: CallId) -> Self {
        self.attempted.call_id = Some(call);
        self
    }

    /// Names what the call follows from.
    pub fn with_parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// Names the `review.decided` event that allows the call.
    pub fn with_approval(mut self, decided: EventId) -> Self {
        self.attempted.approval_event_id = Some(decided);
        self
    }

    /// The name of the tool.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.attempted.tool_name
    }
}

/// How a tool call ended.
///
/// ```
/// use agent_audit_core::{attempt::ToolOutcome, event::tool::ToolStatus};
/// let outcome = ToolOutcome::new(ToolStatus::Ok).with_external_id("refund", "R-7");
/// assert_eq!(outcome.status(), &ToolStatus::Ok);
/// ```
#[derive(Debug, Clone)]
#[must_use = "an outcome is recorded by `complete`"]
pub struct ToolOutcome {
    status: ToolStatus,
    error_code: Option<String>,
    parts: Vec<Part>,
    external_ids: Vec<ExternalId>,
}

impl ToolOutcome {
    /// An outcome with this status.
    pub fn new(status: ToolStatus) -> Self {
        Self { status, error_code: None, parts: Vec::new(), external_ids: Vec::new() }
    }

    /// Names the type or code of the error; its message is content.
    pub fn with_error_code(mut self, code: impl Into<String>) -> Self {
        self.error_code = Some(code.into());
        self
    }

    /// Adds content: `output` or `error`.
    pub fn with_part(mut self, part: Part) -> Self {
        self.parts.push(part);
        self
    }

    /// Names a thing outside that the call touched.
    pub fn with_external_id(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.external_ids.push(ExternalId::new(key, value));
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> &ToolStatus {
        &self.status
    }
}

/// A tool call that is going on. Its intent is durable.
///
/// Dropped without [`complete`](Self::complete), it is recorded as cancelled, or as panicked while
/// the thread unwinds.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{attempt::{ToolCall, ToolOutcome}, event::tool::ToolStatus, log::AuditLog};
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "session-1", "support-agent")?;
///
/// let attempt = session.attempt_tool_blocking(ToolCall::new("refund"))?;
/// // … the side effect …
/// let receipt = attempt.complete_blocking(ToolOutcome::new(ToolStatus::Ok))?;
/// assert_eq!(receipt.sequence, 2, "after chain.opened and tool.attempted");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping an attempt records that it was cancelled"]
pub struct ToolAttempt {
    /// The place inside the call.
    context: AuditContext,
    name: String,
    call: Option<CallId>,
    receipt: Receipt,
    started: Instant,
    done: bool,
}

impl AuditContext {
    /// Records that a tool is about to act; on return the intent is durable.
    ///
    /// The decision that it follows from is found by the provider's call id first, by scope second.
    ///
    /// # Errors
    /// As [`record`](Self::record). The tool must not act then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves no intent without an outcome: either nothing is recorded, or the
    /// call is recorded as cancelled.
    pub async fn attempt_tool(&self, call: ToolCall) -> Result<ToolAttempt, AuditError> {
        let ToolCall { mut attempted, parts, parent } = call;
        if attempted.call_id.is_none() {
            attempted.call_id = match &parent {
                Some(Parent::Call(call)) => Some(call.clone()),
                _ => self.call().cloned(),
            };
        }
        if attempted.approval_event_id.is_none() {
            attempted.approval_event_id = self.approval();
        }
        let (decision, link) = self.decision_for(parent.as_ref(), attempted.call_id.as_ref());
        attempted.decision_link = link;
        let (name, call) = (attempted.tool_name.clone(), attempted.call_id.clone());
        let mut draft = Draft::new(attempted).with_parts(parts);
        draft.parent_event_id = decision;
        let started = Instant::now();
        let intent = outcome::place_intent(self, draft).await?;
        let receipt = intent.receipt.clone();
        let context = self.with_parent(receipt.event_id);
        let mut attempt = ToolAttempt { context, name, call, receipt, started, done: false };
        outcome::confirm_intent(self, intent, &mut attempt.done).await?;
        Ok(attempt)
    }

    /// [`attempt_tool`](Self::attempt_tool), waiting on this thread.
    ///
    /// # Errors
    /// As [`attempt_tool`](Self::attempt_tool).
    pub fn attempt_tool_blocking(&self, call: ToolCall) -> Result<ToolAttempt, AuditError> {
        pollster::block_on(self.attempt_tool(call))
    }
}

impl ToolAttempt {
    /// The identity of the `tool.attempted` event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.receipt.event_id
    }

    /// The place of the `tool.attempted` event in its chain.
    #[must_use]
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The place inside the call: what happens there names the call as its parent.
    #[must_use]
    pub fn context(&self) -> &AuditContext {
        &self.context
    }

    /// Records the outcome.
    ///
    /// # Errors
    /// As [`AuditContext::record`].
    ///
    /// # Cancel safety
    /// The outcome is recorded even if the future is dropped.
    pub async fn complete(mut self, outcome: ToolOutcome) -> Result<Receipt, AuditError> {
        self.done = true;
        let draft = self.completed(outcome);
        outcome::record(&self.context, draft).await
    }

    /// [`complete`](Self::complete), waiting on this thread.
    ///
    /// # Errors
    /// As [`complete`](Self::complete).
    pub fn complete_blocking(self, outcome: ToolOutcome) -> Result<Receipt, AuditError> {
        pollster::block_on(self.complete(outcome))
    }

    fn completed(&self, outcome: ToolOutcome) -> Draft {
        let ToolOutcome { status, error_code, parts, external_ids } = outcome;
        let mut completed = ToolCompleted::new(self.name.clone(), self.receipt.event_id, status)
            .with_duration_us(micros_since(self.started))
            .with_external_ids(external_ids);
        completed.call_id = self.call.clone();
        completed.error_code = error_code;
        Draft::new(completed).with_parts(parts).with_parent(self.receipt.event_id)
    }
}

impl Drop for ToolAttempt {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let panicked = std::thread::panicking();
        let status = if panicked { ToolStatus::Panicked } else { ToolStatus::Cancelled };
        outcome::record_detached(&self.context, self.completed(ToolOutcome::new(status)));
    }
}
