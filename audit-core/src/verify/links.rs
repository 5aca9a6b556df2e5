//! Links and tree: does each record keep the hash of the one before, do the signed roots fit, and
//! which record is at fault where not.
//!
//! A broken link between records *a* and *b* alone does not say which of them was changed. The next
//! link tells: where the record after *b* keeps the hash of *b* as it stands, *a* was changed, and
//! else *b*, together with its link. In both cases the hash that the successor keeps of the changed
//! record is what had been written; it takes the record's place in the tree, which therefore still
//! has the root of later checkpoints, unless something else was changed too.

use crate::{
    hash::Hash,
    tree::{CompactRange, NodesAhead},
};

use super::{
    Basis, Coverage, Finding, FindingKind,
    checkpoints::Known,
    memory::{Findings, Recent},
};

/// Where blame goes: findings, and the records that can be named in them.
pub(super) struct Court<'a> {
    pub(super) findings: &'a mut Findings,
    pub(super) recent: &'a Recent,
}

impl Court<'_> {
    fn changed(&mut self, at: u64, detail: String) {
        let id = self.recent.event_id(at);
        self.findings.at(FindingKind::Tampered, at, id, detail);
    }

    /// The record's bytes do not match what its successor keeps.
    pub(super) fn body_changed(&mut self, at: u64) {
        let next = at + 1;
        self.changed(
            at,
            format!("was changed: its bytes do not match the hash that record {next} keeps of it"),
        );
    }

    /// The record matches neither neighbour.
    fn link_changed(&mut self, at: u64) {
        let before = at.saturating_sub(1);
        self.changed(
            at,
            format!(
                "was changed: the hash that it keeps of record {before} does not match, and that \
                 record is not at fault"
            ),
        );
    }
}

/// The newest record, whose leaf is not in the tree yet: its successor may know better.
#[derive(Debug, Clone, Copy)]
struct Head {
    hash: Hash,
    /// A finding says already that the record is not what was written.
    blamed: bool,
    /// The leaf is in the tree, because a trusted state says so.
    settled: bool,
}

/// The record before the head, while it is open which of the two was changed.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// The hash of the record as it stands.
    actual: Hash,
    /// The hash that the head keeps of it.
    claimed: Hash,
}

/// The tree as it would be if, of two neighbours, both had been changed.
#[derive(Debug, Clone)]
struct Alternative {
    tree: CompactRange,
    /// The record that would then be at fault too.
    at: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Links {
    /// The leaves before the head; absent once a leaf is not known.
    tree: Option<CompactRange>,
    nodes: NodesAhead,
    head: Option<Head>,
    doubt: Option<Doubt>,
    alternative: Option<Alternative>,
    checkpoints: Vec<Known>,
    ahead: usize,
    /// Positions before this one were trusted from the beginning.
    start: u64,
    pub(super) checked: u64,
    pub(super) coverage: Coverage,
    /// Size and root of the last checkpoint that fitted.
    pub(super) fits: Option<(u64, Hash)>,
    /// The first checkpoint that did not fit since the last one that did: that one's size, its own.
    mismatch: Option<(u64, u64)>,
    last: Option<Hash>,
}

impl Links {
    pub(super) fn new(tree: CompactRange, head: Option<Hash>, checkpoints: Vec<Known>) -> Self {
        let start = tree.size();
        let ahead = checkpoints.partition_point(|known| known.size < start);
        Self {
            tree: Some(tree),
            nodes: NodesAhead::default(),
            head: head.map(|hash| Head { hash, blamed: false, settled: true }),
            doubt: None,
            alternative: None,
            checkpoints,
            ahead,
            start,
            checked: 0,
            coverage: Coverage::default(),
            fits: None,
            mismatch: None,
            last: head,
        }
    }

    /// Whether the record that keeps this hash of its predecessor follows the head.
    pub(super) fn follows(&self, previous: &Hash) -> bool {
        self.head.is_some_and(|head| head.hash == *previous)
    }

    pub(super) fn head_hash(&self) -> Option<Hash> {
        self.head.map(|head| head.hash)
    }

