//! Who acts for whom: the ambient context, from the session down to the decision in force.
//!
//! An [`AuditContext`] names tenant, session and agent, and knows the decision that the next action
//! follows from. Inside [`scope`](AuditContext::scope) or [`run`](AuditContext::run) it is current,
//! and [`#[audited]`](https://docs.rs/agent-audit) functions find it there. A new task or thread
//! starts without one: [`spawn`], [`spawn_blocking`] and
//! [`in_current_audit`](InCurrentAudit::in_current_audit) take it along. There is never a default
//! tenant: without a context, recording is an error.

mod ambient;
mod links;
#[cfg(feature = "opentelemetry")]
mod otel;

use std::{
    fmt,
    future::Future,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

pub use ambient::{InCurrentAudit, spawn, spawn_blocking};
use links::Links;

use crate::{
    error::{AuditError, AuditErrorKind},
    event::{
        Payload,
        model::ModelDecided,
        session::{SessionEnded, SessionStarted},
        tool::DecisionLink,
    },
    id::{AgentId, CallId, EventId, SessionId, SpanId, SubjectId, TenantId, TraceId},
    log::{AuditLog, Draft, DrawnUp, Durability, InvalidName, Receipt, Scope},
};

/// The session that something happens in, and where in it.
///
/// Clones are the same place. A [`branch`](Self::branch) is a place of its own from here on.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{context::AuditContext, event::Other, log::AuditLog};
///
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "session-1", "support-agent")?;
/// session.run(|| {
///     let here = AuditContext::current()?;
///     assert_eq!(here.tenant_id().as_str(), "acme");
///     here.record_blocking(Other::custom("note").expect("a valid name"))
/// })?;
/// assert!(AuditContext::current().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct AuditContext {
    session: Arc<Session>,
    /// The event under which everything here happens, as a tool's attempt.
    parent: Option<EventId>,
    /// The latest decision made at this place.
    decision: Arc<Mutex<Option<EventId>>>,
    /// The provider's id of the tool call that is being carried out.
    call: Option<CallId>,
    /// The review that allows the tool call.
    approval: Option<EventId>,
    /// The review that is going on here.
    review: Option<Arc<ReviewInHand>>,
    subject: Option<SubjectId>,
    trace: Option<(TraceId, Option<SpanId>)>,
}

struct Session {
    log: AuditLog,
    tenant: TenantId,
    id: SessionId,
    agent: AgentId,
    links: Links,
}

/// A review between its proposal and its decision.
#[derive(Debug)]
pub(crate) struct ReviewInHand {
    pub(crate) review_id: String,
    pub(crate) proposed_event_id: EventId,
    /// The first presentation, and when it was recorded.
    presented: OnceLock<(EventId, Instant)>,
}

impl ReviewInHand {
    pub(crate) fn new(review_id: String, proposed_event_id: EventId) -> Self {
        Self { review_id, proposed_event_id, presented: OnceLock::new() }
    }

    /// Remembers a presentation; the first one counts.
    pub(crate) fn note_presented(&self, event_id: EventId) {
        let _ = self.presented.get_or_init(|| (event_id, Instant::now()));
    }

    pub(crate) fn presented(&self) -> Option<(EventId, Instant)> {
        self.presented.get().copied()
    }
}

/// What an action follows from.
///
/// ```
/// use agent_audit_core::{context::Parent, id::{CallId, EventId}};
/// assert!(matches!(Parent::from(EventId::new()), Parent::Event(_)));
/// assert!(matches!(Parent::from(CallId::new("call_1")?), Parent::Call(_)));
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parent {
    /// That event.
    Event(EventId),
    /// The decision that made the call with this id of the provider.
    Call(CallId),
}

impl From<EventId> for Parent {
    fn from(id: EventId) -> Self {
        Self::Event(id)
    }
}

impl From<&EventId> for Parent {
    fn from(id: &EventId) -> Self {
        Self::Event(*id)
    }
}

impl From<&Receipt> for Parent {
    fn from(receipt: &Receipt) -> Self {
        Self::Event(receipt.event_id)
    }
}

impl From<CallId> for Parent {
    fn from(id: CallId) -> Self {
        Self::Call(id)
    }
}

impl From<&CallId> for Parent {
    fn from(id: &CallId) -> Self {
        Self::Call(id.clone())
    }
}

impl AuditContext {
    pub(crate) fn new(log: AuditLog, tenant: TenantId, id: SessionId, agent: AgentId) -> Self {
        let session = Session { log, tenant, id, agent, links: Links::default() };
        Self {
            session: Arc::new(session),
            parent: None,
            decision: Arc::default(),
            call: None,
            approval: None,
            review: None,
            subject: None,
            trace: None,
        }
    }

