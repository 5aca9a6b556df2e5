//! The sink against a real collector, and against a service that fails as a test wants it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod collector;
mod conformance;
mod connections;
mod limits;
mod outages;
mod received;
mod refusals;
mod service;
mod throttling;

use agent_audit_core::sink::{Batch, Segment, SegmentOutcome, Sink};
use agent_audit_otlp::OtlpSink;

/// Appends segments and gives their outcomes.
async fn append(sink: &OtlpSink, segments: &[&Segment]) -> Vec<SegmentOutcome> {
    let batch = Batch::new(segments.iter().map(|segment| (*segment).clone()).collect());
    sink.append(&batch).await.unwrap().outcomes
}

/// An error and everything behind it, in both of its forms.
fn all_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}
