//! What an export says of itself, and who signed it.

use agent_audit_core::{
    canonical,
    hash::Hash,
    id::{ChainId, TenantId},
    key::{SigningKey, VerifyingKey},
    note::{NoteError, NoteVerifier, SignedNote},
    timestamp::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::claim::Claim;
use crate::{Filter, QueryError};

/// The file that says what an export is.
pub(super) const MANIFEST: &str = "manifest.json";
/// The signed note over it: written last, so that an export with it is whole.
pub(super) const SIGNATURE: &str = "manifest.note";
/// The signed checkpoints that the proofs lead to.
pub(super) const CHECKPOINTS: &str = "checkpoints.ndjson";
/// The proofs of the events.
pub(super) const PROOFS: &str = "proofs.ndjson";
/// Events that say why content is gone, and that were not asked for themselves.
pub(super) const EVIDENCE: &str = "evidence.ndjson";
/// The proofs of those.
pub(super) const EVIDENCE_PROOFS: &str = "evidence-proofs.ndjson";
/// The proofs that nothing was left out, from signed indexes.
pub(super) const COMPLETENESS: &str = "completeness.ndjson";
/// What a file is called while it is written.
pub(super) const PARTIAL: &str = ".partial";
/// With what the names of the files of events begin.
pub(super) const EVENTS: &str = "events-";

/// The name under which the note is signed.
pub(super) const SIGNER: &str = "agent-audit/export";
/// The first line of the text that is signed.
const SIGNED: &str = "agent-audit/export/1";

/// The version of the layout and of the manifest.
pub(super) const FORMAT: u64 = 1;

/// How the events of an export are written.
///
/// ```
/// use agent_audit_query::export::Format;
/// assert_eq!(Format::Ndjson.extension(), "ndjson");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Format {
    /// One line of JSON for each event.
    Ndjson,
    /// One row of Apache Parquet for each event; needs the feature `parquet`.
    Parquet,
}

impl Format {
    /// How the names of its files end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }
}

/// What an export says of itself: a canonical JSON object, specified in [`docs/SPEC.md`].
///
/// [`docs/SPEC.md`]: https://github.com/agent-audit/agent-audit/blob/main/docs/SPEC.md
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let manifest = example(dir.path())?.manifest;
/// assert_eq!((manifest.format, manifest.order.as_str()), (1, "chain"));
/// assert_eq!(manifest.counts.events, manifest.chains[0].events);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Manifest {
    /// The chains that there are events of, sorted byte by byte.
    pub chains: Vec<ExportedChain>,
    /// The keys that signed the checkpoints.
    pub checkpoint_keys: Vec<VerifyingKey>,
    /// What the export claims to leave out nothing of.
    pub completeness: Claim,
    /// Whether the bodies of content are in it.
    pub content: bool,
    /// How much of everything there is.
    pub counts: Counts,
    /// How the events are written.
    pub events_format: Format,
    /// When it was made, by the exporter's clock.
    pub exported_at: Timestamp,
    /// Who made it.
    pub exporter: ExporterName,
    /// Every file but the manifest and its note, in the order of their names.
    pub files: Vec<ExportedFile>,
    /// The version of the layout.
    pub format: u64,
    /// In which order the events stand: `chain`, by chain id and position.
    pub order: String,
    /// What was asked for.
    pub query: Filter,
    /// The store that was read, by its name.
    pub store: String,
    /// The tenant whose events these are.
    pub tenant_id: TenantId,
}

/// How much there is in an export.
///
/// ```
/// assert_eq!(agent_audit_query::export::Counts::default().events, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Counts {
    /// Events that a signed checkpoint covers.
    pub covered: u64,
    /// Events.
    pub events: u64,
    /// Events beside them that say why content is gone.
    pub evidence: u64,
    /// Parts of content that the events name.
    pub parts: u64,
    /// Events behind the last checkpoint of their chain, which nothing proves.
    pub uncovered: u64,
}

