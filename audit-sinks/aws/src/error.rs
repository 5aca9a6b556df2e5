//! What Amazon's services and their clients report, in the terms of a sink.
//!
//! A message here is made of what was being done, the service's error code and the status of the
//! answer. The service's own message is left out: it can quote a value of the request.

use std::{error::Error, fmt, io, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    kind: SinkErrorKind,
    context: String,
    maybe_applied: bool,
    retry_after: Option<Duration>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl Fault {
    /// A fault of a kind, with what was being done.
    pub fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), maybe_applied: false, retry_after: None }
    }

    /// What a client reports while doing something.
    pub fn of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>, doing: &str) -> Self {
        match error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                let mut fault = Self::of_answer(service.err().code(), status, doing);
                let delay = service.raw().headers().get("retry-after");
                fault.retry_after = delay.and_then(|d| d.parse().ok()).map(Duration::from_secs);
                fault
            }
            SdkError::TimeoutError(_) => {
                Self::new(SinkErrorKind::Timeout, format!("{doing}: no answer in time"))
                    .with_maybe_applied()
            }
            SdkError::DispatchFailure(failure) => {
                let cause = failure.as_connector_error().and_then(Error::source);
                Self::of_connection(cause, failure.is_timeout(), doing)
            }
            SdkError::ResponseError(_) => {
                let context = format!("{doing}: the answer cannot be read");
                Self::new(SinkErrorKind::Unavailable, context).with_maybe_applied()
            }
            _ => {
                let context = format!("{doing}: the request cannot be made, check the settings");
                Self::new(SinkErrorKind::Misconfigured, context)
            }
        }
    }

    /// What a service says of one message, or of a request, by its error code.
    #[must_use]
    pub fn of_answer(code: Option<&str>, status: u16, doing: &str) -> Self {
        // A code is a name; whatever else may come in its place is not shown.
        let code = code.filter(|code| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'#');
            code.len() <= 100 && code.bytes().all(plain)
        });
        // Codes come with a namespace, as `AWS.SimpleQueueService.NonExistentQueue`.
        let name = code.and_then(|code| code.rsplit(['.', '#']).next()).unwrap_or_default();
        let (kind, advice) = kind(name, status);
        let shown = code.unwrap_or("an error without a code");
        let status_shown =
            if status == 0 { String::new() } else { format!(" with status {status}") };
        let fault =
            Self::new(kind, format!("{doing}: the service answered {shown}{status_shown}{advice}"));
        // The service failed somewhere on its way: it may have stored what it was given.
        if matches!(kind, SinkErrorKind::Unavailable | SinkErrorKind::Other) {
            fault.with_maybe_applied()
        } else {
            fault
        }
    }

    fn of_connection(cause: Option<&(dyn Error + 'static)>, timed_out: bool, doing: &str) -> Self {
        let mut next = cause;
        while let Some(error) = next {
            if let Some(error) = error.downcast_ref::<CredentialsError>() {
                return Self::of_credentials(error, doing);
            }
            if let Some(error) = error.downcast_ref::<io::Error>() {
                let refused = error.kind() == io::ErrorKind::ConnectionRefused;
                let fault =
                    Self::new(SinkErrorKind::Unavailable, format!("{doing}: {}", error.kind()));
                // Who did not accept the connection did not get the request.
                return if refused { fault } else { fault.with_maybe_applied() };
            }
            next = error.source();
        }
        if timed_out {
            Self::new(SinkErrorKind::Timeout, format!("{doing}: no connection or answer in time"))
                .with_maybe_applied()
        } else {
            Self::new(SinkErrorKind::Unavailable, format!("{doing}: the connection failed"))
                .with_maybe_applied()
        }
    }

    fn of_credentials(error: &CredentialsError, doing: &str) -> Self {
        let (kind, what) = match error {
            CredentialsError::CredentialsNotLoaded(_) => (
                SinkErrorKind::Unauthenticated,
                "no credentials found: set an access key, a profile or a role",
            ),
            CredentialsError::InvalidConfiguration(_) => {
                (SinkErrorKind::Unauthenticated, "the settings of the credentials are invalid")
            }
            CredentialsError::ProviderTimedOut(_) => {
                (SinkErrorKind::Timeout, "no credentials in time")
            }
            _ => (SinkErrorKind::Unavailable, "the credentials cannot be had at present"),
        };
        Self::new(kind, format!("{doing}: {what}"))
    }

    /// Says that the events may have been stored all the same.
    #[must_use]
    pub fn with_maybe_applied(mut self) -> Self {
        self.maybe_applied = true;
        self
    }

    /// The same fault for what was not even tried.
    #[must_use]
    pub fn untried(mut self) -> Self {
        self.maybe_applied = false;
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// Whether the events may have been stored all the same.
    #[must_use]
    pub fn maybe_applied(&self) -> bool {
        self.maybe_applied
    }

    /// The fault of one segment. Only events that the service refuses stop their chain for good: all
    /// else is a fault of the sink, and mended there.
    #[must_use]
    pub fn of_segment(self) -> SinkError {
        let retryable = self.kind != SinkErrorKind::Rejected;
        SinkError::from(self).with_retryable(retryable)
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let mut error = Self::new(fault.kind, fault.context);
        if let Some(delay) = fault.retry_after {
            error = error.with_retry_after(delay);
        }
        if fault.maybe_applied { error.with_maybe_applied() } else { error }
    }
}

/// The kind of an error code, and what to do about it.
fn kind(name: &str, status: u16) -> (SinkErrorKind, &'static str) {
    use SinkErrorKind::{
        Exhausted, Misconfigured, Other, PermissionDenied, Rejected, Unauthenticated, Unavailable,
    };
    match name {
        "ProvisionedThroughputExceededException"
        | "KMSThrottlingException"
        | "KmsThrottled"
        | "LimitExceededException"
        | "OverLimit"
        | "RequestLimitExceeded"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "SlowDown"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException" => (Exhausted, ""),
        "ResourceNotFoundException" | "NoSuchBucket" | "NonExistentQueue" | "QueueDoesNotExist" => {
            (Misconfigured, ": create it, or correct its name or the region")
        }
        "KMSDisabledException"
        | "KMSInvalidStateException"
        | "KMSNotFoundException"
        | "KMSOptInRequired"
        | "KmsDisabled"
        | "KmsInvalidState"
        | "KmsNotFound"
        | "KmsOptInRequired"
        | "KmsInvalidKeyUsage" => (Misconfigured, ": see to its key"),
        "InvalidAddress"
        | "UnsupportedOperation"
        | "InvalidBucketName"
        | "PermanentRedirect"
        | "AuthorizationHeaderMalformed" => {
            (Misconfigured, ": correct the name, the region or the endpoint")
        }
        "AccessDenied"
        | "AccessDeniedException"
        | "KMSAccessDeniedException"
        | "KmsAccessDenied"
        | "NotAuthorized"
        | "UnauthorizedOperation" => {
            (PermissionDenied, ": grant this identity the documented policy")
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "InvalidSecurity"
        | "InvalidToken"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => {
            (Unauthenticated, ": check the credentials and the clock")
        }
        "BatchRequestTooLong"
        | "EntityTooLarge"
        | "InvalidArgumentException"
        | "InvalidMessageContents"
        | "InvalidParameterValue"
        | "MissingParameter"
        | "ValidationException"
        | "SerializationException" => (Rejected, ""),
        "InternalError"
        | "InternalFailure"
        | "InternalFailureException"
        | "InternalServerError"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => (Unavailable, ""),
        // The stream is being created or changed.
        "ResourceInUseException" => (Unavailable, ""),
        _ => match status {
            301 | 307 => (Misconfigured, ": correct the name, the region or the endpoint"),
            401 => (Unauthenticated, ": check the credentials and the clock"),
            403 => (PermissionDenied, ": grant this identity the documented policy"),
            404 => (Misconfigured, ": create it, or correct its name or the region"),
            413 => (Rejected, ""),
            429 => (Exhausted, ""),
            500.. => (Unavailable, ""),
            _ => (Other, ""),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_code_and_then_the_status() {
        use SinkErrorKind::{
            Exhausted, Misconfigured, Other, PermissionDenied, Rejected, Unauthenticated,
            Unavailable,
        };
        for (code, status, kind, maybe_applied) in [
            ("ProvisionedThroughputExceededException", 400, Exhausted, false),
            ("SlowDown", 503, Exhausted, false),
            ("ResourceNotFoundException", 400, Misconfigured, false),
            ("AWS.SimpleQueueService.NonExistentQueue", 400, Misconfigured, false),
            ("com.amazonaws.kinesis#AccessDeniedException", 400, PermissionDenied, false),
            ("InvalidSignatureException", 403, Unauthenticated, false),
            ("ValidationException", 400, Rejected, false),
            ("InternalFailure", 500, Unavailable, true),
            ("SomethingNew", 429, Exhausted, false),
            ("SomethingNew", 403, PermissionDenied, false),
            ("SomethingNew", 301, Misconfigured, false),
            ("SomethingNew", 502, Unavailable, true),
            ("SomethingNew", 400, Other, true),
        ] {
            let fault = Fault::of_answer(Some(code), status, "put");
            assert_eq!((fault.kind(), fault.maybe_applied()), (kind, maybe_applied), "{code}");
            assert!(fault.to_string().contains(code), "{fault}");
        }
    }

    #[test]
    fn what_is_no_code_is_not_shown() {
        for code in ["4111 1111 1111 1111", "a\nb", &"x".repeat(101)] {
            let fault = Fault::of_answer(Some(code), 400, "put");
            assert!(!fault.to_string().contains(code), "{fault}");
            assert!(fault.to_string().contains("an error without a code"), "{fault}");
        }
    }

    #[test]
    fn only_a_refused_event_stops_its_chain_for_good() {
        let retryable = |kind| Fault::new(kind, "put").of_segment().is_retryable();
        assert!(!retryable(SinkErrorKind::Rejected));
        assert!(retryable(SinkErrorKind::PermissionDenied));
        assert!(retryable(SinkErrorKind::Misconfigured));
        assert!(!SinkError::from(Fault::new(SinkErrorKind::Misconfigured, "put")).is_retryable());
    }

    #[test]
    fn who_refused_the_connection_got_nothing() {
        let of = |kind| {
            let error = io::Error::from(kind);
            Fault::of_connection(Some(&error), false, "put")
        };
        assert!(!of(io::ErrorKind::ConnectionRefused).maybe_applied());
        let reset = of(io::ErrorKind::ConnectionReset);
        assert!(reset.maybe_applied());
        assert_eq!(reset.to_string(), "put: connection reset");
        assert_eq!(Fault::of_connection(None, true, "put").kind(), SinkErrorKind::Timeout);
    }
}
