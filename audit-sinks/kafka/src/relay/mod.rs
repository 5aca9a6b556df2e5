//! The way back: from the topics to any other sinks.

mod calls;
mod chain;
mod check;
mod config;
mod consumer;
mod halted;
mod lane;
mod outcome;
mod partition;
mod quarantine;
mod state;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod worker;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_audit_core::sink::{Sink, SinkError, SinkErrorKind};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinSet,
};

pub use config::RelayConfig;
pub use status::{Gap, PartitionStatus, Problem, ProblemKind, RelaySinkStatus, RelayStatus};

use crate::{config::invalid, topic::TopicRouter};
use calls::Calls;
use consumer::Reading;
use quarantine::Quarantine;
use state::{Limits, SinkState, State};

/// Brings events from topics to sinks, checks them on the way, and commits offsets when every sink
/// has acknowledged what was read.
///
/// See the [crate](crate) for what it promises.
///
/// ```no_run
/// # async fn example(sinks: Vec<std::sync::Arc<dyn agent_audit_core::sink::Sink>>)
/// # -> Result<(), agent_audit_core::sink::SinkError> {
/// use agent_audit_kafka::{KafkaConfig, Relay, RelayConfig};
/// let kafka = KafkaConfig::new("localhost:9092").with_topic("audit-{tenant}");
/// let relay = Relay::new(RelayConfig::new(kafka, "audit-relay"), sinks)?;
/// let monitor = relay.monitor();
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// // `stop` is sent or dropped when the program ends.
/// # drop(stop);
/// let status = relay.run(async { drop(stopped.await) }).await?;
/// println!("{} events relayed, {} problems", status.relayed, status.problems);
/// # drop(monitor);
/// # Ok(())
/// # }
/// ```
pub struct Relay {
    config: RelayConfig,
    router: Arc<dyn TopicRouter>,
    sinks: Vec<Arc<dyn Sink>>,
    shared: Arc<Shared>,
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("config", &self.config)
            .field("router", &self.router)
            .field("sinks", &self.sinks)
            .finish_non_exhaustive()
    }
}

/// Tells how a relay is doing, also while it runs.
///
/// ```
/// # use std::sync::Arc;
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_kafka::{KafkaConfig, Relay, RelayConfig};
/// let config = RelayConfig::new(KafkaConfig::new("localhost:9092"), "audit-relay");
/// let relay = Relay::new(config, vec![Arc::new(MemorySink::new())])?;
/// let monitor = relay.monitor();
/// assert_eq!((monitor.status().read, monitor.status().sinks.len()), (0, 1));
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RelayMonitor(Arc<Shared>);

impl RelayMonitor {
    /// How the relay is doing now.
    #[must_use]
    pub fn status(&self) -> RelayStatus {
        self.0.state().status()
    }
}

/// What the thread that reads and the tasks that write share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rings when a sink may have something to do.
    wake: Vec<Notify>,
    /// Rings when a sink may have to be asked about a chain.
    contact: Vec<Notify>,
}

