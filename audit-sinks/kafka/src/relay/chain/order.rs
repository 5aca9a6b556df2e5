//! Where an event belongs that was read: each sink is asked by itself.

use std::time::{Duration, Instant};

use agent_audit_core::sink::Head;

use super::{Chain, Effects, Findings, Item};
use crate::relay::{
    check::{Check, Seen, Verdict},
    lane::Lane,
    status::ProblemKind,
};

const CONFLICT: &str = "another event was read at its position, and stays";

/// How events are judged at present.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct Rules {
    pub(in crate::relay) now: Instant,
    /// Whether there is a quarantine for what belongs nowhere.
    pub(in crate::relay) quarantine: bool,
}

impl Chain {
    /// Takes an event that was read.
    pub(in crate::relay) fn arrive(&mut self, item: Item, rules: Rules) -> Effects {
        // Before any sink is handed it: then it would have been seen.
        let seen = self.recent.compare(item.sequence, item.hash);
        let ticket = self.hold(item, seen);
        let mut findings = Findings::default();
        for lane in 0..self.lanes.len() {
            if self.judge(lane, ticket, seen, rules, &mut findings) {
                self.after_gap(lane, rules, &mut findings);
            }
        }
        self.conclude(findings)
    }

    /// Puts an event where it belongs at a sink; true where the chain goes on there by that.
    fn judge(
        &mut self,
        lane: usize,
        ticket: u64,
        seen: Seen,
        rules: Rules,
        findings: &mut Findings,
    ) -> bool {
        let Some(held) = self.held.get(&ticket) else { return false };
        let (item, way) = (&held.item, &mut self.lanes[lane]);
        if let Some(why) = &way.halted {
            match seen {
                Seen::Same => findings.copies.push(ticket),
                Seen::Other => findings.reject(ticket, lane, ProblemKind::Conflict, CONFLICT),
                Seen::No => findings.reject(ticket, lane, ProblemKind::Refused, why),
            }
            return false;
        }
        let Some(check) = &mut way.contact else {
            way.inbox.push_back(ticket);
            return false;
        };
        match (check.judge(item.sequence, item.previous), seen) {
            (Verdict::Old, _) | (Verdict::Had, Seen::No) => way.queue.push_back((ticket, true)),
            (_, Seen::Other) => {
                findings.reject(ticket, lane, ProblemKind::Conflict, CONFLICT);
            }
            (Verdict::Had, Seen::Same) => findings.copies.push(ticket),
            (Verdict::Next, _) => {
                check.advance(item.hash);
                way.queue.push_back((ticket, false));
                self.recent.note(item.sequence, item.hash);
                return true;
            }
            // By now another sink may have taken this one: a copy is what was one when it came, and
            // the first has been refused here before.
            (Verdict::Unlinked, _) if held.seen == Seen::Same => findings.copies.push(ticket),
            (Verdict::Unlinked, _) => {
                let why = "it is not linked to the event before it";
                findings.reject(ticket, lane, ProblemKind::Unlinked, why);
            }
            (Verdict::Early, _) => self.early(lane, ticket, rules, findings),
        }
        false
    }

    /// Holds an event until the one before it is there.
    fn early(&mut self, lane: usize, ticket: u64, rules: Rules, findings: &mut Findings) {
        let Some(held) = self.held.get(&ticket) else { return };
        let way = &self.lanes[lane];
        let known = way.early.get(&held.item.sequence).and_then(|known| self.held.get(known));
        match (known, &way.gave_up) {
            (Some(known), _) if known.item.hash == held.item.hash => findings.copies.push(ticket),
            (Some(_), _) => {
                let why = "another event was read at its position, and events before both miss";
                findings.reject(ticket, lane, ProblemKind::Conflict, why);
            }
            // Without a quarantine what is missing is waited for as long as there is room, but not
            // where a sink is known to refuse it.
            (None, Some((kind, why))) if rules.quarantine || *kind != ProblemKind::Gap => {
                match held.seen {
                    Seen::Same => findings.copies.push(ticket),
                    _ => findings.reject(ticket, lane, *kind, why),
                }
            }
            (None, _) => self.wait(lane, ticket, rules.now),
        }
    }

    /// A chain goes on at a sink: takes what waited for the event that has come.
    fn after_gap(&mut self, lane: usize, rules: Rules, findings: &mut Findings) {
        loop {
            let way = &mut self.lanes[lane];
            let next = way.next();
            let Some(first) = way.early.first_entry().filter(|first| *first.key() <= next) else {
                break;
            };
            let ticket = first.remove();
            self.waits_no_more(ticket);
            let Some(held) = self.held.get(&ticket) else { continue };
            let seen = self.recent.compare(held.item.sequence, held.item.hash);
            self.judge(lane, ticket, seen, rules, findings);
        }
        // What still waits does so for another event than before.
        let way = &mut self.lanes[lane];
        way.gap_since = (!way.early.is_empty()).then_some(rules.now);
        way.gap_reported = false;
        way.gave_up = None;
    }

    /// Takes the answer of a sink: what it holds of the chain, and why it was halted there once.
    pub(in crate::relay) fn meet(
        &mut self,
        lane: usize,
        head: Option<Head>,
        halted: Option<String>,
        rules: Rules,
    ) -> Effects {
        let mut findings = Findings::default();
        match &mut self.lanes[lane].contact {
            None => {
                // What it refused may come once more, when somebody has mended the sink.
                let refused = |why| (ProblemKind::Refused, why);
                let way = &mut self.lanes[lane];
                way.gave_up = halted.map(refused);
                way.contact = Some(Check::after(head));
                for ticket in std::mem::take(&mut way.inbox) {
                    let Some(held) = self.held.get(&ticket) else { continue };
                    let seen = self.recent.compare(held.item.sequence, held.item.hash);
                    if self.judge(lane, ticket, seen, rules, &mut findings) {
                        self.after_gap(lane, rules, &mut findings);
                    }
                }
            }
            Some(check) => {
                if check.catch_up(head) {
                    self.after_gap(lane, rules, &mut findings);
                }
            }
        }
        self.conclude(findings)
    }

    /// The sinks where something has waited so long, or longer.
    pub(in crate::relay) fn waiting(&self, now: Instant, least: Duration) -> Vec<usize> {
        let late = |way: &Lane| {
            let waited = way.gap_since.map(|since| now.saturating_duration_since(since));
            !way.early.is_empty() && waited.is_some_and(|waited| waited >= least)
        };
        let lanes = self.lanes.iter().enumerate();
        lanes.filter(|(_, way)| late(way)).map(|(lane, _)| lane).collect()
    }

    /// What is missing cannot have come so far: the time to wait begins anew.
    pub(in crate::relay) fn wait_anew(&mut self, now: Instant) {
        for way in &mut self.lanes {
            if way.gap_since.is_some() {
                way.gap_since = Some(now);
            }
        }
    }

    /// Waits no longer for what is missing at these sinks.
    pub(in crate::relay) fn give_up(&mut self, lanes: &[usize]) -> Effects {
        let mut findings = Findings::default();
        for lane in lanes {
            let way = &mut self.lanes[*lane];
            let why = format!("event {} before it is missing", way.next());
            way.gave_up = Some((ProblemKind::Gap, why.clone()));
            way.gap_since = None;
            for ticket in std::mem::take(&mut way.early).into_values() {
                self.waits_no_more(ticket);
                findings.reject(ticket, *lane, ProblemKind::Gap, why.clone());
            }
        }
        self.conclude(findings)
    }
}
