//! The proof, and what it says of the events that were handed over.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    ops::Range,
};

use agent_audit_core::{
    checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint, chain_origin},
    hash::Hash,
    id::ChainId,
    index::IndexRoot,
    key::VerifyingKey,
    tree::ConsistencyProof,
};
use serde::{Deserialize, Serialize};

use super::{
    Criteria,
    interval::{Fault, IntervalProof, Proven},
};

const FORMAT: u32 = 1;

/// Which positions of a chain hold the events that meet some criteria, and that there are no others.
///
/// A plain value that may come from anywhere: nothing about it is believed before
/// [`verify`](Self::verify). Its JSON form is specified in `docs/SPEC.md`.
///
/// ```
/// use agent_audit_query::completeness::CompletenessProof;
/// let nothing = r#"{"format":1,"chain_id":"c-1","criteria":{"session":["s-1"]},"checkpoints":[]}"#;
/// let proof: CompletenessProof = serde_json::from_str(nothing)?;
/// let error = proof.verify([], &[]).unwrap_err();
/// assert_eq!(error.to_string(), "the proof has no checkpoint");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompletenessProof {
    format: u32,
    chain_id: ChainId,
    criteria: Criteria,
    checkpoints: Vec<Link>,
}

/// A checkpoint, and what is proved under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Link {
    /// The signed note.
    pub(super) note: String,
    /// That its tree goes on from that of the checkpoint before; empty in the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) consistency: Vec<Hash>,
    /// One for each of its indexes, in order.
    pub(super) indexes: Vec<IntervalProof>,
}

impl CompletenessProof {
    pub(super) fn new(chain_id: ChainId, criteria: Criteria, checkpoints: Vec<Link>) -> Self {
        Self { format: FORMAT, chain_id, criteria, checkpoints }
    }

    /// The chain that it is about.
    #[must_use]
    pub fn chain_id(&self) -> &ChainId {
        &self.chain_id
    }

    /// Which events it is about.
    #[must_use]
    pub fn criteria(&self) -> &Criteria {
        &self.criteria
    }

    /// Holds events, by position and event hash, against the proof.
    ///
    /// The events are those of one chain that were handed over as the answer. That each of them is at
    /// its position of the chain is for its inclusion proof to show, under [`Completeness::root`]; the
    /// hash tells two events at one position from one that was handed over twice.
    ///
    /// # Errors
    /// [`RefusedProof`] where the proof itself does not hold: nothing is known then.
    pub fn verify(
        &self,
        events: impl IntoIterator<Item = (u64, Hash)>,
        keys: &[VerifyingKey],
    ) -> Result<Completeness, RefusedProof> {
        if self.format != FORMAT {
            return Err(Refusal::Format(self.format).into());
        }
        if self.criteria.asks_nothing() {
            return Err(Refusal::NoCriteria.into());
        }
        let mut answer = Answer::default();
        let mut before: Option<Checkpoint> = None;
        for link in &self.checkpoints {
            let checkpoint = link.checkpoint(&self.chain_id, keys)?;
            link.follows(before.as_ref(), &checkpoint)?;
            for proven in link.proven(&self.criteria, &checkpoint)? {
                answer.take(proven)?;
            }
            before = Some(checkpoint);
        }
        let last = before.ok_or(Refusal::NoCheckpoint)?;
        Ok(answer.compare(&last, events))
    }
}

impl Link {
    fn checkpoint(&self, chain: &ChainId, keys: &[VerifyingKey]) -> Result<Checkpoint, Refusal> {
        let signed = SignedCheckpoint::parse(&self.note)
            .map_err(|error| Refusal::Unreadable(error.to_string()))?;
        let size = signed.unverified().size;
        match signed.verify(&chain_origin(chain.as_str()), keys) {
            Ok(checkpoint) => Ok(checkpoint.clone()),
            Err(error) => Err(match error.kind() {
                CheckpointErrorKind::ForeignOrigin => Refusal::OtherChain { size },
                CheckpointErrorKind::UnknownKey => Refusal::UnknownKey { size },
                CheckpointErrorKind::BadSignature => Refusal::BadSignature { size },
                _ => Refusal::Unreadable(error.to_string()),
            }),
        }
    }

    /// Both checkpoints must be of one history: who has two could take of each what suits.
    fn follows(&self, before: Option<&Checkpoint>, own: &Checkpoint) -> Result<(), Refusal> {
        let Some(before) = before else {
            let none = self.consistency.is_empty();
            return none.then_some(()).ok_or(Refusal::OtherHistory { size: own.size });
        };
        let proof = ConsistencyProof {
            first_size: before.size,
            second_size: own.size,
            hashes: self.consistency.clone(),
        };
        let consistent = before.size < own.size && proof.verify(&before.root, &own.root).is_ok();
        consistent.then_some(()).ok_or(Refusal::OtherHistory { size: own.size })
    }

