//! Whether an event follows what a sink has of its chain, and whether it was read before.

use std::collections::VecDeque;

use agent_audit_core::{hash::Hash, sink::Head};

/// How many positions behind the last one a copy is told from another event by the relay itself.
/// An older one is put to the sinks, which compare it with what they hold.
const WINDOW: usize = 256;

/// Where a chain goes on at a sink.
#[derive(Debug)]
pub(super) struct Check {
    /// From here on the sink was handed what it has by this relay.
    start: u64,
    next: u64,
    /// The hash before `next`, where it is known.
    last: Option<Hash>,
}

/// What an event is to a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one.
    Next,
    /// At a position that the sink had before this relay met the chain.
    Old,
    /// At a position that this relay has handed over.
    Had,
    /// Events between it and the last one are missing.
    Early,
    /// At the next position, and not linked to the last event.
    Unlinked,
}

impl Check {
    /// A chain of which a sink holds so much.
    pub(super) fn after(head: Option<Head>) -> Self {
        let (next, last) = match head {
            Some(head) => (head.sequence.saturating_add(1), head.event_hash),
            None => (0, Hash::ZERO),
        };
        Self { start: next, next, last: Some(last) }
    }

    /// A chain of which nothing is known but its first event here.
    pub(super) fn at(sequence: u64) -> Self {
        let last = (sequence == 0).then_some(Hash::ZERO);
        Self { start: sequence, next: sequence, last }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn judge(&self, sequence: u64, previous: Hash) -> Verdict {
        if sequence > self.next {
            Verdict::Early
        } else if sequence == self.next {
            let linked = self.last.is_none_or(|last| last == previous);
            if linked { Verdict::Next } else { Verdict::Unlinked }
        } else if sequence >= self.start {
            Verdict::Had
        } else {
            Verdict::Old
        }
    }

    /// Takes the next event.
    pub(super) fn advance(&mut self, hash: Hash) {
        self.next += 1;
        self.last = Some(hash);
    }

    /// Takes it that the sink holds more than came by here: another relay has brought it.
    pub(super) fn catch_up(&mut self, head: Option<Head>) -> bool {
        match head {
            Some(head) if head.sequence >= self.next => {
                *self = Self::after(Some(head));
                true
            }
            _ => false,
        }
    }
}

/// What was read of a chain lately and handed to the sinks.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The position behind the last hash.
    end: u64,
    hashes: VecDeque<Hash>,
}

/// Whether an event at its position was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    No,
    /// This one.
    Same,
    /// Another one.
    Other,
}

impl Recent {
    pub(super) fn compare(&self, sequence: u64, hash: Hash) -> Seen {
        let behind = self.end.checked_sub(sequence).and_then(|behind| usize::try_from(behind).ok());
        let at = behind.and_then(|behind| self.hashes.len().checked_sub(behind));
        match at.and_then(|at| self.hashes.get(at)) {
            Some(known) if *known == hash => Seen::Same,
            Some(_) => Seen::Other,
            None => Seen::No,
        }
    }

    /// Notes an event that was handed to a sink. Those of the sink that is furthest are kept.
    pub(super) fn note(&mut self, sequence: u64, hash: Hash) {
        if self.hashes.is_empty() || sequence > self.end {
            self.hashes.clear();
            self.end = sequence;
        }
        if sequence < self.end {
            return;
        }
        if self.hashes.len() == WINDOW {
            self.hashes.pop_front();
        }
        self.hashes.push_back(hash);
        self.end += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    fn verdict(check: &Check, chain: &TestChain, at: usize) -> Verdict {
        let view = chain.records()[at].view().unwrap();
        check.judge(view.sequence, view.previous_event_hash)
    }

    #[test]
    fn each_event_is_told_by_its_place_and_its_link() {
        let mut chain = TestChain::new();
        let segment = chain.extend(20);
        let mut fork = chain.fork(9);
        fork.extend(5);
        let mut check = Check::after(Some(Head::new(4, segment.hashes()[4])));
        for at in 5..10 {
            assert_eq!(verdict(&check, &chain, at), Verdict::Next);
            check.advance(segment.hashes()[at]);
        }
        assert_eq!(verdict(&check, &chain, 4), Verdict::Old);
        assert_eq!(verdict(&check, &chain, 5), Verdict::Had);
        assert_eq!(verdict(&check, &fork, 9), Verdict::Had);
        assert_eq!(verdict(&check, &fork, 10), Verdict::Unlinked);
        assert_eq!(verdict(&check, &chain, 11), Verdict::Early);
        assert_eq!(verdict(&check, &chain, 10), Verdict::Next);
        assert_eq!(verdict(&Check::at(6), &chain, 6), Verdict::Next);
        assert_eq!(verdict(&Check::at(0), &chain, 0), Verdict::Next);
    }

    #[test]
    fn what_another_relay_has_brought_is_old() {
        let mut chain = TestChain::new();
        let segment = chain.extend(10);
        let mut check = Check::after(Some(Head::new(4, segment.hashes()[4])));
        assert!(!check.catch_up(Some(Head::new(3, segment.hashes()[3]))));
        assert!(check.catch_up(Some(Head::new(7, segment.hashes()[7]))));
        assert_eq!(verdict(&check, &chain, 6), Verdict::Old);
        assert_eq!(verdict(&check, &chain, 8), Verdict::Next);
    }

    #[test]
    fn a_copy_is_told_from_another_event_within_a_window() {
        let mut chain = TestChain::new();
        let segment = chain.extend(400);
        let fork = chain.fork(299).extend(1);
        let mut recent = Recent::default();
        let compare = |recent: &Recent, at: usize| recent.compare(at as u64, segment.hashes()[at]);
        assert_eq!(compare(&recent, 0), Seen::No);
        for at in 10..300 {
            recent.note(at as u64, segment.hashes()[at]);
            // Another sink is further back, or gets the same.
            recent.note(5, segment.hashes()[5]);
            recent.note(at as u64, segment.hashes()[at]);
        }
        assert_eq!(compare(&recent, 299), Seen::Same);
        assert_eq!(recent.compare(299, fork.hashes()[0]), Seen::Other);
        assert_eq!(compare(&recent, 300 - WINDOW), Seen::Same);
        assert_eq!(compare(&recent, 299 - WINDOW), Seen::No);
        assert_eq!(compare(&recent, 300), Seen::No);
        recent.note(350, segment.hashes()[350]);
        assert_eq!(compare(&recent, 299), Seen::No);
        assert_eq!(compare(&recent, 350), Seen::Same);
    }
}
