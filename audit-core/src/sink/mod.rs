//! The contract between the log and a place that keeps its events.
//!
//! A [`Sink`] is a stateless encoder and durable transmitter. Batching, retry, order, cursors,
//! backpressure and health belong to [delivery](crate::delivery) and exist once. Each line of the
//! contract is a test of the conformance suite:
//!
//! - An acknowledgement MUST mean that the events are durable in the sink's own terms.
//! - The same event again MUST be accepted once.
//! - The same position with another hash MUST be [`SegmentOutcome::Conflict`]; what is stored MUST
//!   NOT be overwritten, and other chains MUST go on.
//! - A prefix of a segment MAY be acknowledged, never a segment with a hole.
//! - A fault of one tenant MUST NOT delay or fail another tenant's segment.
//! - After an unknown outcome the identical segment comes again.
//! - An error MUST NOT carry content or a credential.

mod attach;
mod batch;
mod error;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use attach::{Attached, Detached};
pub use batch::{Batch, BrokenSegment, Segment};
pub use error::{SinkError, SinkErrorKind};

pub use crate::chain::ChainRef;
use crate::hash::Hash;

/// The last event of a chain that a sink holds.
///
/// ```
/// use agent_audit_core::{hash::Hash, sink::Head};
/// assert_eq!(Head::new(9, Hash::ZERO).sequence, 9);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// Its position.
    pub sequence: u64,
    /// Its event hash.
    pub event_hash: Hash,
}

impl Head {
    /// A head at a position.
    #[must_use]
    pub fn new(sequence: u64, event_hash: Hash) -> Self {
        Self { sequence, event_hash }
    }
}

/// What a sink is and can do.
///
/// ```
/// use agent_audit_core::sink::SinkInfo;
/// let info = SinkInfo::new("archive", "s3").with_readable_heads();
/// assert!(info.readable_heads);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkInfo {
    /// The name of this sink in this log: its cursor is kept under it. Letters, digits, `-`, `_`.
    pub name: String,
    /// The kind of store, as `sqlite`.
    pub kind: &'static str,
    /// Whether [`Sink::head`] can tell; where not, delivery relies on its cursor and on the sink to
    /// accept the same event once.
    pub readable_heads: bool,
    /// Whether a chain may go on behind events that the sink does not get, because it keeps no state
    /// of chains and nobody takes it for complete: streams, queues, observability. Such a hole is
    /// always declared: see [`SinkHealth::missing`](crate::delivery::SinkHealth::missing).
    ///
    /// A sink with [readable heads](Self::readable_heads) never accepts gaps: its head means that
    /// there is no hole before it.
    pub accepts_gaps: bool,
    /// The most events that one batch should hold.
    pub max_batch_events: usize,
    /// The most bytes that one batch should hold; a single larger event is still sent.
    pub max_batch_bytes: usize,
}

impl SinkInfo {
    /// A sink with a name and a kind, batches of up to 1,000 events and 4 MiB.
    pub fn new(name: impl Into<String>, kind: &'static str) -> Self {
        Self {
            name: name.into(),
            kind,
            readable_heads: false,
            accepts_gaps: false,
            max_batch_events: 1_000,
            max_batch_bytes: 4 << 20,
        }
    }

    /// Says that [`Sink::head`] can tell.
    #[must_use]
    pub fn with_readable_heads(mut self) -> Self {
        self.readable_heads = true;
        self
    }

    /// Says that a chain may go on behind a declared hole.
    ///
    /// ```
    /// use agent_audit_core::sink::SinkInfo;
    /// assert!(SinkInfo::new("metrics", "otlp").with_gaps().accepts_gaps);
    /// ```
    #[must_use]
    pub fn with_gaps(mut self) -> Self {
        self.accepts_gaps = true;
        self
    }

    /// Sets how large a batch should be at most.
    #[must_use]
    pub fn with_max_batch(mut self, events: usize, bytes: usize) -> Self {
        self.max_batch_events = events;
        self.max_batch_bytes = bytes;
        self
    }
}

/// What became of one segment of a batch.
///
/// ```
/// use agent_audit_core::sink::SegmentOutcome;
/// assert!(matches!(SegmentOutcome::Accepted, SegmentOutcome::Accepted));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SegmentOutcome {
    /// All of its events are durable, now or from before.
    Accepted,
    /// The events up to and including this position are durable; the rest was not tried.
    Prefix {
        /// The last durable position.
        through: u64,
    },
    /// The sink holds another event at this position, and keeps it.
    Conflict {
        /// The position.
        sequence: u64,
    },
    /// The segment failed; `error` says whether it may have been applied.
    Failed {
        /// Why.
        error: SinkError,
    },
}

/// One outcome for each segment of a batch, in the order of the batch.
///
/// ```
/// use agent_audit_core::sink::{BatchAck, SegmentOutcome};
/// let ack = BatchAck::accepted(2);
/// assert_eq!(ack.outcomes.len(), 2);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct BatchAck {
    /// The outcomes.
    pub outcomes: Vec<SegmentOutcome>,
}

impl BatchAck {
    /// An acknowledgement with these outcomes.
    #[must_use]
    pub fn new(outcomes: Vec<SegmentOutcome>) -> Self {
        Self { outcomes }
    }

    /// All of so many segments accepted.
    #[must_use]
    pub fn accepted(segments: usize) -> Self {
        Self::new((0..segments).map(|_| SegmentOutcome::Accepted).collect())
    }
}

/// A place that keeps events. See the [module](self) for the contract.
///
/// ```
/// use agent_audit_core::sink::{Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkInfo};
///
/// #[derive(Debug)]
/// struct Nowhere(SinkInfo);
///
/// #[async_trait::async_trait]
/// impl Sink for Nowhere {
///     fn info(&self) -> &SinkInfo {
///         &self.0
///     }
///     async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
///         Ok(BatchAck::accepted(batch.segments().len()))
///     }
///     async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
///         Ok(None)
///     }
///     async fn check(&self) -> Result<(), SinkError> {
///         Ok(())
///     }
///     async fn close(&self) -> Result<(), SinkError> {
///         Ok(())
///     }
/// }
/// assert_eq!(Nowhere(SinkInfo::new("nowhere", "example")).info().kind, "example");
/// ```
#[async_trait]
pub trait Sink: Send + Sync + fmt::Debug {
    /// What the sink is and can do.
    fn info(&self) -> &SinkInfo;

    /// Makes the events of a batch durable.
    ///
    /// # Errors
    /// [`SinkError`] where the batch failed as a whole; a fault of one segment is its outcome.
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError>;

    /// The last event that the sink holds of a chain, without a hole before it.
    ///
    /// # Errors
    /// [`SinkError`] where the sink cannot be asked.
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError>;

    /// Whether the sink is reachable and this process may write to it. Writes no record.
    ///
    /// # Errors
    /// [`SinkError`] that says what to mend.
    async fn check(&self) -> Result<(), SinkError>;

    /// Lets go of connections and files. Everything acknowledged is durable before.
    ///
    /// # Errors
    /// [`SinkError`] where something could not be closed.
    async fn close(&self) -> Result<(), SinkError>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Sink + ?Sized> Sink for Arc<S> {
    fn info(&self) -> &SinkInfo {
        (**self).info()
    }
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        (**self).append(batch).await
    }
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        (**self).head(chain).await
    }
    async fn check(&self) -> Result<(), SinkError> {
        (**self).check().await
    }
    async fn close(&self) -> Result<(), SinkError> {
        (**self).close().await
    }
}
