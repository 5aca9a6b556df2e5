//! The sink and its store against a real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
#[cfg(feature = "query")]
mod asking;
mod configuration;
mod conformance;
mod database;
mod durability;
mod interposer;
mod outages;
mod reading;
mod two_writers;
mod writing;

use agent_audit_core::{
    id::{ChainId, TenantId},
    sink::{Batch, Segment, SegmentOutcome, Sink, SinkError},
};

/// A tenant that no other test has.
fn any_tenant() -> TenantId {
    TenantId::new(format!("t{}", ChainId::random().to_string().replace('-', ""))).unwrap()
}

async fn append(sink: &dyn Sink, segments: &[&Segment]) -> Vec<SegmentOutcome> {
    let batch = Batch::new(segments.iter().map(|segment| (*segment).clone()).collect());
    sink.append(&batch).await.unwrap().outcomes
}

async fn store(sink: &dyn Sink, segment: &Segment) {
    let outcomes = append(sink, &[segment]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
}

async fn failure(sink: &dyn Sink, segment: &Segment) -> SinkError {
    match append(sink, &[segment]).await.remove(0) {
        SegmentOutcome::Failed { error } => error,
        other => panic!("expected a failure, not {other:?}"),
    }
}
