//! Delivery: every entry of the journal to every sink.
//!
//! It exists once for all sinks. What it promises:
//!
//! - A sink MUST get the events of a chain in order, without a hole, each at least once; a sink
//!   that takes the same event once therefore holds it once. A hole that cannot be avoided is
//!   declared (see below), and never taken for acknowledged.
//! - What a sink has acknowledged is kept in its cursor. Kill the process at any instant: after the
//!   next open the rest is delivered, and with it at most what was acknowledged since the cursor was
//!   last stored.
//! - A chain that fails MUST NOT delay another. It lags behind, and is retried by itself, beside the
//!   others, with exponential backoff and full jitter; after an unknown outcome the identical segment
//!   comes again, as long as the process lives.
//! - A chain of which the sink holds something else is halted there, and never overwritten.
//! - An entry stays in the journal until every [required](Role::Required) sink has acknowledged it
//!   and the cursors on disk say so.
//! - An [optional](Role::Optional) sink MUST NOT keep the journal from being trimmed beyond its
//!   bounds, and nobody waits for it.
//! - Memory is a few words per chain and sink, and at most nine batches per sink, however long the
//!   backlog. There is one thread for all sinks and tenants.
//!
//! A sink whose [heads are readable](crate::sink::SinkInfo::readable_heads) is asked at the first
//! contact with each chain what it has: that is skipped; what it has lost is sent again, if the
//! journal still holds it; if it has something else, or more than the journal, the chain is halted.
//!
//! # Faults of one tenant
//!
//! A chain that failed by itself is sent in calls of its own until it has caught up, eight chains at
//! a time. A sink that hangs on one tenant inside a call that it shares with others delays them by
//! one `append_timeout`, once: the call is then taken apart. Where more than eight chains hang at the
//! same time, others that have failed themselves wait for one of those places; those that have not
//! failed never do.
//!
//! # Optional sinks
//!
//! What an optional sink has not acknowledged is held in the journal up to a number of entries, of
//! bytes and an age ([`DeliveryOptions::optional_max_events`] and the two beside it), counted in
//! whole segments. What is older goes when every required sink has it. Before it is deleted, what the
//! optional sink does not have of it is written to its cursor as [missing](SinkHealth::missing),
//! logged and shown in its health:
//!
//! - Of a sink that [accepts gaps](crate::sink::SinkInfo::accepts_gaps) each chain goes on behind the
//!   hole, which stays listed.
//! - Of every other sink each chain that has lost something is halted
//!   ([`HaltReason::Trimmed`]). Copy the missing events from another store, then call
//!   [`AuditLog::retry`](crate::log::AuditLog::retry) or open the log again: a sink whose heads are
//!   readable is asked what it has; of another one, `retry` is taken as the word that it has them.
//!
//! Where there is no required sink the journal is the store, and keeps everything.
//!
//! A role belongs to one opening of the log and is not stored: a sink that was optional can be
//! required at the next, and the other way round. What it has missed until then stays missing.
//!
//! # Events that a sink refuses for good
//!
//! A refusal ([`SinkErrorKind::Rejected`](crate::sink::SinkErrorKind::Rejected)) is narrowed down to
//! the one event, so that those before it arrive. Then [`OnRejected`] decides: its chain is halted
//! for that sink, or the event is kept aside in a file of the directory `quarantine` and the chain
//! goes on. Only sinks that accept gaps can have the second. What is kept aside is listed in
//! [`SinkHealth::quarantined`] and read by [`read_quarantined`];
//! [`AuditLog::release`](crate::log::AuditLog::release) sends it once more.
//!
//! # What can be seen
//!
//! [`AuditLog::health`](crate::log::AuditLog::health) says of each sink how it is doing, what waits
//! and for how long, and what was done. `tracing` gets one event for each change of a sink's state,
//! and one for each chain that is halted, each event that is kept aside and each hole that is
//! declared, never with a payload. With the feature `opentelemetry` the same is in metrics
//! (`AuditLog::observe`).
//!
//! # What does not hold
//!
//! - Where the cursor of a sink without readable heads is lost and the journal has been trimmed, the
//!   sink's chains go on with the oldest entry kept. Whether it has what was before, nobody can tell.
//! - A hole that is declared as trimmed may be larger than the true one: an answer that was lost is
//!   taken for no answer.
//! - The content of an event in quarantine lies in its file until it is released. Who erases content
//!   must look there too.
//!
//! The cursors are described in the source of `cursor`, the quarantine in that of `quarantine`, both
//! in `docs/SPEC.md`.