    /// Hashes the nodes of the tree ahead, for records that are about to be pushed.
    pub(super) fn expect(&mut self, leaves: impl Iterator<Item = Hash>) {
        let Some(tree) = &self.tree else { return };
        let head = self.head.filter(|head| !head.settled).map(|head| head.hash);
        self.nodes = NodesAhead::of(tree, head.into_iter().chain(leaves));
    }

    /// Takes the record at `at`, which comes straight after the head.
    pub(super) fn push(&mut self, court: &mut Court<'_>, at: u64, previous: Hash, hash: Hash) {
        let blamed = self.link(court, at, previous);
        self.head = Some(Head { hash, blamed, settled: false });
        self.last = Some(hash);
    }

    /// Says that the head is known not to be what was written.
    pub(super) fn blame_head(&mut self) {
        if let Some(head) = &mut self.head {
            head.blamed = true;
        }
    }

    /// Settles the head by the link of its successor; returns whether the successor is to blame.
    fn link(&mut self, court: &mut Court<'_>, at: u64, previous: Hash) -> bool {
        let Some(head) = self.head.take() else { return false };
        if head.settled {
            let broken = head.hash != previous;
            if broken {
                court.link_changed(at);
            }
            return broken;
        }
        if let Some(doubt) = self.doubt.take() {
            // The head is at - 1, in doubt is at - 2.
            if head.hash == previous {
                court.body_changed(at - 2);
                self.settle(court, doubt.claimed);
                self.settle(court, head.hash);
            } else {
                court.link_changed(at - 1);
                let both = self.tree.as_ref().filter(|_| self.alternative.is_none()).map(|tree| {
                    let mut tree = tree.clone();
                    tree.push(doubt.claimed);
                    Alternative { tree, at: at - 2 }
                });
                self.settle(court, doubt.actual);
                self.alternative = both.or(self.alternative.take());
                self.settle(court, previous);
            }
            return false;
        }
        if head.hash != previous && !head.blamed {
            return self.doubt(court, at, Doubt { actual: head.hash, claimed: previous });
        }
        self.settle(court, previous);
        false
    }

    /// The link between at - 1 and `at` is broken. A checkpoint that ends between them decides.
    fn doubt(&mut self, court: &mut Court<'_>, at: u64, doubt: Doubt) -> bool {
        if self.fits(at, &[doubt.actual]) {
            court.link_changed(at);
            self.settle(court, doubt.actual);
            return true;
        }
        if self.fits(at, &[doubt.claimed]) {
            court.body_changed(at - 1);
            self.settle(court, doubt.claimed);
            return false;
        }
        self.doubt = Some(doubt);
        false
    }

    /// Whether the tree with these leaves has the root of a checkpoint of this size.
    fn fits(&self, size: u64, leaves: &[Hash]) -> bool {
        let Some(tree) = &self.tree else { return false };
        let mut same_size =
            self.checkpoints[self.ahead..].iter().skip_while(|k| k.size < size).peekable();
        if same_size.peek().is_none_or(|known| known.size != size) {
            return false;
        }
        let mut tree = tree.clone();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.size() == size
            && same_size.take_while(|k| k.size == size).any(|known| known.root == tree.root())
    }

    /// Settles the head although its successor is not there, and forgets it.
    ///
    /// `size` is the number of positions up to and with the head.
    pub(super) fn settle_head(&mut self, court: &mut Court<'_>, size: u64) {
        let Some(head) = self.head.take().filter(|head| !head.settled) else { return };
        if let Some(doubt) = self.doubt.take() {
            let body = self.fits(size, &[doubt.claimed, head.hash]);
            let decided = self.checkpoints[self.ahead..].iter().any(|k| k.size == size);
            if body || !decided || self.tree.is_none() {
                court.body_changed(size - 2);
                self.settle(court, doubt.claimed);
                self.settle(court, head.hash);
            } else {
                court.link_changed(size - 1);
                self.settle(court, doubt.actual);
                self.spoil();
            }
        } else if head.blamed {
            self.spoil();
        } else {
            self.settle(court, head.hash);
        }
    }

