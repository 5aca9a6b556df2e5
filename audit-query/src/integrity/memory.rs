//! What the job remembers of a tenant from one run to the next, under its own signature.
//!
//! ```text
//! {"memory":{…},"note":"<C2SP signed note>"}
//! ```
//!
//! The note's text is its key name, `agent-audit/integrity/memory`, and the leaf hash of the memory's bytes, a line each. One file a
//! tenant, replaced as a whole once the tenant has been checked.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use agent_audit_core::{
    hash,
    id::{ChainId, TenantId},
    key::{SigningKey, VerifyingKey},
    note::{NoteErrorKind, NoteVerifier, SignedNote},
    timestamp::Timestamp,
    verify::{ChainState, FindingKind},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    ChainEntry, WatchError, disk,
    log::{Problem, Tail},
};

const FORMAT: u32 = 1;

/// What is remembered of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    format: u32,
    pub(super) tenant_id: TenantId,
    /// The origin of the tenant's log of states, and how far it had come.
    pub(super) origin: String,
    pub(super) tail: Tail,
    /// When the last state was signed.
    pub(super) at: Option<Timestamp>,
    pub(super) chains: BTreeMap<ChainId, ChainMemory>,
}

/// What is remembered of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChainMemory {
    /// How far it has been verified in any store: what the tenant's checkpoint says of it.
    pub(super) known: Option<ChainEntry>,
    /// How many records the writer's signed checkpoints cover.
    #[serde(default)]
    pub(super) vouched: u64,
    /// When it was seen first.
    pub(super) since: Option<Timestamp>,
    /// How far it has been verified in each store, by the store's name.
    pub(super) copies: BTreeMap<String, CopyMemory>,
}

/// What is remembered of a chain in one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopyMemory {
    pub(super) state: Option<ChainState>,
    /// When its last record was recorded, in nanoseconds since 1970, and whether that closes it.
    pub(super) last_at: i64,
    pub(super) closed: bool,
    /// Since when the store has been known to lack what another one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) behind: Option<Timestamp>,
}

impl CopyMemory {
    pub(super) fn size(&self) -> u64 {
        self.state.as_ref().map_or(0, ChainState::size)
    }
}

/// What is found where the memory of a tenant should be.
#[derive(Debug)]
pub(super) enum Remembered {
    Nothing,
    /// It is not what the job wrote.
    Bad(Problem),
    Memory(Box<Memory>),
}

#[derive(Serialize)]
struct Written<'a> {
    memory: &'a RawValue,
    note: String,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    memory: &'a RawValue,
    #[serde(borrow)]
    note: Cow<'a, str>,
}

/// The name under which memories are signed.
const NAME: &str = "agent-audit/integrity/memory";

/// Who signs.
#[derive(Debug)]
pub(super) struct Seal<'a> {
    pub(super) key: &'a SigningKey,
    pub(super) keys: &'a [VerifyingKey],
}

impl Memory {
    pub(super) fn new(tenant_id: TenantId, origin: String, tail: Tail) -> Self {
        Self { format: FORMAT, tenant_id, origin, tail, at: None, chains: BTreeMap::new() }
    }

    pub(super) fn load(path: &Path, seal: &Seal<'_>) -> Result<Remembered, WatchError> {
        let Some(bytes) = disk::read(path)? else { return Ok(Remembered::Nothing) };
        Ok(match Self::parse(&bytes, seal) {
            Ok(memory) => Remembered::Memory(Box::new(memory)),
            Err((kind, why)) => {
                let what = format!(
                    "what the job remembers in `{}` is not what it wrote: {why}",
                    path.display()
                );
                Remembered::Bad(Problem { kind, what })
            }
        })
    }

    fn parse(bytes: &[u8], seal: &Seal<'_>) -> Result<Self, (FindingKind, String)> {
        let changed = |why: String| (FindingKind::StateRolledBack, why);
        let file: File<'_> =
            serde_json::from_slice(bytes).map_err(|error| changed(error.to_string()))?;
        let note = SignedNote::parse(&file.note).map_err(|error| changed(error.to_string()))?;
        let known: Result<Vec<_>, _> =
            seal.keys.iter().map(|key| NoteVerifier::new(NAME, *key)).collect();
        let known = known.map_err(|error| changed(error.to_string()))?;
        note.verify(&known).map_err(|error| match error.kind() {
            NoteErrorKind::UnknownKey => (FindingKind::UnknownKey, error.to_string()),
            NoteErrorKind::BadSignature => (FindingKind::BadSignature, error.to_string()),
            _ => changed(error.to_string()),
        })?;
        if note.text() != text(file.memory) {
            return Err(changed("its signature is of another content".to_owned()));
        }
        let memory: Self = serde_json::from_str(file.memory.get())
            .map_err(|error| changed(format!("{error}; a later release may have written it")))?;
        match memory.format {
            FORMAT => Ok(memory),
            other => {
                Err(changed(format!("format {other} is unknown, this program reads {FORMAT}")))
            }
        }
    }

    pub(super) fn save(&self, path: &Path, seal: &Seal<'_>) -> Result<(), WatchError> {
        let bad = |error: &dyn std::fmt::Display| {
            WatchError::damaged(format!("what the job remembers cannot be signed: {error}"))
        };
        let memory = serde_json::value::to_raw_value(self).map_err(|error| bad(&error))?;
        let note = SignedNote::sign(text(&memory), NAME, seal.key);
        let note = note.map_err(|error| bad(&error))?.to_string();
        let file = serde_json::to_vec(&Written { memory: &memory, note });
        disk::replace(path, &file.map_err(|error| bad(&error))?)
    }
}

fn text(memory: &RawValue) -> String {
    format!("{NAME}\n{}\n", hash::leaf(memory.get().as_bytes()))
}
