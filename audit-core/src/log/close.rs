//! An orderly end.

use std::{
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{AuditLog, Draft, Durability, Scope};
use crate::{
    delivery::{Role, Undelivered},
    error::{AuditError, AuditErrorKind},
    event::chain::ChainClosed,
    id::{AgentId, SessionId},
};

/// What an orderly end left behind.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::log::AuditLog;
/// let log = AuditLog::open(dir.path())?;
/// let report = log.close_blocking(std::time::Duration::from_secs(5))?;
/// assert!(report.is_complete() && report.undelivered.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseReport {
    /// What each sink has not acknowledged. It stays in the journal and is delivered after the next
    /// open. Sinks that have everything are not listed.
    pub undelivered: Vec<Undelivered>,
    /// How many chains could not be closed with a `chain.closed` within the deadline, because the
    /// journal was full or its disk did not answer. They go on at the next open as after a crash.
    pub unclosed_chains: usize,
}

impl CloseReport {
    /// Whether every chain is closed and every required sink has everything.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let required = |left: &Undelivered| left.role == Role::Required;
        !self.undelivered.iter().any(required) && self.unclosed_chains == 0
    }
}

impl AuditLog {
    /// Ends the log in an orderly way: closes every chain, brings what it can to the sinks within
    /// the deadline, signs last checkpoints and lets go of the directory. Attempts that are still
    /// open stay so, and are closed as `unknown` at the next open.
    ///
    /// Other handles get [`Closed`](crate::error::AuditErrorKind::Closed) from then on.
    ///
    /// # Errors
    /// Where the last events or checkpoints could not be written; what was acknowledged is safe.
    ///
    /// # Cancel safety
    /// The work goes on in a thread of its own when the future is dropped.
    pub async fn close(&self, deadline: Duration) -> Result<CloseReport, AuditError> {
        let log = self.clone();
        let (done, closed) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("audit-close".to_owned())
            .spawn(move || drop(done.send(log.close_blocking(deadline))))
            .map_err(|error| {
                AuditError::io("start a thread for", self.core().layout.root(), error)
            })?;
        closed.await.map_err(|_| AuditError::closed())?
    }

    /// [`close`](Self::close), waiting on this thread.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub fn close_blocking(&self, deadline: Duration) -> Result<CloseReport, AuditError> {
        let until = Instant::now() + deadline;
        let core = self.core();
        {
            // Locked for writing, so that no event is on its way to its place when the chains end.
            let _chains = core.chains.write().unwrap_or_else(PoisonError::into_inner);
            if core.closed.swap(true, Ordering::AcqRel) {
                return Err(AuditError::closed());
            }
        }
        let ended = self.end_chains(until);
        let undelivered = core.delivery.close(until.saturating_duration_since(Instant::now()));
        let settled = match self.handle.stop_maintenance() {
            Some(mut maintenance) => maintenance.settle(),
            None => Ok(()),
        };
        core.journal.close();
        let unclosed_chains = ended?;
        settled?;
        Ok(CloseReport { undelivered, unclosed_chains })
    }

    /// Writes `chain.closed` to every chain that this process has written to, or owes something to,
    /// and says how many it
    /// could not be written to in time.
    fn end_chains(&self, until: Instant) -> Result<usize, AuditError> {
        let core = self.core();
        let written: Vec<_> = {
            let chains = core.chains.read().unwrap_or_else(PoisonError::into_inner);
            chains
                .iter()
                .filter(|chain| {
                    let announced = chain.lock().announced_at;
                    chain.owes() || announced.is_some_and(|at| at >= core.first_entry)
                })
                .map(|chain| chain.id.tenant_id.clone())
                .collect()
        };
        let (session, agent) = (SessionId::system(), AgentId::system());
        let mut enqueued = Vec::with_capacity(written.len());
        for tenant in &written {
            let scope = Scope::system(tenant, &session, &agent);
            let draft = Draft::new(ChainClosed::new("shutdown"));
            let Some(last) = block_on_until(core.enqueue_last(&scope, draft), until) else { break };
            match last {
                Err(error) if error.kind() == AuditErrorKind::Full => break,
                last => enqueued.push(last?),
            }
        }
        let mut closed = 0;
        for last in enqueued {
            let Some(confirmed) = block_on_until(core.confirm(last, Durability::Journaled), until)
            else {
                break;
            };
            confirmed?;
            closed += 1;
        }
        Ok(written.len() - closed)
    }
}

/// Runs a future on this thread, until a moment at the latest.
pub(super) fn block_on_until<F: Future>(future: F, until: Instant) -> Option<F::Output> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}
