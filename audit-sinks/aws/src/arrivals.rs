//! What arrives of chains: each event once, in order.

use std::collections::{BTreeMap, HashMap};

use agent_audit_core::{chain::ChainRef, hash::Hash, sink::Head};

use crate::message::Received;

/// Puts what a stream or a queue delivers at least once in the order of the chains again.
///
/// - Each event is handed out once, after the one that precedes it in its chain.
/// - An event that arrives before its predecessor is kept in memory until that has arrived. It is
///   not durable meanwhile: do not move on in the stream, and do not delete from the queue, what
///   [`waiting`](Self::waiting) counts. A queue hands out no more of a chain while something of it
///   is not deleted; a consumer that needs order writes with a sink in strict order, or stores what
///   comes by chain and sequence and lets the store put it in order.
/// - A chain begins at position 0, or after what [`resume`](Self::resume) was told.
/// - An event that is not linked to its predecessor is never handed out. That is no proof: what was
///   handed out is for the verifier.
///
/// ```
/// use agent_audit_aws::{Arrival, Arrivals, Received};
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
/// let mut arrivals = Arrivals::new();
/// let first = arrivals.take(Received::new(record.clone())?);
/// assert!(matches!(first, Arrival::Next(records) if records.len() == 1));
/// assert!(matches!(arrivals.take(Received::new(record)?), Arrival::Again));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Arrivals {
    chains: HashMap<ChainRef, Chain>,
}

/// What became of an event that arrived.
///
/// ```
/// use agent_audit_aws::{Arrival, Arrivals, Received};
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
/// let mut event = Event::example(ChainClosed::new("shutdown"));
/// event.sequence = 7;
/// let seventh = Received::new(Record::new(event.canonical_bytes()?, Vec::new()))?;
/// assert!(matches!(Arrivals::new().take(seventh), Arrival::Early));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Arrival {
    /// It is next in its chain; with it comes what waited for it.
    Next(Vec<Received>),
    /// It waits for one that precedes it.
    Early,
    /// Its position was handed out before.
    Again,
    /// It is not the event that was handed out at this position, or not linked to the one before.
    Conflict,
}

#[derive(Debug)]
struct Chain {
    /// The next position, and the hash of the one before.
    next: u64,
    previous: Hash,
    /// More than one for a position, where one of them is not genuine.
    early: BTreeMap<u64, Vec<Received>>,
}

impl Arrivals {
    /// Nothing has arrived.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that everything of a chain up to a head is stored already.
    ///
    /// ```
    /// use agent_audit_aws::{Arrival, Arrivals, Received};
    /// use agent_audit_core::{
    ///     event::{Event, chain::ChainClosed}, record::Record, sink::Head,
    /// };
    /// let event = Event::example(ChainClosed::new("shutdown"));
    /// let received = Received::new(Record::new(event.canonical_bytes()?, Vec::new()))?;
    /// let mut arrivals = Arrivals::new();
    /// arrivals.resume(received.chain.clone(), Head::new(received.sequence, received.event_hash));
    /// assert!(matches!(arrivals.take(received), Arrival::Again));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resume(&mut self, chain: ChainRef, head: Head) {
        let state = self.chains.entry(chain).or_default();
        if head.sequence >= state.next {
            (state.next, state.previous) = (head.sequence + 1, head.event_hash);
            state.early = state.early.split_off(&state.next);
        }
    }

    /// Takes what arrived.
    pub fn take(&mut self, received: Received) -> Arrival {
        let chain = self.chains.entry(received.chain.clone()).or_default();
        let at = received.sequence;
        if at < chain.next {
            let head = at + 1 == chain.next && received.event_hash != chain.previous;
            return if head { Arrival::Conflict } else { Arrival::Again };
        }
        if at > chain.next {
            let early = chain.early.entry(at).or_default();
            if early.iter().any(|other| other.event_hash == received.event_hash) {
                return Arrival::Again;
            }
            early.push(received);
            return Arrival::Early;
        }
        if received.previous_event_hash != chain.previous {
            return Arrival::Conflict;
        }
        let mut next = vec![];
        chain.release(received, &mut next);
        while let Some(waited) = chain.early.remove(&chain.next) {
            let mut linked = waited.into_iter();
            match linked.find(|early| early.previous_event_hash == chain.previous) {
                Some(linked) => chain.release(linked, &mut next),
                None => break,
            }
        }
        Arrival::Next(next)
    }

    /// How many events wait for one that precedes them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.chains.values().flat_map(|chain| chain.early.values()).map(Vec::len).sum()
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self { next: 0, previous: Hash::ZERO, early: BTreeMap::new() }
    }
}

