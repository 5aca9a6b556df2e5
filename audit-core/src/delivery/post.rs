//! Calls of one sink, for the main flow and for what runs beside it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    chain::ChainRef,
    sink::{Batch, Head, SegmentOutcome, Sink, SinkError, SinkErrorKind},
    timestamp::Timestamp,
};

use super::{
    Control,
    backoff::Backoff,
    call::guarded,
    lane::Lane,
    options::DeliveryOptions,
    outcome::{Answer, Delays},
    source::lock,
};

/// One sink, and how it is called.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) lane: Arc<Lane>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) options: DeliveryOptions,
    pub(super) backoff: Backoff,
    pub(super) control: watch::Receiver<Control>,
}

impl Post {
    pub(super) fn new(
        lane: Arc<Lane>,
        sink: Arc<dyn Sink>,
        options: DeliveryOptions,
        control: watch::Receiver<Control>,
    ) -> Self {
        let backoff = Backoff { shortest: options.shortest_retry, longest: options.longest_retry };
        Self { lane, sink, options, backoff, control }
    }

    /// Sends a batch; `again` where it was sent before.
    pub(super) async fn append(
        &self,
        batch: Arc<Batch>,
        again: bool,
    ) -> Result<Vec<SegmentOutcome>, SinkError> {
        if again {
            let mut ledger = lock(&self.lane.ledger);
            ledger.counters.retries += 1;
            ledger.counters.duplicates += batch.event_count() as u64;
        }
        let sink = Arc::clone(&self.sink);
        let expected = batch.segments().len();
        let call = async move { sink.append(&batch).await };
        let answer = match guarded(self.options.append_timeout, call).await {
            Ok(ack) if ack.outcomes.len() == expected => Ok(ack.outcomes),
            Ok(ack) => {
                let context = format!("{} outcomes for {expected} segments", ack.outcomes.len());
                Err(SinkError::new(SinkErrorKind::Other, context).with_maybe_applied())
            }
            Err(error) => Err(error),
        };
        let mut ledger = lock(&self.lane.ledger);
        match &answer {
            Ok(_) => {
                ledger.counters.batches += 1;
                ledger.last_acknowledged = Some(Timestamp::now());
            }
            Err(_) => ledger.counters.failures += 1,
        }
        answer
    }

    /// What the sink says it has of a chain.
    pub(super) async fn head(
        &self,
        chain: ChainRef,
        limit: Duration,
    ) -> Result<Option<Head>, SinkError> {
        let sink = Arc::clone(&self.sink);
        guarded(limit, async move { sink.head(&chain).await }).await
    }

    /// What follows from the outcome of each segment of a batch.
    pub(super) fn judge(&self, batch: &Batch, outcomes: Vec<SegmentOutcome>) -> Vec<Answer> {
        let pairs = batch.segments().iter().zip(outcomes);
        pairs.map(|(segment, outcome)| self.lane.judge(segment, outcome)).collect()
    }

    pub(super) fn delays(&self) -> Delays {
        Delays { backoff: self.backoff, left: self.time_left() }
    }

    /// The time that is left for draining.
    fn time_left(&self) -> Option<Duration> {
        match *self.control.borrow() {
            Control::Drain { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            Control::Run | Control::Stop => None,
        }
    }
}
