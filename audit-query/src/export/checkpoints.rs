//! The signed checkpoints of a tenant's chains, as a log keeps them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use agent_audit_core::{
    checkpoint::{SignedCheckpoint, chain_origin},
    id::{ChainId, TenantId},
    key::VerifyingKey,
};
use serde::{Deserialize, Serialize};

use crate::{QueryError, QueryErrorKind};

/// One line of a file of checkpoints.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CheckpointLine {
    pub(super) chain_id: ChainId,
    pub(super) note: String,
    pub(super) tenant_id: TenantId,
}

/// The signed checkpoints of one tenant's chains, each verified when it is taken up.
///
/// Read from files as a log writes them into `checkpoints/`, or copies of these that were kept
/// elsewhere: one JSON object a line, with `tenant_id`, `chain_id` and `note`. Lines about other
/// tenants are passed over, and so is a last line without its line feed.
///
/// ```
/// use agent_audit_core::{checkpoint::Checkpoint, key::SigningKey, tree::EMPTY_ROOT};
/// use agent_audit_query::export::LogCheckpoints;
///
/// let key = SigningKey::generate()?;
/// let note = Checkpoint::new("agent-audit/chain/c-1", 0, EMPTY_ROOT).sign(&key)?.to_string();
/// let mut checkpoints = LogCheckpoints::trusting("acme".parse()?, [key.verifying_key()]);
/// checkpoints.add("c-1".parse()?, &note)?;
/// assert_eq!(checkpoints.len(), 1);
///
/// let mut others = LogCheckpoints::trusting("acme".parse()?, []);
/// let error = others.add("c-1".parse()?, &note).unwrap_err();
/// assert!(error.to_string().contains("give every key"), "{error}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct LogCheckpoints {
    tenant: TenantId,
    keys: Vec<VerifyingKey>,
    /// Sorted by size, one for each size.
    by_chain: BTreeMap<ChainId, Vec<SignedCheckpoint>>,
}

impl LogCheckpoints {
    /// None yet; those are taken up that one of these keys signed.
    #[must_use]
    pub fn trusting(tenant: TenantId, keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        Self { tenant, keys: keys.into_iter().collect(), by_chain: BTreeMap::new() }
    }

    /// Reads a file, or all `*.ndjson` files of a directory and of the directories in it.
    ///
    /// # Errors
    /// Where a file cannot be read, a line is none of checkpoints, or as [`add`](Self::add).
    pub fn read(&mut self, path: &Path) -> Result<(), QueryError> {
        for file in files(path)? {
            self.read_file(&file)?;
        }
        Ok(())
    }

    /// Takes up a signed note.
    ///
    /// # Errors
    /// [`Corrupt`](QueryErrorKind::Corrupt) where it is no checkpoint of this chain, no given key
    /// signed it, its signature does not verify, or another one of the same size has another root.
    pub fn add(&mut self, chain: ChainId, note: &str) -> Result<(), QueryError> {
        let wrong = |what: String| {
            QueryError::corrupt(format!("a checkpoint of chain {}/{chain} {what}", self.tenant))
        };
        let signed: SignedCheckpoint = note.parse().map_err(|error| {
            wrong("cannot be read: restore it from a copy".to_owned()).with_source(error)
        })?;
        let size = signed.unverified().size;
        if let Err(error) = signed.verify(&chain_origin(chain.as_str()), &self.keys) {
            let what = format!(
                "of size {size} cannot be relied on; give every key that signs this log's \
                 checkpoints, and run `agent-audit verify`"
            );
            return Err(wrong(what).with_source(error));
        }
        let known = self.by_chain.entry(chain.clone()).or_default();
        let at = known.partition_point(|other| other.unverified().size < size);
        match known.get(at).map(SignedCheckpoint::unverified) {
            Some(other) if other.size == size && other.root != signed.unverified().root => {
                Err(wrong(format!(
                    "of size {size} has another root than a second one of that size: the holder of \
                     the key signed two histories; run `agent-audit verify`"
                )))
            }
            // Of two that say the same, the one with an index of events says more.
            Some(other) if other.size == size => {
                if other.extensions.is_empty() {
                    known[at] = signed;
                }
                Ok(())
            }
            _ => {
                known.insert(at, signed);
                Ok(())
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_chain.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Those of a chain, the smallest first.
    #[must_use]
    pub fn of(&self, chain: &ChainId) -> &[SignedCheckpoint] {
        self.by_chain.get(chain).map_or(&[], Vec::as_slice)
    }

    /// The chains that there is one of, sorted.
    pub fn chains(&self) -> impl Iterator<Item = &ChainId> {
        self.by_chain.keys()
    }

    /// The key that signed a checkpoint that was taken up.
    pub(super) fn signer(&self, signed: &SignedCheckpoint) -> Option<&VerifyingKey> {
        let origin = &signed.unverified().origin;
        self.keys.iter().find(|key| signed.verify(origin, &[**key]).is_ok())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), QueryError> {
        let file = fs::File::open(path).map_err(|error| unreadable(path, error))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        for number in 1u64.. {
            line.clear();
            reader.read_until(b'\n', &mut line).map_err(|error| unreadable(path, error))?;
            if line.pop() != Some(b'\n') {
                break;
            }
            let read: CheckpointLine = serde_json::from_slice(&line).map_err(|error| {
                let what = format!("line {number} of `{}` is not a checkpoint", path.display());
                QueryError::corrupt(what).with_source(error)
            })?;
            if read.tenant_id == self.tenant {
                self.add(read.chain_id, &read.note)?;
            }
        }
        Ok(())
    }
}

/// A file, or the files of checkpoints of a directory.
pub(super) fn files(path: &Path) -> Result<Vec<PathBuf>, QueryError> {
    let is_dir = |path: &Path| fs::metadata(path).map(|meta| meta.is_dir());
    if !is_dir(path).map_err(|error| unreadable(path, error))? {
        return Ok(vec![path.to_owned()]);
    }
    let list = |dir: &Path| -> Result<Vec<PathBuf>, QueryError> {
        let items = fs::read_dir(dir).map_err(|error| unreadable(dir, error))?;
        let paths = items.map(|item| item.map(|item| item.path()));
        let mut paths = paths.collect::<Result<Vec<_>, _>>().map_err(|e| unreadable(dir, e))?;
        paths.sort();
        Ok(paths)
    };
    let mut files = Vec::new();
    for path in list(path)? {
        if is_dir(&path).map_err(|error| unreadable(&path, error))? {
            files.extend(list(&path)?);
        } else {
            files.push(path);
        }
    }
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
    if files.is_empty() {
        return Err(QueryError::new(
            QueryErrorKind::NotFound,
            format!(
                "`{}` has no *.ndjson file: give the directory that the log keeps its checkpoints \
                 in",
                path.display()
            ),
        ));
    }
    Ok(files)
}

fn unreadable(path: &Path, error: std::io::Error) -> QueryError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => QueryErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => QueryErrorKind::PermissionDenied,
        _ => QueryErrorKind::Other,
    };
    QueryError::new(kind, format!("cannot read the checkpoints `{}`", path.display()))
        .with_source(error)
}
