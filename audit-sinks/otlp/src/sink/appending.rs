//! One batch on its way: what was taken, what was not, and why.

use std::{future::Future, ops::ControlFlow, pin::Pin};

use agent_audit_core::sink::{BatchAck, Segment, SegmentOutcome, SinkError, SinkErrorKind};

use super::{
    OtlpSink,
    plan::{Plan, Span, Step},
};
use crate::error::{About, Fault};

/// How many tenants may fail one after the other, none of them taken, until it is taken for a fault
/// of the collector and not of tenants.
const PATIENCE: usize = 3;

pub(super) struct Appending<'a> {
    sink: &'a OtlpSink,
    segments: &'a [Segment],
    plan: Plan<'a>,
    progress: Vec<Progress>,
    /// Chains of which something failed: nothing later of them is sent in this batch.
    stopped: Vec<bool>,
    /// How many records were taken.
    taken: usize,
}

#[derive(Debug, Default)]
struct Progress {
    /// How many records were taken, from the first on.
    taken: usize,
    fault: Option<Fault>,
}

type Sending<'s> = Pin<Box<dyn Future<Output = ControlFlow<Fault>> + Send + 's>>;

impl<'a> Appending<'a> {
    pub(super) fn new(sink: &'a OtlpSink, segments: &'a [Segment]) -> Self {
        let plan = Plan::new(sink, segments);
        let stopped = vec![false; segments.len()];
        let progress = segments.iter().map(|_| Progress::default()).collect();
        Self { sink, segments, plan, progress, stopped, taken: 0 }
    }

    pub(super) async fn run(mut self) -> Result<BatchAck, SinkError> {
        let mut ended_by = None;
        let mut step = self.plan.next(&self.stopped);
        loop {
            step = match step {
                Step::Done => break,
                Step::Unsendable(segment, at, fault) => {
                    self.fail(segment, at, &fault);
                    self.plan.next(&self.stopped)
                }
                Step::Request(spans) => {
                    let spans = self.going(spans);
                    if spans.is_empty() {
                        step = self.plan.next(&self.stopped);
                        continue;
                    }
                    let sending = self.sink.export(self.plan.request(&spans));
                    // The next one is made while the collector works at this one.
                    let making = async {
                        tokio::task::yield_now().await;
                        self.plan.next(&self.stopped)
                    };
                    let (answer, next) = tokio::join!(sending, making);
                    if let ControlFlow::Break(fault) = self.settle(spans, answer).await {
                        ended_by = Some(fault);
                        break;
                    }
                    next
                }
            }
        }
        match ended_by {
            // Nothing was taken, and it is nobody's fault but the collector's.
            Some(fault) if self.taken == 0 => Err(fault.into()),
            ended_by => Ok(self.outcomes(ended_by.as_ref())),
        }
    }

    /// Sends some records.
    fn send(&mut self, spans: Vec<Span>) -> Sending<'_> {
        Box::pin(async move {
            let spans = self.going(spans);
            if spans.is_empty() {
                return ControlFlow::Continue(());
            }
            let answer = self.sink.export(self.plan.request(&spans)).await;
            self.settle(spans, answer).await
        })
    }

    /// Those of chains that are not stopped.
    fn going(&self, mut spans: Vec<Span>) -> Vec<Span> {
        spans.retain(|span| !self.stopped[self.plan.chains[span.segment]]);
        spans
    }

    /// Takes up what became of a request, and where it failed finds out as far as possible which of
    /// its records fail. Breaks off where the collector itself is at fault.
    async fn settle(&mut self, spans: Vec<Span>, answer: Result<(), Fault>) -> ControlFlow<Fault> {
        let Err(fault) = answer else {
            for span in &spans {
                self.progress[span.segment].taken = span.end();
                self.taken += span.records.len();
            }
            return ControlFlow::Continue(());
        };
        let parts = match fault.about {
            About::Collector => None,
            About::Request => self.plan.part(&spans, fault.is_refusal()),
        };
        if let Some(parts) = parts {
            return self.send_apart(parts, &fault).await;
        }
        for span in &spans {
            self.fail(span.segment, span.start, &fault);
        }
        match fault.about {
            About::Collector => ControlFlow::Break(fault),
            About::Request => ControlFlow::Continue(()),
        }
    }

    /// Sends what failed together one by one, beginning with another one each time.
    async fn send_apart(
        &mut self,
        mut parts: std::collections::VecDeque<Vec<Span>>,
        fault: &Fault,
    ) -> ControlFlow<Fault> {
        tracing::debug!(parts = parts.len(), "a request failed and is sent in parts");
        let tenants = !fault.is_refusal();
        // One that does not answer costs the whole time that a request may take.
        let patience = if fault.kind == SinkErrorKind::Timeout { 1 } else { PATIENCE };
        if tenants {
            let first = self.sink.next_turn() % parts.len();
            parts.rotate_left(first);
        }
        let (before, mut in_vain) = (self.taken, 0);
        for part in parts {
            if tenants && in_vain == patience && self.taken == before {
                let fault = fault.not_tried();
                part.iter().for_each(|span| self.fail(span.segment, span.start, &fault));
                continue;
            }
            self.send(part).await?;
            in_vain += 1;
        }
        ControlFlow::Continue(())
    }

    /// Notes that a segment failed at one of its records, and that its chain goes no further.
    fn fail(&mut self, segment: usize, at: usize, fault: &Fault) {
        self.stopped[self.plan.chains[segment]] = true;
        let progress = &mut self.progress[segment];
        if progress.fault.is_none() {
            let of = &self.segments[segment];
            let sequence = of.first() + u64::try_from(at).unwrap_or(u64::MAX);
            progress.fault =
                Some(fault.at(&format!("event {sequence} of chain {} and on", of.chain())));
        }
    }

    /// What became of each segment; what was not tried failed by the fault that ended the batch.
    fn outcomes(self, ended_by: Option<&Fault>) -> BatchAck {
        let outcome = |(segment, progress): (&Segment, Progress)| {
            if progress.taken == segment.len() {
                return SegmentOutcome::Accepted;
            }
            if let Some(last) = progress.taken.checked_sub(1) {
                let through = segment.first() + u64::try_from(last).unwrap_or(u64::MAX);
                return SegmentOutcome::Prefix { through };
            }
            let fault = progress.fault.or(ended_by.map(Fault::not_tried));
            let error = fault.map_or_else(
                || {
                    let context = "not sent, because an earlier segment of its chain failed";
                    SinkError::new(SinkErrorKind::Other, context)
                },
                SinkError::from,
            );
            // No chain may halt for a fault of the collector; the next batch will say it again.
            let retryable = error.is_retryable() || ended_by.is_some_and(|f| !f.is_refusal());
            SegmentOutcome::Failed { error: error.with_retryable(retryable) }
        };
        BatchAck::new(self.segments.iter().zip(self.progress).map(outcome).collect())
    }
}
