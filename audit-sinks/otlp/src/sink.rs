//! The sink: batches as requests, and answers as outcomes.

mod appending;
mod plan;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use agent_audit_core::sink::{
    Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkErrorKind, SinkInfo,
};

use appending::Appending;

use crate::{
    config::{OtlpConfig, Oversized},
    error::Fault,
    mapping::Mapping,
    store::{Exporter, Request},
};

/// Sends events to an OpenTelemetry collector, as log records.
///
/// A call that is cancelled may still be carried out; the same segment again is sent again, and the
/// reader finds each event once by chain and sequence. A runtime of tokio with its timer MUST run
/// the calls.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_otlp::{OtlpConfig, OtlpSink};
/// let config = OtlpConfig::grpc("http://localhost:4317")
///     .with_header("authorization", "Bearer very-secret")
///     .with_resource("service.name", "support");
/// let sink = OtlpSink::new(config)?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("otlp", "otlp"));
/// assert!(!sink.info().readable_heads);
/// assert!(!format!("{sink:?}").contains("very-secret"));
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
#[derive(Debug)]
pub struct OtlpSink {
    info: SinkInfo,
    config: OtlpConfig,
    exporter: Exporter,
    mapping: Mapping,
    /// Until when the collector asked to be left alone.
    quiet_until: Mutex<Option<Instant>>,
    /// Which tenant is tried first when a request has to be split: another one each time.
    turn: AtomicUsize,
}

impl OtlpSink {
    /// A sink as configured. Nothing is connected before the first call.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used: an endpoint that is no URL or holds a
    /// password, a header that cannot be sent, a certificate that cannot be read.
    pub fn new(config: OtlpConfig) -> Result<Self, SinkError> {
        let exporter = Exporter::new(&config)?;
        // Eight requests or so: after a lost answer no more than that is sent again.
        // A collector keeps no chains, and nobody takes what it shows for the evidence.
        let info =
            SinkInfo::new(config.name.clone(), "otlp").with_gaps().with_max_batch(1_000, 2 << 20);
        let mapping = Mapping::new(&config);
        let (quiet_until, turn) = (Mutex::new(None), AtomicUsize::new(0));
        Ok(Self { info, config, exporter, mapping, quiet_until, turn })
    }

    /// A sink as the standard variables of OpenTelemetry say: see [`OtlpConfig::from_env`].
    ///
    /// # Errors
    /// As [`OtlpConfig::from_env`] and [`new`](Self::new).
    pub fn from_env() -> Result<Self, SinkError> {
        Self::new(OtlpConfig::from_env()?)
    }

    /// Sends one request, unless the collector asked to be left alone for now.
    async fn export(&self, request: Request) -> Result<(), Fault> {
        if let Some(until) = *self.quiet() {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let context = "the collector asked to be left alone for now";
                return Err(Fault::collector(SinkErrorKind::Exhausted, context)
                    .with_retry_after(Some(left)));
            }
        }
        let answer = self.exporter.export(request).await;
        let delay = answer.as_ref().err().and_then(|fault| fault.retry_after);
        *self.quiet() = delay.and_then(|delay| Instant::now().checked_add(delay));
        answer
    }

    fn quiet(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn leaves_out_content(&self) -> bool {
        self.config.oversized == Oversized::LeaveOutContent && self.mapping.has_content()
    }
}

#[async_trait::async_trait]
impl Sink for OtlpSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        Appending::new(self, batch.segments()).run().await
    }

    /// A collector cannot be asked.
    async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(None)
    }

    /// Sends a request without records.
    async fn check(&self) -> Result<(), SinkError> {
        Ok(self.export(Request::default()).await?)
    }

    /// Lets go of connections. A later call makes new ones.
    async fn close(&self) -> Result<(), SinkError> {
        self.exporter.close();
        Ok(())
    }
}
