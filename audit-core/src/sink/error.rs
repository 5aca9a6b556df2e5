//! What can go wrong with a sink.

use std::{error::Error, fmt, time::Duration};

/// The kind of a sink's fault.
///
/// ```
/// use agent_audit_core::sink::SinkErrorKind;
/// assert_eq!(SinkErrorKind::Unavailable.to_string(), "unavailable");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// It cannot be reached, or is overloaded.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It asks for less: quota, throttling, a full disk.
    Exhausted,
    /// It does not know or does not trust this process.
    Unauthenticated,
    /// It knows this process and does not permit this.
    PermissionDenied,
    /// It refuses these events for good.
    Rejected,
    /// It is set up wrongly: a missing table, bucket or topic.
    Misconfigured,
    /// It holds something that it should not, or has lost something.
    Corrupt,
    /// Anything else.
    Other,
}

impl fmt::Display for SinkErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::Exhausted => "exhausted",
            Self::Unauthenticated => "not authenticated",
            Self::PermissionDenied => "permission denied",
            Self::Rejected => "rejected",
            Self::Misconfigured => "misconfigured",
            Self::Corrupt => "corrupt",
            Self::Other => "failed",
        })
    }
}

/// A fault of a sink. It never carries content or a credential.
///
/// ```
/// use agent_audit_core::sink::{SinkError, SinkErrorKind};
/// let error = SinkError::new(SinkErrorKind::Timeout, "append").with_maybe_applied();
/// assert!(error.is_retryable() && error.maybe_applied());
/// assert_eq!(error.to_string(), "sink timed out: append");
/// ```
#[derive(Debug)]
pub struct SinkError {
    kind: SinkErrorKind,
    context: String,
    retryable: bool,
    maybe_applied: bool,
    retry_after: Option<Duration>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// A fault of a kind, with what was being done. Whether it is worth a retry follows from the
    /// kind: rejection, permission, set-up and corruption are not.
    pub fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        use SinkErrorKind::{Exhausted, Other, Timeout, Unavailable};
        Self {
            kind,
            context: context.into(),
            retryable: matches!(kind, Unavailable | Timeout | Exhausted | Other),
            maybe_applied: false,
            retry_after: None,
            source: None,
        }
    }

    /// Says whether a retry is worth it.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// Says that the events may have been stored all the same.
    #[must_use]
    pub fn with_maybe_applied(mut self) -> Self {
        self.maybe_applied = true;
        self
    }

    /// Says how long the sink asks to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Keeps the cause. The caller MUST make sure that it holds no content and no credential.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// Whether a retry is worth it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Whether the events may have been stored all the same.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        self.maybe_applied
    }

    /// How long the sink asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sink {}: {}", self.kind, self.context)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
