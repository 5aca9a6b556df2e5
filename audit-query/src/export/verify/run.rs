//! One contiguous run of events: do they follow each other, and does their proof lead to the root?
//!
//! A broken link between two events alone does not say which of them was changed. The next link
//! tells: where the event after them keeps the hash of the second as it stands, the first was changed,
//! and else the second. What the event behind a changed one keeps of it is what had been written; it
//! takes its place under the root, so that one change is one finding.

use std::collections::VecDeque;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    id::EventId,
    tree::CompactRange,
    verify::{Finding, FindingKind},
};

use super::{chains::Claimed, report::Draft};
use crate::export::{manifest::ProvenAt, proof::ProofLine, range::RangeCheck};

/// An event of a run.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) at: u64,
    pub(super) id: Option<EventId>,
    pub(super) hash: Hash,
    /// The hash that it keeps of the one before; nothing where it is known to be changed.
    pub(super) previous: Option<Hash>,
    pub(super) place: String,
}

/// A run whose turn it is.
pub(super) struct Run {
    chain: ChainRef,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Where the proof stands.
    place: String,
    /// The position that comes next.
    pub(super) next: u64,
    proof: Proof,
    /// The newest event, whose successor may know better.
    head: Option<Link>,
    /// The one before it, while it is open which of the two was changed.
    doubt: Option<Link>,
    /// The hash of the event in front of the run, where it was seen.
    before: Option<Hash>,
    marks: Marks,
}

/// How a run is proved.
enum Proof {
    /// Under this root, so far.
    Open(RangeCheck, ProvenAt),
    /// No checkpoint covers it.
    None,
    /// Something is missing, or wrong, and was said.
    Spoiled,
}

/// How a run ended.
pub(super) enum Ended {
    /// Its events are proved, and as many from position 0 by checkpoints that were kept apart.
    Proven { separate: u64 },
    /// No checkpoint covers it.
    Uncovered,
    /// A finding says why it is not proved.
    Unproven,
}

impl Run {
    /// Begins a run; a proof that is none becomes a finding.
    pub(super) fn new(
        line: ProofLine,
        place: String,
        claimed: &Claimed,
        before: Option<Hash>,
        draft: &mut Draft,
    ) -> Self {
        let end = line.last.saturating_add(1);
        let proof = match (line.size, claimed.said.checkpoint) {
            (None, _) => Proof::None,
            (Some(size), Some(checkpoint)) if checkpoint.size == size => {
                match RangeCheck::new(line.first, end, size, line.hashes) {
                    Some(check) => Proof::Open(check, checkpoint),
                    None => {
                        let detail = "have a proof that was changed: it does not have the hashes \
                                      that a tree of its size demands";
                        let finding = Finding::new(FindingKind::Tampered, detail);
                        let finding = finding.in_chain(&claimed.chain).at(line.first, line.last);
                        draft.add(finding.in_place(&place));
                        Proof::Spoiled
                    }
                }
            }
            (Some(size), _) => {
                let detail = format!(
                    "have a proof under a checkpoint of size {size}, which is not the one of their \
                     chain: it was taken from elsewhere"
                );
                let finding = Finding::new(FindingKind::Foreign, detail);
                let finding = finding.in_chain(&claimed.chain).at(line.first, line.last);
                draft.add(finding.in_place(&place));
                Proof::Spoiled
            }
        };
        let marks = if line.first == 0 { claimed.marks.clone() } else { Vec::new() };
        Self {
            chain: claimed.chain.clone(),
            first: line.first,
            last: line.last,
            place,
            next: line.first,
            proof,
            head: None,
            doubt: None,
            before: before.or((line.first == 0).then_some(Hash::ZERO)),
            marks: Marks { marks: marks.into(), ..Marks::none() },
        }
    }

    pub(super) fn chain(&self) -> &ChainRef {
        &self.chain
    }

    pub(super) fn is_covered(&self) -> bool {
        !matches!(self.proof, Proof::None)
    }

