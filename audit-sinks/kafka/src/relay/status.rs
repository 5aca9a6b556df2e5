//! What the relay has done and what it waits for.

use std::fmt;

use agent_audit_core::sink::ChainRef;
use serde::Serialize;

/// How a relay is doing at one moment. It never carries content.
///
/// ```
/// use agent_audit_kafka::RelayStatus;
/// // As a probe would ask: is everything where it belongs?
/// fn sound(status: &RelayStatus) -> bool {
///     status.problems == 0 && status.partitions.iter().all(|partition| partition.lag() < 10_000)
/// }
/// assert!(sound(&RelayStatus::default()));
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RelayStatus {
    /// The partitions that this relay reads.
    pub partitions: Vec<PartitionStatus>,
    /// The sinks.
    pub sinks: Vec<RelaySinkStatus>,
    /// Messages that were read.
    pub read: u64,
    /// Events that every sink has acknowledged.
    pub relayed: u64,
    /// Copies of events that were dropped.
    pub copies: u64,
    /// Messages that belong nowhere: quarantined, or left in the topic.
    pub problems: u64,
    /// Chains of which events wait for one that is missing.
    pub gaps: Vec<Gap>,
    /// The latest problems.
    pub latest_problems: Vec<Problem>,
    /// What the cluster last complained of, while it does.
    pub last_error: Option<String>,
}

/// One partition.
///
/// ```
/// fn late(partition: &agent_audit_kafka::PartitionStatus) -> bool {
///     partition.lag() > 100_000
/// }
/// # let _ = late;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that was committed last by this relay.
    pub committed: Option<i64>,
    /// The offset behind the last message that was read.
    pub position: Option<i64>,
    /// The offset behind the last message of the partition, as of a few seconds ago.
    pub end: Option<i64>,
    /// Messages that were read and are not yet where they belong.
    pub open: usize,
    /// Whether reading rests because too much is held.
    pub paused: bool,
    /// The message that offsets do not pass, because it belongs nowhere and there is no quarantine.
    pub stuck_at: Option<i64>,
}

impl PartitionStatus {
    /// How many messages are not committed yet.
    #[must_use]
    pub fn lag(&self) -> i64 {
        match (self.end, self.committed) {
            (Some(end), Some(committed)) => end.saturating_sub(committed).max(0),
            _ => i64::try_from(self.open).unwrap_or(i64::MAX),
        }
    }
}

/// One sink of a relay.
///
/// ```
/// fn ill(sink: &agent_audit_kafka::RelaySinkStatus) -> bool {
///     sink.failures > 0 || sink.halted > 0
/// }
/// # let _ = ill;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RelaySinkStatus {
    /// Its name.
    pub name: String,
    /// Events that it has acknowledged.
    pub acknowledged: u64,
    /// Failures of whole batches in a row.
    pub failures: u32,
    /// Its last fault, or that of a chain, while there is one.
    pub last_error: Option<String>,
    /// Chains that are no longer sent to it, because it refused one of their events for good, or
    /// because it lacks one that nobody waits for any more.
    pub halted: usize,
}

/// Events that wait for one that is missing.
///
/// ```
/// fn describe(gap: &agent_audit_kafka::Gap) -> String {
///     format!("{} waits for event {}", gap.chain, gap.missing)
/// }
/// # let _ = describe;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Gap {
    /// The chain.
    pub chain: ChainRef,
    /// The first position that is missing.
    pub missing: u64,
    /// How many events wait.
    pub waiting: usize,
    /// The sink that lacks it, where the others have it.
    pub sink: Option<String>,
}

/// A message that belongs nowhere.
///
/// ```
/// fn page(problem: &agent_audit_kafka::Problem) -> String {
///     format!("{}: {problem}", problem.kind)
/// }
/// # let _ = page;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Problem {
    /// What it is.
    pub kind: ProblemKind,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The chain and the position that the event names, where it is an event.
    pub event: Option<(ChainRef, u64)>,
    /// The sink that refused it, where one did.
    pub sink: Option<String>,
    /// Why, to read.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, partition, offset, message, .. } = self;
        write!(f, "message {offset} of {topic}[{partition}]")?;
        if let Some((chain, sequence)) = &self.event {
            write!(f, ", event {sequence} of {chain}")?;
        }
        match &self.sink {
            Some(sink) => write!(f, ", is refused by {sink}: {message}"),
            None => write!(f, ": {message}"),
        }
    }
}

/// Why a message belongs nowhere.
///
/// ```
/// use agent_audit_kafka::ProblemKind;
/// assert_eq!(ProblemKind::Conflict.to_string(), "conflict");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProblemKind {
    /// It is not an event.
    Malformed,
    /// It is in a topic, or under a key, that its chain does not belong to.
    Misplaced,
    /// Another event was read at its position.
    Conflict,
    /// It is not linked to the event before it.
    Unlinked,
    /// Events before it are missing.
    Gap,
    /// A sink refuses it for good.
    Refused,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Misplaced => "misplaced",
            Self::Conflict => "conflict",
            Self::Unlinked => "unlinked",
            Self::Gap => "gap",
            Self::Refused => "refused",
        })
    }
}
