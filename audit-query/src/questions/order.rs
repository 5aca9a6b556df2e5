//! Causes before effects.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use agent_audit_core::id::EventId;

use crate::{Cursor, Found};

/// Puts events in causal order: an event comes after those of its chain before it and after its
/// causes; else by time, chain and position. Where somebody has forged a circle, it is broken at the
/// earliest of its events.
pub(super) fn causal(
    mut events: Vec<Found>,
    causes: impl Fn(&Found) -> Vec<EventId>,
) -> Vec<Found> {
    events.sort_by(|a, b| a.place().cmp(b.place()));
    let at: HashMap<EventId, usize> =
        events.iter().enumerate().map(|(at, found)| (found.event_id(), at)).collect();
    let mut effects: Vec<Vec<usize>> = vec![Vec::new(); events.len()];
    let mut awaited = vec![0usize; events.len()];
    let mut edge = |from: usize, to: usize| {
        if from != to {
            effects[from].push(to);
            awaited[to] += 1;
        }
    };
    let mut by_chain: Vec<usize> = (0..events.len()).collect();
    by_chain.sort_by_key(|&at| (events[at].chain_id().to_owned(), events[at].sequence()));
    for pair in by_chain.windows(2) {
        if events[pair[0]].chain_id() == events[pair[1]].chain_id() {
            edge(pair[0], pair[1]);
        }
    }
    for (to, found) in events.iter().enumerate() {
        for from in causes(found).iter().filter_map(|cause| at.get(cause)) {
            edge(*from, to);
        }
    }
    let mut order = Vec::with_capacity(events.len());
    let mut placed = vec![false; events.len()];
    let mut ready: BinaryHeap<Reverse<(Cursor, usize)>> = BinaryHeap::new();
    let entry = |at: usize| Reverse((events[at].place().clone(), at));
    ready.extend((0..events.len()).filter(|&at| awaited[at] == 0).map(entry));
    let mut rest = 0..events.len();
    loop {
        while let Some(Reverse((_, at))) = ready.pop() {
            if std::mem::replace(&mut placed[at], true) {
                continue;
            }
            order.push(at);
            for &to in &effects[at] {
                awaited[to] = awaited[to].saturating_sub(1);
                if awaited[to] == 0 && !placed[to] {
                    ready.push(entry(to));
                }
            }
        }
        match rest.find(|&at| !placed[at]) {
            Some(at) => ready.push(entry(at)),
            None => break,
        }
    }
    let mut events: Vec<Option<Found>> = events.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| events[at].take()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{
        event::{Event, session::SessionStarted},
        record::Record,
    };

    use super::*;

    fn event(chain: &str, sequence: u64, second: u64, parent: Option<EventId>) -> Found {
        let mut event = Event::example(SessionStarted::new());
        event.chain_id = chain.parse().unwrap();
        event.sequence = sequence;
        event.timestamp_utc =
            agent_audit_core::timestamp::Timestamp::from_nanos(second * 1_000_000_000);
        event.event_id = EventId::new();
        event.parent_event_id = parent;
        Found::new(Record::new(event.canonical_bytes().unwrap(), Vec::new())).unwrap()
    }

    fn ids(events: &[Found]) -> Vec<EventId> {
        events.iter().map(Found::event_id).collect()
    }

    fn ordered(events: Vec<Found>) -> Vec<EventId> {
        ids(&causal(events, |found| found.parent().into_iter().collect()))
    }

    #[test]
    fn a_cause_comes_first_although_its_clock_is_ahead() {
        let cause = event("a", 0, 100, None);
        let effect = event("b", 0, 50, Some(cause.event_id()));
        let expected = ids(&[cause.clone(), effect.clone()]);
        assert_eq!(ordered(vec![effect, cause]), expected);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_turn_a_chain_round() {
        let (first, second) = (event("a", 0, 100, None), event("a", 1, 50, None));
        let expected = ids(&[first.clone(), second.clone()]);
        assert_eq!(ordered(vec![second, first]), expected);
    }

    #[test]
    fn a_forged_circle_loses_no_event() {
        let mut one = event("a", 0, 1, None);
        let two = event("b", 0, 2, Some(one.event_id()));
        let mut forged = one.event().unwrap();
        forged.parent_event_id = Some(two.event_id());
        one = Found::new(Record::new(forged.canonical_bytes().unwrap(), Vec::new())).unwrap();
        let all = causal(vec![two, one], |found| found.parent().into_iter().collect());
        assert_eq!(all.len(), 2);
    }
}
