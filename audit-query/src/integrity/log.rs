//! An append-only log of states, each under a signed checkpoint: one file of lines.
//!
//! ```text
//! {"format":1,"origin":"…", …}                     the header
//! {"note":"<C2SP checkpoint>","state":{…}}         state 0, size 1
//! {"note":"<C2SP checkpoint>","state":{…}}         state 1, size 2
//! ```
//!
//! A state stands in its line verbatim; its leaf hash is SHA-256(0x00 ‖ its bytes). It names its
//! number, the origin and the leaf hash of the state before. The checkpoint behind it has the size
//! `number + 1` and the RFC 6962 root over all leaf hashes so far. A last line that is not whole was
//! never promised to anybody and is cut.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use agent_audit_core::{
    checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint},
    hash::{self, Hash},
    id::TenantId,
    key::{SigningKey, VerifyingKey},
    tree::CompactRange,
    verify::FindingKind,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{WatchError, WatchErrorKind, disk};

const FORMAT: u32 = 1;
/// The longest header.
const MAX_HEADER: u64 = 1 << 16;
/// The longest line: the state of a million chains.
const MAX_LINE: u64 = 1 << 29;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    format: u32,
    pub(super) origin: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tenant_id: Option<TenantId>,
    /// What this log takes the place of, where that one could not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) follows: Option<Follows>,
}

/// The last that was known of a log that could not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Follows {
    /// Its leaf hash, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<Hash>,
    pub(super) number: u64,
    pub(super) origin: String,
}

impl Header {
    pub(super) fn new(
        origin: String,
        tenant_id: Option<TenantId>,
        follows: Option<Follows>,
    ) -> Self {
        Self { format: FORMAT, origin, tenant_id, follows }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    note: Cow<'a, str>,
    #[serde(borrow)]
    state: &'a RawValue,
}

/// What every state says of its place.
#[derive(Deserialize)]
struct Place<'a> {
    number: u64,
    #[serde(borrow)]
    origin: Cow<'a, str>,
    previous: Hash,
}

/// How far a log has been followed: all it takes to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) tree: CompactRange,
    /// The leaf hash of the last state; zeros where there is none.
    pub(super) last: Hash,
    /// Where the line of the last state begins, and where it ends.
    line: u64,
    end: u64,
}

impl Tail {
    /// How many states there are.
    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }
}

/// Why a log is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) kind: FindingKind,
    pub(super) what: String,
}

