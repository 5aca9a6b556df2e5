//! Delivery: every entry of the journal to every sink.
//!
//! It exists once for all sinks. What it promises:
//!
//! - A sink MUST get the events of a chain in order, without a hole, each at least once; a sink
//!   that takes the same event once therefore holds it once.
//! - What a sink has acknowledged is kept in its cursor. Kill the process at any instant: after the
//!   next open the rest is delivered, and with it at most what was acknowledged since the cursor was
//!   last stored.
//! - A chain that fails MUST NOT delay another. It lags behind, and is retried by itself with
//!   exponential backoff and full jitter; after an unknown outcome the identical segment comes
//!   again, as long as the process lives.
//! - A chain of which the sink holds something else is halted there, and never overwritten.
//! - An entry stays in the journal until every sink has acknowledged it and the cursors on disk say
//!   so.
//! - Memory is a few words per chain and sink, and one batch per sink, however long the backlog.
//!
//! A sink whose [heads are readable](crate::sink::SinkInfo::readable_heads) is asked at the first
//! contact with each chain what it has: that is skipped; what it has lost is sent again, if the
//! journal still holds it; if it has something else, or more than the journal, the chain is halted.
//!
//! The cursors are described in the file `cursors/<sink>.json` itself: see the source of `cursor`.

mod backoff;
mod call;
mod cursor;
mod draft;
mod health;
mod lane;
mod ledger;
mod outcome;
mod source;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod worker;

use std::{
    collections::BTreeSet,
    fmt, fs,
    future::Future,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

pub use health::{HaltReason, HaltedChain, SinkHealth, SinkState, Undelivered};

use crate::{
    chain::ChainRef,
    error::{AuditError, AuditErrorKind},
    journal::Journal,
    log::Layout,
    sink::Sink,
};

use lane::Lane;
use source::lock;
use worker::Worker;

/// How delivery waits and retries; start from [`DeliveryOptions::default`].
///
/// ```
/// use std::time::Duration;
/// use agent_audit_core::delivery::DeliveryOptions;
///
/// let options = DeliveryOptions::default().with_append_timeout(Duration::from_secs(5));
/// assert_eq!(options.append_timeout, Duration::from_secs(5));
/// assert_eq!(options.longest_retry, Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryOptions {
    /// How long a sink may take for one call, 30 s; then it is called again.
    pub append_timeout: Duration,
    /// The bound of the delay before the first retry, 100 ms; it doubles with each failure in a row.
    pub shortest_retry: Duration,
    /// The bound of all delays, 30 s, unless the sink asks for more.
    pub longest_retry: Duration,
    /// How often a cursor is stored at most, 1 s.
    pub cursor_interval: Duration,
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            append_timeout: Duration::from_secs(30),
            shortest_retry: Duration::from_millis(100),
            longest_retry: Duration::from_secs(30),
            cursor_interval: Duration::from_secs(1),
        }
    }
}

impl DeliveryOptions {
    /// Sets [`DeliveryOptions::append_timeout`].
    #[must_use]
    pub fn with_append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout = timeout;
        self
    }

    /// Sets the bounds of the delays before retries.
    #[must_use]
    pub fn with_retries(mut self, shortest: Duration, longest: Duration) -> Self {
        self.shortest_retry = shortest;
        self.longest_retry = longest;
        self
    }

    /// Sets [`DeliveryOptions::cursor_interval`].
    #[must_use]
    pub fn with_cursor_interval(mut self, interval: Duration) -> Self {
        self.cursor_interval = interval;
        self
    }
}

/// How much longer than asked a close waits for a sink that blocks its thread.
const GRACE: Duration = Duration::from_millis(500);

/// Brings every entry of a journal to every sink, on a thread of its own.
pub(crate) struct Delivery {
    journal: Arc<Journal>,
    lanes: Vec<Arc<Lane>>,
    control: watch::Sender<Control>,
    thread: Mutex<Option<Running>>,
}

struct Running {
    thread: JoinHandle<()>,
    /// Hangs up when the thread is done.
    done: mpsc::Receiver<()>,
}

/// What the workers are told.
#[derive(Debug, Clone, Copy)]
enum Control {
    Run,
    /// Deliver what comes before entry `target`, but do not take longer than that.
    Drain {
        until: Instant,
        target: u64,
    },
    Stop,
}

impl Delivery {
    /// Takes up the work where the cursors say. Starts nothing if there are no sinks.
    pub(crate) fn start(
        journal: Arc<Journal>,
        layout: &Layout,
        sinks: Vec<Arc<dyn Sink>>,
        options: DeliveryOptions,
    ) -> Result<Self, AuditError> {
        check_names(&sinks)?;
        let directory = layout.cursors();
        if !sinks.is_empty() {
            create_dir(&directory)?;
        }
        let (control, told) = watch::channel(Control::Run);
        let mut lanes = Vec::with_capacity(sinks.len());
        for sink in &sinks {
            let path = directory.join(format!("{}.json", sink.info().name));
            lanes.push(Arc::new(Lane::open(&**sink, path, Arc::clone(&journal))?));
        }
        let thread = if sinks.is_empty() {
            None
        } else {
            let workers = lanes.iter().cloned().zip(sinks).collect();
            Some(Running::start(workers, options, told)?)
        };
        Ok(Self { journal, lanes, control, thread: Mutex::new(thread) })
    }

