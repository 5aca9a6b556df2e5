//! From what is on disk back to the state of the chains.

use std::collections::HashMap;

use super::{chains::Chains, checkpoints::Mark, entry, layout::Layout, snapshot::Snapshot};
use crate::{
    canonical,
    error::{AuditError, AuditErrorKind},
    event, hash,
    id::ChainId,
    journal::{Journal, Recovered},
    sink::ChainRef,
};

/// The state of every chain after the last durable entry.
pub(super) fn chains(
    layout: &Layout,
    journal: &Journal,
    recovered: Recovered,
) -> Result<Chains, AuditError> {
    checked(layout, journal, recovered, None)
}

/// As [`chains`], and compared with the latest checkpoint of each chain on the way.
pub(super) fn checked(
    layout: &Layout,
    journal: &Journal,
    recovered: Recovered,
    checkpoints: Option<&HashMap<ChainId, Mark>>,
) -> Result<Chains, AuditError> {
    let (mut chains, from) = start(layout, recovered)?;
    for chain in chains.iter() {
        let state = chain.lock();
        match checkpoints.map(|all| (all.is_empty(), all.get(&chain.id.chain_id))) {
            Some((_, Some(mark)))
                if mark.size == state.next() && mark.root != state.tree.root() =>
            {
                return Err(contradiction(&chain.id, mark.size, "has other content"));
            }
            Some((true, _)) if state.checkpointed > 0 => {
                return Err(AuditError::damaged(format!(
                    "the signed checkpoints of chain {} are gone: put the files back where the \
                     log keeps its checkpoints, or move the log's directory away to start new \
                     chains",
                    chain.id
                )));
            }
            _ => {}
        }
    }
    let mut reader = journal.reader(from)?;
    let mut entry = Vec::new();
    while let Some(index) = reader.next(&mut entry)? {
        let damaged = |why: String| {
            AuditError::damaged(format!(
                "journal entry {index}: {why}: restore the log from a backup or a sink, or move the directory away to start new chains"
            ))
        };
        let record = entry::read(index, &entry)?;
        let view = canonical::scan(record.event_bytes).map_err(|e| damaged(e.to_string()))?;
        if !event::is_readable(view.schema_version) {
            return Err(AuditError::new(
                AuditErrorKind::UnknownVersion,
                format!(
                    "journal entry {index} is of schema {:?}: use the release that wrote it or a \
                     later one",
                    view.schema_version
                ),
            ));
        }
        let event_hash = hash::leaf(record.event_bytes);
        let chain = chains.replay(&view, event_hash, index).map_err(damaged)?;
        let mut state = chain.lock();
        let mark = checkpoints.and_then(|all| all.get(&chain.id.chain_id));
        let next = state.next();
        if mark.is_some_and(|mark| !mark.indexes.is_empty() && next <= mark.size) {
            // Signed up to the last checkpoint: joined to one another, the indexes leave no hole.
            state.index.signed(next);
        }
        if let Some(mark) = mark
            && mark.size == state.next()
        {
            if mark.root != state.tree.root() {
                return Err(contradiction(&chain.id, mark.size, "has other content"));
            }
            state.checkpointed = mark.size;
        }
    }
    for mark in checkpoints.into_iter().flat_map(HashMap::values) {
        let size = chains.get(&mark.chain.tenant_id).map_or(0, |chain| chain.lock().next());
        if size < mark.size {
            let why = format!("has only {size} events");
            return Err(contradiction(&mark.chain, mark.size, &why));
        }
    }
    Ok(chains)
}

fn start(layout: &Layout, recovered: Recovered) -> Result<(Chains, u64), AuditError> {
    let within = recovered.first_index..=recovered.next_index;
    match Snapshot::read(layout)? {
        Some(snapshot) if within.contains(&snapshot.entry) => {
            let from = snapshot.entry;
            Ok((snapshot.into_chains(), from))
        }
        _ if recovered.first_index == 0 => Ok((Chains::default(), 0)),
        _ => Err(AuditError::damaged(format!(
            "`{}` is missing or does not fit the journal, whose beginning has been delivered and \
             trimmed: restore it from a backup, or move the directory away to start new chains",
            layout.chains().display()
        ))),
    }
}

fn contradiction(chain: &ChainRef, size: u64, why: &str) -> AuditError {
    AuditError::damaged(format!(
        "chain {chain} {why}, but a signed checkpoint says that it had {size}: run `agent-audit \
         verify`, keep the directory as evidence, and restore the log from a backup or a sink"
    ))
}
