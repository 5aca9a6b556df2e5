//! How the sinks are doing.

use std::fmt;

use crate::chain::ChainRef;

/// How one sink is doing at one moment. It never carries content.
///
/// ```
/// use agent_audit_core::delivery::{SinkHealth, SinkState};
/// // As a probe would ask: is every sink taking events?
/// fn ready(sinks: &[SinkHealth]) -> bool {
///     sinks.iter().all(|sink| sink.state == SinkState::Working && sink.halted.is_empty())
/// }
/// assert!(ready(&[]));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkHealth {
    /// The name of the sink.
    pub name: String,
    /// The kind of store, as `sqlite`.
    pub kind: &'static str,
    /// Whether it takes events.
    pub state: SinkState,
    /// Durable journal entries that have not been sent to it yet.
    pub waiting: u64,
    /// Chains that failed, apart from the others, and are being retried.
    pub lagging: usize,
    /// Chains that are no longer sent to it, because a retry cannot help.
    pub halted: Vec<HaltedChain>,
    /// Failures of whole batches in a row.
    pub failures: u32,
    /// The last fault of the sink, or of a lagging chain, while there is one.
    pub last_error: Option<String>,
}

/// Whether a sink takes events.
///
/// ```
/// use agent_audit_core::delivery::SinkState;
/// assert_eq!(SinkState::Working.to_string(), "working");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkState {
    /// It took the last batch, or has not been sent one yet.
    Working,
    /// It failed, and is tried again after a while.
    Retrying,
    /// It failed in a way that a person must mend; it is still tried again now and then.
    Blocked,
    /// The log is closed.
    Closed,
}

impl fmt::Display for SinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Working => "working",
            Self::Retrying => "retrying",
            Self::Blocked => "blocked",
            Self::Closed => "closed",
        })
    }
}

/// A chain that is no longer sent to a sink. The others go on, and the journal keeps its events.
///
/// It is tried again when the log is opened the next time.
///
/// ```
/// use agent_audit_core::delivery::HaltedChain;
/// fn page(chain: &HaltedChain) -> String {
///     format!("{} stopped at {}: {}", chain.chain, chain.sequence, chain.message)
/// }
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HaltedChain {
    /// The chain.
    pub chain: ChainRef,
    /// The position where it came to a halt.
    pub sequence: u64,
    /// Why, to decide on.
    pub reason: HaltReason,
    /// Why, to read.
    pub message: String,
}

/// Why a chain is no longer sent to a sink.
///
/// ```
/// use agent_audit_core::delivery::HaltReason;
/// assert_ne!(HaltReason::Conflict, HaltReason::Rejected);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HaltReason {
    /// The sink holds another event at a position, or events that this log does not have.
    Conflict,
    /// Events are missing: the sink lost them, or never had them, and the journal has let go of
    /// them; or the journal itself is broken there.
    Corrupt,
    /// The sink refused the events for good.
    Rejected,
}

/// What a sink had not acknowledged when the log was closed. It is delivered after the next open.
///
/// ```
/// use agent_audit_core::delivery::Undelivered;
/// fn warn(left: &[Undelivered]) {
///     for sink in left {
///         eprintln!("{sink}");
///     }
/// }
/// warn(&[]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undelivered {
    /// The name of the sink.
    pub sink: String,
    /// How many events.
    pub events: u64,
    /// Of how many chains; of a very long backlog only the beginning is looked at, so at least.
    pub chains: usize,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sink, events, chains } = self;
        write!(f, "sink {sink} has not acknowledged {events} events of {chains} chains")
    }
}