    /// The context that this code runs in.
    ///
    /// # Errors
    /// [`NoContext`](AuditErrorKind::NoContext) outside of every scope.
    pub fn current() -> Result<Self, AuditError> {
        ambient::current().ok_or_else(|| {
            AuditError::new(
                AuditErrorKind::NoContext,
                "no audit context: run this inside `context.scope(..)`, and start tasks with \
                 `agent_audit::spawn` so that they take it along",
            )
        })
    }

    /// Makes this context current while a future runs.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        ambient::within(Some(self.clone()), future)
    }

    /// Makes this context current while a function runs.
    pub fn run<R>(&self, function: impl FnOnce() -> R) -> R {
        let _entered = ambient::enter(Some(self.clone()));
        function()
    }

    /// Records that the session started.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn start(&self, started: SessionStarted) -> Result<Receipt, AuditError> {
        self.record(started).await
    }

    /// Records that the session ended.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn end(&self, ended: SessionEnded) -> Result<Receipt, AuditError> {
        self.record(ended).await
    }

    /// Starts the session of a sub-agent, for the same tenant, and records that this place spawned
    /// it.
    ///
    /// # Errors
    /// As [`record`](Self::record), and where a name breaks its rules.
    pub async fn sub_agent<S, A>(
        &self,
        session: S,
        agent: A,
        mut started: SessionStarted,
    ) -> Result<Self, AuditError>
    where
        S: TryInto<SessionId, Error: Into<InvalidName>>,
        A: TryInto<AgentId, Error: Into<InvalidName>>,
    {
        let child = self.session.log.session(&self.session.tenant, session, agent)?;
        let spawned_by = self.parent.or_else(|| self.latest_decision());
        started.parent_session_id = Some(self.session.id.clone());
        started.spawned_by = spawned_by;
        let child = Self { subject: self.subject.clone(), trace: self.trace.clone(), ..child };
        let mut draft = Draft::new(started);
        draft.parent_event_id = spawned_by;
        child.record(draft).await?;
        Ok(child)
    }

    /// Records an event here. How far it has come on return is the log's [`Durability`].
    ///
    /// # Errors
    /// [`AuditError`]; where its [`is_unavailable`](AuditError::is_unavailable), the log could not
    /// take the event, and a `chain.gap` will say so.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the event either unrecorded or recorded whole.
    pub async fn record(&self, draft: impl Into<Draft>) -> Result<Receipt, AuditError> {
        let (event, decided) = self.draw_up(draft.into())?;
        let durability = self.log().core().durability;
        self.record_drawn_up(event, decided, durability).await
    }

    /// [`record`](Self::record), waiting on this thread.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn record_blocking(&self, draft: impl Into<Draft>) -> Result<Receipt, AuditError> {
        pollster::block_on(self.record(draft))
    }

    /// Records an event with a durability of its own.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub async fn record_with(
        &self,
        draft: impl Into<Draft>,
        durability: Durability,
    ) -> Result<Receipt, AuditError> {
        let (event, decided) = self.draw_up(draft.into())?;
        self.record_drawn_up(event, decided, durability).await
    }

    /// The event as it will be written, and the calls that it decides on.
    fn draw_up(&self, draft: Draft) -> Result<(DrawnUp, Option<Vec<CallId>>), AuditError> {
        let decided = self.decided(&draft);
        let event = self.log().core().draw_up(&self.as_scope(), draft)?;
        Ok((event, decided))
    }

    async fn record_drawn_up(
        &self,
        event: DrawnUp,
        decided: Option<Vec<CallId>>,
        durability: Durability,
    ) -> Result<Receipt, AuditError> {
        let receipt = self.log().core().record(&self.as_scope(), event, durability).await?;
        if let Some(decided) = decided {
            self.note_decision(receipt.event_id, &decided);
        }
        Ok(receipt)
    }

    /// A place of its own below this one, for work that goes on at the same time: a decision there
    /// is not taken for the cause of an action here.
    #[must_use]
    pub fn branch(&self) -> Self {
        let decision = *self.decision.lock().unwrap_or_else(PoisonError::into_inner);
        Self { decision: Arc::new(Mutex::new(decision)), ..self.clone() }
    }

    /// This place, under another event: what happens there names it as its parent.
    #[must_use]
    pub fn with_parent(&self, parent: EventId) -> Self {
        Self {
            parent: Some(parent),
            decision: Arc::default(),
            call: None,
            approval: None,
            review: None,
            ..self.clone()
        }
    }

    /// This place while a tool call that a model asked for is carried out: the next attempt finds
    /// its decision by the call id.
    #[must_use]
    pub fn with_call(&self, call: CallId) -> Self {
        Self { call: Some(call), ..self.clone() }
    }

    /// This place while a tool call is carried out that a review allowed: the next attempt names
    /// the `review.decided` event.
    #[must_use]
    pub fn with_approval(&self, decided: EventId) -> Self {
        Self { approval: Some(decided), ..self.clone() }
    }

    /// This place with a token of the person whom the data is about.
    #[must_use]
    pub fn with_subject(&self, subject: SubjectId) -> Self {
        Self { subject: Some(subject), ..self.clone() }
    }

    /// This place in a trace.
    #[must_use]
    pub fn with_trace(&self, trace: TraceId, span: Option<SpanId>) -> Self {
        Self { trace: Some((trace, span)), ..self.clone() }
    }

    /// Says that an action went ahead here although its record could not be written: the
    /// `chain.gap` that follows when the log is back counts it.
    pub fn note_unrecorded_action(&self) {
        self.log().core().note_unrecorded(&self.session.tenant);
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &AuditLog {
        &self.session.log
    }

    /// The tenant.
    #[must_use]
    pub fn tenant_id(&self) -> &TenantId {
        &self.session.tenant
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.session.id
    }

    /// The agent.
    #[must_use]
    pub fn agent_id(&self) -> &AgentId {
        &self.session.agent
    }

    pub(crate) fn as_scope(&self) -> Scope<'_> {
        Scope {
            tenant: &self.session.tenant,
            session: &self.session.id,
            agent: &self.session.agent,
            parent: self.parent,
            subject: self.subject.as_ref(),
            trace: self.trace.as_ref().map(|(trace, span)| (trace, span.as_ref())),
        }
    }

    /// The call id in force here.
    pub(crate) fn call(&self) -> Option<&CallId> {
        self.call.as_ref()
    }

    /// The review that allows the tool call being carried out here.
    pub(crate) fn approval(&self) -> Option<EventId> {
        self.approval
    }

    /// This place, inside a review that was proposed.
    pub(crate) fn with_review(&self, review: Arc<ReviewInHand>) -> Self {
        Self { review: Some(review.clone()), ..self.with_parent(review.proposed_event_id) }
    }

    /// The review that is going on here.
    pub(crate) fn review(&self) -> Option<&Arc<ReviewInHand>> {
        self.review.as_ref()
    }

    pub(crate) fn parent(&self) -> Option<EventId> {
        self.parent
    }

    /// The decision that an action here follows from: by the provider's call id first, by scope
    /// second.
    pub(crate) fn decision_for(
        &self,
        explicit: Option<&Parent>,
        call: Option<&CallId>,
    ) -> (Option<EventId>, Option<DecisionLink>) {
        if let Some(Parent::Event(id)) = explicit {
            return (Some(*id), Some(DecisionLink::Explicit));
        }
        let named = match explicit {
            Some(Parent::Call(call)) => Some(call),
            _ => call.or(self.call.as_ref()),
        };
        if let Some(decision) = named.and_then(|call| self.session.links.decision_of(call)) {
            return (Some(decision), Some(DecisionLink::CallId));
        }
        match self.latest_decision() {
            Some(decision) => (Some(decision), Some(DecisionLink::Scope)),
            None => (self.parent, None),
        }
    }

    pub(crate) fn latest_decision(&self) -> Option<EventId> {
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What must be remembered of a decision once it is recorded: its call ids.
    pub(crate) fn decided(&self, draft: &Draft) -> Option<Vec<CallId>> {
        match &draft.payload {
            Payload::ModelDecided(decided) => Some(call_ids(decided)),
            _ => None,
        }
    }

    pub(crate) fn note_decision(&self, event_id: EventId, calls: &[CallId]) {
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner) = Some(event_id);
        self.session.links.add(event_id, calls);
    }
}

fn call_ids(decided: &ModelDecided) -> Vec<CallId> {
    let calls = decided.decision.iter().flat_map(|decision| &decision.tool_calls);
    calls.map(|call| call.call_id.clone()).collect()
}

impl fmt::Debug for AuditContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditContext")
            .field("tenant_id", &self.session.tenant)
            .field("session_id", &self.session.id)
            .field("agent_id", &self.session.agent)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}