    /// Positions are missing in front of the next event, or at the end. Of one, the event behind it
    /// tells the hash.
    pub(super) fn skip_to(&mut self, next: u64, previous: Option<Hash>, draft: &mut Draft) {
        self.settle_all(draft);
        match previous {
            Some(previous) if self.next.checked_add(1) == Some(next) => self.settle(previous),
            _ => self.spoil(),
        }
        (self.next, self.head, self.before) = (next, None, None);
    }

    /// Takes the event at the position that comes next.
    pub(super) fn push(&mut self, link: Link, draft: &mut Draft) {
        self.next = link.at.saturating_add(1);
        let before = self.before.take();
        let Some(head) = self.head.replace(link.clone()) else {
            if before.zip(link.previous).is_some_and(|(before, previous)| before != previous) {
                self.link_changed(&link, draft);
            }
            return;
        };
        let Some(previous) = link.previous else {
            // Nothing is known of what this one kept: what is known of the others stands.
            if let Some(doubt) = self.doubt.take() {
                self.blame(&doubt, &head, draft);
            }
            self.settle(head.hash);
            return;
        };
        match self.doubt.take() {
            None if head.hash == previous => self.settle(previous),
            None => self.doubt = Some(head),
            Some(doubt) if head.hash == previous => {
                self.body_changed(&doubt, head.at, draft);
                self.settle(head.previous.unwrap_or(doubt.hash));
                self.settle(head.hash);
            }
            Some(doubt) => {
                self.link_changed(&head, draft);
                self.settle(doubt.hash);
                self.settle(previous);
            }
        }
    }

    /// Ends the run. Without its last events it is not proved. An event that stands right behind it
    /// tells what the last one was.
    pub(super) fn finish(&mut self, behind: Option<Hash>, draft: &mut Draft) -> Ended {
        if let Some(behind) = behind {
            self.follow(behind, draft);
        }
        self.settle_all(draft);
        match std::mem::replace(&mut self.proof, Proof::Spoiled) {
            Proof::None => Ended::Uncovered,
            Proof::Spoiled => Ended::Unproven,
            Proof::Open(check, stated) if check.clone().root() == Some(stated.root) => {
                let marks = std::mem::replace(&mut self.marks, Marks::none());
                Ended::Proven { separate: marks.finish(&self.chain, draft) }
            }
            Proof::Open(_, stated) => {
                self.not_proved(stated.size, draft);
                Ended::Unproven
            }
        }
    }

    fn not_proved(&self, size: u64, draft: &mut Draft) {
        let one = self.first == self.last;
        let detail = format!(
            "{}: {} proof does not lead to the root of the signed checkpoint of size {size}{}",
            if one { "was changed" } else { "were rewritten, all or some of them" },
            if one { "its" } else { "their" },
            if one { "" } else { ", although each follows the one before" },
        );
        let finding = Finding::new(FindingKind::Tampered, detail).in_chain(&self.chain);
        let head = self.head.as_ref().filter(|_| one);
        let place = head.map_or(&self.place, |head| &head.place);
        let id = head.and_then(|head| head.id);
        draft.add(finding.at(self.first, self.last).of_event(id).in_place(place));
    }

    /// Judges the last event by the hash that the one right behind the run keeps of it.
    fn follow(&mut self, behind: Hash, draft: &mut Draft) {
        let Some(head) = self.head.clone().filter(|head| head.at == self.last) else { return };
        if head.hash == behind {
            if let Some(doubt) = self.doubt.take() {
                self.body_changed(&doubt, head.at, draft);
                self.settle(head.previous.unwrap_or(doubt.hash));
            }
        } else if let Some(doubt) = self.doubt.take() {
            self.link_changed(&head, draft);
            self.settle(doubt.hash);
            self.take_for_head(behind);
        } else if self.leads_to_the_root(&[behind]) {
            self.body_changed(&head, head.at.saturating_add(1), draft);
            self.take_for_head(behind);
        }
    }

    /// What the last event was, by what is known from elsewhere.
    fn take_for_head(&mut self, hash: Hash) {
        if let Some(head) = &mut self.head {
            head.hash = hash;
        }
    }

