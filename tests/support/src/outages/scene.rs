//! What every case has: a log directory, a proxy, tenants, and what was acknowledged.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use agent_audit_core::{
    attempt::{ToolCall, ToolOutcome},
    content::Part,
    delivery::{DeliveryOptions, SinkHealth, SinkState},
    error::AuditErrorKind,
    event::{Other, tool::ToolStatus},
    hash::Hash,
    log::{AuditLog, Draft, Durability, Receipt},
    sink::{ChainRef, Sink},
};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::{OutageHarness, ledger};
use crate::proxy::Proxy;

/// For anything that comes by itself; on a machine that is busy with other things, late.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How long closing may take to deliver a few dozen events.
const CLOSING: Duration = Duration::from_secs(90);

const TENANTS: usize = 3;

/// An event that the log has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) chain: ChainRef,
    pub(super) sequence: u64,
    pub(super) event_hash: Hash,
}

impl From<&Receipt> for Ack {
    fn from(receipt: &Receipt) -> Self {
        Self {
            chain: receipt.chain.clone(),
            sequence: receipt.sequence,
            event_hash: receipt.event_hash,
        }
    }
}

/// A log with a sink behind a proxy.
pub(super) struct Scene<'h> {
    pub(super) harness: &'h dyn OutageHarness,
    pub(super) proxy: Proxy,
    pub(super) dir: TempDir,
    pub(super) tenants: Vec<String>,
    pub(super) acks: Vec<Ack>,
    /// One proxy at a time has the address that a server tells its clients.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl<'h> Scene<'h> {
    pub(super) async fn new(harness: &'h dyn OutageHarness) -> Self {
        static TURN: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
        let (turn, proxy) = match harness.listen() {
            Some(address) => {
                let turn = TURN.lock().await;
                (Some(turn), Proxy::start_at(address, harness.upstream()))
            }
            None => (None, Proxy::start(harness.upstream())),
        };
        let tenants = (0..TENANTS).map(|_| format!("t-{}", &random_text(12))).collect();
        let dir = tempfile::tempdir().unwrap();
        Self { harness, proxy, dir, tenants, acks: Vec::new(), _turn: turn }
    }

    /// Opens the log with the sink of the harness.
    pub(super) async fn open(&self) -> AuditLog {
        let sink = self.harness.sink(self.proxy.address()).await;
        open(self.dir.path(), sink).await
    }

    /// Opens the log with another sink.
    pub(super) async fn open_with(&self, sink: Arc<dyn Sink>) -> AuditLog {
        open(self.dir.path(), sink).await
    }

    /// Records so many times for each tenant. Every one of them MUST be acknowledged, whatever the
    /// sink is at.
    pub(super) async fn record(&mut self, log: &AuditLog, times: usize) {
        self.acks.extend(record(log, &self.tenants, times).await);
    }

    /// Waits until the sink has acknowledged everything.
    pub(super) async fn delivered(&self, log: &AuditLog) {
        let settled = |health: &SinkHealth| {
            assert!(health.halted.is_empty(), "a chain was given up: {health:?}");
            health.waiting == 0 && health.lagging == 0
        };
        until(|| settled(&health(log)), || format!("delivery of everything: {:?}", health(log)))
            .await;
    }

    /// Records until the outage has met a connection that carried something.
    pub(super) async fn bitten(&mut self, log: &AuditLog, before: u64) {
        let since = Instant::now();
        while self.proxy.bites() == before {
            assert!(since.elapsed() < PATIENCE, "the outage met nothing: {:?}", health(log));
            self.record(log, 1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the log says that its sink is in trouble.
    pub(super) async fn troubled(&self, log: &AuditLog) {
        let in_trouble = |health: &SinkHealth| {
            health.last_error.is_some()
                && (health.state != SinkState::Working || health.lagging > 0)
        };
        until(|| in_trouble(&health(log)), || format!("a sign of trouble: {:?}", health(log)))
            .await;
    }

    /// Waits until the store holds an event of which the log does not know that.
    pub(super) async fn committed_unknown(&self, log: &AuditLog) {
        let since = Instant::now();
        loop {
            // Any of the tenants will do.
            let chain = self.acks[0].chain.clone();
            let session = log.session(chain.tenant_id.clone(), "s-1", "agent").unwrap();
            let draft = note();
            let id = draft.event_id();
            let delivery =
                tokio::spawn(
                    async move { session.record_with(draft, Durability::Delivered).await },
                );
            let again = Instant::now() + Duration::from_secs(10);
            while Instant::now() < again && !delivery.is_finished() {
                let stored = self.harness.read_back(&chain).await;
                let there = stored.iter().any(|record| record.event().unwrap().event_id == id);
                // Looked at after the store: what is acknowledged later was not yet known.
                if there && !delivery.is_finished() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(
                since.elapsed() < PATIENCE,
                "no event was stored without the log knowing it, so nothing was shown: do appends \
                 send more than handshake_bytes() on a connection? {:?}",
                health(log)
            );
        }
    }

    /// Waits until the store holds what a process has acknowledged.
    pub(super) async fn stored(&self, acks: &[Ack]) {
        let since = Instant::now();
        for ack in acks {
            loop {
                let stored = self.harness.read_back(&ack.chain).await;
                if stored.iter().any(|record| record.event_hash() == ack.event_hash) {
                    break;
                }
                assert!(since.elapsed() < PATIENCE, "never stored: {ack:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Closes the log: nothing may be left.
    pub(super) async fn close(&self, log: AuditLog) {
        let report = log.close(CLOSING).await.unwrap();
        assert!(report.is_complete(), "left behind: {report:?}, {:?}", health(&log));
    }

    /// Holds the store against the journal, and asks the verifier.
    pub(super) async fn compare(&self) {
        ledger::compare(self.harness, self.dir.path(), &self.tenants, &self.acks).await;
    }
}

/// How the only sink of a log is doing.
pub(super) fn health(log: &AuditLog) -> SinkHealth {
    log.health().pop().unwrap()
}

/// Opens a log that retries soon.
pub(super) async fn open(dir: &Path, sink: Arc<dyn Sink>) -> AuditLog {
    let delivery = DeliveryOptions::default()
        .with_append_timeout(Duration::from_secs(3))
        .with_retries(Duration::from_millis(5), Duration::from_millis(200))
        .with_cursor_interval(Duration::from_millis(10));
    let since = Instant::now();
    loop {
        let builder = AuditLog::builder(dir)
            .with_sink(Arc::clone(&sink))
            .with_delivery(delivery.clone())
            .with_checkpoint_every(16, Duration::from_millis(200));
        match tokio::task::spawn_blocking(|| builder.open()).await.unwrap() {
            // A process that another test starts has the lock of a log that this one just closed for
            // a moment longer: between its fork and its exec.
            Err(error) if error.kind() == AuditErrorKind::Locked && since.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Records so many times for each tenant, one after another within a tenant.
pub(super) async fn record(log: &AuditLog, tenants: &[String], times: usize) -> Vec<Ack> {
    let mut tasks = Vec::new();
    for tenant in tenants {
        let session = log.session(&**tenant, "s-1", "agent").unwrap();
        tasks.push(tokio::spawn(async move {
            let mut acks = Vec::new();
            for turn in 0..times {
                if turn % 4 == 3 {
                    let call =
                        ToolCall::new("refund").with_part(Part::text("input", random_text(300)));
                    let attempt = session.attempt_tool(call).await.unwrap();
                    acks.push(Ack::from(attempt.receipt()));
                    let outcome = ToolOutcome::new(ToolStatus::Ok);
                    acks.push(Ack::from(&attempt.complete(outcome).await.unwrap()));
                } else {
                    acks.push(Ack::from(&session.record(note()).await.unwrap()));
                }
            }
            acks
        }));
    }
    let mut acks = Vec::new();
    for task in tasks {
        acks.extend(task.await.unwrap());
    }
    acks
}

/// Something to record that does not compress well, with bytes that are awkward to carry.
fn note() -> Draft {
    let awkward = "quote \" ' backslash \\ tab \t line\r\n nul \u{0} ünïcödé 監査 🔏 \u{2028}";
    let bytes: Vec<u8> = (0..=255).collect();
    let size = 600 + usize::from(rand::random::<u8>()) * 4;
    Draft::new(Other::custom("note").unwrap().with_field("awkward", awkward))
        .with_part(Part::text("text", random_text(size)))
        .with_part(Part::new("bytes", "application/octet-stream", bytes))
}

/// Lower-case letters and digits, to choice.
pub(super) fn random_text(length: usize) -> String {
    const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..length)
        .map(|_| char::from(LETTERS[usize::from(rand::random::<u16>()) % LETTERS.len()]))
        .collect()
}

/// Waits for something that comes by itself.
///
/// # Panics
/// Where it does not come.
pub(super) async fn until(mut come: impl FnMut() -> bool, what: impl Fn() -> String) {
    let since = Instant::now();
    while !come() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
