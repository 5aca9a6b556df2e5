//! What keeps the job from doing its work at all. What it finds is no error.

use std::{error::Error, fmt, io, path::Path, sync::Arc};

/// The kind of a [`WatchError`].
///
/// ```
/// use agent_audit_query::integrity::{Watch, WatchErrorKind};
/// let dir = tempfile::tempdir()?;
/// let error = Watch::builder(dir.path()).open().unwrap_err();
/// assert_eq!(error.kind(), WatchErrorKind::Invalid, "there is no store to watch");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WatchErrorKind {
    /// The job was put together in a way that makes no sense: the caller's mistake.
    Invalid,
    /// Another process runs this job.
    InUse,
    /// Nobody lets the job read or write there.
    PermissionDenied,
    /// The disk failed, or is full.
    Io,
    /// What the job keeps cannot be read.
    Damaged,
    /// It was written by a later release.
    UnknownVersion,
}

/// Why the job could not do its work. It never carries content or a credential.
///
/// ```
/// use agent_audit_query::integrity::Watch;
/// let dir = tempfile::tempdir()?;
/// let error = Watch::builder(dir.path()).open().unwrap_err();
/// assert!(error.to_string().contains("with_store"), "{error}");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WatchError {
    kind: WatchErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl WatchError {
    pub(super) fn new(kind: WatchErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(WatchErrorKind::Invalid, message)
    }

    pub(super) fn damaged(message: impl Into<String>) -> Self {
        Self::new(WatchErrorKind::Damaged, message)
    }

    pub(super) fn io(action: &str, path: &Path, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => WatchErrorKind::PermissionDenied,
            _ => WatchErrorKind::Io,
        };
        Self::new(kind, format!("cannot {action} `{}`: {error}", path.display())).with_source(error)
    }

    pub(super) fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What went wrong, to decide on.
    #[must_use]
    pub fn kind(&self) -> WatchErrorKind {
        self.kind
    }
}

impl fmt::Display for WatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for WatchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
