//! What the relay holds of one chain.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use agent_audit_core::{
    hash::Hash,
    record::Record,
    sink::{ChainRef, Segment},
};

use super::{check::Check, state::Load};

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
    pub(super) contact: Contact,
    /// What came while the sinks were asked.
    pub(super) inbox: VecDeque<Item>,
    /// What waits for an event before it.
    pub(super) early: BTreeMap<u64, Item>,
    pub(super) gap_since: Option<Instant>,
    pub(super) gap_reported: bool,
    /// Nobody waits for the missing event any more.
    pub(super) gave_up: bool,
    /// What the sinks are to get, and whether it is old. The first has the ticket `base`.
    pub(super) queue: VecDeque<(Item, bool)>,
    pub(super) base: u64,
    /// How far each sink is.
    pub(super) lanes: Vec<Lane>,
    /// When it was last heard of, in messages.
    pub(super) heard: u64,
}

/// Whether it is known where the chain goes on.
#[derive(Debug)]
pub(super) enum Contact {
    Unknown,
    Known(Check),
}

/// How far a sink is with a chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// The ticket that is next.
    pub(super) cursor: u64,
    /// It is being sent, or stands in line to be.
    pub(super) busy: bool,
    pub(super) failures: u32,
    /// How many events it failed with: they come again together.
    pub(super) again: Option<usize>,
    /// Why the sink gets no more of it.
    pub(super) halted: Option<String>,
}

impl Chain {
    pub(super) fn new(chain: ChainRef, place: (String, i32), sinks: usize) -> Self {
        Self {
            chain,
            place,
            contact: Contact::Unknown,
            inbox: VecDeque::new(),
            early: BTreeMap::new(),
            gap_since: None,
            gap_reported: false,
            gave_up: false,
            queue: VecDeque::new(),
            base: 0,
            lanes: vec![Lane::default(); sinks],
            heard: 0,
        }
    }

    /// The position that comes next.
    pub(super) fn next(&self) -> u64 {
        match &self.contact {
            Contact::Unknown => 0,
            Contact::Known(check) => check.next(),
        }
    }

    /// The ticket behind the last event.
    pub(super) fn end(&self) -> u64 {
        self.base + self.queue.len() as u64
    }

    pub(super) fn at(&self, ticket: u64) -> Option<&(Item, bool)> {
        let at = usize::try_from(ticket.checked_sub(self.base)?).ok()?;
        self.queue.get(at)
    }

    /// Nothing of it is held or on its way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.queue.is_empty()
            && self.inbox.is_empty()
            && self.early.is_empty()
            && !matches!(self.contact, Contact::Unknown)
    }

    /// The next run of events for a sink, with its size; none where it has no room, and the reason
    /// where the events do not form a run. The first of a batch always has room.
    pub(super) fn load(
        &self,
        id: u64,
        sink: usize,
        (events, bytes): (usize, usize),
        first: bool,
    ) -> Option<Result<(Load, usize), String>> {
        let ticket = self.lanes[sink].cursor;
        let again = self.lanes[sink].again;
        let mut size = 0;
        let mut records = Vec::new();
        let mut old = false;
        let mut last: Option<(u64, Hash)> = None;
        for at in ticket..self.end() {
            let Some((item, is_old)) = self.at(at) else { break };
            let linked = last.is_none_or(|(sequence, hash)| {
                item.sequence == sequence + 1 && item.previous == hash && *is_old == old
            });
            let fits = records.len() < events && size + item.bytes <= bytes;
            let enough = match again {
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
        if !first && (records.len() > events || size > bytes) {
            return None;
        }
        if records.is_empty() {
            return None;
        }
        Some(match Segment::new(self.chain.clone(), records) {
            Ok(segment) => Ok((Load { chain: id, segment, ticket, old }, size)),
            Err(error) => Err(error.to_string()),
        })
    }
}
