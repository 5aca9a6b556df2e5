//! What a verifier keeps while records pass: findings, recent records, open attempts. All bounded.

use std::collections::{HashMap, hash_map::Entry};
use std::hash::{BuildHasherDefault, Hasher};

use uuid::Uuid;

use crate::{chain::ChainRef, content::AbsentReason, hash::Hash, id::EventId};

use super::{Finding, FindingKind, Severity};

/// How many records back a second use of a position or an event id is recognised for certain.
pub(super) const RECENT: usize = 256;
/// How many findings of one chain are kept; more are counted.
pub(super) const MAX_FINDINGS: usize = 1_000;

/// The findings of one chain.
#[derive(Debug, Clone)]
pub(super) struct Findings {
    pub(super) chain: ChainRef,
    list: Vec<Finding>,
    omitted: u64,
    /// The most serious of those that were not kept.
    omitted_worst: Severity,
}

impl Findings {
    pub(super) fn new(chain: ChainRef) -> Self {
        Self { chain, list: Vec::new(), omitted: 0, omitted_worst: Severity::State }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.list.len() < MAX_FINDINGS {
            self.list.push(finding.in_chain(&self.chain));
        } else {
            self.omitted += 1;
            self.omitted_worst = self.omitted_worst.min(finding.severity);
        }
    }

    /// Adds a finding about one position.
    pub(super) fn at(&mut self, kind: FindingKind, at: u64, id: Option<EventId>, detail: String) {
        self.add(Finding::new(kind, detail).at(at, at).of_event(id));
    }

    /// As [`at`](Self::at); the words are chosen only where the finding is kept.
    pub(super) fn at_in_words(
        &mut self,
        kind: FindingKind,
        at: u64,
        id: Option<EventId>,
        detail: impl FnOnce() -> String,
    ) {
        let kept = self.list.len() < MAX_FINDINGS;
        self.at(kind, at, id, if kept { detail() } else { String::new() });
    }

    /// Whether a finding says that one of these positions holds something else than was written.
    pub(super) fn tampered_within(&self, first: u64, last: u64) -> bool {
        self.omitted > 0
            || self.list.iter().any(|finding| {
                let end = finding.last_sequence.or(finding.sequence);
                finding.kind == FindingKind::Tampered
                    && finding.sequence.is_some_and(|from| from <= last)
                    && end.is_some_and(|end| first <= end)
            })
    }

    pub(super) fn has_faults(&self) -> bool {
        self.omitted > 0 || self.list.iter().any(|f| f.severity <= Severity::Unsure)
    }

    #[cfg(feature = "writer")]
    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.omitted = 0;
        self.omitted_worst = Severity::State;
    }

    pub(super) fn into_list(mut self) -> Vec<Finding> {
        if self.omitted > 0 {
            let detail = format!(
                "{} more findings were counted and are not listed; mend the first ones and verify \
                 again",
                self.omitted
            );
            self.list.push(
                Finding::new(FindingKind::Omitted, detail)
                    .in_chain(&self.chain)
                    .with_severity(self.omitted_worst),
            );
        }
        self.list
    }
}

/// A record that passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) id: u128,
    pub(super) sequence: u64,
    /// The first eight bytes of the event hash.
    pub(super) tag: u64,
}

/// The first eight bytes of a hash: enough to tell two records apart that are not made to collide.
pub(super) fn tag(hash: &Hash) -> u64 {
    let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// The last [`RECENT`] records of a chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Recent {
    ring: Vec<Seen>,
    at: usize,
    ids: HashMap<u128, u64, BuildHasherDefault<Fold>>,
}

impl Recent {
    /// Remembers a record; returns the position at which its id was seen before.
    pub(super) fn insert(&mut self, seen: Seen) -> Option<u64> {
        if self.ring.len() < RECENT {
            self.ring.push(seen);
        } else {
            let old = std::mem::replace(&mut self.ring[self.at], seen);
            if self.ids.get(&old.id) == Some(&old.sequence) {
                self.ids.remove(&old.id);
            }
            self.at = (self.at + 1) % RECENT;
        }
        self.ids.insert(seen.id, seen.sequence)
    }

    /// The record that was seen at a position.
    pub(super) fn find(&self, sequence: u64) -> Option<&Seen> {
        self.ring.iter().find(|seen| seen.sequence == sequence)
    }

    pub(super) fn event_id(&self, sequence: u64) -> Option<EventId> {
        self.find(sequence).and_then(|seen| event_id(seen.id))
    }
}

/// The attempts whose outcome has not passed yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    open: HashMap<u128, (u64, &'static str), BuildHasherDefault<Fold>>,
}

