//! What can go wrong when something is recorded.

use std::{error::Error, fmt, sync::Arc};

use crate::journal::{JournalError, JournalErrorKind};

/// The kind of an [`AuditError`].
///
/// ```
/// use agent_audit_core::{context::AuditContext, error::AuditErrorKind};
/// let error = AuditContext::current().unwrap_err();
/// assert_eq!(error.kind(), AuditErrorKind::NoContext);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditErrorKind {
    /// There is no audit context here: no tenant, no session. There is never a default tenant.
    NoContext,
    /// What was offered cannot be recorded as it is: the caller's mistake.
    Invalid,
    /// The log cannot be written at present.
    Unavailable,
    /// The journal is full, and was told to refuse.
    Full,
    /// The log was closed.
    Closed,
    /// Another process, or another handle of this one, has the log open.
    Locked,
    /// The user of this process may not use the directory or a file in it.
    PermissionDenied,
    /// What is on disk is damaged, cut short, or contradicts a signed checkpoint.
    Damaged,
    /// The directory or a file in it was written by a later version.
    UnknownVersion,
    /// The event is durable here, and a required sink did not take it.
    Undelivered,
    /// Anything else.
    Other,
}

/// Why something could not be recorded, opened or closed. It never carries content.
///
/// ```
/// use agent_audit_core::context::AuditContext;
/// let error = AuditContext::current().unwrap_err();
/// assert!(error.to_string().starts_with("no audit context"));
/// ```
#[derive(Debug, Clone)]
pub struct AuditError {
    kind: AuditErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl AuditError {
    pub(crate) fn new(kind: AuditErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(AuditErrorKind::Invalid, message)
    }

    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::new(AuditErrorKind::Damaged, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(AuditErrorKind::Closed, "the audit log is closed: open it again")
    }

    pub(crate) fn io(action: &str, path: &std::path::Path, source: std::io::Error) -> Self {
        let kind = match source.kind() {
            std::io::ErrorKind::PermissionDenied => AuditErrorKind::PermissionDenied,
            std::io::ErrorKind::StorageFull => AuditErrorKind::Unavailable,
            _ => AuditErrorKind::Other,
        };
        Self::new(kind, format!("cannot {action} `{}`", path.display())).with_source(source)
    }

    /// What went wrong, to decide on.
    #[must_use]
    pub fn kind(&self) -> AuditErrorKind {
        self.kind
    }

    /// Whether the log itself could not take the event, so that nothing the caller changes helps.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        use AuditErrorKind::{Closed, Damaged, Full, Other, PermissionDenied, Unavailable};
        matches!(self.kind, Unavailable | Full | Closed | Damaged | PermissionDenied | Other)
    }
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for AuditError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        match source.downcast_ref::<JournalError>() {
            // Its message is this one's, so that only what is under it is new.
            Some(journal) => journal.source(),
            None => Some(source as _),
        }
    }
}

impl From<JournalError> for AuditError {
    fn from(error: JournalError) -> Self {
        let kind = match error.kind() {
            JournalErrorKind::Locked => AuditErrorKind::Locked,
            JournalErrorKind::PermissionDenied => AuditErrorKind::PermissionDenied,
            JournalErrorKind::Full => AuditErrorKind::Full,
            JournalErrorKind::TooLarge | JournalErrorKind::EmptyEntry => AuditErrorKind::Invalid,
            JournalErrorKind::Closed => AuditErrorKind::Closed,
            JournalErrorKind::Damaged | JournalErrorKind::Trimmed => AuditErrorKind::Damaged,
            JournalErrorKind::UnknownVersion => AuditErrorKind::UnknownVersion,
            _ => AuditErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).with_source(error)
    }
}

/// The audit log could not take the record that an action depends on.
///
/// This is what a caller sees under the policy `deny`: the action did not run, or, where
/// [`after_action`](Self::after_action) says so, it ran and its outcome could not be recorded, so
/// that its result is withheld. An error type of the application takes it up with
/// `From<AuditUnavailable>`.
///
/// ```
/// use agent_audit_core::{context::AuditContext, error::AuditUnavailable};
///
/// #[derive(Debug)]
/// enum RefundError { Declined, Audit(AuditUnavailable) }
/// impl From<AuditUnavailable> for RefundError {
///     fn from(error: AuditUnavailable) -> Self { Self::Audit(error) }
/// }
///
/// let unavailable = AuditUnavailable::from(AuditContext::current().unwrap_err());
/// assert!(!unavailable.after_action());
/// assert!(matches!(RefundError::from(unavailable), RefundError::Audit(_)));
/// # let _ = RefundError::Declined;
/// ```
#[derive(Debug, Clone)]
pub struct AuditUnavailable {
    error: AuditError,
    after_action: bool,
}

impl AuditUnavailable {
    /// The action ran, and its outcome could not be recorded.
    #[must_use]
    pub fn after(error: AuditError) -> Self {
        Self { error, after_action: true }
    }

    /// Whether the action ran before the log became unavailable.
    #[must_use]
    pub fn after_action(&self) -> bool {
        self.after_action
    }

    /// The kind of the fault underneath.
    #[must_use]
    pub fn kind(&self) -> AuditErrorKind {
        self.error.kind()
    }
}

impl From<AuditError> for AuditUnavailable {
    fn from(error: AuditError) -> Self {
        Self { error, after_action: false }
    }
}

impl fmt::Display for AuditUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.after_action {
            "the action ran, but the audit log is unavailable, so its result is withheld"
        } else {
            "the action did not run, because the audit log is unavailable"
        })
    }
}

impl Error for AuditUnavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
