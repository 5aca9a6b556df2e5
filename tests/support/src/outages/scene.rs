//! What every case has: a log directory, a proxy, tenants, and what was acknowledged.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
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
    id::EventId,
    log::{AuditLog, Draft, Durability, Receipt},
    sink::{ChainRef, Sink},
};
use tempfile::TempDir;
use tokio::{
    sync::{Mutex, MutexGuard},
    task::JoinHandle,
};

use super::{OutageHarness, ledger};
use crate::proxy::Proxy;

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
    /// What the journal held whenever the log was about to be opened: it may be trimmed after that.
    journal: ledger::Journal,
    /// One proxy at a time has the address that a server tells its clients.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl<'h> Scene<'h> {
    pub(super) async fn new(harness: &'h dyn OutageHarness) -> Self {
        Self::before(harness, harness.upstream()).await
    }

    /// A scene in which something else stands between the proxy and the server.
    pub(super) async fn before(harness: &'h dyn OutageHarness, upstream: SocketAddr) -> Self {
        static TURN: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
        let (turn, proxy) = match harness.listen() {
            Some(address) => {
                let turn = TURN.lock().await;
                (Some(turn), Proxy::start_at(address, upstream))
            }
            None => (None, Proxy::start(upstream)),
        };
        let tenants = (0..TENANTS).map(|_| format!("t-{}", &random_text(12))).collect();
        let dir = tempfile::tempdir().unwrap();
        let (acks, journal) = (Vec::new(), ledger::Journal::default());
        Self { harness, proxy, dir, tenants, acks, journal, _turn: turn }
    }

    /// Opens the log with the sink of the harness.
    pub(super) async fn open(&mut self) -> AuditLog {
        let sink = self.harness.sink(self.proxy.address()).await;
        self.open_with(sink).await
    }

    /// Opens the log with another sink.
    pub(super) async fn open_with(&mut self, sink: Arc<dyn Sink>) -> AuditLog {
        self.journal.read(self.dir.path());
        open(self.harness, self.dir.path(), sink).await
    }

    /// Records so many times for each tenant. Every one of them MUST be acknowledged, whatever the
    /// sink is at.
    pub(super) async fn record(&mut self, log: &AuditLog, times: usize) {
        self.acks.extend(record(log, &self.tenants, times).await);
    }

    /// Waits until the sink has acknowledged everything.
    pub(super) async fn delivered(&self, log: &AuditLog) {
        self.delivered_with(log, || {}).await;
    }

    /// Waits until the sink has acknowledged everything, and does something before each look.
    pub(super) async fn delivered_with(&self, log: &AuditLog, mut each: impl FnMut()) {
        let patience = Patience::of(self.harness);
        loop {
            each();
            let health = sound(log);
            if health.waiting == 0 && health.lagging == 0 {
                return;
            }
            patience.wait(|| format!("delivery of everything: {health:?}")).await;
        }
    }

    /// Records until the outage has met a connection that carried something.
    pub(super) async fn bitten(&mut self, log: &AuditLog, before: u64) {
        let patience = Patience::of(self.harness);
        while self.proxy.bites() == before {
            patience.wait(|| format!("the outage to meet anything: {:?}", sound(log))).await;
            self.record(log, 1).await;
        }
    }

    /// Waits until the log says that its sink is in trouble.
    pub(super) async fn troubled(&self, log: &AuditLog) {
        let patience = Patience::of(self.harness);
        while !is_troubled(log) {
            patience.wait(|| format!("a sign of trouble: {:?}", sound(log))).await;
        }
    }

    /// Records, and does something else each time, until the log says that its sink is in trouble.
    pub(super) async fn troubled_by(&mut self, log: &AuditLog, mut each: impl FnMut()) {
        let patience = Patience::of(self.harness);
        loop {
            each();
            self.record(log, 1).await;
            if is_troubled(log) {
                return;
            }
            patience.wait(|| format!("a sign of trouble: {:?}", sound(log))).await;
        }
    }

    /// Waits until the log says that a person must mend the sink.
    pub(super) async fn blocked(&self, log: &AuditLog) {
        let patience = Patience::of(self.harness);
        loop {
            let health = sound(log);
            if health.state == SinkState::Blocked && health.last_error.is_some() {
                return;
            }
            patience.wait(|| format!("a sink that is blocked: {health:?}")).await;
        }
    }

    /// Records until the store holds an event of which the log does not know that.
    pub(super) async fn committed_unknown(&mut self, log: &AuditLog) {
        let patience = Patience::of(self.harness);
        loop {
            let mut waiting = self.record_and_wait_for_delivery(log);
            while !waiting.is_empty() {
                for (chain, id, delivery) in &waiting {
                    let stored = self.harness.read_back(chain).await;
                    let there = stored.iter().any(|record| record.event().unwrap().event_id == *id);
                    // Looked at after the store: what is acknowledged later was not yet known.
                    if there && !delivery.is_finished() {
                        return;
                    }
                }
                waiting.retain(|(.., delivery)| !delivery.is_finished());
                let unseen = || {
                    format!(
                        "an event that is stored without the log knowing it; do appends send more \
                         than handshake_bytes() on a connection? {:?}",
                        sound(log)
                    )
                };
                patience.wait(unseen).await;
            }
        }
    }

    /// Records in every chain that is known, and lets a task wait for the sink to have it.
    fn record_and_wait_for_delivery(
        &self,
        log: &AuditLog,
    ) -> Vec<(ChainRef, EventId, JoinHandle<()>)> {
        let chains: BTreeSet<_> = self.acks.iter().map(|ack| &ack.chain).collect();
        let several = chains.into_iter().flat_map(|chain| std::iter::repeat_n(chain, 4));
        several
            .map(|chain| {
                let session = log.session(chain.tenant_id.clone(), "s-1", "agent").unwrap();
                let draft = note();
                let id = draft.event_id();
                let delivery = tokio::spawn(async move {
                    session.record_with(draft, Durability::Delivered).await.unwrap();
                });
                (chain.clone(), id, delivery)
            })
            .collect()
    }

    /// Waits until the store holds what a process has acknowledged.
    pub(super) async fn stored(&self, acks: &[Ack]) {
        let patience = Patience::of(self.harness);
        for ack in acks {
            loop {
                let stored = self.harness.read_back(&ack.chain).await;
                if stored.iter().any(|record| record.event_hash() == ack.event_hash) {
                    break;
                }
                patience.wait(|| format!("the store to have {ack:?}")).await;
            }
        }
    }

    /// Closes the log: nothing may be left.
    pub(super) async fn close(&self, log: AuditLog) {
        let report = log.close(CLOSING).await.unwrap();
        assert!(report.is_complete(), "left behind: {report:?}, {:?}", health(&log));
    }

    /// Holds the store against the journal, and asks the verifier.
    pub(super) async fn compare(&mut self) {
        self.journal.read(self.dir.path());
        ledger::compare(self, self.journal.chains()).await;
    }
}

