//! Batches: segments of several chains, each contiguous because its constructor says so.

use std::sync::Arc;

use crate::{
    canonical::{EventView, scan},
    hash::Hash,
    record::Record,
};

use super::ChainRef;

/// A run of events of one chain, without a hole, each linked to the one before.
///
/// A clone shares the records, so that a sink can hand segments to other threads at no cost.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record, sink::{ChainRef, Segment}};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
/// let segment = Segment::new(chain, vec![record.clone()])?;
/// assert_eq!((segment.first(), segment.last(), segment.len()), (0, 0, 1));
/// let twice = Segment::new(segment.chain().clone(), vec![record.clone(), record]);
/// assert!(twice.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    chain: ChainRef,
    first: u64,
    records: Arc<[Record]>,
    hashes: Arc<[Hash]>,
}

/// Records that do not form a segment.
///
/// ```
/// use agent_audit_core::{id::{ChainId, TenantId}, sink::{ChainRef, Segment}};
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// let error = Segment::new(chain, Vec::new()).unwrap_err();
/// assert_eq!(error.to_string(), "not a segment of chain acme/c-1: it is empty");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a segment of chain {chain}: {reason}")]
pub struct BrokenSegment {
    chain: ChainRef,
    reason: String,
}

impl Segment {
    /// Joins records that follow each other in a chain.
    ///
    /// # Errors
    /// [`BrokenSegment`] where there are none, or one is of another chain, out of sequence, or not
    /// linked to the one before by its hash.
    pub fn new(chain: ChainRef, records: Vec<Record>) -> Result<Self, BrokenSegment> {
        let broken = |reason: String| BrokenSegment { chain: chain.clone(), reason };
        let mut hashes: Vec<Hash> = Vec::with_capacity(records.len());
        let mut first = None;
        for (at, record) in (0u64..).zip(&records) {
            let view = scan(record.event_bytes()).map_err(|error| broken(error.to_string()))?;
            check_chain(&chain, &view).map_err(broken)?;
            let first = *first.get_or_insert(view.sequence);
            if view.sequence != first + at {
                return Err(broken(format!("{} follows {}", view.sequence, first + at - 1)));
            }
            if hashes.last().is_some_and(|last| *last != view.previous_event_hash) {
                return Err(broken(format!("{} is not linked to the one before", view.sequence)));
            }
            hashes.push(record.event_hash());
        }
        match first {
            Some(first) => {
                Ok(Self { chain, first, records: records.into(), hashes: hashes.into() })
            }
            None => Err(broken("it is empty".to_owned())),
        }
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &ChainRef {
        &self.chain
    }

    /// The first position.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The last position.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.first + (self.records.len() as u64) - 1
    }

    /// How many events.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a segment is never empty")]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The event hashes, in order.
    #[must_use]
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Position, event hash and record of each event, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Hash, &Record)> {
        (self.first..).zip(&*self.hashes).zip(&*self.records).map(|((at, hash), r)| (at, hash, r))
    }
}

fn check_chain(chain: &ChainRef, view: &EventView<'_>) -> Result<(), String> {
    if view.tenant_id == chain.tenant_id.as_str() && view.chain_id == chain.chain_id.as_str() {
        return Ok(());
    }
    Err(format!("event {} says it is of {}/{}", view.event_id, view.tenant_id, view.chain_id))
}

/// Segments of different chains on their way to a sink together.
///
/// ```
/// use agent_audit_core::sink::Batch;
/// assert!(Batch::new(Vec::new()).segments().is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    segments: Vec<Segment>,
}

impl Batch {
    /// A batch of these segments.
    #[must_use]
    pub fn new(segments: Vec<Segment>) -> Self {
        Self { segments }
    }

    /// The segments.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// How many events all segments hold.
    #[must_use]
    pub fn event_count(&self) -> usize {
        self.segments.iter().map(Segment::len).sum()
    }
}
