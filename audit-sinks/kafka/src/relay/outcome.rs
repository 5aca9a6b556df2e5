//! What follows from the answer of a sink.

use std::time::Instant;

use agent_audit_core::sink::{SegmentOutcome, SinkError, SinkErrorKind};

use super::{
    Shared,
    calls::{Calls, is_final},
    state::{Load, Settled},
};

/// What a sink has, as it says, and so often cannot compare, because it is not permitted to or not set
/// up for it, is let go of: a single forged event would stop its chain for ever.
const PATIENCE_WITH_OLD: u32 = 6;

/// Takes up the answer for what was sent in one call.
pub(super) fn settle(
    shared: &Shared,
    sink: usize,
    loads: &[Load],
    answer: Result<Vec<SegmentOutcome>, SinkError>,
    calls: Calls,
) {
    let mut state = shared.state();
    let error = match answer {
        Ok(outcomes) if outcomes.len() == loads.len() => {
            state.works(sink, loads);
            let mut failed = false;
            for (load, outcome) in loads.iter().zip(outcomes) {
                let (failures, doubted) = state.record_of(sink, load.chain);
                let settled = judge(load, outcome, failures, doubted, calls);
                failed |= matches!(settled, Settled::Again(..));
                state.settled(sink, load, settled);
            }
            if !failed && state.sinks[sink].last_error.is_some() && state.is_sound(sink) {
                state.sinks[sink].last_error = None;
            }
            return;
        }
        Ok(_) => SinkError::new(SinkErrorKind::Other, "the sink did not answer for each segment")
            .with_maybe_applied(),
        Err(error) => error,
    };
    let by_itself = match loads {
        [load] if is_final(&error) || load.aside && state.is_trusted(sink) => Some(load),
        _ => None,
    };
    if is_final(&error) {
        // The sink works, and refuses.
        state.works(sink, loads);
    }
    match by_itself {
        Some(load) => {
            let (failures, doubted) = state.record_of(sink, load.chain);
            let outcome = SegmentOutcome::Failed { error };
            state.settled(sink, load, judge(load, outcome, failures, doubted, calls));
        }
        // Whose events it refuses shows when each chain comes by itself.
        None if is_final(&error) => {
            for load in loads {
                state.settled(sink, load, Settled::Apart(error.to_string()));
            }
        }
        None => state.fails(sink, loads, &error, calls),
    }
}

/// What follows for one chain, that has failed so often in a row. Where something of it is in doubt,
/// these are the events before the one that the sink has named.
fn judge(
    load: &Load,
    outcome: SegmentOutcome,
    failures: u32,
    doubted: bool,
    calls: Calls,
) -> Settled {
    let (first, events) = (load.segment.first(), load.segment.len());
    let stored =
        |through: u64| usize::try_from((through + 1).saturating_sub(first)).unwrap_or(events);
    let error = match outcome {
        SegmentOutcome::Accepted => return Settled::Stored(events),
        SegmentOutcome::Prefix { through } if stored(through) > 0 => {
            return Settled::Stored(stored(through).min(events));
        }
        SegmentOutcome::Conflict { sequence } => {
            let why = format!("it holds another event at position {sequence}");
            let before = usize::try_from(sequence.saturating_sub(first)).unwrap_or(events);
            return match before.min(events - 1) {
                // It may name the last position that differs where it cannot see the others: only
                // what it takes by itself is not of the same branch.
                before if before > 0 && !doubted => {
                    Settled::Fewer(before, Some(format!("{why}, and does not take what is before")))
                }
                _ => Settled::Refused(why),
            };
        }
        SegmentOutcome::Failed { error } => error,
        other => SinkError::new(SinkErrorKind::Other, format!("an answer of no use: {other:?}")),
    };
    let incomparable = load.old && failures >= PATIENCE_WITH_OLD;
    if (doubted || incomparable) && !error.is_retryable() {
        return Settled::Refused(error.to_string());
    }
    if is_final(&error) {
        let refused = error.kind() == SinkErrorKind::Rejected && !error.maybe_applied();
        return match events / 2 {
            // One event is refused, and those before it need not be.
            half if half > 0 && refused && !load.old => Settled::Fewer(half, None),
            _ => Settled::Refused(error.to_string()),
        };
    }
    let due = Instant::now() + calls.delay(failures.saturating_add(1), &error);
    Settled::Again(due, error.to_string())
}
