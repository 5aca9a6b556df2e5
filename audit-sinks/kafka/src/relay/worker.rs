//! The work for one sink, and the questions for heads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agent_audit_core::sink::{Batch, Head, SegmentOutcome, Sink, SinkError, SinkErrorKind};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    Shared,
    state::{Load, Settled},
};

/// How many chains are asked about at a time.
const HEADS_AT_A_TIME: usize = 16;

/// How often the sinks are asked about chains with a gap.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How a sink is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    pub(super) limit: Duration,
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
}

impl Calls {
    /// The delay after so many failures in a row: exponential, with full jitter.
    fn delay(self, failures: u32, error: &SinkError) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = if error.is_retryable() {
            self.shortest.saturating_mul(doubled).min(self.longest)
        } else {
            // Only a person can help, so there is no hurry.
            self.longest
        };
        let asked = error.retry_after().unwrap_or_default().min(Duration::from_secs(3_600));
        bound.mul_f64(rand::random()).max(asked)
    }
}

/// Sends until it is told to stop.
pub(super) async fn work(
    shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    at: usize,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        if *stop.borrow() {
            return;
        }
        let next = shared.state().next_loads(at, Instant::now());
        match next {
            Ok(loads) => {
                let batch = Batch::new(loads.iter().map(|load| load.segment.clone()).collect());
                let answer = {
                    let sink = Arc::clone(&sink);
                    guarded(calls.limit, async move { Ok(sink.append(&batch).await?.outcomes) })
                };
                tokio::select! {
                    answer = answer => settle(&shared, at, &loads, answer, calls),
                    _ = stop.changed() => return,
                }
            }
            Err(wake) => {
                let sleep = async {
                    match wake {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = shared.wake[at].notified() => {}
                    () = sleep => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }
}

/// Takes up the answer for a batch.
fn settle(
    shared: &Shared,
    at: usize,
    loads: &[Load],
    answer: Result<Vec<SegmentOutcome>, SinkError>,
    calls: Calls,
) {
    let now = Instant::now();
    let mut state = shared.state();
    let outcomes = match answer {
        Ok(outcomes) if outcomes.len() == loads.len() => outcomes,
        answer => {
            let error = answer.err().unwrap_or_else(|| {
                SinkError::new(SinkErrorKind::Other, "the sink did not answer for each segment")
            });
            let sink = &mut state.sinks[at];
            sink.failures = sink.failures.saturating_add(1);
            let until = now + calls.delay(sink.failures, &error);
            if sink.failures.is_power_of_two() {
                tracing::warn!(sink = %sink.name, failures = sink.failures, %error, "a sink does not take events");
            }
            sink.rests_until = Some(until);
            sink.last_error = Some(error.to_string());
            for load in loads {
                state.settled(at, load, Settled::Again(until, error.to_string()));
            }
            return;
        }
    };
    let mut fault = None;
    for (load, outcome) in loads.iter().zip(outcomes) {
        let failures = state.failures(at, load.chain);
        let (first, events) = (load.segment.first(), load.segment.len());
        let stored =
            |through: u64| usize::try_from((through + 1).saturating_sub(first)).unwrap_or(events);
        let settled = match outcome {
            SegmentOutcome::Accepted => Settled::Stored(events),
            SegmentOutcome::Prefix { through } if stored(through) > 0 => {
                Settled::Stored(stored(through).min(events))
            }
            SegmentOutcome::Conflict { sequence } => {
                let before = usize::try_from(sequence.saturating_sub(first)).unwrap_or(0);
                let why = format!("it holds another event at position {sequence}");
                Settled::Refused(before.min(events - 1), why)
            }
            SegmentOutcome::Failed { error } if is_final(&error) => {
                Settled::Refused(0, error.to_string())
            }
            SegmentOutcome::Failed { error } => {
                let due = now + calls.delay(failures + 1, &error);
                fault = Some(error.to_string());
                Settled::Again(due, error.to_string())
            }
            other => {
                let error =
                    SinkError::new(SinkErrorKind::Other, format!("an answer of no use: {other:?}"));
                Settled::Again(now + calls.delay(failures + 1, &error), error.to_string())
            }
        };
        state.settled(at, load, settled);
    }
    let sink = &mut state.sinks[at];
    if std::mem::take(&mut sink.failures) > 0 {
        tracing::info!(sink = %sink.name, "a sink takes events again");
    }
    if fault.is_none() && sink.last_error.is_some() && state.is_sound(at) {
        state.sinks[at].last_error = None;
    }
}

/// Whether the events themselves are refused. What a person can mend is waited for.
fn is_final(error: &SinkError) -> bool {
    !error.is_retryable()
        && matches!(error.kind(), SinkErrorKind::Rejected | SinkErrorKind::Corrupt)
}

/// Asks the sinks about chains until it is told to stop.
pub(super) async fn meet(
    shared: Arc<Shared>,
    sinks: Vec<Arc<dyn Sink>>,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) {
    let readable: Vec<_> = sinks.into_iter().filter(|sink| sink.info().readable_heads).collect();
    let mut failures = 0;
    let mut looked = Instant::now();
    let mut last_gap = 0;
    loop {
        if *stop.borrow() {
            return;
        }
        let (mut ids, again) = {
            let mut state = shared.state();
            let many = state.unknown.len().min(HEADS_AT_A_TIME);
            let ids: Vec<u64> = state.unknown.drain(..many).collect();
            let again = looked.elapsed() >= LOOK_AGAIN;
            (ids, if again { state.gapped() } else { Vec::new() })
        };
        if looked.elapsed() >= LOOK_AGAIN {
            looked = Instant::now();
        }
        // Where there are many, each has its turn.
        let mut gaps: Vec<u64> = again.iter().copied().filter(|id| *id > last_gap).collect();
        if gaps.is_empty() {
            gaps = again;
        }
        gaps.truncate(HEADS_AT_A_TIME);
        last_gap = gaps.last().copied().unwrap_or(last_gap);
        ids.extend(gaps);
        if ids.is_empty() {
            tokio::select! {
                () = shared.contact.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                _ = stop.changed() => {}
            }
            continue;
        }
        let mut asked = JoinSet::new();
        for id in ids {
            let chain = shared.state().chains.get(&id).map(|chain| chain.chain.clone());
            let Some(chain) = chain else { continue };
            let sinks = readable.clone();
            asked.spawn(async move {
                let mut least: Option<Option<Head>> = None;
                for sink in sinks {
                    let chain = chain.clone();
                    let asking = async move { sink.head(&chain).await };
                    let head = match guarded(calls.limit, asking).await {
                        Ok(head) => head,
                        Err(error) => return (id, Err(error)),
                    };
                    let shorter = least.is_none_or(|known| before(head, known));
                    if shorter {
                        least = Some(head);
                    }
                }
                (id, Ok(least.flatten()))
            });
        }
        let mut fault = None;
        while let Some(answer) = asked.join_next().await {
            let Ok((id, answer)) = answer else { continue };
            match answer {
                Ok(head) => {
                    shared.state().met(id, head);
                    shared.wake_all();
                }
                Err(error) => {
                    let mut state = shared.state();
                    // One with a gap is asked about again by itself.
                    if state.is_unknown(id) {
                        state.unknown.push_back(id);
                    }
                    state.last_error = Some(error.to_string());
                    fault = Some(error);
                }
            }
        }
        match fault {
            None => failures = 0,
            Some(error) => {
                failures += 1;
                if u32::is_power_of_two(failures) {
                    tracing::warn!(failures, %error, "a sink cannot be asked for the head of a chain");
                }
                tokio::select! {
                    () = tokio::time::sleep(calls.delay(failures, &error)) => {}
                    _ = stop.changed() => {}
                }
            }
        }
    }
}

fn before(one: Option<Head>, other: Option<Head>) -> bool {
    one.map(|head| head.sequence) < other.map(|head| head.sequence)
}

/// A call of a sink, which may hang or panic.
async fn guarded<T: Send + 'static>(
    limit: Duration,
    call: impl Future<Output = Result<T, SinkError>> + Send + 'static,
) -> Result<T, SinkError> {
    let mut task = AbortOnDrop(tokio::spawn(call));
    match timeout(limit, &mut task.0).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => {
            Err(SinkError::new(SinkErrorKind::Other, "the sink panicked").with_maybe_applied())
        }
        Err(_) => {
            let context = format!("no answer within {limit:?}");
            Err(SinkError::new(SinkErrorKind::Timeout, context).with_maybe_applied())
        }
    }
}

struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
