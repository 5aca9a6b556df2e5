//! What follows from the answer of a sink.

use std::time::Duration;

use tokio::time::Instant;

use crate::sink::{SegmentOutcome, SinkError, SinkErrorKind};

use super::{
    backoff::Backoff,
    draft::Load,
    health::HaltReason,
    ledger::{Exact, Fault, Flow, Lag, Ledger},
};

/// What became of a segment, after a refused event was kept aside where that is allowed.
#[derive(Debug)]
pub(super) enum Answer {
    Outcome(SegmentOutcome),
    /// It was refused for good, and is kept aside.
    Quarantined,
    /// It was on its way when that was given up.
    Unknown,
}

/// Takes up what became of a segment of the main flow.
pub(super) fn settle(ledger: &mut Ledger, load: &Load, answer: Answer, delays: &Delays) {
    apply(ledger, load, answer, 0, delays);
    if let (Flow::Live, Some(from)) = (&ledger.slot(load.slot).flow, load.excluded) {
        ledger.lag(load.slot, Lag::now(from));
    }
}

/// Takes up what became of one segment; false where something of it is left to catch-up or halted.
pub(super) fn apply(
    ledger: &mut Ledger,
    load: &Load,
    answer: Answer,
    failures: u32,
    delays: &Delays,
) -> bool {
    let (slot, last) = (load.slot, load.last());
    let from = load.indices.first().copied().unwrap_or_default();
    let outcome = match answer {
        Answer::Outcome(outcome) => outcome,
        Answer::Quarantined => {
            ledger.counters.failures += 1;
            ledger.quarantine(slot, load.first);
            return true;
        }
        Answer::Unknown => {
            let due = Instant::now();
            let exact = Some(load.as_exact());
            ledger.lag(slot, Lag { from, failures, due, apart: true, exact });
            return false;
        }
    };
    match outcome {
        SegmentOutcome::Accepted => {
            took(ledger, load, load.indices.len());
            return true;
        }
        SegmentOutcome::Prefix { through } if through >= last && through < u64::MAX => {
            if through == last {
                took(ledger, load, load.indices.len());
                return true;
            }
            let context = format!("acknowledged position {through} of a segment up to {last}");
            let error = SinkError::new(SinkErrorKind::Other, context).with_maybe_applied();
            ledger.counters.failures += 1;
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Prefix { through } if through >= load.first => {
            let events = usize::try_from(through + 1 - load.first).unwrap_or(usize::MAX);
            took(ledger, load, events);
            ledger.lag(slot, Lag::now(load.indices.get(events).copied().unwrap_or(from)));
        }
        SegmentOutcome::Prefix { .. } => {
            let error = SinkError::new(SinkErrorKind::Other, "nothing of a segment was taken");
            ledger.counters.failures += 1;
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Conflict { sequence } => {
            ledger.counters.failures += 1;
            let message = format!("the sink holds another event at position {sequence}");
            ledger.halt(slot, from, sequence, HaltReason::Conflict, message);
        }
        // A right that is missing, or a table, is for a person to mend, and no fault of the events:
        // the chain goes on by itself when that is done.
        SegmentOutcome::Failed { error } if !is_final(&error) => {
            ledger.counters.failures += 1;
            ledger.last_fault = Some(Fault::from(&error));
            ledger.lag(slot, delays.lag(load, &error, failures));
        }
        SegmentOutcome::Failed { error } => {
            ledger.counters.failures += 1;
            if let Some(exact) = half(load, &error) {
                // One event is refused, and those before it need not be.
                let (due, exact) = (Instant::now(), Some(exact));
                ledger.lag(slot, Lag { from, failures, due, apart: true, exact });
                return false;
            }
            let reason = match error.kind() {
                SinkErrorKind::Corrupt => HaltReason::Corrupt,
                _ => HaltReason::Rejected,
            };
            ledger.halt(slot, from, load.first, reason, error.to_string());
        }
    }
    false
}

/// Whether nobody who mends the sink can make these events welcome.
fn is_final(error: &SinkError) -> bool {
    use SinkErrorKind::{Misconfigured, PermissionDenied, Unauthenticated};
    !error.is_retryable()
        && !matches!(error.kind(), Unauthenticated | PermissionDenied | Misconfigured)
}

fn took(ledger: &mut Ledger, load: &Load, events: usize) {
    let taken = events.min(load.indices.len()) as u64;
    ledger.counters.events += taken;
    ledger.counters.bytes += load.bytes_of(events);
    ledger.acknowledge(load.slot, load.first + taken);
}

/// The first half of a segment that was refused for good. Where nobody knows what was stored of it,
/// it may only come again as it was, so there is none.
fn half(load: &Load, error: &SinkError) -> Option<Exact> {
    let events = load.indices.len() / 2;
    let refused = error.kind() == SinkErrorKind::Rejected && !error.maybe_applied();
    (refused && events > 0).then(|| Exact {
        last: load.first + (events as u64) - 1,
        events,
        bytes: load.bytes / 2,
    })
}

/// Whether an error of a whole call says that these events are refused, and not that the sink fails.
pub(super) fn is_refusal(error: &SinkError) -> bool {
    error.kind() == SinkErrorKind::Rejected && !error.is_retryable()
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

    /// A segment that failed goes to catch-up, by itself; where its outcome is unknown, as it was.
    pub(super) fn lag(&self, load: &Load, error: &SinkError, failures: u32) -> Lag {
        let failures = failures.saturating_add(1);
        Lag {
            from: load.indices.first().copied().unwrap_or_default(),
            failures,
            due: Instant::now() + self.after(error, failures),
            apart: true,
            exact: error.maybe_applied().then(|| load.as_exact()),
        }
    }
}
