//! One recorded call: the intent, the body, the outcome.

use std::{
    any::Any,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    task::Poll,
};

use super::{
    call::Call,
    outcome::{ModelObserved, ReviewKind, ReviewObserved, ToolObserved, unrecordable},
    policy::Policy,
};
use crate::{
    attempt::{ModelAttempt, ReviewAttempt, ReviewVerdict, ToolAttempt},
    context::AuditContext,
    error::{AuditError, AuditUnavailable},
    event::review::{ReviewDecision, Reviewer, ReviewerKind},
};

/// Runs `body` between a durable intent and a recorded outcome.
///
/// - Under [`Policy::deny`] the body MUST NOT run unless the intent is durable, and its result MUST
///   NOT be returned unless the outcome is.
/// - A panic in `body` or `observe` is recorded and goes on.
/// - Dropping the future records the call as cancelled.
///
/// The future is `Send` where `body`, `observe` and `R` are: the result is held while its outcome
/// becomes durable.
///
/// ```
/// use agent_audit_core::{
///     error::AuditUnavailable,
///     instrument::{Call, Inputs, Policy, Probe, Tool, run_async},
/// };
///
/// let call = Call::new("refund", Inputs::new());
/// let body = async { Ok::<_, AuditUnavailable>("done") };
/// let returned =
///     pollster::block_on(run_async(Tool, Policy::deny(), call, body, |it| Probe::new(it).tool()));
/// assert!(!returned.unwrap_err().after_action(), "there is no audit context here");
/// ```
pub async fn run_async<P, R, F, O>(_: P, policy: Policy<R>, call: Call, body: F, observe: O) -> R
where
    P: Plane,
    F: Future<Output = R>,
    O: FnOnce(&R) -> P::Observed,
{
    // On the heap, since each future around it would hold it twice: audited calls within audited
    // calls would grow by a power of their depth. The attempt for the sake of the stack, too.
    let body = Box::pin(body);
    let name = call.name().to_owned();
    let attempt = match prepare(&policy, &call) {
        Ok(context) => {
            let attempt = Box::pin(P::attempt(&context, call)).await;
            attempt.map_err(|error| (Some(context), error))
        }
        Err(error) => Err((None, error)),
    };
    let attempt = match attempt {
        Ok(attempt) => attempt,
        Err((context, error)) => match policy.0 {
            Some(denied) => return denied(error.into()),
            None => {
                proceeds_unrecorded(context.as_ref(), &name, &error);
                return body.await;
            }
        },
    };
    let returned = catch_panic(P::context(&attempt).scope(body)).await;
    match returned.and_then(|returned| observed(returned, observe)) {
        Ok((returned, observed)) => {
            let fault = P::fault(&observed);
            let completed = P::complete(attempt, observed).await;
            finish(&policy, &name, returned, completed, fault)
        }
        Err(panic) => {
            let observed = P::panicked(panic_message(&*panic));
            let completed = P::complete(attempt, observed).await;
            unrecorded_outcome(&name, completed);
            resume_unwind(panic)
        }
    }
}

/// The same for a body that blocks its thread, as the recording then does too.
///
/// ```
/// use agent_audit_core::instrument::{
///     Call, Inputs, Policy, Probe, ProbePlain as _, Tool, run_blocking,
/// };
///
/// let call = Call::new("add", Inputs::new().record("a", &1).record("b", &2));
/// let sum = run_blocking(Tool, Policy::proceed(), call, || 1 + 2, |it| Probe::new(it).tool());
/// assert_eq!(sum, 3, "proceed: it runs although there is no audit context here");
/// ```
pub fn run_blocking<P, R, F, O>(_: P, policy: Policy<R>, call: Call, body: F, observe: O) -> R
where
    P: Plane,
    F: FnOnce() -> R,
    O: FnOnce(&R) -> P::Observed,
{
    let name = call.name().to_owned();
    let attempt = match prepare(&policy, &call) {
        Ok(context) => P::attempt_blocking(&context, call).map_err(|error| (Some(context), error)),
        Err(error) => Err((None, error)),
    };
    let attempt = match attempt {
        Ok(attempt) => attempt,
        Err((context, error)) => match policy.0 {
            Some(denied) => return denied(error.into()),
            None => {
                proceeds_unrecorded(context.as_ref(), &name, &error);
                return body();
            }
        },
    };
    let returned = catch_unwind(AssertUnwindSafe(|| P::context(&attempt).run(body)));
    match returned.and_then(|returned| observed(returned, observe)) {
        Ok((returned, observed)) => {
            let fault = P::fault(&observed);
            let completed = P::complete_blocking(attempt, observed);
            finish(&policy, &name, returned, completed, fault)
        }
        Err(panic) => {
            let observed = P::panicked(panic_message(&*panic));
            let completed = P::complete_blocking(attempt, observed);
            unrecorded_outcome(&name, completed);
            resume_unwind(panic)
        }
    }
}

