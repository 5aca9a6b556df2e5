//! The writers' signed checkpoints, where the caller keeps copies of them.
//!
//! Files of lines as in a log's `checkpoints/`; directories are searched with those in them. Each run
//! reads the lines once and remembers where they stand, 40 bytes for each; signatures are checked of
//! those that a chain is held against.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{CheckpointErrorKind, SignedCheckpoint, chain_origin},
    id::{ChainId, TenantId},
    key::VerifyingKey,
    verify::{CheckpointSource, Checkpoints, Finding, FindingKind},
};
use serde::Deserialize;

use super::WatchError;

/// The longest line: a note of the largest size, escaped.
const MAX_LINE: u64 = 8 << 20;
/// How deep directories are searched.
const DEPTH: u32 = 3;
/// How many faults of lines are told one by one.
const MAX_FINDINGS: usize = 100;

#[derive(Deserialize)]
struct Line {
    chain_id: ChainId,
    note: String,
    tenant_id: TenantId,
}

/// Where a checkpoint stands, and which size it says.
#[derive(Debug, Clone, Copy)]
struct Spot {
    file: usize,
    offset: u64,
    length: u64,
    size: u64,
}

/// The checkpoints by chain.
#[derive(Debug)]
pub(super) struct Writers {
    keys: Vec<VerifyingKey>,
    files: Vec<PathBuf>,
    spots: HashMap<ChainId, Vec<Spot>>,
    pub(super) findings: Vec<Finding>,
}

impl Writers {
    pub(super) fn read(paths: &[PathBuf], keys: &[VerifyingKey]) -> Result<Self, WatchError> {
        let mut files = Vec::new();
        for path in paths {
            collect(path, DEPTH, &mut files)?;
        }
        let (spots, findings) = (HashMap::new(), Vec::new());
        let mut writers = Self { keys: keys.to_vec(), files, spots, findings };
        for file in 0..writers.files.len() {
            writers.index(file)?;
        }
        Ok(writers)
    }

    fn index(&mut self, file: usize) -> Result<(), WatchError> {
        let path = self.files[file].clone();
        let fail = |error| WatchError::io("read", &path, error);
        let mut reader = BufReader::new(File::open(&path).map_err(fail)?);
        let (mut line, mut offset) = (Vec::new(), 0);
        for number in 1u64.. {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(fail)?;
            let length = u64::try_from(read).unwrap_or(u64::MAX);
            if line.last() != Some(&b'\n') {
                if length >= MAX_LINE {
                    let detail =
                        format!("line {number} of `{}` is too long to be read", path.display());
                    self.findings.push(Finding::new(FindingKind::BadCheckpoint, detail));
                }
                // A last line without its end was never promised to anybody.
                break;
            }
            match parse(&line) {
                Some((line, signed)) => {
                    let size = signed.unverified().size;
                    let spot = Spot { file, offset, length, size };
                    self.spots.entry(line.chain_id).or_default().push(spot);
                }
                None if self.findings.len() < MAX_FINDINGS => {
                    let detail =
                        format!("line {number} of `{}` is not a checkpoint", path.display());
                    self.findings.push(Finding::new(FindingKind::BadCheckpoint, detail));
                }
                None => {}
            }
            offset += length;
        }
        Ok(())
    }

    pub(super) fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    /// Adds the checkpoints of a chain from this size on that can be believed; returns the largest
    /// size among them, and what is to be said of the others.
    pub(super) fn add_to(
        &self,
        checkpoints: &mut Checkpoints,
        chain: &ChainRef,
        from: u64,
    ) -> Result<(u64, Vec<Finding>), WatchError> {
        let (mut largest, mut findings) = (0, Vec::<Finding>::new());
        let origin = chain_origin(chain.chain_id.as_str());
        let spots = self.spots.get(&chain.chain_id).map_or(&[][..], Vec::as_slice);
        let mut file: Option<(usize, File)> = None;
        for spot in spots.iter().filter(|spot| spot.size >= from) {
            let line = self.line(&mut file, spot)?;
            let Some((line, signed)) = parse(&line) else { continue };
            let verified = signed.verify(&origin, &self.keys);
            let (kind, what) = match verified {
                Ok(_) if line.tenant_id == chain.tenant_id => {
                    largest = largest.max(spot.size);
                    checkpoints.add_signed(&signed, CheckpointSource::Separate);
                    continue;
                }
                Ok(_) => (
                    FindingKind::Foreign,
                    format!("says that the chain belongs to tenant {}", line.tenant_id),
                ),
                Err(error) => match error.kind() {
                    CheckpointErrorKind::UnknownKey => (
                        FindingKind::UnknownKey,
                        "is not signed by a trusted key; give the key that signs this chain's \
                         checkpoints"
                            .to_owned(),
                    ),
                    CheckpointErrorKind::BadSignature => (
                        FindingKind::BadSignature,
                        "was changed: its signature does not verify".to_owned(),
                    ),
                    CheckpointErrorKind::ForeignOrigin => {
                        (FindingKind::Foreign, format!("is of another chain: {error}"))
                    }
                    _ => (FindingKind::BadCheckpoint, format!("cannot be used: {error}")),
                },
            };
            // One of a kind is enough: a key that nobody named signed all of them.
            if !findings.iter().any(|finding| finding.kind == kind) {
                let detail = format!("the writer's checkpoint of size {} {what}", spot.size);
                let place = self.files[spot.file].display().to_string();
                findings.push(Finding::new(kind, detail).in_chain(chain).in_place(place));
            }
        }
        Ok((largest, findings))
    }

    fn line(&self, open: &mut Option<(usize, File)>, spot: &Spot) -> Result<Vec<u8>, WatchError> {
        let path = &self.files[spot.file];
        let fail = |error| WatchError::io("read", path, error);
        let file = match open {
            Some((at, file)) if *at == spot.file => file,
            _ => &mut open.insert((spot.file, File::open(path).map_err(fail)?)).1,
        };
        file.seek(SeekFrom::Start(spot.offset)).map_err(fail)?;
        let mut line = vec![0; usize::try_from(spot.length).unwrap_or(0)];
        file.read_exact(&mut line).map_err(fail)?;
        Ok(line)
    }
}

fn parse(line: &[u8]) -> Option<(Line, SignedCheckpoint)> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let signed = SignedCheckpoint::parse(&line.note).ok()?;
    Some((line, signed))
}

/// The files of lines at a path, in order.
fn collect(path: &Path, depth: u32, files: &mut Vec<PathBuf>) -> Result<(), WatchError> {
    let fail = |error| WatchError::io("read", path, error);
    if !std::fs::metadata(path).map_err(fail)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut items = Vec::new();
    for item in std::fs::read_dir(path).map_err(fail)? {
        items.push(item.map_err(fail)?.path());
    }
    items.sort_unstable();
    for item in items {
        let is_dir = std::fs::metadata(&item).map_err(fail)?.is_dir();
        if is_dir && depth > 0 {
            collect(&item, depth - 1, files)?;
        } else if item.extension().is_some_and(|end| end == "ndjson") {
            files.push(item);
        }
    }
    Ok(())
}
