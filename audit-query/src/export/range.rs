//! Proofs that a run of events stands at its positions of a tree.
//!
//! The proof of the positions from `first` to before `end` is RFC 6962's audit path for more than
//! one leaf. Walk down from the root as the tree splits: a subtree that lies outside the run gives
//! its hash, one that lies inside gives nothing, because its hash follows from the event hashes, and
//! one that is cut by an end of the run is split further. The hashes stand in the order of the walk,
//! from the left to the right. For one event they are the hashes of its audit path; for a whole chain
//! there are none.

use std::{io, vec};

use agent_audit_core::{
    hash::{Hash, node},
    tree::CompactRange,
};

/// Where a tree over these positions splits: at the largest power of two below their number.
pub(super) fn split(start: u64, end: u64) -> u64 {
    let below = end - start - 1;
    start + (1 << (u64::BITS - 1 - below.leading_zeros()))
}

/// The proof of a run, from the roots of subtrees.
pub(super) fn prove(
    first: u64,
    end: u64,
    size: u64,
    subtree: &dyn Fn(u64, u64) -> io::Result<Hash>,
) -> io::Result<Vec<Hash>> {
    let mut hashes = Vec::new();
    let mut each = |start, stop| {
        hashes.push(subtree(start, stop)?);
        Ok(())
    };
    outside(0, size, first, end, &mut each)?;
    Ok(hashes)
}

fn outside(
    start: u64,
    stop: u64,
    first: u64,
    end: u64,
    each: &mut dyn FnMut(u64, u64) -> io::Result<()>,
) -> io::Result<()> {
    if stop <= first || start >= end {
        each(start, stop)
    } else if start >= first && stop <= end {
        Ok(())
    } else {
        let middle = split(start, stop);
        outside(start, middle, first, end, each)?;
        outside(middle, stop, first, end, each)
    }
}

/// One step from the leaves to the root, from the left to the right.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A hash of the proof.
    Given,
    /// So many event hashes of the run.
    Leaves(u64),
    /// The two hashes before.
    Join,
}

/// Computes a root from the event hashes of a run and its proof, one after the other.
#[derive(Debug, Clone)]
pub(super) struct RangeCheck {
    steps: vec::IntoIter<Step>,
    given: vec::IntoIter<Hash>,
    done: Vec<Hash>,
    leaves: CompactRange,
    wanted: u64,
}

impl RangeCheck {
    /// Nothing where the run is none of such a tree, or the proof has not as many hashes as it must.
    pub(super) fn new(first: u64, end: u64, size: u64, hashes: Vec<Hash>) -> Option<Self> {
        if first >= end || end > size {
            return None;
        }
        let mut steps = Vec::new();
        plan(0, size, first, end, &mut steps);
        let given = steps.iter().filter(|step| matches!(step, Step::Given)).count();
        if given != hashes.len() {
            return None;
        }
        let mut check = Self {
            steps: steps.into_iter(),
            given: hashes.into_iter(),
            done: Vec::new(),
            leaves: CompactRange::new(),
            wanted: 0,
        };
        check.advance();
        Some(check)
    }

    /// Takes the next event hash of the run.
    pub(super) fn push(&mut self, leaf: Hash) {
        self.leaves.push(leaf);
        if self.leaves.size() == self.wanted {
            self.done.push(self.leaves.root());
            self.leaves = CompactRange::new();
            self.advance();
        }
    }

    /// The root, once every event hash of the run was taken, and not one too many.
    pub(super) fn root(mut self) -> Option<Hash> {
        let whole = self.wanted == 0 && self.leaves.size() == 0 && self.done.len() == 1;
        self.done.pop().filter(|_| whole)
    }

    /// Does what can be done without the next event hash.
    fn advance(&mut self) {
        self.wanted = 0;
        for step in self.steps.by_ref() {
            match step {
                Step::Given => self.done.extend(self.given.next()),
                Step::Leaves(count) => {
                    self.wanted = count;
                    return;
                }
                Step::Join => {
                    let (right, left) = (self.done.pop(), self.done.pop());
                    let joined = left.zip(right).map(|(left, right)| node(&left, &right));
                    self.done.extend(joined);
                }
            }
        }
    }
}

fn plan(start: u64, stop: u64, first: u64, end: u64, steps: &mut Vec<Step>) {
    if stop <= first || start >= end {
        steps.push(Step::Given);
    } else if start >= first && stop <= end {
        steps.push(Step::Leaves(stop - start));
    } else {
        let middle = split(start, stop);
        plan(start, middle, first, end, steps);
        plan(middle, stop, first, end, steps);
        steps.push(Step::Join);
    }
}