mod aside;
mod backoff;
mod call;
mod cursor;
mod draft;
mod health;
mod lane;
mod ledger;
#[cfg(feature = "opentelemetry")]
mod metrics;
mod named;
mod options;
mod outcome;
mod post;
mod quarantine;
mod source;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod worker;

use std::{
    collections::BTreeSet,
    fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

pub use health::{
    Circuit, HaltReason, HaltedChain, MissingEvents, MissingReason, QuarantinedEvent, SinkCounters,
    SinkHealth, SinkState, Undelivered,
};
pub use named::NamedSink;
pub use options::{DeliveryOptions, OnRejected, Role};
pub use quarantine::read_quarantined;

use crate::{
    chain::ChainRef,
    error::{AuditError, AuditErrorKind},
    journal::Journal,
    log::{Layout, create_dir},
    sink::Sink,
    timestamp::Timestamp,
};

use lane::{Lane, recorded_at};
use post::Post;
use source::lock;
use worker::Worker;

/// How much longer than asked a close waits for a sink that blocks its thread.
const GRACE: Duration = Duration::from_millis(500);

/// Brings every entry of a journal to every sink, on a thread of its own.
pub(crate) struct Delivery {
    journal: Arc<Journal>,
    lanes: Vec<Arc<Lane>>,
    options: DeliveryOptions,
    /// The bound of the journal.
    journal_max_bytes: Option<u64>,
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
        sinks: Vec<(Role, Arc<dyn Sink>)>,
        options: DeliveryOptions,
        journal_max_bytes: Option<u64>,
    ) -> Result<Self, AuditError> {
        check_names(&sinks)?;
        if !sinks.is_empty() {
            create_dir(&layout.cursors())?;
        }
        let (control, told) = watch::channel(Control::Run);
        let mut lanes = Vec::with_capacity(sinks.len());
        let mut posts = Vec::with_capacity(sinks.len());
        for (role, sink) in sinks {
            let lane = Lane::open(&*sink, role, layout, Arc::clone(&journal), &options)?;
            let lane = Arc::new(lane);
            posts.push(Post::new(Arc::clone(&lane), sink, options.clone(), told.clone()));
            lanes.push(lane);
        }
        let thread = if posts.is_empty() { None } else { Some(Running::start(posts)?) };
        let thread = Mutex::new(thread);
        Ok(Self { journal, lanes, options, journal_max_bytes, control, thread })
    }

    fn required(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().filter(|lane| lane.role == Role::Required)
    }

    /// Entries before this one are acknowledged by every sink, or an optional sink has let go of
    /// them, and the cursors on disk say so. None where there is no required sink: the journal is
    /// the store.
    pub(crate) fn trimmable(&self) -> Option<u64> {
        self.required().next()?;
        self.lanes.iter().map(|lane| lane.trimmable()).min()
    }

    /// Tells optional sinks that hold back more of the journal than they may to let go of it. They
    /// do so on the delivery thread, and [`trimmable`](Self::trimmable) then moves; true as long as
    /// that is awaited.
    pub(crate) fn relieve(&self) -> bool {
        let Some(required) = self.required().map(|lane| lane.trimmable()).min() else {
            return false;
        };
        let optional = self.lanes.iter().filter(|lane| lane.role == Role::Optional);
        let behind: Vec<_> = optional.filter(|lane| lane.trimmable() < required).collect();
        let Some(low) = behind.iter().map(|lane| lane.trimmable()).min() else { return false };
        let floor = self.floor(low).min(required);
        let mut asked = false;
        for lane in behind {
            if lane.trimmable() < floor {
                asked = true;
                // Told again even if it is the same: the lane may have gone back since.
                lane.floor.send_modify(|old| *old = floor.max(*old));
            }
        }
        asked
    }

    /// Up to where optional sinks that are at `low` have to let go: the end of the last segment that
    /// is not within the bounds.
    fn floor(&self, low: u64) -> u64 {
        let DeliveryOptions { optional_max_events, optional_max_bytes, optional_max_age, .. } =
            self.options;
        let journal = self.journal_max_bytes.map_or(u64::MAX, |max| max / 2);
        let max_bytes = optional_max_bytes.min(journal);
        let spans = self.journal.spans();
        let durable = self.journal.durable_index();
        let now = Timestamp::now().as_nanos();
        let (mut bytes, mut floor) = (0_u64, 0);
        for (at, (_, end, size)) in spans.iter().enumerate().rev() {
            bytes = bytes.saturating_add(*size);
            let newest = at + 1 == spans.len();
            // Trimming cannot do without the newest segment, unless that alone fills the journal.
            let over = if newest {
                bytes > journal
            } else {
                let age = || {
                    let younger = recorded_at(&self.journal, *end)?;
                    Some(Duration::from_nanos(now.saturating_sub(younger.as_nanos())))
                };
                bytes > max_bytes
                    || durable.saturating_sub(*end) >= optional_max_events
                    || (*end > low && age().is_some_and(|age| age >= optional_max_age))
            };
            if over {
                floor = *end;
                break;
            }
        }
        floor
    }

    /// Tries a chain once more that is halted at a sink.
    pub(crate) fn retry(&self, sink: &str, chain: &ChainRef) -> Result<(), AuditError> {
        self.lane(sink)?.retry(chain)
    }

    /// Sends an event once more that a sink refused and that is kept aside; resolves when the sink
    /// has it.
    pub(crate) fn release(
        &self,
        sink: &str,
        chain: &ChainRef,
        sequence: u64,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + 'static + use<> {
        let asked = self.lane(sink).and_then(|lane| lane.release(chain, sequence));
        async move {
            asked?.await.unwrap_or_else(|_| {
                let message = "the release was given up before the sink had answered: try it again";
                Err(AuditError::new(AuditErrorKind::Undelivered, message))
            })
        }
    }

    fn lane(&self, sink: &str) -> Result<&Lane, AuditError> {
        self.lanes.iter().find(|lane| lane.name == sink).map(|lane| &**lane).ok_or_else(|| {
            let names: Vec<_> = self.lanes.iter().map(|lane| lane.name.as_str()).collect();
            let shown: String = sink.chars().take(64).collect();
            AuditError::invalid(format!(
                "there is no sink {shown:?}: this log has [{}]",
                names.join(", ")
            ))
        })
    }

    /// Resolves when every required sink has acknowledged a position of a chain.
    ///
    /// # Errors
    /// [`AuditErrorKind::Undelivered`] when a sink has halted the chain, refuses the event, or
    /// delivery ends before.
    pub(crate) fn delivered(
        &self,
        chain: &ChainRef,
        sequence: u64,
    ) -> impl Future<Output = Result<(), AuditError>> + Send + 'static + use<> {
        let answers: Vec<_> = self
            .required()
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
            lane.end();
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
    fn start(posts: Vec<Post>) -> Result<Self, AuditError> {
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
                    for post in posts {
                        running.spawn(async move {
                            let _ended = EndOnDrop(Arc::clone(&post.lane));
                            Worker::new(post).run().await;
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
        self.0.end();
    }
}

/// A name is the name of a file, and the cursor of one sink alone.
fn check_names(sinks: &[(Role, Arc<dyn Sink>)]) -> Result<(), AuditError> {
    let mut names = BTreeSet::new();
    for (_, sink) in sinks {
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
