//! Verifying a log directory, and the stores that its events were delivered to.
//!
//! # Layout
//!
//! ```text
//! DIR/log.json                 {"format":1,"writer_id":"…"}
//! DIR/journal/*.journal        entries: kind:u8 ‖ bytes; kind 1 is an event, its bytes one record
//! DIR/checkpoints/*.ndjson     {"chain_id":"…","note":"…","tenant_id":"…"}, one object a line
//! DIR/keys/*.pub               the public keys in text form, one a line
//! ```
//!
//! The journal holds the records of all chains, interleaved. When every required sink has
//! acknowledged its beginning, that is trimmed away, and the older records of a chain are in a
//! [`RecordStore`] alone. A chain is therefore verified in the store from position 0, and in the
//! journal from the first position found there; where both hold a position they must agree.

mod error;
mod files;
mod journal;
mod stores;

use std::{
    collections::HashMap,
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

pub use error::{VerifyError, VerifyErrorKind};

use crate::{chain::ChainRef, key::VerifyingKey};

use super::{Basis, ChainReport, Finding, FindingKind, Report};
use files::LogFiles;

/// How far a verification has come.
///
/// ```
/// use agent_audit_core::verify::directory::Progress;
/// assert_eq!(Progress::default().events, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// How many records have been read, those of stores and of the journal together.
    pub events: u64,
    /// How many bytes of records have been read.
    pub bytes: u64,
    /// How many bytes the journal has, where it is its turn.
    pub total_bytes: Option<u64>,
}

/// A record as a store holds it.
///
/// ```
/// use agent_audit_core::verify::directory::StoredRecord;
/// assert_eq!(StoredRecord::new(b"bytes").column_mismatch, None);
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct StoredRecord<'a> {
    /// The record in its binary form.
    pub bytes: &'a [u8],
    /// The name of a column that does not agree with the record, where there is one.
    pub column_mismatch: Option<&'a str>,
}

impl<'a> StoredRecord<'a> {
    /// A record whose columns agree.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, column_mismatch: None }
    }

    /// Names a column that does not agree with the record.
    #[must_use]
    pub fn with_column_mismatch(mut self, column: &'a str) -> Self {
        self.column_mismatch = Some(column);
        self
    }
}

/// A place that events were delivered to, as the verifier reads it.
///
/// Records MUST come in the order of the position under which the store keeps them, exactly as they
/// are kept: nothing is skipped, mended or sorted by what the record itself says.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, verify::directory::{RecordStore, StoreError, StoredRecord}};
///
/// #[derive(Debug)]
/// struct Shelf(ChainRef, Vec<Vec<u8>>);
///
/// impl RecordStore for Shelf {
///     fn name(&self) -> &str {
///         "shelf"
///     }
///     fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
///         Ok(vec![self.0.clone()])
///     }
///     fn read(
///         &self,
///         _: &ChainRef,
///         from: u64,
///         each: &mut dyn FnMut(StoredRecord<'_>),
///     ) -> Result<(), StoreError> {
///         let from = usize::try_from(from)?;
///         self.1.iter().skip(from).for_each(|bytes| each(StoredRecord::new(bytes)));
///         Ok(())
///     }
/// }
/// # let _: Option<Box<dyn RecordStore>> = None;
/// ```
pub trait RecordStore: Send + Sync + fmt::Debug {
    /// The name of the store in findings.
    fn name(&self) -> &str;

    /// The chains that the store holds records of.
    ///
    /// # Errors
    /// Whatever keeps the store from telling; it becomes a finding.
    fn chains(&self) -> Result<Vec<ChainRef>, StoreError>;

    /// Reads the records of a chain, from a position on, in the order of the store's positions.
    ///
    /// # Errors
    /// Whatever keeps the store from reading on; it becomes a finding.
    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError>;
}

/// Why a store cannot be read.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// What to verify a log directory against.
///
/// ```
/// use agent_audit_core::verify::directory::VerifyOptions;
/// let options = VerifyOptions::default();
/// assert!(options.trusted_keys.is_empty(), "the key beside the log is then taken, and reported");
/// ```
#[derive(Default)]
#[non_exhaustive]
pub struct VerifyOptions<'a> {
    /// Called from time to time on the calling thread.
    pub progress: Option<&'a dyn Fn(Progress)>,
    /// Keys whose checkpoints are believed. Without one, those of the directory are, and the
    /// [basis](super::Basis) of the report says so.
    pub trusted_keys: Vec<VerifyingKey>,
    /// Files of checkpoints that were kept apart from the log, one JSON object a line.
    pub checkpoint_files: Vec<PathBuf>,
    /// Stores that events were delivered to.
    pub stores: Vec<Box<dyn RecordStore>>,
    /// How many threads verify; by default as many as the machine has cores.
    pub threads: Option<NonZeroUsize>,
}

