//! What the intervals of a proof say together, and of the events that were handed over.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    ops::Range,
};

use agent_audit_core::{checkpoint::Checkpoint, hash::Hash};
use serde::Serialize;

use super::{interval::Proven, refused::Refusal};

/// How far an answer is complete, and what is wrong with it.
///
/// ```
/// use agent_audit_core::hash::Hash;
/// let answer = agent_audit_query::completeness::Completeness::of_nothing(7, Hash::ZERO);
/// assert!(!answer.is_complete() && answer.unproven == [0..7]);
/// assert_eq!(answer.to_string(), "0 of 0 matching events up to position 7; positions 0 to 6 are in \
///     no signed index, and what is there cannot be proved");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Completeness {
    /// The size of the largest checkpoint of the proof: nothing is said about events behind it.
    pub size: u64,
    /// The root of the chain's tree at that size, under which the inclusion of each event is proved.
    pub root: Hash,
    /// How many events meet the criteria, as far as indexes reach.
    pub matching: u64,
    /// Positions of events that meet the criteria and were not handed over.
    pub missing: Vec<u64>,
    /// Positions of events that were handed over and do not meet the criteria, or at which two
    /// different ones were.
    pub foreign: Vec<u64>,
    /// Positions below [`size`](Self::size) that no index covers: what is there cannot be proved.
    pub unproven: Vec<Range<u64>>,
    /// Positions of events that were handed over and that no index covers.
    pub uncovered: Vec<u64>,
}

impl Completeness {
    /// Nothing is proved of a chain of this size.
    #[must_use]
    pub fn of_nothing(size: u64, root: Hash) -> Self {
        let last = Checkpoint::new("", size, root);
        Answer::default().compare(&last, [])
    }

    /// Whether exactly the events that meet the criteria were handed over, from the beginning of the
    /// chain up to [`size`](Self::size).
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
            && self.foreign.is_empty()
            && self.unproven.is_empty()
            && self.uncovered.is_empty()
    }
}

impl fmt::Display for Completeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = u64::try_from(self.missing.len()).unwrap_or(u64::MAX);
        let found = self.matching.saturating_sub(missing);
        write!(f, "{found} of {} matching events up to position {}", self.matching, self.size)?;
        for (positions, what) in [
            (&self.missing, "left out"),
            (&self.foreign, "that do not match, or twice"),
            (&self.uncovered, "in no signed index"),
        ] {
            if let [first, ..] = positions[..] {
                write!(f, "; {} {what}, the first at {first}", positions.len())?;
            }
        }
        for Range { start, end } in &self.unproven {
            let last = end - 1;
            write!(
                f,
                "; positions {start} to {last} are in no signed index, and what is there cannot be \
                 proved"
            )?;
        }
        Ok(())
    }
}

/// What the intervals say together.
#[derive(Default)]
pub(super) struct Answer {
    matching: BTreeSet<u64>,
    /// Disjoint, ascending and not adjacent.
    covered: Vec<Range<u64>>,
}

impl Answer {
    pub(super) fn take(&mut self, proven: Proven) -> Result<(), Refusal> {
        let Proven { index, positions } = proven;
        // Two indexes of one event must agree about it.
        for covered in &self.covered {
            let both = covered.start.max(index.from)..covered.end.min(index.size);
            if !both.is_empty()
                && !self.matching.range(both.clone()).eq(positions.range(both.clone()))
            {
                return Err(Refusal::Contradiction { from: both.start, to: both.end - 1 });
            }
        }
        self.matching.extend(positions);
        self.covered.push(index.from..index.size);
        self.covered.sort_unstable_by_key(|range| range.start);
        self.covered.dedup_by(|next, range| {
            let joins = next.start <= range.end;
            if joins {
                range.end = range.end.max(next.end);
            }
            joins
        });
        Ok(())
    }

    pub(super) fn compare(
        self,
        last: &Checkpoint,
        events: impl IntoIterator<Item = (u64, Hash)>,
    ) -> Completeness {
        let covers = |position: u64| {
            let at = self.covered.partition_point(|range| range.end <= position);
            self.covered.get(at).is_some_and(|range| range.contains(&position))
        };
        let (mut missing, mut seen) = (self.matching.clone(), BTreeMap::new());
        let (mut foreign, mut uncovered) = (BTreeSet::new(), BTreeSet::new());
        for (position, hash) in events {
            match seen.entry(position) {
                Entry::Vacant(new) => {
                    new.insert(hash);
                }
                Entry::Occupied(known) if *known.get() == hash => continue,
                Entry::Occupied(_) => {
                    foreign.insert(position);
                }
            }
            if !covers(position) {
                uncovered.insert(position);
            } else if !self.matching.contains(&position) {
                foreign.insert(position);
            } else {
                missing.remove(&position);
            }
        }
        let mut unproven = Vec::new();
        let mut reached = 0;
        for range in self.covered.iter().cloned().chain(std::iter::once(last.size..last.size)) {
            if reached < range.start {
                unproven.push(reached..range.start);
            }
            reached = range.end;
        }
        Completeness {
            size: last.size,
            root: last.root,
            matching: u64::try_from(self.matching.len()).expect("a count of things in memory"),
            missing: missing.into_iter().collect(),
            foreign: foreign.into_iter().collect(),
            unproven,
            uncovered: uncovered.into_iter().collect(),
        }
    }
}
