//! The sink and its store against a real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

#[cfg(feature = "query")]
mod asking;
mod conformance;
mod database;
mod faults;
mod migrating;
mod outages;
mod partitions;
mod privileges;
mod reading;
mod tenants;
mod tls;
mod verifying;
mod writing;

use agent_audit_core::{
    content::Part,
    event::{Event, Other},
    hash::Hash,
    id::{EventId, TenantId},
    record::Record,
    sink::{Batch, ChainRef, Segment, SegmentOutcome, Sink, SinkError},
};
use agent_audit_postgres::PostgresStore;

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

/// The error of an append, whether it is the segment's or the whole batch's.
async fn failure(sink: &dyn Sink, segment: &Segment) -> SinkError {
    match sink.append(&Batch::new(vec![segment.clone()])).await {
        Ok(mut ack) => match ack.outcomes.remove(0) {
            SegmentOutcome::Failed { error } => error,
            other => panic!("expected a failure, not {other:?}"),
        },
        Err(error) => error,
    }
}

async fn records(store: &PostgresStore, chain: &ChainRef) -> Vec<Record> {
    let mut found = Vec::new();
    let mut records = store.records(chain, 0).await.unwrap();
    while let Some(item) = records.next().await {
        found.push(item.unwrap().1);
    }
    found
}

/// An event id that was made so many milliseconds after 1970.
fn id_of_time(millis: u64) -> EventId {
    let mut bytes = *EventId::new().as_bytes();
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    EventId::from_bytes(bytes).unwrap()
}

/// A chain with one event for each of these, from position 0.
fn chain_of(chain: &ChainRef, events: Vec<(EventId, Event)>) -> Segment {
    let mut previous = Hash::ZERO;
    let records = (0..).zip(events).map(|(sequence, (event_id, mut event))| {
        let (references, bodies) =
            [Part::text("output", format!("of {sequence}")).commit()].into_iter().unzip();
        event.tenant_id = chain.tenant_id.clone();
        event.chain_id = chain.chain_id.clone();
        event.sequence = sequence;
        event.event_id = event_id;
        event.previous_event_hash = previous;
        event.content = references;
        let record = Record::new(event.canonical_bytes().unwrap(), bodies);
        previous = record.event_hash();
        record
    });
    Segment::new(chain.clone(), records.collect()).unwrap()
}

/// A chain whose events were made at these times, in milliseconds after 1970.
fn chain_at(chain: &ChainRef, millis: &[u64]) -> Segment {
    let event = || Event::example(Other::custom("note").unwrap());
    chain_of(chain, millis.iter().map(|at| (id_of_time(*at), event())).collect())
}
