//! Appending to a sink as a test does it: one batch, and what came of it.

use agent_audit_core::sink::{Batch, Segment, SegmentOutcome, Sink, SinkError};

/// The outcome of each segment of a batch.
///
/// ```
/// use agent_audit_core::{conformance::TestChain, memory::MemorySink, sink::SegmentOutcome};
/// use agent_audit_test_support::sinks::append;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let outcomes = append(&MemorySink::new(), &[&TestChain::new().extend(2)]).await;
/// assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// Where the batch fails as a whole.
pub async fn append(sink: &dyn Sink, segments: &[&Segment]) -> Vec<SegmentOutcome> {
    let batch = Batch::new(segments.iter().map(|segment| (*segment).clone()).collect());
    sink.append(&batch).await.unwrap().outcomes
}

/// Appends a segment, which MUST be accepted.
///
/// ```
/// use agent_audit_core::{conformance::TestChain, memory::MemorySink};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// agent_audit_test_support::sinks::store(&MemorySink::new(), &TestChain::new().extend(2)).await;
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// Where it is not.
pub async fn store(sink: &dyn Sink, segment: &Segment) {
    let outcomes = append(sink, &[segment]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
}

/// How an append of one segment fails, as a whole or by its outcome.
///
/// ```
/// use agent_audit_core::{conformance::TestChain, memory::MemorySink, sink::SinkErrorKind};
/// use agent_audit_test_support::sinks::failure;
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let mut chain = TestChain::new();
/// chain.extend(3);
/// let error = failure(&MemorySink::new(), &chain.segment(2..=2)).await;
/// assert_eq!(error.kind(), SinkErrorKind::Corrupt, "what would follow is not there");
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Panics
/// Where it does not.
pub async fn failure(sink: &dyn Sink, segment: &Segment) -> SinkError {
    match sink.append(&Batch::new(vec![segment.clone()])).await {
        Err(error) => error,
        Ok(mut ack) => match ack.outcomes.remove(0) {
            SegmentOutcome::Failed { error } => error,
            other => panic!("expected a failure, not {other:?}"),
        },
    }
}