    /// Entries before this one are acknowledged by every sink, and the cursors on disk say so. None
    /// where there are no sinks: the journal is the store.
    pub(crate) fn trimmable(&self) -> Option<u64> {
        self.lanes.iter().map(|lane| lane.trimmable()).min()
    }

    /// Resolves when every sink has acknowledged a position of a chain.
    ///
    /// # Errors
    /// [`AuditErrorKind::Undelivered`] when a sink has halted the chain, or delivery ends before.
    pub(crate) fn delivered(
        &self,
        chain: &ChainRef,
        sequence: u64,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + 'static + use<> {
        let answers: Vec<_> = self
            .lanes
            .iter()
            .filter_map(|lane| lock(&lane.ledger).delivered(chain, sequence))
            .collect();
        async move {
            for answer in answers {
                answer.await.unwrap_or_else(|_| {
                    let message = "delivery ended before the event was acknowledged";
                    Err(AuditError::new(AuditErrorKind::Undelivered, message))
                })?;
            }
            Ok(())
        }
    }

    /// How each sink is doing.
    pub(crate) fn health(&self) -> Vec<SinkHealth> {
        self.lanes.iter().map(|lane| lane.health()).collect()
    }

    /// Delivers everything that is durable now, or as much as can be within the time given; stores
    /// the cursors, closes the sinks and ends the thread. Says what is left.
    ///
    /// Blocks. Closing again only says what is left.
    pub(crate) fn close(&self, within: Duration) -> Vec<Undelivered> {
        let target = self.journal.durable_index();
        let now = Instant::now();
        let until = now.checked_add(within).unwrap_or(now + Duration::from_secs(86_400 * 365));
        self.end(Control::Drain { until, target }, within.saturating_add(GRACE));
        self.lanes.iter().filter_map(|lane| lane.undelivered(target)).collect()
    }

    /// Tells the workers to end, and waits for them; not for ever, because a sink may block the
    /// thread.
    fn end(&self, control: Control, at_most: Duration) {
        let running = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { thread, done }) = running else { return };
        self.control.send_replace(control);
        match done.recv_timeout(at_most) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                tracing::warn!("a sink blocks the delivery thread, which is left behind");
                self.control.send_replace(Control::Stop);
            }
            // Its panic, if there was one, has been reported by the panic hook.
            _ => drop(thread.join()),
        }
        for lane in &self.lanes {
            lock(&lane.ledger).end();
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.end(Control::Stop, Duration::from_secs(5));
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("sinks", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Running {
    fn start(
        workers: Vec<(Arc<Lane>, Arc<dyn Sink>)>,
        options: DeliveryOptions,
        told: watch::Receiver<Control>,
    ) -> Result<Self, AuditError> {
        let fail = |error| {
            AuditError::new(AuditErrorKind::Unavailable, "cannot start the delivery thread")
                .with_source(error)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let (alive, done) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("audit-delivery".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let mut running = tokio::task::JoinSet::new();
                    for (lane, sink) in workers {
                        let (options, told) = (options.clone(), told.clone());
                        running.spawn(async move {
                            let worker = Worker::new(Arc::clone(&lane), sink, options, told);
                            let _ended = EndOnDrop(lane);
                            worker.run().await;
                        });
                    }
                    while running.join_next().await.is_some() {}
                });
                // A sink may have blocking work that never returns.
                runtime.shutdown_background();
                drop(alive);
            })
            .map_err(fail)?;
        Ok(Self { thread, done })
    }
}

/// Nobody waits for a sink whose worker is gone, however it went.
struct EndOnDrop(Arc<Lane>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        lock(&self.0.ledger).end();
    }
}

/// A name is the name of a file, and the cursor of one sink alone.
fn check_names(sinks: &[Arc<dyn Sink>]) -> Result<(), AuditError> {
    let mut names = BTreeSet::new();
    for sink in sinks {
        let name = &sink.info().name;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if !(1..=128).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(AuditError::invalid(format!(
                "the sink name {:?} cannot be the name of a cursor: use 1 to 128 ASCII letters, \
                 digits, '-' and '_'",
                name.chars().take(64).collect::<String>()
            )));
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(AuditError::invalid(format!(
                "two sinks are named `{name}`: give each a name of its own, as its cursor is kept \
                 under it"
            )));
        }
    }
    Ok(())
}

fn create_dir(path: &Path) -> Result<(), AuditError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| AuditError::io("create the directory", path, error))
}