impl<'a> VerifyOptions<'a> {
    /// Reports progress to a function.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a dyn Fn(Progress)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Believes the checkpoints of these keys alone, and demands one of every chain: what none of
    /// them covers is [not vouched for](FindingKind::NotVouched).
    #[must_use]
    pub fn with_trusted_keys(mut self, keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        self.trusted_keys.extend(keys);
        self
    }

    /// Adds a file of checkpoints that was kept apart from the log, and demands that every chain be
    /// covered by such a one.
    #[must_use]
    pub fn with_checkpoint_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.checkpoint_files.push(path.into());
        self
    }

    /// Adds a store.
    #[must_use]
    pub fn with_store(mut self, store: impl RecordStore + 'static) -> Self {
        self.stores.push(Box::new(store));
        self
    }

    /// Sets how many threads verify.
    #[must_use]
    pub fn with_threads(mut self, threads: NonZeroUsize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// What the caller relies on: every chain must be covered by it.
    fn demanded(&self) -> Basis {
        if !self.checkpoint_files.is_empty() {
            Basis::SeparateCheckpoint
        } else if !self.trusted_keys.is_empty() {
            Basis::OwnCheckpoint
        } else {
            Basis::ChainOnly
        }
    }

    fn thread_count(&self) -> usize {
        self.threads
            .or_else(|| std::thread::available_parallelism().ok())
            .map_or(1, NonZeroUsize::get)
    }
}

impl fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("trusted_keys", &self.trusted_keys)
            .field("checkpoint_files", &self.checkpoint_files)
            .field("stores", &self.stores)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Verifies a log directory: every chain of its journal and of the stores, against every checkpoint.
///
/// Takes no lock and changes nothing. Memory is bounded by the number of chains, plus 32 bytes for
/// each record that is both in a store and in the journal. Beside a live writer, a write in flight
/// looks like a torn tail.
///
/// # Errors
/// [`VerifyError`] where the directory cannot be read as a log at all. Damage is not an error but a
/// finding.
///
/// ```
/// use agent_audit_core::verify::directory::{VerifyErrorKind, VerifyOptions, verify_directory};
/// let error = verify_directory("/nowhere/log".as_ref(), VerifyOptions::default()).unwrap_err();
/// assert_eq!(error.kind(), VerifyErrorKind::NotFound);
/// ```
pub fn verify_directory(dir: &Path, options: VerifyOptions<'_>) -> Result<Report, VerifyError> {
    let files = LogFiles::read(dir, &options)?;
    let mut findings = files.findings;
    let mut slots = files.slots;
    let mut ticker = Ticker { progress: options.progress, now: Progress::default() };
    let workers = options.thread_count();
    let demanded = options.demanded();

    let mut chains = Vec::new();
    let mut complete = !options.stores.is_empty();
    if !options.stores.is_empty() {
        let first = journal::first_positions(&files.journal)?;
        complete &= stores::list(&options.stores, &mut slots, &mut findings);
        stores::verify(&options.stores, &mut slots, &first, workers, &mut ticker);
    }
    let outcome = journal::verify(&files.journal, slots, complete, workers, &mut ticker)?;
    findings.extend(outcome.findings);
    for slot in outcome.slots {
        match slot.finish() {
            Ok(report) => chains.push(report.demanding(demanded)),
            Err(absent) => findings.extend(absent),
        }
    }
    chains.sort_by(|a: &ChainReport, b| a.chain.cmp(&b.chain));
    ticker.finish();
    Ok(Report::join(chains, findings))
}

/// What is known of one chain, by its chain id.
type Slots = HashMap<Box<str>, journal::Slot>;

/// Counts what has been read, and tells whoever wants to know.
struct Ticker<'a> {
    progress: Option<&'a dyn Fn(Progress)>,
    now: Progress,
}

impl Ticker<'_> {
    fn add(&mut self, events: u64, bytes: u64) {
        self.now.events += events;
        self.now.bytes += bytes;
        if let Some(progress) = self.progress {
            progress(self.now);
        }
    }

    /// The journal begins: so many bytes are still to be read.
    fn journal(&mut self, bytes: u64) {
        self.now.total_bytes = Some(self.now.bytes.saturating_add(bytes));
    }

    fn finish(&mut self) {
        self.now.total_bytes = Some(self.now.bytes);
        self.add(0, 0);
    }
}

/// A store that could not be read: the verifier cannot tell.
fn unreadable(store: &str, chain: Option<&ChainRef>, error: &StoreError) -> Finding {
    let finding = Finding::new(
        FindingKind::StoreUnreadable,
        format!("the store could not be read: {error}; make it readable and verify again"),
    )
    .in_place(store);
    match chain {
        Some(chain) => finding.in_chain(chain),
        None => finding,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
