//! How the sinks are doing.

use std::{fmt, path::PathBuf};

use super::options::Role;
use crate::{chain::ChainRef, hash::Hash, timestamp::Timestamp};

/// How one sink is doing at one moment. It never carries content.
///
/// ```
/// use agent_audit_core::delivery::{SinkHealth, SinkState};
/// // As a probe would ask: is every sink that matters taking events?
/// fn ready(sinks: &[SinkHealth]) -> bool {
///     let mut required = sinks.iter().filter(|sink| sink.is_required());
///     required.all(|sink| sink.state == SinkState::Working && sink.halted.is_empty())
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
    /// Whether the journal waits for it.
    pub role: Role,
    /// Whether it takes events.
    pub state: SinkState,
    /// The same as a circuit breaker shows it.
    pub circuit: Circuit,
    /// Durable journal entries that have not been sent to it yet.
    pub waiting: u64,
    /// Durable events that it has not acknowledged: [`waiting`](Self::waiting), and what has been
    /// passed over of chains that lag or are halted.
    pub events_waiting: u64,
    /// About how many bytes of the journal it holds back, or would if it were required.
    pub bytes_waiting: u64,
    /// When the oldest event that it has not acknowledged was recorded; none where there is none.
    pub oldest_waiting: Option<Timestamp>,
    /// When it last took a batch, in this process.
    pub last_acknowledged: Option<Timestamp>,
    /// Chains that failed, apart from the others, and are being retried.
    pub lagging: usize,
    /// Chains that are no longer sent to it, because a retry cannot help.
    pub halted: Vec<HaltedChain>,
    /// What it does not have and will not get by itself. It stays listed, across processes, until the
    /// sink has it after all.
    pub missing: Vec<MissingEvents>,
    /// Events that it refused for good and that are kept aside.
    pub quarantined: Vec<QuarantinedEvent>,
    /// Failures of whole batches in a row.
    pub failures: u32,
    /// The last fault of the sink, or of a lagging chain, while there is one.
    pub last_error: Option<String>,
    /// What was done in this process.
    pub counters: SinkCounters,
}

impl SinkHealth {
    /// Whether the journal keeps what it has not acknowledged.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.role == Role::Required
    }
}

/// What a sink was sent and what it answered, counted since the log was opened.
///
/// ```
/// use agent_audit_core::delivery::SinkCounters;
/// assert_eq!(SinkCounters::default().events, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SinkCounters {
    /// Events that it acknowledged.
    pub events: u64,
    /// Their bytes, as they stand in the journal.
    pub bytes: u64,
    /// Calls of `append` that it answered.
    pub batches: u64,
    /// Calls that failed as a whole, and segments that failed in one that did not.
    pub failures: u64,
    /// Calls with events that had been sent before.
    pub retries: u64,
    /// Events in those: as many at most has the sink seen more than once.
    pub duplicates: u64,
    /// Events that were kept aside because it refused them for good.
    pub quarantined: u64,
    /// Events that the journal let go of before this optional sink had them.
    pub missing: u64,
}

/// Whether a sink is being called, as a circuit breaker shows it.
///
/// ```
/// use agent_audit_core::delivery::Circuit;
/// assert_eq!(Circuit::HalfOpen.to_string(), "half-open");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Circuit {
    /// It took the last batch: events flow.
    Closed,
    /// It failed, and is left alone for a while.
    Open,
    /// It failed, and is being tried.
    HalfOpen,
}

impl fmt::Display for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        })
    }
}

/// Events of one chain that a sink does not have: a hole that is declared, never one that is taken
/// for acknowledged.
///
/// Of a sink that [accepts gaps](crate::sink::SinkInfo::accepts_gaps) the chain goes on behind it.
/// For every other sink the chain is halted until the sink has them from elsewhere, and
/// [`AuditLog::retry`](crate::log::AuditLog::retry) or the next open has found that it has.
///
/// ```
/// use agent_audit_core::delivery::MissingEvents;
/// fn page(hole: &MissingEvents) -> String {
///     format!("{}: {} to {}", hole.chain, hole.first, hole.last)
/// }
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MissingEvents {
    /// The chain.
    pub chain: ChainRef,
    /// The first position.
    pub first: u64,
    /// The last position.
    pub last: u64,
    /// Why.
    pub reason: MissingReason,
}

/// Why a sink does not have events.
///
/// ```
/// use agent_audit_core::delivery::MissingReason;
/// assert_eq!(MissingReason::Trimmed.to_string(), "trimmed");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissingReason {
    /// An optional sink did not take them in time, and the journal let go of them. A sink whose
    /// answer was lost may have some of them all the same.
    Trimmed,
    /// It refused them for good, and they are kept aside.
    Quarantined,
}

impl fmt::Display for MissingReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trimmed => "trimmed",
            Self::Quarantined => "quarantined",
        })
    }
}

/// An event that a sink refused for good, kept aside in a file. The file holds the whole record, its
/// content included; this never does.
///
/// ```
/// use agent_audit_core::delivery::QuarantinedEvent;
/// fn page(event: &QuarantinedEvent) -> String {
///     format!("{} event {}: {}", event.chain, event.sequence, event.message)
/// }
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuarantinedEvent {
    /// The chain.
    pub chain: ChainRef,
    /// Its position.
    pub sequence: u64,
    /// Its event hash.
    pub event_hash: Hash,
    /// When it was last refused.
    pub at: Timestamp,
    /// Why, to read.
    pub message: String,
    /// The file: see [`read_quarantined`](super::read_quarantined).
    pub path: PathBuf,
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

/// A chain that is no longer sent to a sink. The others go on, and the journal keeps its events; for
/// an optional sink, within bounds.
///
/// It is tried again by [`AuditLog::retry`](crate::log::AuditLog::retry), and when the log is opened
/// the next time.
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
    /// The sink refused the event for good, or does not permit this chain.
    Rejected,
    /// The journal let go of events that this optional sink had not acknowledged.
    Trimmed,
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
    /// Whether the journal waits for it.
    pub role: Role,
    /// How many events.
    pub events: u64,
    /// Of how many chains; of a very long backlog only the beginning is looked at, so at least.
    pub chains: usize,
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sink, events, chains, .. } = self;
        write!(f, "sink {sink} has not acknowledged {events} events of {chains} chains")
    }
}