/// Where the call is recorded. Under `deny` its inputs have to be recordable, whole.
fn prepare<R>(policy: &Policy<R>, call: &Call) -> Result<AuditContext, AuditError> {
    let context = AuditContext::current()?;
    match (call.fault(), &policy.0) {
        (Some(fault), Some(_)) => Err(fault),
        (Some(fault), None) => {
            unrecorded_intent(call.name(), &fault);
            Ok(context)
        }
        (None, _) => Ok(context),
    }
}

type Panic = Box<dyn Any + Send>;

/// Reads the outcome; code of the user may panic in it, as in the body.
fn observed<R, T>(returned: R, observe: impl FnOnce(&R) -> T) -> Result<(R, T), Panic> {
    let observed = catch_unwind(AssertUnwindSafe(|| observe(&returned)))?;
    Ok((returned, observed))
}

/// Polls a future so that a panic in it becomes a value.
async fn catch_panic<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    // A future that panicked is not polled again, so what the panic left behind is not seen.
    poll_fn(|task| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn panic_message(panic: &(dyn Any + Send)) -> Option<String> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
}

/// Returns the result, or withholds it where its outcome is not in the record.
fn finish<R>(
    policy: &Policy<R>,
    name: &str,
    returned: R,
    completed: Result<(), AuditError>,
    fault: Option<AuditError>,
) -> R {
    let error = match (completed, fault) {
        (Ok(()), None) => return returned,
        (Err(error), _) | (Ok(()), Some(error)) => error,
    };
    match policy.0 {
        Some(denied) => denied(AuditUnavailable::after(error)),
        None => {
            unrecorded_outcome(name, Err(error));
            returned
        }
    }
}

/// Under `proceed` a call goes ahead without its intent; where that is the log's fault, the gap that
/// follows counts it.
fn proceeds_unrecorded(context: Option<&AuditContext>, name: &str, error: &AuditError) {
    if let Some(context) = context
        && error.is_unavailable()
    {
        context.note_unrecorded_action();
    }
    unrecorded_intent(name, error);
}

fn unrecorded_intent(name: &str, error: &AuditError) {
    tracing::error!(
        call = name,
        kind = ?error.kind(),
        error = %error,
        "the call runs although the audit log could not record its intent whole"
    );
}

fn unrecorded_outcome(name: &str, completed: Result<(), AuditError>) {
    if let Err(error) = completed {
        tracing::error!(
            call = name,
            kind = ?error.kind(),
            error = %error,
            "the call ran, and the audit log could not record its outcome"
        );
    }
}

/// The plane on which a call is recorded: [`Tool`], [`Model`] or [`Review`].
#[expect(
    async_fn_in_trait,
    reason = "the three planes are all there are, and their futures are `Send`"
)]
pub trait Plane: sealed::Sealed {
    /// The guard between intent and outcome.
    type Attempt;
    /// The outcome as it is read off a returned value.
    type Observed;

    /// Records the intent.
    async fn attempt(context: &AuditContext, call: Call) -> Result<Self::Attempt, AuditError>;
    /// Records the intent, blocking.
    fn attempt_blocking(context: &AuditContext, call: Call) -> Result<Self::Attempt, AuditError>;
    /// The context of the body: what it records comes from this call.
    fn context(attempt: &Self::Attempt) -> AuditContext;
    /// Records the outcome.
    async fn complete(attempt: Self::Attempt, observed: Self::Observed) -> Result<(), AuditError>;
    /// Records the outcome, blocking.
    fn complete_blocking(
        attempt: Self::Attempt,
        observed: Self::Observed,
    ) -> Result<(), AuditError>;
    /// The outcome of a call that panicked.
    fn panicked(message: Option<String>) -> Self::Observed;
    /// What of the outcome cannot be recorded although the log can be written.
    fn fault(observed: &Self::Observed) -> Option<AuditError>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Tool {}
    impl Sealed for super::Model {}
    impl Sealed for super::Review {}
}

