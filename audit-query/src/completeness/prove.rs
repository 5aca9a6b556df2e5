//! From the events of a store to a proof.

use agent_audit_core::{
    checkpoint::{SignedCheckpoint, chain_origin},
    hash::Hash,
    id::ChainId,
    index::{IndexBuilder, IndexRoot},
    tree::CompactRange,
};

use super::{
    CompletenessProof, Criteria,
    consistency::consistency,
    interval::{self, IntervalProof},
    proof::Link,
};
use crate::{Filter, Found, Ledger, Order, QueryError, QueryErrorKind};

/// Proves which events of a chain meet the criteria, as far as the signed indexes of these
/// checkpoints reach.
///
/// Reads every event of the chain once, in memory bounded by the events between two signed indexes.
/// Checkpoints without an index, and those of other chains, are passed over; what no index covers is
/// visible in the proof as not proven.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_core::{id::{ChainId, TenantId}, memory::MemorySink};
/// use agent_audit_query::{Ledger, QueryErrorKind, completeness::{Criteria, Field, prove}};
/// use agent_audit_query::scan::Scanned;
/// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
/// let ledger = Ledger::new(store, TenantId::new("acme")?);
/// let session = Criteria::of(Field::Session, "s-1");
/// let proof = pollster::block_on(prove(&ledger, &ChainId::new("c-1")?, &[], &session));
/// assert_eq!(proof.unwrap_err().kind(), QueryErrorKind::NotFound);
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
///
/// # Errors
/// [`NotFound`](QueryErrorKind::NotFound) where no checkpoint of the chain has an index;
/// [`Corrupt`](QueryErrorKind::Corrupt) where the events of the store are not those that a checkpoint
/// was signed over.
pub async fn prove(
    ledger: &Ledger,
    chain: &ChainId,
    checkpoints: &[SignedCheckpoint],
    criteria: &Criteria,
) -> Result<CompletenessProof, QueryError> {
    let mut prover = Prover::new(chain, criteria, choose(chain, checkpoints));
    if prover.wanted.is_empty() {
        return Err(QueryError::new(
            QueryErrorKind::NotFound,
            format!(
                "no checkpoint of chain {chain} has an index of its events: a writer of this \
                 release makes them, and what was recorded before cannot be proved complete"
            ),
        ));
    }
    let filter = Filter::new().chain(chain.clone());
    ledger.each(&filter, Order::Chain, false, |found| prover.take(&found)).await?;
    prover.finish()
}

/// A checkpoint that the proof is made of.
struct Wanted<'a> {
    signed: &'a SignedCheckpoint,
    indexes: Vec<IndexRoot>,
}

impl Wanted<'_> {
    fn start(&self) -> u64 {
        self.indexes[0].from
    }

    fn size(&self) -> u64 {
        self.signed.unverified().size
    }
}

/// The fewest checkpoints whose indexes cover as much as all of them do.
fn choose<'a>(chain: &ChainId, checkpoints: &'a [SignedCheckpoint]) -> Vec<Wanted<'a>> {
    let origin = chain_origin(chain.as_str());
    let of_chain = checkpoints.iter().filter(|signed| signed.unverified().origin == origin);
    let mut usable: Vec<_> = of_chain
        .map(|signed| (signed, IndexRoot::all_of(signed.unverified()).unwrap_or_default()))
        .filter(|(_, indexes)| !indexes.is_empty())
        .map(|(signed, indexes)| Wanted { signed, indexes })
        .collect();
    usable.sort_by_key(Wanted::start);
    let mut chosen: Vec<Wanted<'a>> = Vec::new();
    let mut reached = 0;
    let mut usable = usable.into_iter().peekable();
    while let Some(next) = usable.next() {
        if next.size() <= reached {
            continue;
        }
        // Of those that join what is covered, or begin where the hole before them ends, the one that
        // reaches furthest.
        let joins = reached.max(next.start());
        let mut furthest = next;
        while let Some(other) = usable.next_if(|other| other.start() <= joins) {
            if other.size() > furthest.size() {
                furthest = other;
            }
        }
        reached = furthest.size();
        chosen.push(furthest);
    }
    chosen
}

