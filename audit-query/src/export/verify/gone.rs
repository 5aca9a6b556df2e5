//! Content that is gone: does an event that was recorded say why?

use std::collections::{BTreeMap, HashMap};

use agent_audit_core::{
    chain::ChainRef,
    id::EventId,
    verify::{Finding, FindingKind},
};

use super::{files::shown, report::Draft};
use crate::export::parts::Reason;

/// How many events that say why content is gone are remembered, and how many are awaited.
const MAX: usize = 1 << 16;

/// What is said to explain that content is gone.
#[derive(Default)]
pub(super) struct Gone {
    /// The events that say so, and whether a checkpoint covers them.
    said: HashMap<(ChainRef, EventId), (Reason, bool)>,
    awaited: BTreeMap<(ChainRef, EventId, Reason), Awaited>,
}

/// Content that names an event as the reason.
struct Awaited {
    at: u64,
    event: Option<EventId>,
    part: String,
    place: String,
    /// More parts that name the same one.
    more: u64,
    /// A checkpoint covers the event that lacks the content.
    covered: bool,
}

/// A part that is gone.
pub(super) struct Lack<'a> {
    pub(super) chain: &'a ChainRef,
    pub(super) at: u64,
    pub(super) event: Option<EventId>,
    pub(super) part: &'a str,
    pub(super) place: &'a dyn std::fmt::Display,
    pub(super) covered: bool,
}

impl Gone {
    /// An event says that content is gone.
    pub(super) fn says(&mut self, chain: &ChainRef, id: EventId, reason: Reason, covered: bool) {
        if self.said.len() < MAX {
            self.said.insert((chain.clone(), id), (reason, covered));
        }
    }

    /// A part names an event as the reason.
    pub(super) fn names(
        &mut self,
        lack: &Lack<'_>,
        evidence: EventId,
        reason: Reason,
        draft: &mut Draft,
    ) {
        let key = (lack.chain.clone(), evidence, reason);
        let full = self.awaited.len() >= MAX;
        if let Some(known) = self.awaited.get_mut(&key) {
            known.more += 1;
            known.covered |= lack.covered;
        } else if full {
            lack.unexplained("more events than can be looked for are named as the reason", draft);
        } else {
            self.awaited.insert(
                key,
                Awaited {
                    at: lack.at,
                    event: lack.event,
                    part: lack.part.to_owned(),
                    place: lack.place.to_string(),
                    more: 0,
                    covered: lack.covered,
                },
            );
        }
    }

    /// What no event explains.
    pub(super) fn finish(self, draft: &mut Draft) {
        for ((chain, evidence, reason), lack) in &self.awaited {
            let what = match self.said.get(&(chain.clone(), *evidence)) {
                Some((said, covered)) if said == reason && (*covered || !lack.covered) => continue,
                Some((said, _)) if said == reason => {
                    "is not covered by a checkpoint, and the record is".to_owned()
                }
                _ => format!("is not a {} of this chain in the export", reason.event_type()),
            };
            let more = match lack.more {
                0 => String::new(),
                more => format!(" ({more} more parts name the same one)"),
            };
            let why = format!("the event that it names for it, {evidence}, {what}{more}");
            let place: &dyn std::fmt::Display = &lack.place;
            let (at, event, part, covered) = (lack.at, lack.event, &*lack.part, lack.covered);
            Lack { chain, at, event, part, place, covered }.unexplained(&why, draft);
        }
    }
}

impl Lack<'_> {
    /// Says that nothing explains it.
    pub(super) fn unexplained(&self, why: &str, draft: &mut Draft) {
        let detail = format!("lacks content: part {:?} is gone, and {why}", shown(self.part));
        let finding = Finding::new(FindingKind::ContentMissing, detail).in_chain(self.chain);
        let finding = finding.at(self.at, self.at).of_event(self.event);
        draft.add(finding.in_place(self.place.to_string()));
    }
}
