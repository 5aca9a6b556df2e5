//! What a sink gets of a chain next, and what becomes of it.

use agent_audit_core::{hash::Hash, sink::Segment};

use super::{Chain, Effects, Findings};
use crate::relay::{state::Load, status::ProblemKind};

impl Chain {
    /// The next run of events for a sink, with its size; none where it has no room, and the reason
    /// where the events do not form a run. The first of a batch always has room.
    pub(in crate::relay) fn load(
        &self,
        id: u64,
        sink: usize,
        (events, bytes): (usize, usize),
        first: bool,
    ) -> Option<Result<(Load, usize), String>> {
        let lane = &self.lanes[sink];
        let ticket = lane.queue.front()?.0;
        let mut size = 0;
        let mut records = Vec::new();
        let mut old = false;
        let mut last: Option<(u64, Hash)> = None;
        for (ticket, is_old) in &lane.queue {
            let Some(held) = self.held.get(ticket) else { break };
            let item = &held.item;
            let linked = last.is_none_or(|(sequence, hash)| {
                item.sequence == sequence + 1 && item.previous == hash && *is_old == old
            });
            let fits = records.len() < events && size + item.bytes <= bytes;
            let enough = match lane.again {
                // It fitted into a batch before.
                Some(count) => records.len() == count,
                None => !(fits || first && records.is_empty()),
            };
            if !linked || enough {
                break;
            }
            old = *is_old;
            size += item.bytes;
            last = Some((item.sequence, item.hash));
            records.push(item.record.clone());
        }
        if records.is_empty() || !first && (records.len() > events || size > bytes) {
            return None;
        }
        Some(match Segment::new(self.chain.clone(), records) {
            Ok(segment) => Ok((Load { chain: id, segment, ticket, old, aside: false }, size)),
            Err(error) => Err(error.to_string()),
        })
    }

    /// A sink has stored the first of what it is to get.
    pub(in crate::relay) fn stored(&mut self, lane: usize, events: usize) -> Effects {
        let mut effects = Effects::default();
        for _ in 0..events {
            let Some((ticket, _)) = self.lanes[lane].queue.pop_front() else { break };
            self.release(ticket, &mut effects);
        }
        effects
    }

    /// A sink refuses the first of what it is to get, which says nothing about the rest.
    pub(in crate::relay) fn refused(&mut self, lane: usize, events: usize, why: &str) -> Effects {
        let mut findings = Findings::default();
        for _ in 0..events {
            let Some((ticket, _)) = self.lanes[lane].queue.pop_front() else { break };
            findings.reject(ticket, lane, ProblemKind::Refused, why);
        }
        self.conclude(findings)
    }

    /// A sink gets no more of the chain.
    pub(in crate::relay) fn halt(&mut self, lane: usize, why: &str) -> Effects {
        let mut findings = Findings::default();
        let way = &mut self.lanes[lane];
        way.halted = Some(why.to_owned());
        way.gap_since = None;
        let queue = std::mem::take(&mut way.queue).into_iter().map(|(ticket, _)| ticket);
        let early: Vec<u64> = std::mem::take(&mut way.early).into_values().collect();
        let tickets: Vec<u64> = queue.chain(std::mem::take(&mut way.inbox)).collect();
        for ticket in &early {
            self.waits_no_more(*ticket);
        }
        for ticket in tickets.into_iter().chain(early) {
            findings.reject(ticket, lane, ProblemKind::Refused, why);
        }
        self.conclude(findings)
    }
}
