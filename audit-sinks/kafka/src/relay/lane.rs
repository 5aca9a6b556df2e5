//! How far one sink is with one chain.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{check::Check, state::Load, status::ProblemKind};

/// How far a sink is with a chain. Each has its own way: what one refuses, lacks or does not take
/// now is nothing to the others.
///
/// Events are named by their tickets in the [chain](super::chain::Chain).
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Where the chain goes on there; not known before the sink has answered.
    pub(super) contact: Option<Check>,
    /// What came while it was asked.
    pub(super) inbox: VecDeque<u64>,
    /// What waits for an event before it, by position.
    pub(super) early: BTreeMap<u64, u64>,
    pub(super) gap_since: Option<Instant>,
    pub(super) gap_reported: bool,
    /// Nobody waits any more for what is missing: what comes behind it belongs nowhere, until it
    /// comes all the same.
    pub(super) gave_up: Option<(ProblemKind, String)>,
    /// What it is to get, and whether it is old.
    pub(super) queue: VecDeque<(u64, bool)>,
    /// It is being sent, or stands in line to be.
    pub(super) busy: bool,
    pub(super) failures: u32,
    /// How many events come together: it failed with them, or is asked about them alone.
    pub(super) again: Option<usize>,
    /// The sink said that something of a run is refused, and not reliably from where on.
    pub(super) doubt: Option<Doubt>,
    /// It may be at fault for what befell a batch, and is sent by itself until it has succeeded.
    pub(super) apart: bool,
    /// Why the sink gets no more of it.
    pub(super) halted: Option<String>,
    /// The sink was asked for the head, or will be.
    pub(super) asked: bool,
    pub(super) head_failures: u32,
}

/// What is refused unless the sink takes what is before the event that it named.
#[derive(Debug)]
pub(super) struct Doubt {
    /// From the first of the run to the event that the sink named.
    pub(super) events: usize,
    pub(super) why: String,
}

impl Lane {
    /// Nobody knows yet where the chain goes on.
    pub(super) fn is_unknown(&self) -> bool {
        self.contact.is_none() && self.halted.is_none()
    }

    /// The position that comes next.
    pub(super) fn next(&self) -> u64 {
        self.contact.as_ref().map_or(0, Check::next)
    }

    /// What was on its way has been settled.
    pub(super) fn rest(&mut self) {
        self.busy = false;
        self.again = None;
        self.doubt = None;
    }

    /// What was on its way comes once more: as it was, where it may have been stored. What is old is
    /// only compared, and may come with more.
    pub(super) fn comes_again(&mut self, load: &Load) {
        self.busy = true;
        if !load.old {
            self.again = Some(load.segment.len());
        }
    }

    /// The sink gets nothing more for now, through a fault of the chain.
    pub(super) fn is_stopped(&self) -> bool {
        self.halted.is_some() || self.gave_up.is_some()
    }
}
