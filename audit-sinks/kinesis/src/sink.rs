//! The sink: one record for each event, chains sent apart from each other.

use std::fmt;

use agent_audit_aws::internal::{Fault, append};
use agent_audit_core::sink::{
    Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkErrorKind, SinkInfo,
};

use crate::{
    config::KinesisConfig,
    store::{Access, Put},
};

/// Puts events into a Kinesis data stream.
///
/// A call that is cancelled may still be carried out; the same segment again is accepted once more,
/// and the reader drops what it has.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_kinesis::{AwsConfig, KinesisConfig, KinesisSink};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let aws = AwsConfig::default().with_region("eu-central-1").with_credentials("AKIA", "secret");
/// let sink = KinesisSink::connect(KinesisConfig::new("audit-events").with_aws(aws)).await?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("kinesis", "kinesis"));
/// assert!(!sink.info().readable_heads);
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct KinesisSink {
    info: SinkInfo,
    put: Put,
}

impl fmt::Debug for KinesisSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.put.access.config.stream;
        f.debug_struct("KinesisSink").field("stream", stream).finish_non_exhaustive()
    }
}

impl KinesisSink {
    /// A sink as configured. Makes no request to the stream: see [`Sink::check`].
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be one.
    pub async fn connect(config: KinesisConfig) -> Result<Self, SinkError> {
        // One by one a batch takes as many calls as its longest chain has events.
        let events = if config.strict_order { 200 } else { 2_000 };
        let info = SinkInfo::new(config.name.clone(), "kinesis").with_max_batch(events, 4 << 20);
        Ok(Self { info, put: Put::new(Access::new(config).await?) })
    }
}

#[async_trait::async_trait]
impl Sink for KinesisSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        append(batch, &self.put, self.put.access.claims.as_ref()).await
    }

    /// A stream cannot be asked for the last record of a chain: always `None`.
    async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(None)
    }

    /// Whether the stream is there, in use, and takes records as large as configured, and whether
    /// the bucket for large events is there. That this process may put records shows only when it
    /// does.
    async fn check(&self) -> Result<(), SinkError> {
        use aws_sdk_kinesis::types::StreamStatus::{Active, Creating, Updating};
        let access = &self.put.access;
        let stream = &access.config.stream;
        let summary = access.describe().await?;
        let fault = |kind, what: String| Err(Fault::new(kind, what).into());
        match summary.stream_status() {
            Active | Updating => {}
            Creating => {
                let what = format!("stream {stream} is being created: wait");
                return fault(SinkErrorKind::Unavailable, what);
            }
            other => {
                let what = format!("stream {stream} is {}", other.as_str().to_ascii_lowercase());
                return fault(SinkErrorKind::Misconfigured, what);
            }
        }
        let most = summary.max_record_size_in_kib().and_then(|kib| usize::try_from(kib).ok());
        let wanted = access.config.max_record_bytes;
        if let Some(most) = most.map(|kib| kib << 10).filter(|most| *most < wanted) {
            let what = format!(
                "stream {stream} takes records of {most} bytes, and max_record_bytes is {wanted}: \
                 make it that, or raise MaxRecordSizeInKiB of the stream"
            );
            return fault(SinkErrorKind::Misconfigured, what);
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
