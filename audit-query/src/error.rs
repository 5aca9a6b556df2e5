//! What can go wrong when something is asked.

use std::{error::Error, fmt, sync::Arc};

/// The kind of a [`QueryError`].
///
/// ```
/// use agent_audit_query::{QueryError, QueryErrorKind};
/// let error = QueryError::new(QueryErrorKind::NotFound, "no event e-1 of tenant acme");
/// assert_eq!(error.kind(), QueryErrorKind::NotFound);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueryErrorKind {
    /// The question makes no sense as it was put: the caller's mistake.
    Invalid,
    /// What was asked about is not there.
    NotFound,
    /// The store cannot be reached, or went away in the middle.
    Unavailable,
    /// The store does not let this reader read that.
    PermissionDenied,
    /// The store holds what cannot be read, does not agree with itself, or is not this tenant's.
    Corrupt,
    /// The store was written by a later release.
    UnknownVersion,
    /// The store cannot answer questions of this kind.
    Unsupported,
    /// Anything else.
    Other,
}

/// Why a question was not answered. It never carries content or a credential.
///
/// ```
/// use agent_audit_query::{QueryError, QueryErrorKind};
/// let error = QueryError::new(QueryErrorKind::Invalid, "the time range ends before it begins");
/// assert_eq!(error.to_string(), "the time range ends before it begins");
/// ```
#[derive(Debug, Clone)]
pub struct QueryError {
    kind: QueryErrorKind,
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl QueryError {
    /// An error of a kind. The message names the thing, the value and the way out.
    #[must_use]
    pub fn new(kind: QueryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds what is under it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Invalid, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(QueryErrorKind::Corrupt, message)
    }

    /// What went wrong, to decide on.
    #[must_use]
    pub fn kind(&self) -> QueryErrorKind {
        self.kind
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for QueryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
