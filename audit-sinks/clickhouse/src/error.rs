//! What the server and the network report, in the terms of a sink.
//!
//! The text of a server's exception quotes the data that it is about. So it is never kept: a message
//! here is made of what was being done, the exception's code and words of our own.

use std::{error::Error, io, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: SinkErrorKind,
    context: String,
    maybe_applied: bool,
    retry_after: Option<Duration>,
    code: Option<u32>,
}

impl Fault {
    pub(crate) fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), maybe_applied: false, retry_after: None, code: None }
    }

    /// Says that what was asked for may have been done.
    pub(crate) fn maybe_applied(mut self, maybe: bool) -> Self {
        self.maybe_applied = maybe;
        self
    }

    pub(crate) fn retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// Whether the fault may lie in the rows: then others, sent without these, can succeed.
    pub(crate) fn may_be_of_the_rows(&self) -> bool {
        matches!(self.kind, SinkErrorKind::Rejected | SinkErrorKind::Other | SinkErrorKind::Corrupt)
    }

    /// An exception of the server by its code, while doing something.
    pub(crate) fn exception(code: u32, doing: &str) -> Self {
        let (kind, decided, words) = meaning(code);
        let text = format!("{doing}: exception {code} of the server: {words}");
        Self { code: Some(code), ..Self::new(kind, text).maybe_applied(!decided) }
    }

    /// What was being done, and what went wrong.
    #[cfg(feature = "query")]
    pub(crate) fn into_context(self) -> String {
        self.context
    }

    /// The code of the server's exception, where it is one.
    pub(crate) fn code(&self) -> Option<u32> {
        self.code
    }

    /// An answer that is no answer of the server itself: of something between.
    pub(crate) fn status(status: u16, doing: &str) -> Self {
        let (kind, maybe_applied) = match status {
            401 => (SinkErrorKind::Unauthenticated, false),
            403 | 407 => (SinkErrorKind::PermissionDenied, false),
            404 | 405 => (SinkErrorKind::Misconfigured, false),
            413 | 414 => (SinkErrorKind::Rejected, false),
            429 => (SinkErrorKind::Exhausted, false),
            408 | 504 => (SinkErrorKind::Timeout, true),
            _ => (SinkErrorKind::Unavailable, true),
        };
        Self::new(kind, format!("{doing}: HTTP status {status}")).maybe_applied(maybe_applied)
    }

    /// A fault of the connection. `sent` is whether the server may have seen the request.
    pub(crate) fn network(error: &(dyn Error + 'static), sent: bool, doing: &str) -> Self {
        let reason = network_reason(error);
        Self::new(SinkErrorKind::Unavailable, format!("{doing}: {reason}")).maybe_applied(sent)
    }

    /// The server did not answer in time.
    pub(crate) fn timeout(doing: &str) -> Self {
        Self::new(SinkErrorKind::Timeout, format!("{doing}: no answer in time")).maybe_applied(true)
    }

    /// What the server holds, or answers, is not what this schema has.
    pub(crate) fn corrupt(text: impl Into<String>) -> Self {
        Self::new(SinkErrorKind::Corrupt, text)
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

/// Kind, whether it is certain that nothing was written, and words.
fn meaning(code: u32) -> (SinkErrorKind, bool, &'static str) {
    use SinkErrorKind::{
        Corrupt, Exhausted, Misconfigured, Other, PermissionDenied, Rejected, Timeout,
        Unauthenticated, Unavailable,
    };
    match code {
        192..=194 | 516 => (Unauthenticated, true, "wrong user or password"),
        195 => (PermissionDenied, true, "this address may not connect"),
        164 => (PermissionDenied, true, "the user may only read"),
        291 | 497 => (PermissionDenied, true, "a grant is missing: see the crate's PERMISSIONS"),
        60 | 81 => {
            (Misconfigured, true, "unknown table or database: run `ClickHouseStore::migrate`")
        }
        8 | 10 | 16 | 36 | 44 | 47 | 48 | 50 | 53 | 62 | 115 => {
            (Misconfigured, true, "the tables or the server are not what this release knows")
        }
        243 => (Exhausted, true, "no space left"),
        173 | 241 => (Exhausted, false, "no memory left"),
        201 | 202 | 252 | 307 | 396 => (Exhausted, true, "too much at a time, or over a quota"),
        159 | 160 | 209 => (Timeout, false, "it took too long"),
        319 => (Unavailable, false, "whether it was written is not known"),
        3 | 74 | 75 | 76 | 210 | 236 | 279 | 285 | 286 | 394 | 425 | 999 => {
            (Unavailable, false, "input, output or a replica fails, or the server shuts down")
        }
        242 => (Unavailable, true, "the table can only be read at the moment"),
        469 => (Rejected, true, "a constraint of the table refuses the rows"),
        6 | 26 | 27 | 32 | 33 | 38 | 41 | 72 | 117 | 131 | 321 => {
            (Rejected, true, "the rows cannot be read")
        }
        40 | 228 | 229 | 246 | 271 => (Corrupt, false, "what is stored is damaged"),
        _ => (Other, false, "see the server's `system.errors`"),
    }
}

/// Why a connection failed, in words that hold no address, body or header.
fn network_reason(error: &(dyn Error + 'static)) -> String {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return format!("TLS: {}", tls_reason(tls));
    }
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return match io.get_ref() {
            // The cause of such an error is not that of its source, but what it is made of.
            Some(inner) => network_reason(inner),
            None => io.kind().to_string(),
        };
    }
    if let Some(http) = error.downcast_ref::<hyper::Error>() {
        if http.is_incomplete_message() || http.is_closed() {
            return "the connection was closed in the middle".to_owned();
        }
        if http.is_parse() {
            return "what answers does not speak HTTP".to_owned();
        }
    }
    error.source().map_or_else(|| "the connection failed".to_owned(), network_reason)
}

fn tls_reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "the server's certificate is not trusted: name its authority as `certificate`"
        }
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS",
        _ => "the handshake failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_code() {
        for (code, kind, retryable, maybe_applied) in [
            (516, SinkErrorKind::Unauthenticated, false, false),
            (497, SinkErrorKind::PermissionDenied, false, false),
            (60, SinkErrorKind::Misconfigured, false, false),
            (243, SinkErrorKind::Exhausted, true, false),
            (252, SinkErrorKind::Exhausted, true, false),
            (159, SinkErrorKind::Timeout, true, true),
            (999, SinkErrorKind::Unavailable, true, true),
            (319, SinkErrorKind::Unavailable, true, true),
            (469, SinkErrorKind::Rejected, false, false),
            (246, SinkErrorKind::Corrupt, false, true),
            (4_242, SinkErrorKind::Other, true, true),
        ] {
            let error = SinkError::from(Fault::exception(code, "insert events"));
            let found = (error.kind(), error.is_retryable(), error.maybe_applied());
            assert_eq!(found, (kind, retryable, maybe_applied), "{code}");
        }
    }

    #[test]
    fn a_proxy_in_between_is_understood() {
        let fault = |status| SinkError::from(Fault::status(status, "insert events"));
        assert_eq!(fault(401).kind(), SinkErrorKind::Unauthenticated);
        assert_eq!(fault(413).kind(), SinkErrorKind::Rejected);
        assert_eq!(fault(429).kind(), SinkErrorKind::Exhausted);
        assert!(fault(502).is_retryable() && fault(502).maybe_applied());
    }

    #[test]
    fn a_message_holds_no_address() {
        let io = io::Error::from(io::ErrorKind::ConnectionRefused);
        let fault = SinkError::from(Fault::network(&io, false, "insert events"));
        assert_eq!(fault.to_string(), "sink unavailable: insert events: connection refused");
        assert!(!fault.maybe_applied());
        let wrapped = io::Error::other(io::Error::from(io::ErrorKind::ConnectionReset));
        let fault = SinkError::from(Fault::network(&wrapped, true, "insert events"));
        assert!(fault.to_string().ends_with("connection reset") && fault.maybe_applied());
    }
}