    fn proven(&self, criteria: &Criteria, own: &Checkpoint) -> Result<Vec<Proven>, Refusal> {
        let size = own.size;
        let roots = IndexRoot::all_of(own).map_err(|error| {
            Refusal::Unreadable(format!("its checkpoint of size {size}: {error}"))
        })?;
        if roots.len() != self.indexes.len() {
            return Err(Refusal::Indexes { size });
        }
        let proofs = self.indexes.iter().zip(roots);
        proofs
            .map(|(proof, root)| {
                proof.verify(criteria, root).map_err(|fault| Refusal::of(fault, root))
            })
            .collect()
    }
}

/// What the intervals say together.
#[derive(Default)]
struct Answer {
    matching: BTreeSet<u64>,
    /// Disjoint, ascending and not adjacent.
    covered: Vec<Range<u64>>,
}

impl Answer {
    fn take(&mut self, proven: Proven) -> Result<(), Refusal> {
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

    fn compare(
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
        for range in self.covered.iter().cloned().chain([last.size..last.size]) {
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

/// A proof that does not hold. It says what is wrong with it.
///
/// ```
/// use agent_audit_query::completeness::{CompletenessProof, RefusedProofKind};
/// let later = r#"{"format":2,"chain_id":"c-1","criteria":{"session":["s-1"]},"checkpoints":[]}"#;
/// let error = serde_json::from_str::<CompletenessProof>(later)?.verify([], &[]).unwrap_err();
/// assert_eq!(error.kind(), RefusedProofKind::UnknownVersion);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct RefusedProof(#[from] Refusal);

/// What kind of trouble a proof is in.
///
/// ```
/// use agent_audit_query::completeness::RefusedProofKind;
/// assert_ne!(RefusedProofKind::UnknownKey, RefusedProofKind::BadSignature);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedProofKind {
    /// It is not a proof, or not a whole one.
    Malformed,
    /// It was made by a later release.
    UnknownVersion,
    /// A checkpoint is of another chain.
    OtherChain,
    /// No trusted key signed a checkpoint: nothing can be said.
    UnknownKey,
    /// A checkpoint names a trusted key, and its signature does not verify.
    BadSignature,
    /// Its checkpoints are not of one history, in order.
    OtherHistory,
    /// What it says of an index does not follow from what was signed.
    Index,
}

impl RefusedProof {
    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> RefusedProofKind {
        match self.0 {
            Refusal::NoCheckpoint
            | Refusal::NoCriteria
            | Refusal::Unreadable(_)
            | Refusal::Indexes { .. } => RefusedProofKind::Malformed,
            Refusal::Format(_) => RefusedProofKind::UnknownVersion,
            Refusal::OtherChain { .. } => RefusedProofKind::OtherChain,
            Refusal::UnknownKey { .. } => RefusedProofKind::UnknownKey,
            Refusal::BadSignature { .. } => RefusedProofKind::BadSignature,
            Refusal::OtherHistory { .. } => RefusedProofKind::OtherHistory,
            Refusal::Values { .. } | Refusal::Entry { .. } | Refusal::Contradiction { .. } => {
                RefusedProofKind::Index
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("the proof is of format {0}, which this program does not know: use a later release")]
    Format(u32),
    #[error("the proof names no field and value")]
    NoCriteria,
    #[error("the proof has no checkpoint")]
    NoCheckpoint,
    #[error("the proof cannot be read: {0}")]
    Unreadable(String),
    #[error("the checkpoint of size {size} is of another chain")]
    OtherChain { size: u64 },
    #[error(
        "the checkpoint of size {size} is not signed by a trusted key; give the key that signs this \
         chain's checkpoints"
    )]
    UnknownKey { size: u64 },
    #[error("the checkpoint of size {size} was changed: its signature does not verify")]
    BadSignature { size: u64 },
    #[error(
        "the checkpoint of size {size} is not proved to go on from the one before it: they can be \
         of two histories"
    )]
    OtherHistory { size: u64 },
    #[error("the proof leaves out an index of the checkpoint of size {size}, or has one too many")]
    Indexes { size: u64 },
    #[error("the proof does not speak of each value in positions {from} to {to}")]
    Values { from: u64, to: u64 },
    #[error(
        "what the proof says of {field} {value:?} in positions {from} to {to} does not hold: {why}"
    )]
    Entry { field: &'static str, value: String, from: u64, to: u64, why: String },
    #[error("two signed indexes contradict each other about positions {from} to {to}")]
    Contradiction { from: u64, to: u64 },
}

impl Refusal {
    fn of(fault: Fault, root: IndexRoot) -> Self {
        let (from, to) = (root.from, root.size - 1);
        match fault {
            Fault::Count => Self::Values { from, to },
            Fault::Entry { field, value, error } => {
                let (field, why) = (field.as_str(), error.to_string());
                Self::Entry { field, value, from, to, why }
            }
        }
    }
}
