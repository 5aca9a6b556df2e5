//! How a segment meets what a store holds of its chain.

use super::{Head, Segment, SinkError, SinkErrorKind};
use crate::{hash::Hash, record::Record};

/// A segment that attaches to what is stored: it starts within it, or right behind it.
///
/// What it shares with the store is to be compared, the rest to be written.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record, sink::{ChainRef, Head, Segment}};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
/// let segment = Segment::new(chain, vec![record])?;
///
/// assert_eq!(segment.attach(None)?.fresh().count(), 1);
/// let stored = Head::new(0, segment.hashes()[0]);
/// assert_eq!(segment.attach(Some(stored))?.overlap().count(), 1);
/// assert_eq!(segment.attach(Some(stored))?.fresh().count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Attached<'a> {
    segment: &'a Segment,
    next: u64,
}

impl<'a> Attached<'a> {
    /// Position and hash of each event at a position that the store has already, in order. Where the
    /// store holds another hash, the segment conflicts; where it holds none, the store lost it.
    pub fn overlap(&self) -> impl Iterator<Item = (u64, &'a Hash)> + use<'a> {
        let next = self.next;
        self.segment.iter().map(|(at, hash, _)| (at, hash)).take_while(move |(at, _)| *at < next)
    }

    /// Position, hash and record of each event that the store does not have yet, in order.
    pub fn fresh(&self) -> impl Iterator<Item = (u64, &'a Hash, &'a Record)> + use<'a> {
        let next = self.next;
        self.segment.iter().skip_while(move |(at, ..)| *at < next)
    }
}

/// A segment that would leave a hole, or is not linked to what is stored. The error that it becomes
/// is of kind [`Rejected`](SinkErrorKind::Rejected).
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, hash::Hash, record::Record, sink::{ChainRef, Head, Segment}};
/// let mut event = Event::example(ChainClosed::new("shutdown"));
/// event.sequence = 7;
/// let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// let segment = Segment::new(chain, vec![Record::new(event.canonical_bytes()?, Vec::new())])?;
/// let error = segment.attach(Some(Head::new(3, Hash::ZERO))).unwrap_err();
/// assert!(error.to_string().ends_with("it starts at 7 and the next position is 4"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("append to chain {chain}: the segment does not attach: {reason}")]
pub struct Detached {
    chain: super::ChainRef,
    reason: String,
}

impl From<Detached> for SinkError {
    fn from(detached: Detached) -> Self {
        Self::new(SinkErrorKind::Rejected, detached.to_string())
    }
}

impl Segment {
    /// Puts the segment to the head of what a store holds of its chain.
    ///
    /// # Errors
    /// [`Detached`] where it starts behind the next position, or at it without being linked to the
    /// head.
    pub fn attach(&self, head: Option<Head>) -> Result<Attached<'_>, Detached> {
        let detached = |reason| Detached { chain: self.chain().clone(), reason };
        let next = head.map_or(0, |head| head.sequence + 1);
        if self.first() > next {
            let first = self.first();
            return Err(detached(format!("it starts at {first} and the next position is {next}")));
        }
        if self.first() == next {
            let expected = head.map_or(Hash::ZERO, |head| head.event_hash);
            let view = self.records()[0].view();
            if !view.is_ok_and(|view| view.previous_event_hash == expected) {
                let reason = format!("event {next} is not linked to the event stored before it");
                return Err(detached(reason));
            }
        }
        Ok(Attached { segment: self, next })
    }
}