/// How the only sink of a log is doing.
fn health(log: &AuditLog) -> SinkHealth {
    log.health().pop().unwrap()
}

/// How the sink is doing. No outage is a reason to give up a chain.
fn sound(log: &AuditLog) -> SinkHealth {
    let health = health(log);
    assert!(health.halted.is_empty(), "a chain was given up: {health:?}");
    health
}

/// Whether the log says that its sink fails.
fn is_troubled(log: &AuditLog) -> bool {
    let health = sound(log);
    let failing = health.state != SinkState::Working || health.lagging > 0;
    failing && health.last_error.is_some()
}

/// Opens a log that retries soon.
pub(super) async fn open(harness: &dyn OutageHarness, dir: &Path, sink: Arc<dyn Sink>) -> AuditLog {
    let delivery = DeliveryOptions::default()
        .with_append_timeout(Duration::from_secs(3))
        .with_retries(Duration::from_millis(5), Duration::from_millis(200))
        .with_cursor_interval(Duration::from_millis(10));
    let patience = Patience::of(harness);
    loop {
        let builder = AuditLog::builder(dir)
            .with_sink(Arc::clone(&sink))
            .with_delivery(delivery.clone())
            .with_checkpoint_every(16, Duration::from_millis(200));
        match tokio::task::spawn_blocking(|| builder.open()).await.unwrap() {
            // A process that another test starts has the lock of a log that this one just closed for
            // a moment longer: between its fork and its exec.
            Err(error) if error.kind() == AuditErrorKind::Locked => {
                patience.wait(|| format!("the lock of a log that is closed: {error}")).await;
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

/// How long there is for what comes by itself.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn of(harness: &dyn OutageHarness) -> Self {
        Self(Instant::now() + harness.patience())
    }

    /// Waits a moment before the next look.
    ///
    /// # Panics
    /// Where there has been time enough.
    pub(super) async fn wait(&self, what: impl FnOnce() -> String) {
        assert!(self.left() > Duration::ZERO, "waited in vain for {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    pub(super) fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}
