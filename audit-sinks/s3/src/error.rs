//! What S3 and its client report, in the terms of a sink.
//!
//! A message here is made of what was being done and of the error code that the service answered
//! with. The service's own text is left out: it can repeat an access key or a string that was signed.

use std::{error::Error, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: SinkErrorKind,
    context: String,
    status: Option<u16>,
    /// Whether the request may have been carried out.
    undecided: bool,
    maybe_applied: bool,
    retry_after: Option<Duration>,
}

impl Fault {
    pub(crate) fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self {
            kind,
            context: context.into(),
            status: None,
            undecided: false,
            maybe_applied: false,
            retry_after: None,
        }
    }

    /// What a client or the service says of a request.
    pub(crate) fn of<E: ProvideErrorMetadata + Error + 'static>(
        error: &SdkError<E, HttpResponse>,
        doing: &str,
    ) -> Self {
        use SinkErrorKind::{Misconfigured, Other, Timeout, Unavailable};
        let mut fault = match error {
            SdkError::TimeoutError(_) => {
                Self::new(Timeout, format!("{doing}: no answer in time")).undecided()
            }
            SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
                Some(error) if has_no_credentials(error) => no_credentials(doing),
                Some(error) if error.is_timeout() => {
                    Self::new(Timeout, format!("{doing}: no answer in time")).undecided()
                }
                _ => Self::new(Unavailable, format!("{doing}: the connection failed")).undecided(),
            },
            SdkError::ResponseError(_) => {
                Self::new(Unavailable, format!("{doing}: the answer broke off")).undecided()
            }
            SdkError::ServiceError(_) => {
                let status = error.raw_response().map_or(0, |raw| raw.status().as_u16());
                let code = code(error.code());
                let (kind, advice) = classify(code, status);
                let shown = if code.is_empty() { "an error without a code" } else { code };
                let mut fault =
                    Self::new(kind, format!("{doing}: {shown} (status {status}){advice}"));
                fault.undecided = status >= 500;
                fault
            }
            SdkError::ConstructionFailure(_) if has_no_credentials(error) => no_credentials(doing),
            SdkError::ConstructionFailure(_) => {
                Self::new(Misconfigured, format!("{doing}: the request could not be built"))
            }
            _ => Self::new(Other, format!("{doing}: the client failed")).undecided(),
        };
        if let Some(raw) = error.raw_response() {
            fault.status = Some(raw.status().as_u16());
            let seconds = raw.headers().get("retry-after").and_then(|text| text.parse().ok());
            fault.retry_after = seconds.map(Duration::from_secs);
        }
        fault
    }

    /// The body of an answer broke off.
    pub(crate) fn broken_body(doing: &str) -> Self {
        Self::new(SinkErrorKind::Unavailable, format!("{doing}: the answer broke off"))
    }

    /// What is stored is not what it should be.
    pub(crate) fn corrupt(context: impl Into<String>) -> Self {
        Self::new(SinkErrorKind::Corrupt, context)
    }

    fn undecided(mut self) -> Self {
        self.undecided = true;
        self
    }

    /// Says of a request that commits events that they may be stored, where that is open.
    pub(crate) fn of_commit(mut self) -> Self {
        self.maybe_applied = self.undecided;
        self
    }

    /// Says that the events may be stored.
    pub(crate) fn maybe_applied(mut self) -> Self {
        self.maybe_applied = true;
        self
    }

    /// The status of the answer, where there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the service says that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        self.status == Some(404) && self.kind != SinkErrorKind::Misconfigured
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let mut error = Self::new(fault.kind, fault.context);
        if fault.maybe_applied {
            error = error.with_maybe_applied();
        }
        match fault.retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}

fn no_credentials(doing: &str) -> Fault {
    let advice = "no credentials could be loaded; give them in the configuration, or set up one of \
                  the default sources";
    Fault::new(SinkErrorKind::Unauthenticated, format!("{doing}: {advice}"))
}