/// One chain in an export.
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let chain = &example(dir.path())?.manifest.chains[0];
/// assert_eq!((chain.first, chain.last), (Some(0), Some(chain.events - 1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExportedChain {
    /// The chain.
    pub chain_id: ChainId,
    /// The checkpoint that its proofs lead to, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<ProvenAt>,
    /// Events that the checkpoint covers.
    pub covered: u64,
    /// Events.
    pub events: u64,
    /// The position of the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// The position of the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// In how many contiguous runs they stand; each is a line of the proofs.
    pub runs: u64,
}

impl ExportedChain {
    /// A chain without events so far.
    pub(super) fn of(chain_id: ChainId, checkpoint: Option<ProvenAt>) -> Self {
        Self { chain_id, checkpoint, covered: 0, events: 0, first: None, last: None, runs: 0 }
    }
}

/// What a checkpoint states.
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let chain = &example(dir.path())?.manifest.chains[0];
/// assert_eq!(chain.checkpoint.as_ref().map(|checkpoint| checkpoint.size), Some(chain.covered));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProvenAt {
    /// The root of the tree over them.
    pub root: Hash,
    /// How many events the chain had.
    pub size: u64,
}

impl ProvenAt {
    pub(super) fn new(size: u64, root: Hash) -> Self {
        Self { root, size }
    }
}

/// Who made an export.
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let exporter = example(dir.path())?.manifest.exporter;
/// assert!(exporter.software.starts_with("agent-audit "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExporterName {
    /// A token of who asked for it.
    pub name: String,
    /// The key that signed it.
    pub public_key: VerifyingKey,
    /// What wrote it.
    pub software: String,
}

impl ExporterName {
    pub(super) fn new(name: &str, public_key: VerifyingKey) -> Self {
        let software = concat!("agent-audit ", env!("CARGO_PKG_VERSION")).to_owned();
        Self { name: name.to_owned(), public_key, software }
    }
}

/// One file of an export.
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let exported = example(dir.path())?;
/// for file in &exported.manifest.files {
///     assert_eq!(dir.path().join("export").join(&file.name).metadata()?.len(), file.bytes);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExportedFile {
    /// Its length.
    pub bytes: u64,
    /// How many events are in it, where it is one of events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<u64>,
    /// Its name.
    pub name: String,
    /// The SHA-256 of its bytes.
    pub sha256: Hash,
}

impl Manifest {
    /// The canonical bytes: what the file holds.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, QueryError> {
        canonical::to_vec(self).map_err(|error| {
            QueryError::invalid("the question cannot be written into a manifest").with_source(error)
        })
    }

    /// Reads a manifest. The error says what is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, BadManifest> {
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let unreadable = |error: serde_json::Error| {
            BadManifest::Unreadable(format!("line {} column {}", error.line(), error.column()))
        };
        let version: Version = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version.format != FORMAT {
            return Err(BadManifest::UnknownFormat(version.format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        if manifest.to_bytes().ok().as_deref() != Some(bytes) {
            return Err(BadManifest::Unreadable("it is not canonical JSON".to_owned()));
        }
        Ok(manifest)
    }
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadManifest {
    UnknownFormat(u64),
    Unreadable(String),
}

/// The SHA-256 of some bytes.
pub(super) fn sha256(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}

/// The text that is signed.
fn signed_text(digest: &Hash) -> String {
    format!("{SIGNED}\n{MANIFEST} sha256 {digest}\n")
}

/// Signs a manifest by its digest.
pub(super) fn sign(digest: &Hash, key: &SigningKey) -> Result<SignedNote, NoteError> {
    SignedNote::sign(signed_text(digest), SIGNER, key)
}

/// Whether a note says that a manifest has this digest.
pub(super) fn is_of(note: &SignedNote, digest: &Hash) -> bool {
    note.text() == signed_text(digest)
}

/// The key as one that signs exports.
pub(super) fn verifier(key: &VerifyingKey) -> NoteVerifier {
    key.note_verifier(SIGNER).expect("the name is a key name")
}
