//! The sink: one message for each event, chains sent apart from each other.

use std::fmt;

use agent_audit_aws::internal::{Fault, append};
use agent_audit_core::sink::{
    Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkErrorKind, SinkInfo,
};

use crate::{
    config::SqsConfig,
    store::{Access, Send},
};

/// Sends events to a FIFO queue of SQS.
///
/// A call that is cancelled may still be carried out; the same segment again within five minutes
/// is one message, and after that the reader drops what it has.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_sqs::{AwsConfig, SqsConfig, SqsSink};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let url = "https://sqs.eu-central-1.amazonaws.com/000000000000/audit.fifo";
/// let aws = AwsConfig::default().with_region("eu-central-1").with_credentials("AKIA", "secret");
/// let sink = SqsSink::connect(SqsConfig::new(url).with_aws(aws)).await?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("sqs", "sqs"));
/// assert!(!sink.info().readable_heads);
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SqsSink {
    info: SinkInfo,
    send: Send,
}

impl fmt::Debug for SqsSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.send.access.config.queue();
        f.debug_struct("SqsSink").field("queue", &queue).finish_non_exhaustive()
    }
}

impl SqsSink {
    /// A sink as configured. Makes no request to the queue: see [`Sink::check`].
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be one.
    pub async fn connect(config: SqsConfig) -> Result<Self, SinkError> {
        // One by one a batch takes as many calls as its longest chain has events.
        let events = if config.strict_order { 100 } else { 1_000 };
        let info = SinkInfo::new(config.name.clone(), "sqs").with_max_batch(events, 4 << 20);
        Ok(Self { info, send: Send::new(Access::new(config).await?) })
    }
}

#[async_trait::async_trait]
impl Sink for SqsSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        append(batch, &self.send, self.send.access.claims.as_ref()).await
    }

    /// A queue cannot be asked for the last message of a chain: always `None`.
    async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(None)
    }

    /// Whether the queue is there, is a FIFO queue and takes messages as large as configured, and
    /// whether the bucket for large events is there. That this process may send messages shows only
    /// when it does.
    async fn check(&self) -> Result<(), SinkError> {
        let access = &self.send.access;
        let (queue, wanted) = (access.config.queue(), access.config.max_message_bytes);
        let limit = access.largest_message().await?;
        if let Some(limit) = limit.filter(|limit| *limit < wanted) {
            let what = format!(
                "queue {queue} takes messages of {limit} bytes, and max_message_bytes is {wanted}: \
                 make it that, or raise MaximumMessageSize of the queue"
            );
            return Err(Fault::new(SinkErrorKind::Misconfigured, what).into());
        }
        if let Some(claims) = &access.claims {
            claims.check().await?;
        }
        Ok(())
    }

    /// Nothing is kept open that would have to be closed. A later call goes on.
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}
