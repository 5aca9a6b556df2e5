//! What can go wrong with a journal, and what the caller may do about it.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A failure of a journal; cheap to clone, because one failed write is the failure of every entry
/// that was in it.
///
/// ```
/// use agent_audit_core::journal::{Journal, JournalErrorKind, JournalOptions};
///
/// let dir = tempfile::tempdir()?;
/// let (_first, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let second = Journal::open(dir.path(), JournalOptions::default()).unwrap_err();
/// assert_eq!(second.kind(), JournalErrorKind::Locked);
/// assert!(second.to_string().contains(&std::process::id().to_string()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JournalError {
    inner: Arc<Inner>,
    may_have_been_written: bool,
}

struct Inner {
    kind: JournalErrorKind,
    message: String,
    retryable: bool,
    source: Option<io::Error>,
}

/// The kinds of [`JournalError`].
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions, JournalErrorKind};
/// let (journal, _journal) = Journal::open(dir.path(), JournalOptions::default())?;
/// let second = Journal::open(dir.path(), JournalOptions::default()).unwrap_err();
/// assert_eq!(second.kind(), JournalErrorKind::Locked);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JournalErrorKind {
    /// Another process, or another handle of this one, owns the directory.
    Locked,
    /// The directory or a file in it may not be used by this user.
    PermissionDenied,
    /// The device has no room for another segment; nothing was changed.
    NoSpace,
    /// The journal has reached [`JournalOptions::max_bytes`](super::JournalOptions::max_bytes) and
    /// was told to refuse.
    Full,
    /// The entry is larger than a journal of this configuration can ever take.
    TooLarge,
    /// An entry without bytes; the journal takes none, so that zeros are never an entry.
    EmptyEntry,
    /// A write or sync failed; nothing is accepted until
    /// [`Journal::recover`](super::Journal::recover) succeeds.
    Failed,
    /// The journal is closed.
    Closed,
    /// Bytes that had been durable are changed or gone.
    Damaged,
    /// The file was written by a newer version of this library.
    UnknownVersion,
    /// The entry asked for has been trimmed away.
    Trimmed,
    /// The entry asked for has not been written yet.
    NotWritten,
    /// The operating system refused an operation.
    Io,
}

impl JournalError {
    /// What went wrong, to decide on.
    pub fn kind(&self) -> JournalErrorKind {
        self.inner.kind
    }

    /// Whether the same call may succeed later, possibly after
    /// [`Journal::recover`](super::Journal::recover).
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Whether the entry may be on disk although it was not acknowledged.
    ///
    /// Such an entry is cut by [`Journal::recover`](super::Journal::recover), but found again at
    /// the next open if the process ends before that.
    pub fn may_have_been_written(&self) -> bool {
        self.may_have_been_written
    }

    pub(super) fn new(kind: JournalErrorKind, message: impl Into<String>) -> Self {
        let retryable = matches!(
            kind,
            JournalErrorKind::Locked
                | JournalErrorKind::NoSpace
                | JournalErrorKind::Full
                | JournalErrorKind::Failed
                | JournalErrorKind::NotWritten
        );
        let inner = Inner { kind, message: message.into(), retryable, source: None };
        Self { inner: Arc::new(inner), may_have_been_written: false }
    }

    /// An error of the operating system while doing `action` to `path`.
    pub(super) fn io(action: &str, path: &Path, source: io::Error) -> Self {
        let (kind, way_out) = io_kind(&source);
        let message = format!("cannot {action} `{}`{way_out}", path.display());
        let retryable = kind == JournalErrorKind::NoSpace;
        Self {
            inner: Arc::new(Inner { kind, message, retryable, source: Some(source) }),
            may_have_been_written: false,
        }
    }

    /// What every entry of a failed batch is told.
    ///
    /// The cause is repeated as text, because one [`io::Error`] cannot be had twice.
    pub(super) fn failed(&self, may_have_been_written: bool) -> Self {
        let cause = match &self.inner.source {
            Some(source) => format!("{}: {source}", self.inner.message),
            None => self.inner.message.clone(),
        };
        let message =
            format!("the journal failed and accepts nothing until it has been recovered: {cause}");
        let inner =
            Inner { kind: JournalErrorKind::Failed, message, retryable: true, source: None };
        Self { inner: Arc::new(inner), may_have_been_written }
    }

    pub(super) fn damaged(path: &Path, offset: u64, reason: &str) -> Self {
        Self::new(
            JournalErrorKind::Damaged,
            format!(
                "segment `{}` is damaged at offset {offset}: {reason}; restore the file from a \
                 copy, or move the journal directory aside to start a new one",
                path.display()
            ),
        )
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.inner.source.as_ref().is_some_and(|source| source.kind() == io::ErrorKind::NotFound)
    }

    pub(super) fn closed() -> Self {
        Self::new(JournalErrorKind::Closed, "the journal is closed, open its directory again")
    }
}

fn io_kind(source: &io::Error) -> (JournalErrorKind, &'static str) {
    match source.kind() {
        io::ErrorKind::PermissionDenied => (
            JournalErrorKind::PermissionDenied,
            ", give this user read and write access or choose another directory",
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (JournalErrorKind::NoSpace, ", free space on the device and try again")
        }
        _ => (JournalErrorKind::Io, ""),
    }
}

impl fmt::Display for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for JournalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalError")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("may_have_been_written", &self.may_have_been_written)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl std::error::Error for JournalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| source as _)
    }
}
