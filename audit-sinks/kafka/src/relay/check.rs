//! Whether an event follows what was read of its chain before.

use std::collections::VecDeque;

use agent_audit_core::{hash::Hash, sink::Head};

/// How many positions behind the last one a copy is told from another event by the relay itself.
/// An older one is put to the sinks, which compare it with what they hold.
const WINDOW: usize = 256;

/// What is known of a chain's end.
#[derive(Debug)]
pub(super) struct Check {
    next: u64,
    /// The hash before `next`, where it is known.
    last: Option<Hash>,
    /// The hashes of the positions right before `next`.
    recent: VecDeque<Hash>,
}

/// What an event is to its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one.
    Next,
    /// The same as one that was read.
    Copy,
    /// One of long ago.
    Old,
    /// Events between it and the last one are missing.
    Early,
    /// Another event than the one that was read at its position.
    Conflict,
    /// At the next position, and not linked to the last event.
    Unlinked,
}

impl Check {
    /// A chain of which sinks hold so much, all of them together.
    pub(super) fn after(head: Option<Head>) -> Self {
        let (next, last) = match head {
            Some(head) => (head.sequence.saturating_add(1), head.event_hash),
            None => (0, Hash::ZERO),
        };
        Self { next, last: Some(last), recent: VecDeque::new() }
    }

    /// A chain of which nothing is known but its first event here.
    pub(super) fn at(sequence: u64) -> Self {
        let last = (sequence == 0).then_some(Hash::ZERO);
        Self { next: sequence, last, recent: VecDeque::new() }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn judge(&self, sequence: u64, previous: Hash, hash: Hash) -> Verdict {
        if sequence > self.next {
            return Verdict::Early;
        }
        if sequence == self.next {
            let linked = self.last.is_none_or(|last| last == previous);
            return if linked { Verdict::Next } else { Verdict::Unlinked };
        }
        let behind = usize::try_from(self.next - sequence).unwrap_or(usize::MAX);
        match self.recent.len().checked_sub(behind).and_then(|at| self.recent.get(at)) {
            Some(known) if *known == hash => Verdict::Copy,
            Some(_) => Verdict::Conflict,
            None => Verdict::Old,
        }
    }

    /// Takes the next event.
    pub(super) fn advance(&mut self, hash: Hash) {
        self.next += 1;
        self.last = Some(hash);
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(hash);
    }

    /// Takes it that the sinks hold more than came by here: another relay has brought it.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    fn verdict(check: &Check, chain: &TestChain, at: usize) -> Verdict {
        let record = &chain.records()[at];
        let view = record.view().unwrap();
        check.judge(view.sequence, view.previous_event_hash, record.event_hash())
    }

    #[test]
    fn each_event_is_told_by_its_place_and_its_link() {
        let mut chain = TestChain::new();
        chain.extend(400);
        let mut fork = chain.fork(299);
        fork.extend(101);
        let mut check = Check::after(None);
        for at in 0..300 {
            assert_eq!(verdict(&check, &chain, at), Verdict::Next);
            check.advance(chain.records()[at].event_hash());
        }
        assert_eq!(verdict(&check, &chain, 299), Verdict::Copy);
        assert_eq!(verdict(&check, &chain, 300 - WINDOW), Verdict::Copy);
        assert_eq!(verdict(&check, &chain, 299 - WINDOW), Verdict::Old);
        assert_eq!(verdict(&check, &fork, 299), Verdict::Conflict);
        assert_eq!(verdict(&check, &fork, 300), Verdict::Unlinked);
        assert_eq!(verdict(&check, &chain, 301), Verdict::Early);
        assert_eq!(verdict(&check, &chain, 300), Verdict::Next);
    }

    #[test]
    fn a_head_is_where_a_chain_goes_on() {
        let mut chain = TestChain::new();
        let segment = chain.extend(10);
        let mut check = Check::after(Some(Head::new(4, segment.hashes()[4])));
        assert_eq!(verdict(&check, &chain, 5), Verdict::Next);
        assert_eq!(verdict(&check, &chain, 4), Verdict::Old);
        assert_eq!(verdict(&check, &chain, 6), Verdict::Early);
        assert!(!check.catch_up(Some(Head::new(3, segment.hashes()[3]))));
        assert!(check.catch_up(Some(Head::new(7, segment.hashes()[7]))));
        assert_eq!(verdict(&check, &chain, 8), Verdict::Next);
        assert_eq!(verdict(&Check::at(6), &chain, 6), Verdict::Next);
        assert_eq!(verdict(&Check::at(0), &chain, 0), Verdict::Next);
    }
}
