//! Signed checkpoints in files of their own.
//!
//! `NNNNNN.ndjson`, numbered from 000001, each up to 64 MiB. A line is
//!
//! ```text
//! {"chain_id":"…","note":"<C2SP signed note>","tenant_id":"…"}
//! ```
//!
//! The note is a [checkpoint](crate::checkpoint) of the chain. Lines are only ever appended; a last
//! line without its newline was never promised to anybody and is cut.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::layout;
use crate::{
    checkpoint::{Checkpoint, SignedCheckpoint, chain_origin},
    error::AuditError,
    hash::Hash,
    id::{ChainId, TenantId},
    index::IndexRoot,
    key::SigningKey,
    sink::ChainRef,
};

const MAX_FILE_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Line {
    chain_id: ChainId,
    note: String,
    tenant_id: TenantId,
}

/// A chain's size and root at a moment when all of it was durable.
#[derive(Debug, Clone)]
pub(crate) struct Mark {
    pub(crate) chain: ChainRef,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    /// The indexes of the events since the checkpoint before.
    pub(crate) indexes: Vec<IndexRoot>,
}

impl Mark {
    fn checkpoint(&self) -> Checkpoint {
        let origin = chain_origin(self.chain.chain_id.as_str());
        let mut checkpoint = Checkpoint::new(origin, self.size, self.root);
        checkpoint.extensions = self.indexes.iter().map(ToString::to_string).collect();
        checkpoint
    }
}

/// Where checkpoints go.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    dir: PathBuf,
    number: u64,
    file: File,
    bytes: u64,
}

impl CheckpointFile {
    /// Opens the newest file, cutting an incomplete last line, and returns the latest checkpoint of
    /// each chain in it.
    pub(crate) fn open(dir: &Path) -> Result<(Self, HashMap<ChainId, Mark>), AuditError> {
        layout::create_dir(dir)?;
        let number = newest(dir)?.unwrap_or(1);
        let path = file_path(dir, number);
        let fail = |error| AuditError::io("open the checkpoints", &path, error);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fail(error)),
        };
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let mut latest = HashMap::new();
        for (at, line) in text[..whole].split(|&b| b == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let mark = read_line(line).ok_or_else(|| {
                AuditError::damaged(format!(
                    "line {} of `{}` is not a checkpoint: restore the file from a backup",
                    at + 1,
                    path.display()
                ))
            })?;
            latest.insert(mark.chain.chain_id.clone(), mark);
        }
        let file = append_to(&path).map_err(fail)?;
        let bytes = u64::try_from(whole).unwrap_or(u64::MAX);
        if whole < text.len() {
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
        }
        layout::sync_dir(dir).map_err(fail)?;
        Ok((Self { dir: dir.to_owned(), number, file, bytes }, latest))
    }

    /// Signs and keeps a checkpoint of each mark; all are durable when this returns.
    pub(crate) fn append(&mut self, marks: &[Mark], key: &SigningKey) -> Result<(), AuditError> {
        let mut lines = Vec::new();
        for mark in marks {
            let signed = mark.checkpoint().sign(key).map_err(|error| {
                AuditError::damaged("cannot sign a checkpoint").with_source(error)
            })?;
            let line = Line {
                chain_id: mark.chain.chain_id.clone(),
                note: signed.to_string(),
                tenant_id: mark.chain.tenant_id.clone(),
            };
            serde_json::to_writer(&mut lines, &line).expect("a checkpoint has a JSON form");
            lines.push(b'\n');
        }
        if self.bytes >= MAX_FILE_BYTES {
            self.roll()?;
        }
        let fail = |error| {
            AuditError::io("write the checkpoints", &file_path(&self.dir, self.number), error)
        };
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What was torn is cut again, so that the next line starts at the beginning of a line.
            let _ = self.file.set_len(self.bytes);
            return Err(fail(error));
        }
        self.bytes += u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn roll(&mut self) -> Result<(), AuditError> {
        let path = file_path(&self.dir, self.number + 1);
        let file = append_to(&path)
            .and_then(|file| layout::sync_dir(&self.dir).map(|()| file))
            .map_err(|error| AuditError::io("begin", &path, error))?;
        (self.number, self.file, self.bytes) = (self.number + 1, file, 0);
        Ok(())
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn file_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:06}.ndjson"))
}

fn newest(dir: &Path) -> Result<Option<u64>, AuditError> {
    let fail = |error| AuditError::io("list the checkpoints in", dir, error);
    let mut newest = None;
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".ndjson")?.parse().ok());
        newest = newest.max(number);
    }
    Ok(newest)
}

fn read_line(line: &[u8]) -> Option<Mark> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let signed: SignedCheckpoint = line.note.parse().ok()?;
    let checkpoint = signed.unverified();
    Some(Mark {
        chain: ChainRef::new(line.tenant_id, line.chain_id),
        size: checkpoint.size,
        root: checkpoint.root,
        // Whose signature has not been checked, and who wrote none, leaves no index behind.
        indexes: IndexRoot::all_of(checkpoint).unwrap_or_default(),
    })
}