impl Attempts {
    pub(super) fn begin(&mut self, id: u128, sequence: u64, what: &'static str) {
        self.open.insert(id, (sequence, what));
    }

    pub(super) fn end(&mut self, id: Option<u128>) {
        if let Some(id) = id {
            self.open.remove(&id);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What is still open, in the order of the chain.
    pub(super) fn into_open(self) -> Vec<(u64, EventId, &'static str)> {
        let mut open: Vec<_> = self
            .open
            .into_iter()
            .filter_map(|(id, (at, what))| event_id(id).map(|id| (at, id, what)))
            .collect();
        open.sort_unstable_by_key(|(at, ..)| *at);
        open
    }
}

/// The reviews that were proposed and whose decision has not passed yet: review id, position, event id.
#[derive(Debug, Clone, Default)]
pub(super) struct Reviews {
    open: HashMap<String, (u64, u128)>,
}

impl Reviews {
    pub(super) fn propose(&mut self, review: String, sequence: u64, id: u128) {
        self.open.entry(review).or_insert((sequence, id));
    }

    pub(super) fn decide(&mut self, review: &str) {
        self.open.remove(review);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// What is still open, in the order of the chain.
    pub(super) fn into_open(self) -> Vec<(String, u64, u128)> {
        let open = self.open.into_iter().map(|(review, (at, id))| (review, at, id));
        let mut open: Vec<_> = open.collect();
        open.sort_unstable_by_key(|(_, at, _)| *at);
        open
    }
}

/// How many events that say why content is gone are remembered, and how many are awaited.
const MAX_EVIDENCE: usize = 1 << 16;

/// A part of content that is gone, by the event that is named as the reason.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) at: u64,
    pub(super) part: String,
    /// More parts that name the same event.
    pub(super) more: u64,
    pub(super) reason: AbsentReason,
}

/// Which events say why content is gone, and which content awaits one.
#[derive(Debug, Clone, Default)]
pub(super) struct Evidence {
    seen: HashMap<u128, AbsentReason, BuildHasherDefault<Fold>>,
    awaited: HashMap<(u128, bool), Gone, BuildHasherDefault<Fold>>,
}

impl Evidence {
    /// An event says that content went for this reason.
    pub(super) fn says(&mut self, id: u128, reason: AbsentReason) {
        if self.seen.len() < MAX_EVIDENCE {
            self.seen.insert(id, reason);
        }
        self.awaited.remove(&(id, reason == AbsentReason::Erased));
    }

    /// A part names an event as the reason; gives the part back where no more can be remembered.
    pub(super) fn names(&mut self, id: u128, gone: Gone) -> Option<Gone> {
        if self.seen.get(&id) == Some(&gone.reason) {
            return None;
        }
        let full = self.awaited.len() >= MAX_EVIDENCE;
        match self.awaited.entry((id, gone.reason == AbsentReason::Erased)) {
            Entry::Occupied(mut first) => first.get_mut().more += 1,
            Entry::Vacant(_) if full => return Some(gone),
            Entry::Vacant(entry) => {
                entry.insert(gone);
            }
        }
        None
    }

    /// Takes in what another copy of the chain knows and awaits.
    #[cfg(feature = "writer")]
    pub(super) fn join(&mut self, other: &Self) {
        for (id, reason) in &other.seen {
            self.says(*id, *reason);
        }
        for (key, gone) in &other.awaited {
            if self.seen.get(&key.0) != Some(&gone.reason) {
                self.awaited.entry(*key).or_insert_with(|| gone.clone());
            }
        }
    }

    /// What still awaits its event, in the order of the chain.
    pub(super) fn into_awaited(self) -> Vec<(u128, Gone)> {
        let mut awaited: Vec<_> =
            self.awaited.into_iter().map(|((id, _), gone)| (id, gone)).collect();
        awaited.sort_unstable_by_key(|(id, gone)| (gone.at, *id));
        awaited
    }
}

/// The 128 bits of an event id in text.
pub(super) fn parse_id(text: &str) -> Option<u128> {
    // `try_parse` takes other spellings too, which have other lengths.
    if text.len() != 36 {
        return None;
    }
    Uuid::try_parse(text).ok().map(|uuid| uuid.as_u128())
}

pub(super) fn event_id(id: u128) -> Option<EventId> {
    EventId::from_bytes(id.to_be_bytes()).ok()
}

/// Event ids end in random bits already. Who makes them collide slows down a table of at most
/// [`RECENT`] entries, or of their own open attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn write_u128(&mut self, value: u128) {
        let bytes = value.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        self.write(low);
        self.write(high);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