/// What a tool does in the world.
///
/// ```
/// let _plane = agent_audit_core::instrument::Tool;
/// ```
#[derive(Debug, Clone, Copy)]
#[expect(clippy::exhaustive_structs, reason = "a name without content")]
pub struct Tool;

/// What a model decides.
///
/// ```
/// let _plane = agent_audit_core::instrument::Model;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Model;

/// What a reviewer decides.
///
/// ```
/// let _plane = agent_audit_core::instrument::Review;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Review;

impl Plane for Tool {
    type Attempt = ToolAttempt;
    type Observed = ToolObserved;

    async fn attempt(context: &AuditContext, call: Call) -> Result<ToolAttempt, AuditError> {
        context.attempt_tool(call.into_tool()).await
    }
    fn attempt_blocking(context: &AuditContext, call: Call) -> Result<ToolAttempt, AuditError> {
        context.attempt_tool_blocking(call.into_tool())
    }
    fn context(attempt: &ToolAttempt) -> AuditContext {
        attempt.context().clone()
    }
    async fn complete(attempt: ToolAttempt, observed: ToolObserved) -> Result<(), AuditError> {
        attempt.complete(observed.into_outcome()).await.map(drop)
    }
    fn complete_blocking(attempt: ToolAttempt, observed: ToolObserved) -> Result<(), AuditError> {
        attempt.complete_blocking(observed.into_outcome()).map(drop)
    }
    fn panicked(message: Option<String>) -> ToolObserved {
        ToolObserved::panicked(message)
    }
    fn fault(observed: &ToolObserved) -> Option<AuditError> {
        unrecordable(observed)
    }
}

impl Plane for Model {
    type Attempt = ModelAttempt;
    type Observed = ModelObserved;

    async fn attempt(context: &AuditContext, call: Call) -> Result<ModelAttempt, AuditError> {
        context.attempt_model(call.into_model()).await
    }
    fn attempt_blocking(context: &AuditContext, call: Call) -> Result<ModelAttempt, AuditError> {
        context.attempt_model_blocking(call.into_model())
    }
    fn context(attempt: &ModelAttempt) -> AuditContext {
        attempt.context().clone()
    }
    async fn complete(attempt: ModelAttempt, observed: ModelObserved) -> Result<(), AuditError> {
        attempt.complete(observed.into_outcome()).await.map(drop)
    }
    fn complete_blocking(attempt: ModelAttempt, observed: ModelObserved) -> Result<(), AuditError> {
        attempt.complete_blocking(observed.into_outcome()).map(drop)
    }
    fn panicked(message: Option<String>) -> ModelObserved {
        ModelObserved::panicked(message)
    }
    fn fault(_: &ModelObserved) -> Option<AuditError> {
        None
    }
}

impl Plane for Review {
    type Attempt = ReviewAttempt;
    type Observed = ReviewObserved;

    async fn attempt(context: &AuditContext, call: Call) -> Result<ReviewAttempt, AuditError> {
        context.attempt_review(call.into_review()).await
    }
    fn attempt_blocking(context: &AuditContext, call: Call) -> Result<ReviewAttempt, AuditError> {
        context.attempt_review_blocking(call.into_review())
    }
    fn context(attempt: &ReviewAttempt) -> AuditContext {
        attempt.context().clone()
    }
    async fn complete(attempt: ReviewAttempt, observed: ReviewObserved) -> Result<(), AuditError> {
        attempt.complete(verdict(observed)).await.map(drop)
    }
    fn complete_blocking(
        attempt: ReviewAttempt,
        observed: ReviewObserved,
    ) -> Result<(), AuditError> {
        attempt.complete_blocking(verdict(observed)).map(drop)
    }
    fn panicked(message: Option<String>) -> ReviewObserved {
        ReviewObserved(ReviewKind::Dismissed(message))
    }
    fn fault(_: &ReviewObserved) -> Option<AuditError> {
        None
    }
}

/// A review that nobody decided is dismissed, by the system and with the reason.
fn verdict(observed: ReviewObserved) -> ReviewVerdict {
    match observed.0 {
        ReviewKind::Verdict(verdict) => *verdict,
        ReviewKind::Dismissed(reason) => {
            let system = Reviewer::new("agent-audit", ReviewerKind::Policy);
            let verdict = ReviewVerdict::new(ReviewDecision::Dismissed, system);
            match reason {
                Some(reason) => verdict.with_rationale(reason),
                None => verdict,
            }
        }
    }
}