    /// Puts a leaf into the tree whose record is not there, by what its successor keeps of it.
    pub(super) fn settle_claimed(&mut self, court: &mut Court<'_>, claimed: Hash) {
        self.settle(court, claimed);
    }

    /// Gives the tree up: a leaf is not known.
    pub(super) fn spoil(&mut self) {
        self.tree = None;
        self.alternative = None;
    }

    #[inline]
    fn settle(&mut self, court: &mut Court<'_>, leaf: Hash) {
        let Some(tree) = &mut self.tree else { return };
        tree.push_ahead(leaf, &self.nodes);
        let size = tree.size();
        if let Some(alternative) = &mut self.alternative {
            alternative.tree.push(leaf);
        }
        if self.checkpoints.get(self.ahead).is_some_and(|known| known.size == size) {
            self.compare(court);
        }
    }

    /// Holds the tree against the checkpoints of its size.
    pub(super) fn compare(&mut self, court: &mut Court<'_>) {
        let Some(tree) = &self.tree else { return };
        let size = tree.size();
        let from = self.ahead;
        while self.checkpoints.get(self.ahead).is_some_and(|known| known.size == size) {
            self.ahead += 1;
        }
        let here = &self.checkpoints[from..self.ahead];
        if here.is_empty() {
            return;
        }
        self.checked += u64::try_from(here.len()).unwrap_or(u64::MAX);
        let basis_for = |root: Hash| here.iter().filter(|k| k.root == root).map(|k| k.basis).max();
        let basis = basis_for(tree.root()).or_else(|| {
            let alternative = self.alternative.take()?;
            let basis = basis_for(alternative.tree.root());
            if basis.is_some() {
                court.body_changed(alternative.at);
                self.tree = Some(alternative.tree);
            } else {
                self.alternative = Some(alternative);
            }
            basis
        });
        let Some(basis) = basis else {
            self.mismatch.get_or_insert((self.coverage.of(Basis::OwnKey).max(self.start), size));
            return;
        };
        if let Some((_, other)) = self.mismatch.take() {
            court.findings.at(
                FindingKind::Forked,
                other.saturating_sub(1),
                None,
                format!(
                    "is the end of two histories: the signed checkpoint of size {other} states \
                     another root than these records have, and the later one of size {size} fits: \
                     the holder of the key signed two histories"
                ),
            );
        }
        self.alternative = None;
        self.fits = self.tree.as_ref().map(|tree| (size, tree.root()));
        self.coverage.reach(basis, size);
    }

    /// The records of the last checkpoint that did not fit, once nothing more comes.
    pub(super) fn finish(&mut self, court: &mut Court<'_>) {
        let Some((good, size)) = self.mismatch.take() else { return };
        let last = size.saturating_sub(1);
        let fits =
            if good > 0 { format!("; the checkpoint of size {good} fits") } else { String::new() };
        let detail = if good == last {
            format!(
                "was changed: with it the chain does not have the root that the signed checkpoint \
                 of size {size} states{fits}"
            )
        } else {
            format!(
                "were rewritten, all or the last of them: their links fit each other, and they do \
                 not have the root that the signed checkpoint of size {size} states{fits}"
            )
        };
        let id = if good == last { court.recent.event_id(last) } else { None };
        let finding = Finding::new(FindingKind::Tampered, detail).at(good, last).of_event(id);
        court.findings.add(finding);
    }

    /// The tree with the head in it, where every leaf is known and beyond doubt.
    pub(super) fn tree(&self) -> Option<CompactRange> {
        let mut tree = self.tree.clone()?;
        if self.doubt.is_some() || self.mismatch.is_some() {
            return None;
        }
        if let Some(head) = self.head.filter(|head| !head.settled) {
            tree.push(head.hash);
        }
        Some(tree)
    }

    /// The event hash of the last record, whether it has been settled or not.
    pub(super) fn last_leaf(&self) -> Option<Hash> {
        self.last
    }

    /// The largest size that a checkpoint states.
    pub(super) fn largest(&self) -> Option<u64> {
        self.checkpoints.last().map(|known| known.size)
    }
}
