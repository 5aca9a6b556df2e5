//! Checkpoints: the signed size and root of a chain's tree.
//!
//! The format of <https://c2sp.org/tlog-checkpoint>, a [signed note](crate::note) whose text is
//!
//! ```text
//! <origin>
//! <tree size in decimal, without leading zeros>
//! <base64 of the root>
//! <extension lines, if any>
//! ```
//!
//! The log's signature is made under a key name equal to the origin, as the specification
//! recommends and as witnesses expect. The note's key id covers that name: a signature for one
//! chain is no signature for another, although one key signs both.
//! [`VerifyingKey::note_verifier`] with the origin as the name gives the verifier key that a
//! witness of that chain is configured with.
//!
//! The origin of a chain is `agent-audit/chain/<chain id>` ([`chain_origin`]) and does not reveal
//! the tenant.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::hash::Hash;
use crate::key::{SigningKey, VerifyingKey};
use crate::note::{NoteError, NoteErrorKind, SignedNote, quote};

/// The origin of the checkpoints of a chain.
///
/// ```
/// use agent_audit_core::checkpoint::chain_origin;
///
/// assert_eq!(chain_origin("0198c1"), "agent-audit/chain/0198c1");
/// ```
#[must_use]
pub fn chain_origin(chain_id: &str) -> String {
    format!("agent-audit/chain/{chain_id}")
}

/// What a checkpoint says: this log had this many leaves under this root.
///
/// `Display` writes the text that is signed, `FromStr` reads exactly that.
///
/// ```
/// use agent_audit_core::checkpoint::Checkpoint;
/// use agent_audit_core::tree::EMPTY_ROOT;
///
/// let checkpoint = Checkpoint::new("example.com/log", 0, EMPTY_ROOT);
/// let text = checkpoint.to_string();
/// assert_eq!(text, "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
/// assert_eq!(text.parse::<Checkpoint>().unwrap(), checkpoint);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the specification fixes what a checkpoint says")]
pub struct Checkpoint {
    /// The identity of the log.
    pub origin: String,
    /// The number of leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Opaque lines behind the root; discouraged by the specification.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// States size and root of a log, without extension lines.
    #[must_use]
    pub fn new(origin: impl Into<String>, size: u64, root: Hash) -> Self {
        Self { origin: origin.into(), size, root, extensions: Vec::new() }
    }

    /// Signs the checkpoint under the key name that is its origin.
    ///
    /// # Errors
    ///
    /// If the origin is not a key name (empty, or with spaces or `+`), or an extension line is
    /// empty or more than one line.
    pub fn sign(self, key: &SigningKey) -> Result<SignedCheckpoint, CheckpointError> {
        self.check_lines()?;
        let note = SignedNote::sign(self.to_string(), &self.origin, key)?;
        Ok(SignedCheckpoint { checkpoint: self, note })
    }

