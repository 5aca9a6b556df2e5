//! Recording an outcome, which nothing may interrupt: not the caller's timeout, not its panic.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::{
    context::AuditContext,
    error::{AuditError, AuditErrorKind},
    log::{Draft, Durability, Enqueued, Receipt},
};

type Enqueue = Pin<Box<dyn Future<Output = Result<Enqueued, AuditError>> + Send>>;

/// Gives an outcome its place, even if the one who waits goes away.
struct Uninterrupted(Option<Enqueue>);

impl Uninterrupted {
    fn new(context: AuditContext, draft: Draft) -> Self {
        Self(Some(Box::pin(async move {
            let decided = context.decided(&draft);
            let event_id = draft.event_id();
            let enqueued = context.log().core().enqueue(&context.as_scope(), draft).await?;
            if let Some(calls) = decided {
                context.note_decision(event_id, &calls);
            }
            Ok(enqueued)
        })))
    }
}

impl Future for Uninterrupted {
    type Output = Result<Enqueued, AuditError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(enqueue) = &mut self.0 else { return Poll::Pending };
        let answer = enqueue.as_mut().poll(cx);
        if answer.is_ready() {
            self.0 = None;
        }
        answer
    }
}

impl Drop for Uninterrupted {
    fn drop(&mut self) {
        let Some(mut enqueue) = self.0.take() else { return };
        // Almost always there is room in the journal and this is ready at once.
        let ready = enqueue.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let answer = match ready {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                let late = move || {
                    if let Err(error) = pollster::block_on(enqueue) {
                        tracing::error!(%error, "the outcome of an attempt could not be recorded");
                    }
                };
                let thread = std::thread::Builder::new().name("audit-outcome".to_owned());
                if let Err(error) = thread.spawn(late) {
                    tracing::error!(%error, "the outcome of an attempt could not be recorded");
                }
                return;
            }
        };
        if let Err(error) = answer {
            tracing::error!(%error, "the outcome of an attempt could not be recorded");
        }
    }
}

/// Records an outcome and waits until it is as durable as the log promises.
pub(super) async fn record(context: &AuditContext, draft: Draft) -> Result<Receipt, AuditError> {
    let durability = context.log().core().durability;
    let enqueued = Uninterrupted::new(context.clone(), draft).await?;
    context.log().core().confirm(enqueued, durability).await
}

/// Gives an intent its place. From here on its guard answers for it: it has an outcome, whatever
/// happens to the caller.
pub(super) async fn place_intent(
    context: &AuditContext,
    draft: Draft,
) -> Result<Enqueued, AuditError> {
    context.log().core().enqueue(&context.as_scope(), draft).await
}

/// Waits until an intent is as durable as an intent must be.
///
/// On failure the guard has no outcome to record if there is no intent on the disk either.
pub(super) async fn confirm_intent(
    context: &AuditContext,
    intent: Enqueued,
    done: &mut bool,
) -> Result<(), AuditError> {
    let durability = match context.log().core().durability {
        Durability::Buffered => Durability::Journaled,
        durability => durability,
    };
    let confirmed = context.log().core().confirm(intent, durability).await;
    if let Err(error) = &confirmed {
        *done = error.kind() != AuditErrorKind::Undelivered;
    }
    confirmed.map(drop)
}

/// Records an outcome for which nobody waits.
pub(super) fn record_detached(context: &AuditContext, draft: Draft) {
    drop(Uninterrupted::new(context.clone(), draft));
}

/// Microseconds since a moment, by a monotonic clock.
pub(super) fn micros_since(start: std::time::Instant) -> u64 {
    u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX)
}
