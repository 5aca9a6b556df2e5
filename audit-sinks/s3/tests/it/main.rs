//! The archive on a real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
#[cfg(feature = "query")]
mod asking;
mod conformance;
mod locks;
mod outages;
mod place;
mod reading;
mod tampering;
mod writing;

use agent_audit_core::{
    chain::ChainRef,
    id::TenantId,
    record::Record,
    sink::{Batch, Segment, SegmentOutcome, Sink, SinkError},
};
use agent_audit_s3::S3Archive;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
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

async fn records(archive: &S3Archive, chain: &ChainRef, from: u64) -> Vec<Record> {
    let mut records = archive.records(chain, from);
    let mut found = Vec::new();
    while let Some(record) = records.next().await {
        let (position, record) = record.unwrap();
        assert_eq!(record.view().unwrap().sequence, position);
        found.push(record);
    }
    found
}