    /// The lines that are free text must each be one line.
    fn check_lines(&self) -> Result<(), Fault> {
        let lines = std::iter::once(&self.origin).chain(&self.extensions);
        for (index, line) in lines.enumerate() {
            if line.is_empty() || line.contains('\n') {
                return Err(Fault::Line { line: if index == 0 { 1 } else { index + 3 } });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = STANDARD.encode(self.root.as_bytes());
        writeln!(f, "{}\n{}\n{root}", self.origin, self.size)?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut lines = text.strip_suffix('\n').ok_or(Fault::End)?.split('\n');
        let mut line = || lines.next().ok_or(Fault::TooShort);
        let (origin, size, root) = (line()?, line()?, line()?);
        let checkpoint = Self {
            origin: origin.to_owned(),
            size: parse_size(size).ok_or_else(|| Fault::Size { found: quote(size) })?,
            root: STANDARD
                .decode(root)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .map(Hash::from_bytes)
                .ok_or(Fault::Root)?,
            extensions: lines.map(str::to_owned).collect(),
        };
        checkpoint.check_lines()?;
        Ok(checkpoint)
    }
}

impl SigningKey {
    /// Signs the checkpoint under the key name that is its origin.
    ///
    /// ```
    /// use agent_audit_core::checkpoint::Checkpoint;
    /// use agent_audit_core::key::SigningKey;
    /// use agent_audit_core::tree::EMPTY_ROOT;
    ///
    /// let key = SigningKey::generate().unwrap();
    /// let checkpoint = Checkpoint::new("example.com/log", 0, EMPTY_ROOT);
    /// let signed = key.sign_checkpoint(&checkpoint).unwrap();
    /// assert!(signed.verify("example.com/log", &[key.verifying_key()]).is_ok());
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::sign`].
    pub fn sign_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<SignedCheckpoint, CheckpointError> {
        checkpoint.clone().sign(self)
    }
}

/// A checkpoint with its signatures, not yet verified.
///
/// `Display` writes the note as it was read, with every signature line, those of witnesses too.
///
/// ```
/// use agent_audit_core::checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint};
/// use agent_audit_core::hash::leaf;
/// use agent_audit_core::key::SigningKey;
///
/// let key = SigningKey::generate().unwrap();
/// let signed = Checkpoint::new("example.com/a", 1, leaf(b"event")).sign(&key).unwrap();
///
/// let received: SignedCheckpoint = signed.to_string().parse().unwrap();
/// let checkpoint = received.verify("example.com/a", &[key.verifying_key()]).unwrap();
/// assert_eq!(checkpoint.size, 1);
///
/// // Another chain's checkpoint is refused, although the same key signed it.
/// let error = received.verify("example.com/b", &[key.verifying_key()]).unwrap_err();
/// assert_eq!(error.kind(), CheckpointErrorKind::ForeignOrigin);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    note: SignedNote,
}

impl SignedCheckpoint {
    /// Reads a signed checkpoint, strictly.
    ///
    /// # Errors
    ///
    /// If it is not a signed note or its text is not a checkpoint.
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        let note = SignedNote::parse(note)?;
        Ok(Self { checkpoint: note.text().parse()?, note })
    }

    /// Checks that the checkpoint is of `origin` and signed by one of `keys`, and returns it.
    ///
    /// # Errors
    ///
    /// By [`kind`](CheckpointError::kind): another origin, no known key, a bad signature.
    pub fn verify(
        &self,
        origin: &str,
        keys: &[VerifyingKey],
    ) -> Result<&Checkpoint, CheckpointError> {
        if self.checkpoint.origin != origin {
            return Err(Fault::Origin {
                expected: quote(origin),
                found: quote(&self.checkpoint.origin),
            }
            .into());
        }
        let known =
            keys.iter().map(|key| key.note_verifier(origin)).collect::<Result<Vec<_>, _>>()?;
        self.note.verify(&known)?;
        Ok(&self.checkpoint)
    }

    /// What the checkpoint says, before anybody has checked that it is true.
    #[must_use]
    pub fn unverified(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note, with every signature.
    #[must_use]
    pub fn note(&self) -> &SignedNote {
        &self.note
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(f)
    }
}

impl FromStr for SignedCheckpoint {
    type Err = CheckpointError;

    fn from_str(note: &str) -> Result<Self, Self::Err> {
        Self::parse(note)
    }
}

/// Why a checkpoint cannot be read, signed or believed.
///
/// ```
/// use agent_audit_core::checkpoint::Checkpoint;
///
/// let error = "origin\n".parse::<Checkpoint>().unwrap_err();
/// assert_eq!(error.to_string(), "the checkpoint has fewer than three lines");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct CheckpointError(#[from] Fault);

/// What kind of trouble a checkpoint is in.
///
/// ```
/// use agent_audit_core::checkpoint::{Checkpoint, CheckpointErrorKind};
///
/// let error = "origin\n007\n".parse::<Checkpoint>().unwrap_err();
/// assert_eq!(error.kind(), CheckpointErrorKind::Malformed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointErrorKind {
    /// It is not a checkpoint, or cannot be written as one.
    Malformed,
    /// It is a checkpoint of another log.
    ForeignOrigin,
    /// No known key signed: nothing can be said about it.
    UnknownKey,
    /// A signature names a known key and does not verify.
    BadSignature,
}

impl CheckpointError {
    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> CheckpointErrorKind {
        match &self.0 {
            Fault::Origin { .. } => CheckpointErrorKind::ForeignOrigin,
            Fault::Note(note) => match note.kind() {
                NoteErrorKind::UnknownKey => CheckpointErrorKind::UnknownKey,
                NoteErrorKind::BadSignature => CheckpointErrorKind::BadSignature,
                _ => CheckpointErrorKind::Malformed,
            },
            _ => CheckpointErrorKind::Malformed,
        }
    }
}

impl From<NoteError> for CheckpointError {
    fn from(error: NoteError) -> Self {
        Self(Fault::Note(error))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Note(NoteError),
    #[error("the checkpoint does not end in a newline")]
    End,
    #[error("the checkpoint has fewer than three lines")]
    TooShort,
    #[error("line {line} of the checkpoint must be one line and not empty")]
    Line { line: usize },
    #[error("the tree size {found} is not a decimal number below 2^64 without leading zeros")]
    Size { found: String },
    #[error("the root is not the base64 of 32 bytes")]
    Root,
    #[error("the checkpoint is of {found}, not of {expected}")]
    Origin { expected: String, found: String },
}

/// A decimal `u64` in its one canonical spelling.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let canonical = text == "0"
        || !text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    canonical.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests;
