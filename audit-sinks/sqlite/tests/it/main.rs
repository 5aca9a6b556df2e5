//! The sink and its store on real files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[cfg(feature = "query")]
mod asking;
mod conformance;
mod reading;
mod writing;

use std::path::Path;

use agent_audit_core::{
    id::TenantId,
    record::Record,
    sink::{Batch, ChainRef, Segment, SegmentOutcome, Sink, SinkError},
};
use agent_audit_sqlite::{SqliteStore, file_of_tenant};
use rusqlite::Connection;

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

fn records(dir: &Path, chain: &ChainRef) -> Vec<Record> {
    let store = SqliteStore::open_read_only(dir).unwrap();
    store.records(chain, 0).unwrap().map(|item| item.unwrap().1).collect()
}

/// A connection as an administrator or an attacker has one.
fn raw(dir: &Path, tenant: &TenantId) -> Connection {
    Connection::open(dir.join(file_of_tenant(tenant))).unwrap()
}
