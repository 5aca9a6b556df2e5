//! A sink whose answers are lost on the way back.

use std::sync::Arc;

use async_trait::async_trait;

use crate::sink::{
    Batch, BatchAck, ChainRef, Head, SegmentOutcome, Sink, SinkError, SinkErrorKind, SinkInfo,
};

/// Stores what it is given, and answers as if it had not heard: [`Fault::AfterCommit`] for any sink.
///
/// ```
/// # use std::sync::Arc;
/// use agent_audit_core::{
///     conformance::{chain, lose_answers}, id::TenantId, memory::MemorySink,
///     sink::{Batch, SegmentOutcome, Sink},
/// };
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let memory = MemorySink::new();
/// let deaf = lose_answers(Arc::new(memory.clone()));
/// let ack = deaf.append(&Batch::new(vec![chain(&TenantId::new("acme")?, 3)])).await?;
/// assert!(matches!(&ack.outcomes[..], [SegmentOutcome::Failed { error }] if error.maybe_applied()));
/// assert_eq!(memory.len(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`Fault::AfterCommit`]: super::Fault::AfterCommit
#[must_use]
pub fn lose_answers(sink: Arc<dyn Sink>) -> Arc<dyn Sink> {
    Arc::new(Deaf(sink))
}

#[derive(Debug)]
struct Deaf(Arc<dyn Sink>);

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Sink for Deaf {
    fn info(&self) -> &SinkInfo {
        self.0.info()
    }
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let ack = self.0.append(batch).await?;
        let lost = |_| {
            let error = SinkError::new(SinkErrorKind::Timeout, "append: the answer was lost");
            SegmentOutcome::Failed { error: error.with_maybe_applied() }
        };
        Ok(BatchAck::new(ack.outcomes.into_iter().map(lost).collect()))
    }
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        self.0.head(chain).await
    }
    async fn check(&self) -> Result<(), SinkError> {
        self.0.check().await
    }
    async fn close(&self) -> Result<(), SinkError> {
        self.0.close().await
    }
}