impl Shared {
    fn new(limits: Limits, sinks: &[Arc<dyn Sink>]) -> Arc<Self> {
        let states = sinks.iter().map(|sink| SinkState::new(sink.info())).collect();
        Arc::new(Self {
            state: Mutex::new(State::new(limits, states)),
            wake: sinks.iter().map(|_| Notify::new()).collect(),
            contact: sinks.iter().map(|_| Notify::new()).collect(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the work for the sinks.
    fn start(
        self: &Arc<Self>,
        sinks: &[Arc<dyn Sink>],
        calls: Calls,
        stop: &watch::Receiver<bool>,
    ) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for (at, sink) in sinks.iter().enumerate() {
            let (shared, own, stop) = (Arc::clone(self), Arc::clone(sink), stop.clone());
            tasks.spawn(worker::work(shared, own, at, calls, stop.clone()));
            if sink.info().readable_heads {
                tasks.spawn(worker::meet(Arc::clone(self), Arc::clone(sink), at, calls, stop));
            }
        }
        tasks
    }

    fn wake_all(&self) {
        for notify in self.wake.iter().chain(&self.contact) {
            notify.notify_one();
        }
    }
}

impl Relay {
    /// A relay from the topics of the configuration to these sinks.
    ///
    /// # Errors
    /// [`SinkError`] where there is no sink, two have one name, or the set-up cannot be right.
    pub fn new(config: RelayConfig, sinks: Vec<Arc<dyn Sink>>) -> Result<Self, SinkError> {
        let router = config.kafka.router()?;
        Self::with_router(config, sinks, router)
    }

    /// A relay from the topics of a router. An event in another topic than the router says is
    /// misplaced: who may write to one tenant's topic cannot write another tenant's history.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_router(
        config: RelayConfig,
        sinks: Vec<Arc<dyn Sink>>,
        router: impl TopicRouter + 'static,
    ) -> Result<Self, SinkError> {
        if sinks.is_empty() {
            return Err(invalid("the relay has no sink: name one at least"));
        }
        for (at, sink) in sinks.iter().enumerate() {
            let name = &sink.info().name;
            if sinks[..at].iter().any(|other| other.info().name == *name) {
                return Err(invalid(format!("two sinks are named {name}: give each its own name")));
            }
        }
        config.consumer()?;
        let limits = Limits {
            max_buffered_bytes: config.max_buffered_bytes,
            max_chains: config.max_chains,
            gap_timeout: Duration::from_millis(config.gap_timeout_ms),
            quarantine: config.quarantine.is_some(),
        };
        let shared = Shared::new(limits, &sinks);
        Ok(Self { config, router: Arc::new(router), sinks, shared })
    }

    /// Tells how the relay is doing, also while it runs.
    #[must_use]
    pub fn monitor(&self) -> RelayMonitor {
        RelayMonitor(Arc::clone(&self.shared))
    }

    /// Relays until `stop` resolves; then brings what was read to the sinks, as far as that is done
    /// in time, commits and leaves the group.
    ///
    /// # Errors
    /// [`SinkError`] where the client cannot be made, the quarantine cannot be opened, or the group
    /// casts the relay out for good.
    ///
    /// # Cancel safety
    /// Dropped, it stops reading soon and commits nothing more: what was not committed is read again.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<RelayStatus, SinkError> {
        let Self { config, router, sinks, shared } = self;
        let halts = config.quarantine.clone();
        let quarantine = config.quarantine.clone().map(Quarantine::open).transpose();
        let quarantine = quarantine
            .map_err(|error| invalid(format!("the quarantine cannot be opened: {error}")))?;
        let stopping = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let reading = Reading {
            client: config.consumer()?,
            router,
            quarantine,
            halts,
            commit_interval: Duration::from_millis(config.commit_interval_ms),
            stop_timeout: Duration::from_millis(config.stop_timeout_ms),
            stop: Arc::clone(&stopping.0),
        };
        let calls = Calls {
            limit: Duration::from_millis(config.append_timeout_ms),
            shortest: Duration::from_millis(config.shortest_retry_ms),
            longest: Duration::from_millis(config.longest_retry_ms),
        };
        let (end, ended) = watch::channel(false);
        let mut tasks = shared.start(&sinks, calls, &ended);

        // A thread of its own: the client's calls block, and call back.
        let (done, mut over) = oneshot::channel();
        let reader = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("audit-relay".to_owned())
            .spawn(move || {
                // Nobody listens when the future was dropped.
                let _ = done.send(consumer::read(&reader, reading));
            })
            .map_err(|error| {
                let message = "the thread that reads cannot be started";
                SinkError::new(SinkErrorKind::Unavailable, message).with_source(error)
            })?;
        let early = tokio::select! {
            result = &mut over => Some(result),
            () = stop => None,
        };
        stopping.0.store(true, Ordering::Relaxed);
        let result = match early {
            Some(result) => result,
            None => over.await,
        };
        end.send_replace(true);
        while tasks.join_next().await.is_some() {}
        for sink in &sinks {
            if let Ok(Err(error)) = tokio::time::timeout(calls.limit, sink.close()).await {
                tracing::warn!(sink = %sink.info().name, %error, "a sink could not be closed");
            }
        }
        result.unwrap_or_else(|_| {
            Err(SinkError::new(SinkErrorKind::Other, "the thread that reads panicked"))
        })
    }
}

/// Tells the thread to stop when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
