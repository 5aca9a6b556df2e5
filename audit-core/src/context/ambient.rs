//! The current context: of this thread while a function runs, of a future while it is polled.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::pin,
};

use super::AuditContext;

thread_local! {
    static CURRENT: RefCell<Option<AuditContext>> = const { RefCell::new(None) };
}

pub(super) fn current() -> Option<AuditContext> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes a context current until the guard goes, also by a panic.
pub(super) fn enter(context: Option<AuditContext>) -> Entered {
    Entered { before: CURRENT.replace(context) }
}

pub(super) struct Entered {
    before: Option<AuditContext>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // While a thread is torn down its locals may be gone, and nothing can look at them then.
        let before = self.before.take();
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

/// Runs a future with a context of its own.
pub(super) async fn within<F: Future>(context: Option<AuditContext>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _entered = enter(context.clone());
        future.as_mut().poll(cx)
    })
    .await
}

/// Takes the current context along to wherever a future is polled.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{context::{AuditContext, InCurrentAudit as _}, log::AuditLog};
/// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
/// let session = AuditLog::open(dir.path())?.session("acme", "session-1", "agent")?;
/// session.scope(async {
///     let task = tokio::spawn(async { AuditContext::current() }.in_current_audit());
///     assert!(task.await.expect("the task ends").is_ok());
/// }).await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait InCurrentAudit: Future + Sized {
    /// This future, in the context that is current now.
    fn in_current_audit(self) -> impl Future<Output = Self::Output>
    where
        Self: Sized;
}

impl<F: Future> InCurrentAudit for F {
    fn in_current_audit(self) -> impl Future<Output = F::Output> + use<F> {
        within(current(), self)
    }
}

/// Starts a task on the current tokio runtime that takes the context along.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{context::{AuditContext, spawn}, log::AuditLog};
/// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
/// let session = AuditLog::open(dir.path())?.session("acme", "session-1", "agent")?;
/// session.scope(async {
///     let tenant = spawn(async { AuditContext::current().map(|c| c.tenant_id().clone()) });
///     assert_eq!(tenant.await.expect("the task ends")?.as_str(), "acme");
///     Ok::<(), agent_audit_core::error::AuditError>(())
/// }).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
/// Outside of a tokio runtime, as `tokio::spawn`.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(within(current(), future))
}

/// Runs a function on tokio's pool for blocking work, with the context.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{context::{AuditContext, spawn_blocking}, log::AuditLog};
/// # tokio::runtime::Builder::new_multi_thread().build()?.block_on(async {
/// let session = AuditLog::open(dir.path())?.session("acme", "session-1", "agent")?;
/// session.scope(async {
///     assert!(spawn_blocking(AuditContext::current).await.expect("it returns").is_ok());
/// }).await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Panics
/// Outside of a tokio runtime, as `tokio::task::spawn_blocking`.
pub fn spawn_blocking<F, R>(function: F) -> tokio::task::JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let context = current();
    tokio::task::spawn_blocking(move || {
        let _entered = enter(context);
        function()
    })
}
