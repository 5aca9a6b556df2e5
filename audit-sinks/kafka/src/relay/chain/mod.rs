//! What the relay holds of one chain.

mod order;
mod send;

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use agent_audit_core::{hash::Hash, record::Record, sink::ChainRef};

use super::{
    check::{Check, Recent, Seen},
    lane::Lane,
    status::ProblemKind,
};

pub(super) use order::Rules;

/// An event and where it was read.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) sequence: u64,
    pub(super) previous: Hash,
    pub(super) hash: Hash,
    pub(super) record: Record,
    pub(super) offset: i64,
    pub(super) bytes: usize,
}

/// A chain in one partition.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) chain: ChainRef,
    pub(super) place: (String, i32),
    /// What was read and handed on lately.
    recent: Recent,
    /// What is held, by ticket.
    held: HashMap<u64, Held>,
    next_ticket: u64,
    /// How far each sink is.
    pub(super) lanes: Vec<Lane>,
    /// The bytes of what waits at some sink for an event that is missing.
    pub(super) waiting_bytes: usize,
    /// When it was last heard of, in messages.
    pub(super) heard: u64,
}

/// An event, until every sink has let go of it.
#[derive(Debug)]
struct Held {
    item: Item,
    /// Whether one at its position was read before it came.
    seen: Seen,
    /// The sinks that have not let go of it.
    lanes: usize,
    /// Those where it waits for an event before it.
    waiting: usize,
    /// Those where it was a copy.
    copies: usize,
    /// One did not take it.
    refused: bool,
}

/// What happened to a chain, for the partition and the sinks to follow.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Events that belong nowhere. They come first: their offsets are held by that.
    pub(super) rejected: Vec<Rejection>,
    /// Events that nobody holds any more.
    pub(super) done: Vec<Done>,
}

/// An event that belongs nowhere, or not in one sink.
#[derive(Debug)]
pub(super) struct Rejection {
    pub(super) kind: ProblemKind,
    pub(super) offset: i64,
    pub(super) sequence: u64,
    pub(super) record: Record,
    pub(super) bytes: usize,
    /// The sink that does not get it; none where no sink does.
    pub(super) sink: Option<usize>,
    pub(super) why: String,
}

/// An event that nobody holds any more.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) offset: i64,
    pub(super) bytes: usize,
    pub(super) end: End,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Relayed,
    Copy,
    Refused,
}

/// What was found out about events, sink by sink, before it is brought together.
#[derive(Debug, Default)]
struct Findings {
    rejected: BTreeMap<u64, Vec<(usize, ProblemKind, String)>>,
    copies: Vec<u64>,
}

impl Findings {
    fn reject(&mut self, ticket: u64, lane: usize, kind: ProblemKind, why: impl Into<String>) {
        self.rejected.entry(ticket).or_default().push((lane, kind, why.into()));
    }
}

impl Chain {
    /// A chain of which this position is read first. Sinks that can be asked what they have of it
    /// are; to the others it goes on with what is read.
    pub(super) fn new(
        chain: ChainRef,
        place: (String, i32),
        readable: &[bool],
        sequence: u64,
    ) -> Self {
        let lane = |readable: &bool| Lane {
            contact: (!readable).then(|| Check::at(sequence)),
            ..Lane::default()
        };
        let lanes = readable.iter().map(lane).collect();
        Self {
            chain,
            place,
            recent: Recent::default(),
            held: HashMap::new(),
            next_ticket: 0,
            lanes,
            waiting_bytes: 0,
            heard: 0,
        }
    }

    /// Nothing of it is held or on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.held.is_empty() && !self.lanes.iter().any(Lane::is_unknown)
    }

    /// Something of it is on its way to a sink, or will be when the sink has answered.
    pub(super) fn is_moving(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty() || !lane.inbox.is_empty())
    }

    /// Something of it waits for an event that is missing.
    pub(super) fn is_gapped(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.early.is_empty())
    }

    /// Each sink lets go of an event by itself.
    fn hold(&mut self, item: Item, seen: Seen) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let lanes = self.lanes.len();
        let held = Held { item, seen, lanes, waiting: 0, copies: 0, refused: false };
        self.held.insert(ticket, held);
        ticket
    }

    fn release(&mut self, ticket: u64, effects: &mut Effects) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        held.lanes = held.lanes.saturating_sub(1);
        if held.lanes > 0 {
            return;
        }
        let end = match held.copies == self.lanes.len() {
            true => End::Copy,
            false if held.refused => End::Refused,
            false => End::Relayed,
        };
        effects.done.push(Done { offset: held.item.offset, bytes: held.item.bytes, end });
        self.held.remove(&ticket);
    }

    fn wait(&mut self, lane: usize, ticket: u64, now: Instant) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        held.waiting += 1;
        if held.waiting == 1 {
            self.waiting_bytes += held.item.bytes;
        }
        self.lanes[lane].early.insert(held.item.sequence, ticket);
        self.lanes[lane].gap_since.get_or_insert(now);
    }

    fn waits_no_more(&mut self, ticket: u64) {
        let Some(held) = self.held.get_mut(&ticket) else { return };
        held.waiting = held.waiting.saturating_sub(1);
        if held.waiting == 0 {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(held.item.bytes);
        }
    }

    /// Brings together what was found out. What all sinks say of an event is said once.
    fn conclude(&mut self, findings: Findings) -> Effects {
        let mut effects = Effects::default();
        for (ticket, reasons) in findings.rejected {
            let Some(held) = self.held.get_mut(&ticket) else { continue };
            held.refused = true;
            let kind = reasons.first().map(|(_, kind, _)| *kind);
            let of_one = kind == Some(ProblemKind::Refused);
            let same = reasons.iter().all(|(_, other, _)| Some(*other) == kind);
            let everywhere = !of_one && same && reasons.len() == self.lanes.len();
            let told = if everywhere { 1 } else { reasons.len() };
            let lets_go = reasons.len();
            for (lane, kind, why) in reasons.into_iter().take(told) {
                effects.rejected.push(Rejection {
                    kind,
                    offset: held.item.offset,
                    sequence: held.item.sequence,
                    record: held.item.record.clone(),
                    bytes: held.item.bytes,
                    sink: (!everywhere).then_some(lane),
                    why,
                });
            }
            for _ in 0..lets_go {
                self.release(ticket, &mut effects);
            }
        }
        for ticket in findings.copies {
            if let Some(held) = self.held.get_mut(&ticket) {
                held.copies += 1;
            }
            self.release(ticket, &mut effects);
        }
        effects
    }
}
