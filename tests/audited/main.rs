//! What `#[audited]` records, and what it says where it cannot be used.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod causes;
mod inputs;
mod outcomes;
mod shapes;
mod syntax;
mod unavailable;

use std::{
    fmt, fs,
    panic::AssertUnwindSafe,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditErrorKind, AuditLog, AuditUnavailable, ModelResponse, Part, Receipt,
    ReviewCall, ReviewResponse, ReviewVerdict, audited,
    event::{
        model::{Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall, Usage},
        review::{ReviewDecision, Reviewer, ReviewerKind},
        tool::{DecisionLink, Effect, ToolStatus},
    },
    id::{CallId, EventId},
    memory::MemorySink,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;

/// A log, and the sink that holds what it recorded once it is closed.
struct Fixture {
    log: AuditLog,
    sink: MemorySink,
    session: AuditContext,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sink = MemorySink::new();
        let log = AuditLog::builder(dir.path()).with_sink(sink.clone()).open().unwrap();
        let session = log.session("acme", "session-1", "agent").unwrap();
        Self { log, sink, session, _dir: dir }
    }

    async fn run<F: Future>(&self, future: F) -> F::Output {
        self.session.scope(future).await
    }

    /// Everything that was recorded, checked.
    async fn recorded(self) -> MemorySink {
        assert!(self.log.close(Duration::from_secs(60)).await.unwrap().is_complete());
        self.sink.assert_chain_valid();
        self.sink.assert_no_orphans();
        self.sink
    }
}

/// An error of an application.
#[derive(Debug)]
enum Failed {
    Declined(u64),
    Unavailable(AuditUnavailable),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(cents) => write!(f, "declined {cents} cents"),
            Self::Unavailable(error) => error.fmt(f),
        }
    }
}

impl From<AuditUnavailable> for Failed {
    fn from(error: AuditUnavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl Failed {
    fn unavailable(self) -> AuditUnavailable {
        match self {
            Self::Unavailable(error) => error,
            Self::Declined(_) => panic!("{self}"),
        }
    }
}

#[derive(Debug, Serialize, PartialEq)]
struct Refund {
    id: String,
    cents: u64,
}

/// Not serialisable, and it counts its uses.
#[derive(Default, Clone)]
struct Bank(Arc<AtomicUsize>);

impl Bank {
    fn pay(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn paid(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[audited(
    tool,
    name = "refund",
    version = "2",
    effect = destructive,
    skip(bank),
    sensitive(card),
    external(refund = output.id, cents = output.cents),
    error_if = |refund| refund.cents == 0
)]
async fn refund(bank: &Bank, card: &str, order: (u8, &str), cents: u64) -> Result<Refund, Failed> {
    tokio::task::yield_now().await;
    if cents > 100 {
        return Err(Failed::Declined(cents));
    }
    bank.pay();
    Ok(Refund { id: format!("R-{}-{}", order.0, card.len()), cents })
}
