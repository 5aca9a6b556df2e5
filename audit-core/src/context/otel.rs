//! The trace and span of events, from OpenTelemetry.

use opentelemetry::{
    Context,
    trace::{SpanContext, TraceContextExt as _},
};

use super::AuditContext;
use crate::id::{SpanId, TraceId};

impl AuditContext {
    /// This place in the trace and span that are active in OpenTelemetry on this thread.
    ///
    /// Where none is active, or the active one has no valid ids, this place as it is. Whether the
    /// span is sampled makes no difference: the audit log never drops by sampling.
    ///
    /// Ids alone are taken. Nothing is sent to OpenTelemetry, and the span's attributes are not
    /// read.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::{event::Other, log::AuditLog};
    ///
    /// let session = AuditLog::open(dir.path())?.session("acme", "session-1", "agent")?;
    /// // Inside a span, the event carries its trace_id and span_id.
    /// session.with_current_span().record_blocking(Other::custom("note")?)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_current_span(&self) -> Self {
        match Context::map_current(|active| ids(active.span().span_context())) {
            Some((trace, span)) => self.with_trace(trace, Some(span)),
            None => self.clone(),
        }
    }
}

/// Both or neither: a valid span context has no zero id, and their text is lower-case hexadecimal.
fn ids(span: &SpanContext) -> Option<(TraceId, SpanId)> {
    let trace = TraceId::new(span.trace_id().to_string()).ok()?;
    let span = SpanId::new(span.span_id().to_string()).ok()?;
    Some((trace, span))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use opentelemetry::trace::{
        SpanId as OtelSpanId, TraceFlags, TraceId as OtelTraceId, TraceState,
    };

    use super::*;
    use crate::{event::Other, log::AuditLog, memory::MemorySink};

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    /// A span that records nothing, as one that another process began, or that was not sampled.
    fn active(trace: u128, span: u64) -> Context {
        let (trace, span) = (OtelTraceId::from(trace), OtelSpanId::from(span));
        let flags = TraceFlags::NOT_SAMPLED;
        let span = SpanContext::new(trace, span, flags, true, TraceState::default());
        Context::new().with_remote_span_context(span)
    }

    #[test]
    fn events_carry_the_ids_of_the_active_span_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let sink = MemorySink::new();
        let log = AuditLog::builder(dir.path()).with_sink(sink.clone()).open().unwrap();
        let session = log.session("acme", "session-1", "agent").unwrap();
        let record = || {
            let here = session.with_current_span();
            here.record_blocking(Other::custom("note").unwrap()).unwrap().event_id
        };
        let within = {
            let _active = active(TRACE, SPAN).attach();
            record()
        };
        let invalid = {
            let _active = active(TRACE, 0).attach();
            record()
        };
        let outside = record();
        log.close_blocking(std::time::Duration::from_secs(60)).unwrap();

        let ids = |id| {
            let entry = sink.events().filter("by id", |entry| entry.id() == id).only();
            let event = entry.event();
            let text = |id: Option<&str>| id.map(str::to_owned);
            (
                text(event.trace_id.as_ref().map(TraceId::as_str)),
                text(event.span_id.as_ref().map(SpanId::as_str)),
            )
        };
        let expected = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        assert_eq!(ids(within), (Some(expected.0.to_owned()), Some(expected.1.to_owned())));
        assert_eq!(ids(invalid), (None, None));
        assert_eq!(ids(outside), (None, None));
    }
}