impl Problem {
    fn new(kind: FindingKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

/// What is found at the path of a log.
#[derive(Debug)]
pub(super) enum Opened {
    Missing,
    /// It has no header that can be read.
    Damaged(String),
    Log(StateLog),
}

/// A log of states on disk.
#[derive(Debug)]
pub(super) struct StateLog {
    path: PathBuf,
    pub(super) header: Header,
    /// Where the first state begins.
    start: u64,
}

impl StateLog {
    /// Begins a log.
    pub(super) fn create(path: PathBuf, header: Header) -> Result<Self, WatchError> {
        let mut line = serde_json::to_vec(&header).expect("a header has a JSON form");
        line.push(b'\n');
        disk::replace(&path, &line)?;
        let start = line.len().try_into().expect("a header is short");
        Ok(Self { path, header, start })
    }

    /// Opens a log, and cuts a last line that is not whole.
    pub(super) fn open(path: PathBuf) -> Result<Opened, WatchError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Opened::Missing);
            }
            Err(error) => return Err(WatchError::io("open", &path, error)),
        };
        let mut line = Vec::new();
        let read = BufReader::new(file).take(MAX_HEADER).read_until(b'\n', &mut line);
        read.map_err(|error| WatchError::io("read", &path, error))?;
        let damaged = |why: String| Ok(Opened::Damaged(format!("`{}` {why}", path.display())));
        if line.last() != Some(&b'\n') {
            return damaged("has no first line that says what it is".to_owned());
        }
        let header: Header = match serde_json::from_slice(&line) {
            Ok(header) => header,
            Err(error) => return damaged(format!("has no header that can be read: {error}")),
        };
        if header.format != FORMAT {
            return Err(WatchError::new(
                WatchErrorKind::UnknownVersion,
                format!(
                    "`{}` has format {}, this program reads {FORMAT}: use the release that wrote it",
                    path.display(),
                    header.format
                ),
            ));
        }
        let start = line.len().try_into().expect("a header is short");
        let log = Self { path, header, start };
        log.cut_torn_line()?;
        Ok(Opened::Log(log))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a log without a state stands.
    pub(super) fn beginning(&self) -> Tail {
        let (tree, last) = (CompactRange::new(), Hash::ZERO);
        Tail { tree, last, line: self.start, end: self.start }
    }

    /// Whether the last state is still where it was; gives its bytes.
    pub(super) fn last(
        &self,
        tail: &Tail,
        keys: &[VerifyingKey],
    ) -> Result<Result<Option<Vec<u8>>, Problem>, WatchError> {
        let Some(number) = tail.size().checked_sub(1) else { return Ok(Ok(None)) };
        let gone = || {
            let kind = FindingKind::StateRolledBack;
            let what = format!("state {number} is no longer where it was written");
            Problem::new(
                kind,
                format!("{what}: the file was cut, or an older copy put in its place"),
            )
        };
        let Some(line) = self.lines(tail.line)?.next_line()? else { return Ok(Err(gone())) };
        let Some((note, state)) = parse(&line) else { return Ok(Err(gone())) };
        if hash::leaf(state) != tail.last {
            return Ok(Err(gone()));
        }
        Ok(check_note(&note, &self.header.origin, keys, &tail.tree)
            .map(|_| Some(state.to_vec()))
            .map_err(|problem| problem.at(number)))
    }

    /// Reads on behind a tail and checks each state and its checkpoint, up to the first that is not
    /// as it was written.
    pub(super) fn follow(
        &self,
        tail: &mut Tail,
        keys: &[VerifyingKey],
        each: &mut dyn FnMut(&[u8], SignedCheckpoint),
    ) -> Result<Option<Problem>, WatchError> {
        let mut lines = self.lines(tail.end)?;
        while let Some(line) = lines.next_line()? {
            let number = tail.size();
            let mut next = tail.clone();
            match self.step(&mut next, &line, keys) {
                Ok((state, note)) => each(state, note),
                Err(problem) => return Ok(Some(problem.at(number))),
            }
            next.line = tail.end;
            next.end = lines.at;
            *tail = next;
        }
        Ok(None)
    }

    fn step<'l>(
        &self,
        tail: &mut Tail,
        line: &'l [u8],
        keys: &[VerifyingKey],
    ) -> Result<(&'l [u8], SignedCheckpoint), Problem> {
        let changed = |what: String| Problem::new(FindingKind::Tampered, what);
        let (note, state) =
            parse(line).ok_or_else(|| changed("is not a state and its checkpoint".to_owned()))?;
        let place: Place<'_> = serde_json::from_slice(state)
            .map_err(|error| changed(format!("does not say its place: {error}")))?;
        if place.origin != self.header.origin {
            let what = format!("belongs to another log, {:?}", short(&place.origin));
            return Err(Problem::new(FindingKind::Foreign, what));
        }
        if (place.number, place.previous) != (tail.size(), tail.last) {
            let what =
                format!("does not follow the state before it: it says number {}", place.number);
            return Err(changed(what));
        }
        tail.last = hash::leaf(state);
        tail.tree.push(tail.last);
        Ok((state, check_note(&note, &self.header.origin, keys, &tail.tree)?))
    }

    /// Appends a state and its checkpoint; durable on return.
    pub(super) fn append(
        &self,
        tail: &mut Tail,
        state: &[u8],
        key: &SigningKey,
    ) -> Result<SignedCheckpoint, WatchError> {
        let leaf = hash::leaf(state);
        let mut tree = tail.tree.clone();
        tree.push(leaf);
        let checkpoint = Checkpoint::new(self.header.origin.clone(), tree.size(), tree.root());
        let note = checkpoint.sign(key).map_err(|error| {
            let what = format!("no checkpoint can be signed for `{}`", self.path.display());
            WatchError::damaged(what).with_source(error)
        })?;
        let quoted = serde_json::to_string(&note.to_string()).expect("text has a JSON form");
        let mut line = format!("{{\"note\":{quoted},\"state\":").into_bytes();
        line.extend_from_slice(state);
        line.extend_from_slice(b"}\n");
        let fail = |error| WatchError::io("append to", &self.path, error);
        let mut file = OpenOptions::new().append(true).open(&self.path).map_err(fail)?;
        let end = file.metadata().map_err(fail)?.len();
        if end != tail.end {
            return Err(WatchError::damaged(format!(
                "`{}` has {end} bytes and not {}: somebody else writes to it",
                self.path.display(),
                tail.end
            )));
        }
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_data()) {
            // What may have been written was promised to nobody.
            let _ = file.set_len(end);
            return Err(fail(error));
        }
        let length: u64 = line.len().try_into().expect("a line in memory is below 2^64 bytes");
        *tail = Tail { tree, last: leaf, line: end, end: end + length };
        Ok(note)
    }

    fn cut_torn_line(&self) -> Result<(), WatchError> {
        let fail = |error| WatchError::io("read", &self.path, error);
        let mut file = File::open(&self.path).map_err(fail)?;
        let length = file.metadata().map_err(fail)?.len();
        let mut end = length;
        let mut block = vec![0; 1 << 16];
        // Backwards, to the last end of a line; the header has one.
        while end > self.start {
            let from = end.saturating_sub(1 << 16).max(self.start);
            let part = usize::try_from(end - from).unwrap_or(block.len());
            file.seek(SeekFrom::Start(from)).map_err(fail)?;
            file.read_exact(&mut block[..part]).map_err(fail)?;
            if let Some(at) = block[..part].iter().rposition(|byte| *byte == b'\n') {
                end = from + u64::try_from(at).unwrap_or(0) + 1;
                break;
            }
            end = from;
        }
        if end < length {
            let fail = |error| WatchError::io("cut the last line of", &self.path, error);
            let file = OpenOptions::new().write(true).open(&self.path).map_err(fail)?;
            file.set_len(end).and_then(|()| file.sync_all()).map_err(fail)?;
            tracing::warn!(bytes = length - end, "cut a checkpoint that was never written whole");
        }
        Ok(())
    }

    fn lines(&self, from: u64) -> Result<Lines<'_>, WatchError> {
        let fail = |error| WatchError::io("read", &self.path, error);
        let mut file = File::open(&self.path).map_err(fail)?;
        file.seek(SeekFrom::Start(from)).map_err(fail)?;
        Ok(Lines { path: &self.path, reader: BufReader::new(file), at: from })
    }
}