impl Chain {
    fn release(&mut self, received: Received, next: &mut Vec<Received>) {
        (self.next, self.previous) = (received.sequence + 1, received.event_hash);
        next.push(received);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use agent_audit_core::{conformance::TestChain, record::Record};

    use super::*;

    fn received(record: &Record) -> Received {
        Received::new(record.clone()).unwrap()
    }

    fn next(arrival: Arrival) -> Vec<Record> {
        match arrival {
            Arrival::Next(records) => records.into_iter().map(|r| r.record).collect(),
            other => panic!("expected the next, not {other:?}"),
        }
    }

    #[test]
    fn any_order_and_any_repetition_give_each_event_once_in_order() {
        let mut chain = TestChain::new();
        let mut other = TestChain::new();
        chain.extend(7);
        other.extend(2);
        let mut arrivals = Arrivals::new();
        let mut out = Vec::new();
        for at in [2, 1, 1, 0, 5, 0, 3, 6, 2, 4, 6] {
            if let Arrival::Next(records) = arrivals.take(received(&chain.records()[at])) {
                out.extend(records.into_iter().map(|r| r.record));
            }
            if at == 3 {
                // Chains do not wait for each other.
                assert_eq!(next(arrivals.take(received(&other.records()[0]))).len(), 1);
            }
        }
        assert_eq!(out, chain.records());
        assert_eq!(arrivals.waiting(), 0);
    }

    #[test]
    fn a_forged_event_is_never_handed_out_and_does_not_keep_out_the_genuine_one() {
        let mut chain = TestChain::new();
        chain.extend(4);
        let mut forged = chain.fork(1);
        forged.extend(3);
        let mut arrivals = Arrivals::new();
        // Positions 2 and 3 of the fork come first, then the chain.
        assert!(matches!(arrivals.take(received(&forged.records()[2])), Arrival::Early));
        assert!(matches!(arrivals.take(received(&chain.records()[2])), Arrival::Early));
        assert!(matches!(arrivals.take(received(&forged.records()[3])), Arrival::Early));
        assert_eq!(arrivals.waiting(), 3);
        assert_eq!(next(arrivals.take(received(&chain.records()[0]))), chain.records()[..1]);
        assert_eq!(next(arrivals.take(received(&chain.records()[1]))), chain.records()[1..3]);
        assert!(matches!(arrivals.take(received(&forged.records()[3])), Arrival::Conflict));
        assert_eq!(next(arrivals.take(received(&chain.records()[3]))), chain.records()[3..]);
        let mut fork = chain.fork(3);
        fork.extend(1);
        assert!(matches!(arrivals.take(received(&fork.records()[3])), Arrival::Conflict));
    }

    #[test]
    fn what_a_store_has_is_not_handed_out_again() {
        let mut chain = TestChain::new();
        let segment = chain.extend(4);
        let mut arrivals = Arrivals::new();
        assert!(matches!(arrivals.take(received(&chain.records()[2])), Arrival::Early));
        arrivals.resume(chain.chain().clone(), Head::new(2, segment.hashes()[2]));
        assert_eq!(arrivals.waiting(), 0);
        assert!(matches!(arrivals.take(received(&chain.records()[1])), Arrival::Again));
        assert_eq!(next(arrivals.take(received(&chain.records()[3]))), chain.records()[3..]);
    }
}
