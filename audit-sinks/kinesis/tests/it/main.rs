//! The sink and its reader on an emulator of the service.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod conformance;
mod faults;
mod large;
mod outages;
mod permissions;
mod reading;
mod stream;

use agent_audit_core::{
    record::Record,
    sink::{Batch, Segment, SegmentOutcome, Sink, SinkError},
};
use agent_audit_kinesis::{Arrival, Arrivals, Received};

async fn append(sink: &dyn Sink, segments: &[&Segment]) -> Vec<SegmentOutcome> {
    let batch = Batch::new(segments.iter().map(|segment| (*segment).clone()).collect());
    sink.append(&batch).await.unwrap().outcomes
}

async fn store(sink: &dyn Sink, segment: &Segment) {
    let outcomes = append(sink, &[segment]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
}

/// How an append of one segment fails, as a whole or by its outcome.
async fn failure(sink: &dyn Sink, segment: &Segment) -> SinkError {
    match sink.append(&Batch::new(vec![segment.clone()])).await {
        Err(error) => error,
        Ok(mut ack) => match ack.outcomes.remove(0) {
            SegmentOutcome::Failed { error } => error,
            other => panic!("expected a failure, not {other:?}"),
        },
    }
}

/// What a reader makes of what arrived: each event once, in order.
fn in_order(arrived: impl IntoIterator<Item = Received>) -> Vec<Record> {
    let mut arrivals = Arrivals::new();
    let mut records = Vec::new();
    for received in arrived {
        if let Arrival::Next(next) = arrivals.take(received) {
            records.extend(next.into_iter().map(|received| received.record));
        }
    }
    assert_eq!(arrivals.waiting(), 0, "nothing waits for what was not delivered");
    records
}