    /// Whether these event hashes, as the last ones of the run, give the root.
    fn leads_to_the_root(&self, leaves: &[Hash]) -> bool {
        let Proof::Open(check, stated) = &self.proof else { return false };
        let mut check = check.clone();
        leaves.iter().for_each(|leaf| check.push(*leaf));
        check.root() == Some(stated.root)
    }

    /// The hash of the last event, if it is there.
    pub(super) fn head(&self) -> Option<Hash> {
        self.head.as_ref().filter(|head| head.at == self.last).map(|head| head.hash)
    }

    fn settle_all(&mut self, draft: &mut Draft) {
        if let (Some(doubt), Some(head)) = (self.doubt.take(), self.head.clone()) {
            self.blame(&doubt, &head, draft);
        }
        if let Some(head) = &self.head {
            let hash = head.hash;
            // Kept for the run that follows, and settled here once: nothing is pushed behind it.
            if self.next == head.at.saturating_add(1) {
                self.settle(hash);
            }
        }
    }

    /// Which of two events was changed, where no third one tells: the proof does.
    fn blame(&mut self, doubt: &Link, head: &Link, draft: &mut Draft) {
        let claimed = head.previous.unwrap_or(doubt.hash);
        let open = matches!(self.proof, Proof::Open(..)) && head.at == self.last;
        let fits = !open || self.leads_to_the_root(&[claimed, head.hash]);
        if fits {
            self.body_changed(doubt, head.at, draft);
            self.settle(claimed);
        } else {
            self.link_changed(head, draft);
            self.settle(doubt.hash);
            self.spoil();
        }
    }

    fn body_changed(&self, link: &Link, next: u64, draft: &mut Draft) {
        let detail =
            format!("was changed: its bytes do not match the hash that record {next} keeps of it");
        self.changed(link, detail, draft);
    }

    fn link_changed(&self, link: &Link, draft: &mut Draft) {
        let detail = format!(
            "was changed: the hash that it keeps of record {} does not match, and that record is \
             not at fault",
            link.at.saturating_sub(1)
        );
        self.changed(link, detail, draft);
    }

    fn changed(&self, link: &Link, detail: String, draft: &mut Draft) {
        let finding = Finding::new(FindingKind::Tampered, detail).in_chain(&self.chain);
        draft.add(finding.at(link.at, link.at).of_event(link.id).in_place(&link.place));
    }

    fn settle(&mut self, leaf: Hash) {
        if let Proof::Open(check, _) = &mut self.proof {
            check.push(leaf);
            self.marks.push(leaf);
        }
    }

    fn spoil(&mut self) {
        if matches!(self.proof, Proof::Open(..)) {
            self.proof = Proof::Spoiled;
        }
    }
}

/// The tree from position 0, held against checkpoints that were kept apart.
struct Marks {
    tree: CompactRange,
    marks: VecDeque<ProvenAt>,
    /// The size of the last one that fits.
    at: u64,
}

impl Marks {
    fn none() -> Self {
        Self { tree: CompactRange::new(), marks: VecDeque::new(), at: 0 }
    }

    fn push(&mut self, leaf: Hash) {
        if self.marks.is_empty() {
            return;
        }
        self.tree.push(leaf);
        while let Some(mark) = self.marks.front().filter(|mark| mark.size <= self.tree.size()) {
            if mark.size == self.tree.size() && mark.root != self.tree.root() {
                return;
            }
            self.at = mark.size;
            self.marks.pop_front();
        }
    }

    /// The size of the last checkpoint that fits; one that does not is another history.
    fn finish(self, chain: &ChainRef, draft: &mut Draft) -> u64 {
        if let Some(mark) = self.marks.front().filter(|mark| mark.size <= self.tree.size()) {
            let detail = format!(
                "is the end of two histories: the checkpoint of size {} that was kept apart states \
                 another root than the exported records have",
                mark.size
            );
            let at = mark.size.saturating_sub(1);
            draft.add(Finding::new(FindingKind::Forked, detail).in_chain(chain).at(at, at));
        }
        self.at
    }
}