fn has_no_credentials(error: &dyn Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if cause.is::<CredentialsError>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// An error code is a word; anything else is not shown.
fn code(code: Option<&str>) -> &str {
    let word = |code: &&str| code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    code.filter(word).unwrap_or_default()
}

fn classify(code: &str, status: u16) -> (SinkErrorKind, &'static str) {
    use SinkErrorKind::{
        Exhausted, Misconfigured, Other, PermissionDenied, Rejected, Unauthenticated, Unavailable,
    };
    match code {
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "ExpiredTokenException" => (Unauthenticated, "; check the access key"),
        "RequestTimeTooSkewed" => (Misconfigured, "; set this machine's clock"),
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => {
            (PermissionDenied, "; grant what the documentation of this crate lists")
        }
        "NoSuchBucket" => (Misconfigured, "; create the bucket, with Object Lock"),
        "ObjectLockConfigurationNotFoundError" | "InvalidBucketState" => {
            (Misconfigured, "; enable Object Lock on the bucket")
        }
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => {
            (Misconfigured, "; check the region and the endpoint")
        }
        "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests"
        | "QuotaExceeded"
        | "InsufficientStorage"
        | "XMinioStorageFull" => (Exhausted, ""),
        // The bits were damaged on the way: the same request again is worth it.
        "BadDigest"
        | "XAmzContentSHA256Mismatch"
        | "InvalidDigest"
        | "XAmzContentChecksumMismatch" => (Unavailable, "; the body was damaged on its way"),
        "EntityTooLarge" => (Rejected, "; lower `max_object_bytes`"),
        "ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout" => (Unavailable, ""),
        "NotImplemented" => (Misconfigured, "; the server lacks what the configuration asks for"),
        _ => match status {
            401 => (Unauthenticated, "; check the access key"),
            403 => (PermissionDenied, "; grant what the documentation of this crate lists"),
            429 | 507 => (Exhausted, ""),
            503 => (Unavailable, ""),
            404 => (Other, ""),
            400..=499 => (Misconfigured, ""),
            500..=599 => (Unavailable, ""),
            _ => (Other, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_code_and_else_the_status() {
        for (code, status, kind, retryable) in [
            ("SignatureDoesNotMatch", 403, SinkErrorKind::Unauthenticated, false),
            ("AccessDenied", 403, SinkErrorKind::PermissionDenied, false),
            ("", 403, SinkErrorKind::PermissionDenied, false),
            ("NoSuchBucket", 404, SinkErrorKind::Misconfigured, false),
            ("SlowDown", 503, SinkErrorKind::Exhausted, true),
            ("", 503, SinkErrorKind::Unavailable, true),
            ("InternalError", 500, SinkErrorKind::Unavailable, true),
            ("BadDigest", 400, SinkErrorKind::Unavailable, true),
            ("EntityTooLarge", 400, SinkErrorKind::Rejected, false),
            ("InvalidRequest", 400, SinkErrorKind::Misconfigured, false),
            ("", 507, SinkErrorKind::Exhausted, true),
        ] {
            let error = SinkError::from(Fault::new(classify(code, status).0, "put"));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code} {status}");
        }
    }

    #[test]
    fn only_an_undecided_commit_may_have_been_applied() {
        let fault = Fault::new(SinkErrorKind::Timeout, "put");
        assert!(!SinkError::from(fault.clone().of_commit()).maybe_applied());
        assert!(!SinkError::from(fault.clone().undecided()).maybe_applied());
        assert!(SinkError::from(fault.undecided().of_commit()).maybe_applied());
    }

    #[test]
    fn a_code_that_is_no_word_is_not_shown() {
        assert_eq!(code(Some("SlowDown")), "SlowDown");
        assert_eq!(code(Some("AKIA 123 / secret")), "");
        assert_eq!(code(None), "");
    }
}
