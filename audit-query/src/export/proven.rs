//! Does the store hold what was signed? The tree of a chain, held against its checkpoints.

use std::path::Path;

use agent_audit_core::{checkpoint::SignedCheckpoint, hash::Hash, id::ChainId};

use super::{
    output::failed,
    pages::Pages,
    progress::Ticker,
    range,
    tree::{GrowingTree, Tree},
};
use crate::{Filter, Found, Ledger, QueryError};

/// The tree of a chain as far as its last checkpoint reaches, whose root it has.
pub(super) struct Proven {
    tree: Tree,
    checkpoint: SignedCheckpoint,
    dir: std::path::PathBuf,
}

impl Proven {
    /// Reads all events of a chain that its checkpoints cover; nothing where none covers any.
    ///
    /// The tree must have the root of every checkpoint.
    pub(super) async fn read(
        ledger: &Ledger,
        chain: &ChainId,
        checkpoints: &[SignedCheckpoint],
        dir: &Path,
        ticker: &mut Ticker<'_>,
    ) -> Result<Option<Self>, QueryError> {
        let Some(last) = checkpoints.last().filter(|last| last.unverified().size > 0) else {
            return Ok(None);
        };
        let size = last.unverified().size;
        let mut ahead = checkpoints.iter().map(SignedCheckpoint::unverified).peekable();
        let mut tree = GrowingTree::new_in(dir).map_err(|e| failed("keep hashes in", dir, e))?;
        let mut link = Link::new(ledger, chain);
        let filter = Filter::new().chain(chain.clone()).to_sequence(size);
        let mut pages = Pages::new(ledger, filter, false);
        loop {
            let page = pages.next().await?;
            for found in &page {
                link.follow(found, tree.size())?;
                tree.push(*found.hash()).map_err(|e| failed("keep hashes in", dir, e))?;
                while let Some(checkpoint) = ahead.next_if(|next| next.size <= tree.size()) {
                    if checkpoint.size == tree.size() && checkpoint.root != tree.root() {
                        return Err(disagrees(
                            ledger,
                            chain,
                            &format!(
                                "its events do not have the root that the signed checkpoint of size {} \
                             states",
                                checkpoint.size
                            ),
                        ));
                    }
                }
            }
            ticker.hashed(page.len());
            if page.is_empty() {
                break;
            }
        }
        if tree.size() < size {
            return Err(disagrees(
                ledger,
                chain,
                &format!(
                    "it holds {} of its events, and a signed checkpoint states that there were {size}: \
                 either it has not caught up yet, or its end was cut off",
                    tree.size()
                ),
            ));
        }
        let tree = tree.finish().map_err(|error| failed("keep hashes in", dir, error))?;
        Ok(Some(Self { tree, checkpoint: last.clone(), dir: dir.to_owned() }))
    }

    pub(super) fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// How many events are proved.
    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Whether the tree has this event at its position, which the checkpoint covers.
    pub(super) fn holds(&self, found: &Found) -> Result<bool, QueryError> {
        let leaf = self.tree.leaf(found.sequence()).map_err(|error| self.failed(error))?;
        Ok(leaf == *found.hash())
    }

    /// The proof of the positions from the first to the last of these.
    pub(super) fn prove(&self, first: u64, last: u64) -> Result<Vec<Hash>, QueryError> {
        let subtree = |start, end| self.tree.subtree(start, end);
        range::prove(first, last + 1, self.size(), &subtree).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> QueryError {
        failed("read hashes from", &self.dir, error)
    }
}

/// Each event follows the one before.
struct Link<'a> {
    ledger: &'a Ledger,
    chain: &'a ChainId,
    head: Hash,
}

impl<'a> Link<'a> {
    fn new(ledger: &'a Ledger, chain: &'a ChainId) -> Self {
        Self { ledger, chain, head: Hash::ZERO }
    }

    fn follow(&mut self, found: &Found, expected: u64) -> Result<(), QueryError> {
        if found.sequence() != expected {
            let what = format!("it holds no event at position {expected}, and later ones");
            return Err(disagrees(self.ledger, self.chain, &what));
        }
        if previous_hash(found)? != self.head {
            let what = format!("event {} does not follow the one before", found.event_id());
            return Err(disagrees(self.ledger, self.chain, &what));
        }
        self.head = *found.hash();
        Ok(())
    }
}

/// The hash that an event keeps of the one before.
pub(super) fn previous_hash(found: &Found) -> Result<Hash, QueryError> {
    let view = found.record().view().map_err(|error| {
        QueryError::corrupt(format!("event {} cannot be read", found.event_id())).with_source(error)
    })?;
    Ok(view.previous_event_hash)
}

/// The store does not hold what was signed.
pub(super) fn disagrees(ledger: &Ledger, chain: &ChainId, what: &str) -> QueryError {
    QueryError::corrupt(format!(
        "{} does not agree with what was signed of chain {}/{chain}: {what}; nothing was exported, \
         run `agent-audit verify`",
        ledger.store_name(),
        ledger.tenant()
    ))
}
