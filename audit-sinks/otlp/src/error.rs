//! What a collector and the way to it report, in the terms of a sink.
//!
//! A message here is made of what was being done, a status code, counts and the place of an event:
//! the words of a collector are never repeated, because it may quote what it was sent.

use std::time::Duration;

use agent_audit_core::sink::{SinkError, SinkErrorKind};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: SinkErrorKind,
    context: String,
    pub(crate) retryable: bool,
    maybe_applied: bool,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) about: About,
}

/// What a fault may be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    /// The collector or the way to it: another request fares no better.
    Collector,
    /// The request: some of what is in it may be taken alone.
    Request,
}

impl Fault {
    /// A fault of the collector or of the way to it.
    pub(crate) fn collector(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        let retryable = matches!(
            kind,
            SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Exhausted
        );
        let about = About::Collector;
        let context = context.into();
        Self { kind, context, retryable, maybe_applied: false, retry_after: None, about }
    }

    /// A fault that may pass, and that may be of something in the request.
    pub(crate) fn passing(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self { retryable: true, about: About::Request, ..Self::collector(kind, context) }
            .with_maybe_applied()
    }

    /// A request, or something in it, is refused for good.
    pub(crate) fn refused(context: impl Into<String>) -> Self {
        let collector = Self::collector(SinkErrorKind::Rejected, context);
        Self { retryable: false, about: About::Request, ..collector }
    }

    pub(crate) fn with_maybe_applied(mut self) -> Self {
        self.maybe_applied = true;
        self
    }

    pub(crate) fn with_retry_after(mut self, delay: Option<Duration>) -> Self {
        self.retry_after = delay;
        self
    }

    /// Whether trying the same again is of no use.
    pub(crate) fn is_refusal(&self) -> bool {
        !self.retryable && self.about == About::Request
    }

    /// The same fault, for something that was not sent because of it.
    pub(crate) fn not_tried(&self) -> Self {
        let context = format!("not sent, because another request failed: {}", self.context);
        Self { context, maybe_applied: false, ..self.clone() }
    }

    /// The same fault, with the place that it is about.
    pub(crate) fn at(&self, place: &str) -> Self {
        Self { context: format!("{place}: {}", self.context), ..self.clone() }
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let mut error = Self::new(fault.kind, fault.context).with_retryable(fault.retryable);
        if fault.maybe_applied {
            error = error.with_maybe_applied();
        }
        match fault.retry_after {
            Some(delay) => error.with_retry_after(delay),
            None => error,
        }
    }
}
