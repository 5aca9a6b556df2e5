//! The small files of a log directory: what it is, its keys, its checkpoints.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{chain::ChainRef, key::VerifyingKey};

use super::{
    super::{CheckpointSource, Checkpoints, Finding, FindingKind},
    Slots, VerifyError, VerifyErrorKind, VerifyOptions,
    journal::Slot,
};

/// What the small files say.
pub(super) struct LogFiles {
    pub(super) journal: PathBuf,
    pub(super) slots: Slots,
    pub(super) findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct LogJson {
    format: u64,
}

/// One line of a file of checkpoints.
#[derive(Deserialize)]
struct CheckpointLine {
    chain_id: crate::id::ChainId,
    note: String,
    tenant_id: crate::id::TenantId,
}

const FORMAT: u64 = 1;

impl LogFiles {
    pub(super) fn read(dir: &Path, options: &VerifyOptions<'_>) -> Result<Self, VerifyError> {
        check_log(dir)?;
        let mut findings = Vec::new();
        let own_keys = options.trusted_keys.is_empty();
        let keys = if own_keys {
            own_keys_of(&dir.join("keys"), &mut findings)?
        } else {
            options.trusted_keys.clone()
        };
        let mut reader = Reader { keys, own_keys, slots: Slots::new(), findings };
        for path in checkpoint_files(&dir.join("checkpoints"))? {
            reader.file(&path, CheckpointSource::Own)?;
        }
        for path in &options.checkpoint_files {
            reader.file(path, CheckpointSource::Separate)?;
        }
        Ok(Self { journal: dir.join("journal"), slots: reader.slots, findings: reader.findings })
    }
}

fn check_log(dir: &Path) -> Result<(), VerifyError> {
    let meta = fs::metadata(dir).map_err(|error| VerifyError::io(dir, error))?;
    let path = dir.join("log.json");
    let not_a_log = |why: &str| {
        VerifyError::new(
            VerifyErrorKind::NotALog,
            format!(
                "`{}` is not a log directory: {why}; give the directory that the log was opened \
                 with",
                dir.display()
            ),
        )
    };
    if !meta.is_dir() {
        return Err(not_a_log("it is not a directory"));
    }
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(not_a_log("it has no log.json"));
        }
        Err(error) => return Err(VerifyError::io(&path, error)),
    };
    match serde_json::from_slice::<LogJson>(&text) {
        Ok(LogJson { format: FORMAT }) => Ok(()),
        Ok(LogJson { format }) => Err(VerifyError::new(
            VerifyErrorKind::UnknownFormat,
            format!(
                "`{}` has format {format}, this program reads format {FORMAT}; use a newer version",
                path.display()
            ),
        )),
        Err(error) => Err(not_a_log(&format!("its log.json cannot be read ({error})"))),
    }
}

/// The keys beside the log: every `*.pub`, since a key may have been replaced. A log that has none
/// yet is no error.
fn own_keys_of(dir: &Path, findings: &mut Vec<Finding>) -> Result<Vec<VerifyingKey>, VerifyError> {
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(VerifyError::io(dir, error)),
    };
    let mut paths = Vec::new();
    for item in listed {
        let path = item.map_err(|error| VerifyError::io(dir, error))?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut keys = Vec::new();
    for path in paths {
        for key in read_keys(&path, findings)? {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

fn read_keys(path: &Path, findings: &mut Vec<Finding>) -> Result<Vec<VerifyingKey>, VerifyError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(VerifyError::io(path, error)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut keys = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.parse() {
            Ok(key) => keys.push(key),
            Err(error) => findings.push(Finding::new(
                FindingKind::UnknownKey,
                format!(
                    "the key beside the log, `{}`, cannot be read ({error}); give the key that you \
                     trust",
                    path.display()
                ),
            )),
        }
    }
    Ok(keys)
}

fn checkpoint_files(dir: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let failed = |error| VerifyError::io(dir, error);
    let items = match fs::read_dir(dir) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for item in items {
        let path = item.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

struct Reader {
    keys: Vec<VerifyingKey>,
    own_keys: bool,
    slots: Slots,
    findings: Vec<Finding>,
}

impl Reader {
    fn file(&mut self, path: &Path, source: CheckpointSource) -> Result<(), VerifyError> {
        let bytes = fs::read(path).map_err(|error| VerifyError::io(path, error))?;
        for (number, line) in (1u64..).zip(bytes.split_inclusive(|byte| *byte == b'\n')) {
            let whole = line.strip_suffix(b"\n");
            match serde_json::from_slice::<CheckpointLine>(whole.unwrap_or(line)) {
                Ok(line) => self.line(&line, source),
                Err(_) if whole.is_none() => self.findings.push(Finding::new(
                    FindingKind::TornTail,
                    format!("the last checkpoint in `{}` was not written whole", path.display()),
                )),
                Err(error) => self.findings.push(Finding::new(
                    FindingKind::BadCheckpoint,
                    format!("line {number} of `{}` is not a checkpoint: {error}", path.display()),
                )),
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &CheckpointLine, source: CheckpointSource) {
        let chain = ChainRef::new(line.tenant_id.clone(), line.chain_id.clone());
        let slot = self.slots.entry(line.chain_id.as_str().into()).or_insert_with(|| {
            let checkpoints = Checkpoints::trusting(&chain, self.keys.clone());
            let checkpoints =
                if self.own_keys { checkpoints.with_keys_from_log() } else { checkpoints };
            Slot::new(chain.clone(), checkpoints)
        });
        if slot.chain != chain {
            let detail = format!(
                "a checkpoint says that the chain belongs to tenant {}, and another that it \
                 belongs to {}",
                chain.tenant_id, slot.chain.tenant_id
            );
            let finding = Finding::new(FindingKind::Foreign, detail).in_chain(&chain);
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        slot.checkpoints.add(&line.note, source);
    }
}
