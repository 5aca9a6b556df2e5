//! What follows from the answer of a sink.

use std::time::Duration;

use tokio::time::Instant;

use crate::sink::{SegmentOutcome, SinkError, SinkErrorKind};

use super::{
    backoff::Backoff,
    draft::Load,
    health::HaltReason,
    ledger::{Fault, Flow, Lag, Ledger},
};

/// Takes up what became of a segment of the main flow.
pub(super) fn settle(ledger: &mut Ledger, load: &Load, outcome: SegmentOutcome, delays: &Delays) {
    apply(ledger, load, outcome, 0, delays);
    if let (Flow::Live, Some(from)) = (&ledger.slot(load.slot).flow, load.excluded) {
        ledger.lag(load.slot, Lag::now(from));
    }
}

/// Takes up what became of one segment; false where something of it is left to catch-up or halted.
pub(super) fn apply(
    ledger: &mut Ledger,
    load: &Load,
    outcome: SegmentOutcome,
    failures: u32,
    delays: &Delays,
) -> bool {
    let (slot, last) = (load.slot, load.last());
    let from = load.indices.first().copied().unwrap_or_default();
    match outcome {
        SegmentOutcome::Accepted => {
            ledger.acknowledge(slot, last + 1);
            return true;
        }
        SegmentOutcome::Prefix { through } if through >= last && through < u64::MAX => {
            if through == last {
                ledger.acknowledge(slot, last + 1);
                return true;
            }
            let context = format!("acknowledged position {through} of a segment up to {last}");
            let error = SinkError::new(SinkErrorKind::Other, context).with_maybe_applied();
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Prefix { through } if through >= load.first => {
            ledger.acknowledge(slot, through + 1);
            let at = usize::try_from(through + 1 - load.first).unwrap_or(usize::MAX);
            ledger.lag(slot, Lag::now(load.indices.get(at).copied().unwrap_or(from)));
        }
        SegmentOutcome::Prefix { .. } => {
            let error = SinkError::new(SinkErrorKind::Other, "nothing of a segment was taken");
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Conflict { sequence } => {
            let message = format!("the sink holds another event at position {sequence}");
            ledger.halt(slot, from, sequence, HaltReason::Conflict, message);
        }
        SegmentOutcome::Failed { error } if error.is_retryable() => {
            ledger.last_fault = Some(Fault::from(&error));
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Failed { error } => {
            let reason = match error.kind() {
                SinkErrorKind::Corrupt => HaltReason::Corrupt,
                _ => HaltReason::Rejected,
            };
            ledger.halt(slot, from, load.first, reason, error.to_string());
        }
    }
    false
}

/// The fault of a whole batch as the fault of one segment.
pub(super) fn again(error: &SinkError) -> SinkError {
    let copy = SinkError::new(error.kind(), "the batch failed with it")
        .with_retryable(error.is_retryable())
        .with_retry_after(error.retry_after().unwrap_or_default());
    if error.maybe_applied() { copy.with_maybe_applied() } else { copy }
}

pub(super) fn failures(flow: &Flow) -> u32 {
    match flow {
        Flow::Lagging(lag) => lag.failures,
        Flow::Live | Flow::Halted { .. } => 0,
    }
}

/// How long to wait, in view of the time that is left.
pub(super) struct Delays {
    pub(super) backoff: Backoff,
    pub(super) left: Option<Duration>,
}

impl Delays {
    pub(super) fn after(&self, error: &SinkError, failures: u32) -> Duration {
        let delay = if error.is_retryable() {
            self.backoff.delay(failures, error.retry_after())
        } else {
            self.backoff.longest(error.retry_after())
        };
        match self.left {
            Some(left) => delay.min(left / 4).max(error.retry_after().unwrap_or_default()),
            None => delay,
        }
    }

    /// A segment that failed goes to catch-up; where its outcome is unknown, as it was.
    pub(super) fn lag(&self, load: &Load, error: &SinkError, failures: u32) -> Lag {
        let failures = failures.saturating_add(1);
        Lag {
            from: load.indices.first().copied().unwrap_or_default(),
            failures,
            due: Instant::now() + self.after(error, failures),
            exact: error.maybe_applied().then(|| load.as_exact()),
        }
    }
}