struct Prover<'a> {
    chain: &'a ChainId,
    criteria: &'a Criteria,
    keys: Vec<Hash>,
    wanted: Vec<Wanted<'a>>,
    /// The checkpoint that comes next.
    at: usize,
    tree: CompactRange,
    /// The tree at the last checkpoint of the proof, and what came since.
    before: CompactRange,
    since: Vec<Hash>,
    open: Vec<Open>,
    links: Vec<Link>,
}

/// An index in the making: for which checkpoint, and which of its indexes.
struct Open {
    checkpoint: usize,
    index: usize,
    builder: IndexBuilder,
}

impl<'a> Prover<'a> {
    fn new(chain: &'a ChainId, criteria: &'a Criteria, wanted: Vec<Wanted<'a>>) -> Self {
        let unproven = |wanted: &Wanted<'_>| Link {
            note: wanted.signed.to_string(),
            consistency: Vec::new(),
            indexes: vec![IntervalProof(Vec::new()); wanted.indexes.len()],
        };
        Self {
            chain,
            criteria,
            keys: interval::keys(criteria),
            links: wanted.iter().map(unproven).collect(),
            wanted,
            at: 0,
            tree: CompactRange::new(),
            before: CompactRange::new(),
            since: Vec::new(),
            open: Vec::new(),
        }
    }

    /// Takes the next event; says whether more are needed.
    fn take(&mut self, found: &Found) -> Result<bool, QueryError> {
        let at = self.tree.size();
        if found.sequence() != at {
            return Err(self.other(format!("position {at} is missing")));
        }
        for (checkpoint, wanted) in self.wanted.iter().enumerate().skip(self.at) {
            // Sorted: what begins later is not begun yet either.
            if wanted.start() > at {
                break;
            }
            if let Some(index) = wanted.indexes.iter().position(|index| index.from == at) {
                self.open.push(Open { checkpoint, index, builder: IndexBuilder::new(at) });
            }
        }
        let event = found.record().view().map_err(|error| {
            self.other(format!("the event at position {at} cannot be read")).with_source(error)
        })?;
        for open in &mut self.open {
            let full =
                |error| QueryError::corrupt("an index has too many events").with_source(error);
            open.builder.push(&event).map_err(full)?;
        }
        self.tree.push(*found.hash());
        if self.at > 0 {
            self.since.push(*found.hash());
        }
        self.close()?;
        let wanted = &self.wanted[self.at];
        if wanted.size() == self.tree.size() {
            if wanted.signed.unverified().root != self.tree.root() {
                return Err(self.other("they do not have its root".to_owned()));
            }
            self.links[self.at].consistency = consistency(&self.before, &self.since);
            self.before = self.tree.clone();
            self.since.clear();
            self.at += 1;
        }
        Ok(self.at < self.wanted.len())
    }

    /// Proves of the intervals that end here what is asked of them.
    fn close(&mut self) -> Result<(), QueryError> {
        let at = self.tree.size();
        let wanted = &self.wanted;
        let ends = |open: &mut Open| wanted[open.checkpoint].indexes[open.index].size == at;
        let closed: Vec<_> = self.open.extract_if(.., ends).collect();
        for Open { checkpoint, index, builder } in closed {
            let built = builder.build();
            if built.root() != self.wanted[checkpoint].indexes[index] {
                return Err(self.other("they do not have its index".to_owned()));
            }
            self.links[checkpoint].indexes[index] = IntervalProof::of(&built, &self.keys);
        }
        Ok(())
    }

    fn finish(self) -> Result<CompletenessProof, QueryError> {
        if self.at < self.wanted.len() {
            let detail = format!("there are only {}", self.tree.size());
            return Err(self.other(detail));
        }
        Ok(CompletenessProof::new(self.chain.clone(), self.criteria.clone(), self.links))
    }

    /// The events are not those of the next checkpoint.
    fn other(&self, detail: String) -> QueryError {
        let size = self.wanted.get(self.at).map_or(0, Wanted::size);
        QueryError::corrupt(format!(
            "the events of chain {} are not those that the checkpoint of size {size} was signed \
             over: {detail}: run `agent-audit verify`",
            self.chain
        ))
    }
}