impl Problem {
    fn at(mut self, number: u64) -> Self {
        if self.kind != FindingKind::StateRolledBack {
            self.what = format!("state {number} {}", self.what);
        }
        self
    }
}

struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    at: u64,
}

impl Lines<'_> {
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, WatchError> {
        let mut line = Vec::new();
        let read = self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        let read = read.map_err(|error| WatchError::io("read", self.path, error))?;
        self.at += u64::try_from(read).unwrap_or(u64::MAX);
        Ok((read > 0).then_some(line))
    }
}

/// The note of a line, and the bytes of its state.
fn parse(line: &[u8]) -> Option<(String, &[u8])> {
    let line: Line<'_> = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
    Some((line.note.into_owned(), line.state.get().as_bytes()))
}

/// Whether a checkpoint is signed and states this tree.
fn check_note(
    note: &str,
    origin: &str,
    keys: &[VerifyingKey],
    tree: &CompactRange,
) -> Result<SignedCheckpoint, Problem> {
    let signed = SignedCheckpoint::parse(note).map_err(|error| {
        Problem::new(FindingKind::BadCheckpoint, format!("has no checkpoint: {error}"))
    })?;
    let checkpoint = signed.verify(origin, keys).map_err(|error| {
        let kind = match error.kind() {
            CheckpointErrorKind::UnknownKey => FindingKind::UnknownKey,
            CheckpointErrorKind::BadSignature => FindingKind::BadSignature,
            CheckpointErrorKind::ForeignOrigin => FindingKind::Foreign,
            _ => FindingKind::BadCheckpoint,
        };
        Problem::new(kind, format!("has a checkpoint that cannot be believed: {error}"))
    })?;
    if (checkpoint.size, checkpoint.root) != (tree.size(), tree.root()) {
        let what = "was changed, or one before it: its signed checkpoint states another root";
        return Err(Problem::new(FindingKind::Tampered, what));
    }
    Ok(signed)
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
