//! Why a directory cannot be verified at all.

use std::{io, path::Path};

use crate::journal::{JournalError, JournalErrorKind};

/// A directory that cannot be read as a log. The message names the path and the way out.
///
/// ```
/// use agent_audit_core::verify::directory::{VerifyErrorKind, VerifyOptions, verify_directory};
/// let dir = tempfile::tempdir()?;
/// let error = verify_directory(dir.path(), VerifyOptions::default()).unwrap_err();
/// assert_eq!(error.kind(), VerifyErrorKind::NotALog);
/// assert!(error.to_string().contains("log.json"));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct VerifyError {
    kind: VerifyErrorKind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The kinds of [`VerifyError`].
///
/// ```
/// use agent_audit_core::verify::directory::VerifyErrorKind;
/// assert_ne!(VerifyErrorKind::NotFound, VerifyErrorKind::NotALog);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// There is no such directory or file.
    NotFound,
    /// The directory is not one that a log was opened in.
    NotALog,
    /// This user may not read it.
    PermissionDenied,
    /// It was written by a newer version.
    UnknownFormat,
    /// The operating system refused an operation.
    Io,
}

impl VerifyError {
    /// What went wrong, to decide on.
    #[must_use]
    pub fn kind(&self) -> VerifyErrorKind {
        self.kind
    }

    pub(super) fn new(kind: VerifyErrorKind, message: String) -> Self {
        Self { kind, message, source: None }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let (kind, way_out) = match source.kind() {
            io::ErrorKind::NotFound => {
                (VerifyErrorKind::NotFound, "it does not exist; check the path")
            }
            io::ErrorKind::PermissionDenied => (
                VerifyErrorKind::PermissionDenied,
                "this user may not read it; give read access or verify as its owner",
            ),
            _ => (VerifyErrorKind::Io, "the operating system refused"),
        };
        Self {
            kind,
            message: format!("cannot read `{}`: {way_out}", path.display()),
            source: Some(source.into()),
        }
    }
}

impl From<JournalError> for VerifyError {
    fn from(error: JournalError) -> Self {
        let kind = match error.kind() {
            JournalErrorKind::PermissionDenied => VerifyErrorKind::PermissionDenied,
            JournalErrorKind::UnknownVersion => VerifyErrorKind::UnknownFormat,
            _ => VerifyErrorKind::Io,
        };
        Self { kind, message: error.to_string(), source: Some(error.into()) }
    }
}
