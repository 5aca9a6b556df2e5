//! What `SQLite` and the file system report, in the terms of a sink.
//!
//! A message here is made of what was being done, a result code and names of columns: a bound value
//! never comes near it.

use std::io;

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use rusqlite::{Error, ErrorCode, ffi};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: SinkErrorKind,
    pub(crate) context: String,
    maybe_applied: bool,
}

impl Fault {
    pub(crate) fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), maybe_applied: false }
    }

    /// A fault of the database while doing something.
    pub(crate) fn sqlite(error: &Error, doing: &str) -> Self {
        let (kind, reason) = reason(error);
        Self::new(kind, format!("{doing}: {reason}"))
    }

    /// A fault of the database in the moment of a commit.
    pub(crate) fn commit(error: &Error, doing: &str) -> Self {
        let mut fault = Self::sqlite(error, doing);
        // Busy and full are found before the commit is written; after anything else nobody knows.
        let undecided = !matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull)
        );
        fault.maybe_applied = undecided;
        fault
    }

    /// A fault of the file system while doing something.
    pub(crate) fn io(error: &io::Error, doing: &str) -> Self {
        use io::ErrorKind;
        let kind = match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                SinkErrorKind::PermissionDenied
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => SinkErrorKind::Exhausted,
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
                SinkErrorKind::Misconfigured
            }
            _ => SinkErrorKind::Unavailable,
        };
        Self::new(kind, format!("{doing}: {error}"))
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind, fault.context);
        if fault.maybe_applied { error.with_maybe_applied() } else { error }
    }
}

fn reason(error: &Error) -> (SinkErrorKind, String) {
    match error {
        Error::SqliteFailure(failure, message) => {
            let text = ffi::code_to_str(failure.extended_code);
            let text = match (failure.code, message) {
                // The name of the constraint or of its columns; the only message that adds something.
                (ErrorCode::ConstraintViolation, Some(message)) => message.clone(),
                _ => text.to_owned(),
            };
            (kind(failure), text)
        }
        // The statement is ours and fixed; what does not fit is the schema that it meets.
        Error::SqlInputError { msg, .. } => (SinkErrorKind::Misconfigured, msg.clone()),
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..)
        | Error::QueryReturnedNoRows => {
            (SinkErrorKind::Corrupt, "a stored value is not of its type".to_owned())
        }
        _ => (SinkErrorKind::Other, "the database was used wrongly".to_owned()),
    }
}

fn kind(failure: &ffi::Error) -> SinkErrorKind {
    match failure.code {
        ErrorCode::DiskFull | ErrorCode::OutOfMemory => SinkErrorKind::Exhausted,
        // The file was moved away under the handle: the next try opens what is there now.
        ErrorCode::ReadOnly if failure.extended_code == ffi::SQLITE_READONLY_DBMOVED => {
            SinkErrorKind::Unavailable
        }
        ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied => SinkErrorKind::PermissionDenied,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => SinkErrorKind::Corrupt,
        ErrorCode::TooBig | ErrorCode::ConstraintViolation => SinkErrorKind::Rejected,
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OperationInterrupted
        | ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> Error {
        Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn kinds_follow_the_result_code() {
        for (code, kind, retryable) in [
            (ffi::SQLITE_BUSY, SinkErrorKind::Unavailable, true),
            (ffi::SQLITE_FULL, SinkErrorKind::Exhausted, true),
            (ffi::SQLITE_IOERR_FSYNC, SinkErrorKind::Unavailable, true),
            (ffi::SQLITE_READONLY, SinkErrorKind::PermissionDenied, false),
            (ffi::SQLITE_READONLY_DBMOVED, SinkErrorKind::Unavailable, true),
            (ffi::SQLITE_CORRUPT, SinkErrorKind::Corrupt, false),
            (ffi::SQLITE_NOTADB, SinkErrorKind::Corrupt, false),
            (ffi::SQLITE_TOOBIG, SinkErrorKind::Rejected, false),
        ] {
            let error = SinkError::from(Fault::sqlite(&failure(code), "append"));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code}");
            assert!(!error.maybe_applied());
        }
    }

    #[test]
    fn only_an_undecided_commit_may_have_been_applied() {
        let applied =
            |code| SinkError::from(Fault::commit(&failure(code), "commit")).maybe_applied();
        assert!(applied(ffi::SQLITE_IOERR_FSYNC));
        assert!(!applied(ffi::SQLITE_BUSY));
        assert!(!applied(ffi::SQLITE_FULL));
    }

    #[test]
    fn file_system_faults_say_what_to_mend() {
        let kind = |kind| Fault::io(&io::Error::from(kind), "open").kind;
        assert_eq!(kind(io::ErrorKind::PermissionDenied), SinkErrorKind::PermissionDenied);
        assert_eq!(kind(io::ErrorKind::ReadOnlyFilesystem), SinkErrorKind::PermissionDenied);
        assert_eq!(kind(io::ErrorKind::StorageFull), SinkErrorKind::Exhausted);
        assert_eq!(kind(io::ErrorKind::NotADirectory), SinkErrorKind::Misconfigured);
        assert_eq!(kind(io::ErrorKind::Other), SinkErrorKind::Unavailable);
    }
}
