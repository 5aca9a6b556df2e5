//! `chains.json`: the state of every chain at one journal entry.
//!
//! One JSON object a line: first `{"format":1,"entry":E,"chains":N}`, then N chains, then
//! `{"sha256":"…"}` over all bytes before that line. The state covers the journal's entries before
//! E; opening reads the journal from E on. The file is only a shortcut: while the journal still has
//! its first entry, a missing or damaged one costs time and nothing else. Once the journal's
//! beginning has been trimmed it is needed, so it is replaced as a whole and synced before any trim.

use std::fs;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    chains::{Chain, ChainState, Chains},
    layout::{self, Layout},
};
use crate::{
    canonical::MAX_INTEGER,
    error::AuditError,
    hash::Hash,
    id::{ChainId, TenantId},
    index::Pending,
    sink::ChainRef,
};

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    entry: u64,
    chains: usize,
}

#[derive(Serialize, Deserialize)]
struct Line {
    tenant_id: TenantId,
    chain_id: ChainId,
    state: ChainState,
}

#[derive(Serialize, Deserialize)]
struct Seal {
    sha256: Hash,
}

/// The state of the chains before a journal entry.
pub(crate) struct Snapshot {
    pub(crate) entry: u64,
    pub(crate) chains: Vec<(ChainRef, ChainState)>,
}

impl Snapshot {
    /// What the chains are now. The caller keeps everybody from changing them.
    pub(crate) fn of(chains: &Chains, entry: u64) -> Self {
        let chains = chains.iter().map(|chain| (chain.id.clone(), chain.lock().clone())).collect();
        Self { entry, chains }
    }

    /// Writes the file; every entry before [`entry`](Self::entry) is durable by then.
    pub(crate) fn write(&self, layout: &Layout) -> Result<(), AuditError> {
        let mut out = Vec::new();
        let mut line = |value: &dyn Fn(&mut Vec<u8>) -> serde_json::Result<()>| {
            value(&mut out).expect("the state of a chain has a JSON form");
            out.push(b'\n');
        };
        let header = Header { format: 1, entry: self.entry, chains: self.chains.len() };
        line(&|out| serde_json::to_writer(out, &header));
        for (id, state) in &self.chains {
            let entry = Line {
                tenant_id: id.tenant_id.clone(),
                chain_id: id.chain_id.clone(),
                state: state.clone(),
            };
            line(&|out| serde_json::to_writer(out, &entry));
        }
        let seal = Seal { sha256: Hash::from_bytes(Sha256::digest(&out).into()) };
        serde_json::to_writer(&mut out, &seal).expect("a hash has a JSON form");
        out.push(b'\n');
        layout::replace(&layout.chains(), &out)
    }

    /// Reads the file. `None` where there is none or it is not whole.
    pub(crate) fn read(layout: &Layout) -> Result<Option<Self>, AuditError> {
        let path = layout.chains();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AuditError::io("read", &path, error)),
        };
        let snapshot = parse(&bytes);
        if snapshot.is_none() {
            tracing::warn!(path = %path.display(), "the snapshot of the chains is damaged; it is not used");
        }
        Ok(snapshot)
    }

    pub(crate) fn into_chains(self) -> Chains {
        let mut chains = Chains::default();
        for (id, state) in self.chains {
            chains.insert(Chain::new(id, state));
        }
        chains
    }
}

fn parse(bytes: &[u8]) -> Option<Snapshot> {
    let body = bytes.strip_suffix(b"\n")?;
    let seal_at = body.iter().rposition(|&b| b == b'\n')? + 1;
    let seal: Seal = serde_json::from_slice(&body[seal_at..]).ok()?;
    if Hash::from_bytes(Sha256::digest(&body[..seal_at]).into()) != seal.sha256 {
        return None;
    }
    let mut lines = body[..seal_at - 1].split(|&b| b == b'\n');
    let header: Header = serde_json::from_slice(lines.next()?).ok()?;
    let mut chains: Vec<_> = lines
        .map(|line| serde_json::from_slice::<Line>(line).ok())
        .map(|line| line.map(|l| (ChainRef::new(l.tenant_id, l.chain_id), l.state)))
        .collect::<Option<_>>()?;
    for (_, state) in &mut chains {
        if state.index.next() != state.next() {
            // Written by a release that kept no index: it begins here, and what is before stays out.
            state.index = Pending::starting_at(state.next());
        }
    }
    let possible = |(_, state): &(ChainRef, ChainState)| {
        state.next() <= MAX_INTEGER
            && state.checkpointed <= state.next()
            && state.announced_at.is_none_or(|at| at < header.entry)
    };
    (header.format == 1 && header.chains == chains.len() && chains.iter().all(possible))
        .then_some(Snapshot { entry: header.entry, chains })
}
