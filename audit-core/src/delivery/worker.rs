//! The work for one sink: send, judge the answer, retry, remember.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::sink::{Batch, Head, SegmentOutcome, Sink, SinkError, SinkErrorKind};

use super::{
    Control, DeliveryOptions,
    backoff::Backoff,
    call::{guarded, race},
    draft::{Draft, Shipment},
    lane::Lane,
    ledger::{Fault, Flow, Lag, SlotId, Trouble},
    outcome::{Delays, again, apply, failures, settle},
    source::{Fill, Source, lock},
};

/// How many chains a sink is asked about at a time.
const HEADS_AT_A_TIME: usize = 16;

/// How often a whole batch may fail before its segments are tried one by one.
const PATIENCE: u32 = 3;

/// The one who works for one sink.
pub(super) struct Worker {
    lane: Arc<Lane>,
    sink: Arc<dyn Sink>,
    options: DeliveryOptions,
    backoff: Backoff,
    control: watch::Receiver<Control>,
    source: Source,
    pending: Option<Pending>,
    /// The journal could not be read, and is not read again before this.
    blind_until: Option<Instant>,
    /// The cursor may be stored again.
    store_at: Instant,
    hastened: bool,
}

/// A batch of the main flow that is not acknowledged.
struct Pending {
    shipment: Shipment,
    end: u64,
    failures: u32,
    retry_at: Instant,
}

/// What the main flow has to do.
enum Next {
    Batch(Pending),
    /// Entries that nothing is to be done about.
    Passed,
    Nothing,
}

impl Worker {
    pub(super) fn new(
        lane: Arc<Lane>,
        sink: Arc<dyn Sink>,
        options: DeliveryOptions,
        control: watch::Receiver<Control>,
    ) -> Self {
        Self {
            source: Source::new(Arc::clone(&lane.journal)),
            backoff: Backoff { shortest: options.shortest_retry, longest: options.longest_retry },
            lane,
            sink,
            options,
            control,
            pending: None,
            blind_until: None,
            store_at: Instant::now(),
            hastened: false,
        }
    }

    /// Works until everything is delivered that was durable when the log was closed, or until the
    /// deadline, or until it is told to stop.
    pub(super) async fn run(mut self) {
        let control = self.control.clone();
        // Whatever the work is at when it is given up, the ledger is true: it changes only between
        // two waits.
        race(self.work(), stopped(control)).await;
        // A failure is logged, and costs no more than doing it again after the next open.
        let _ = self.lane.store();
        let until = match *self.control.borrow() {
            Control::Drain { until, .. } => Some(until),
            Control::Run | Control::Stop => None,
        };
        if let Some(until) = until {
            let limit = until.saturating_duration_since(Instant::now());
            let limit = limit.max(Duration::from_millis(100));
            let sink = Arc::clone(&self.sink);
            if let Err(error) = guarded(limit, async move { sink.close().await }).await {
                tracing::warn!(sink = %self.lane.name, %error, "a sink could not be closed");
            }
        }
        lock(&self.lane.ledger).end();
    }

    async fn work(&mut self) {
        loop {
            let mut busy = self.main_turn().await;
            if self.pending.is_none() {
                busy |= self.catch_up_turn().await;
            }
            if Instant::now() >= self.store_at {
                self.store();
            }
            if busy {
                tokio::task::yield_now().await;
            } else if self.is_drained() {
                return;
            } else {
                self.rest().await;
            }
        }
    }

    /// Sends the next batch of the live chains, or the last one again; false if there is nothing to
    /// do at present.
    async fn main_turn(&mut self) -> bool {
        let mut pending = match self.pending.take() {
            Some(pending) if Instant::now() < pending.retry_at => {
                self.pending = Some(pending);
                return false;
            }
            Some(pending) => pending,
            None => match self.next_batch().await {
                Next::Batch(pending) => pending,
                Next::Passed => return true,
                Next::Nothing => return false,
            },
        };
        let segments = pending.shipment.batch.segments().len();
        if pending.failures >= PATIENCE && segments > 1 {
            self.take_apart(pending).await;
            return true;
        }
        match self.append(Arc::clone(&pending.shipment.batch)).await {
            Ok(outcomes) => {
                self.recovered();
                let delays = self.delays();
                let mut ledger = lock(&self.lane.ledger);
                for (load, outcome) in pending.shipment.loads.iter().zip(outcomes) {
                    settle(&mut ledger, load, outcome, &delays);
                }
                ledger.advance(pending.end);
            }
            Err(error) => {
                pending.failures = pending.failures.saturating_add(1);
                let delay = self.failed(pending.failures, &error);
                if pending.failures >= PATIENCE && segments == 1 && error.is_retryable() {
                    // It may be this chain and not the sink: the next one will tell.
                    let delays = self.delays();
                    let mut ledger = lock(&self.lane.ledger);
                    for load in &pending.shipment.loads {
                        let outcome = SegmentOutcome::Failed { error: again(&error) };
                        settle(&mut ledger, load, outcome, &delays);
                    }
                    ledger.advance(pending.end);
                } else {
                    pending.retry_at = Instant::now() + delay;
                    self.pending = Some(pending);
                }
            }
        }
        true
    }

    /// Finds out whether the sink is at fault or one of the segments: sends one of them alone,
    /// another one each time. If it is taken, the rest is sent one by one, and what fails lags.
    async fn take_apart(&mut self, mut pending: Pending) {
        let batch = Arc::clone(&pending.shipment.batch);
        let segments = batch.segments().len();
        let alone = |at: usize| Arc::new(Batch::new(batch.segments()[at..=at].to_vec()));
        let probe = usize::try_from(pending.failures).unwrap_or(0) % segments;
        for at in (probe..segments).chain(0..probe) {
            let load = &pending.shipment.loads[at];
            let outcome = match self.append(alone(at)).await {
                Ok(mut outcomes) => {
                    self.recovered();
                    outcomes.pop().expect("there is one outcome for each segment")
                }
                Err(error) if at == probe => {
                    pending.failures = pending.failures.saturating_add(1);
                    pending.retry_at = Instant::now() + self.failed(pending.failures, &error);
                    self.pending = Some(pending);
                    return;
                }
                Err(error) => SegmentOutcome::Failed { error: again(&error).with_retryable(true) },
            };
            settle(&mut lock(&self.lane.ledger), load, outcome, &self.delays());
        }
        lock(&self.lane.ledger).advance(pending.end);
    }

    async fn append(&self, batch: Arc<Batch>) -> Result<Vec<SegmentOutcome>, SinkError> {
        let sink = Arc::clone(&self.sink);
        let expected = batch.segments().len();
        let call = async move { sink.append(&batch).await };
        let ack = guarded(self.options.append_timeout, call).await?;
        if ack.outcomes.len() == expected {
            return Ok(ack.outcomes);
        }
        let context = format!("{} outcomes for {expected} segments", ack.outcomes.len());
        Err(SinkError::new(SinkErrorKind::Other, context).with_maybe_applied())
    }

    fn delays(&self) -> Delays {
        Delays { backoff: self.backoff, left: self.time_left() }
    }

    /// Reads what comes next for the live chains.
    async fn next_batch(&mut self) -> Next {
        let fill = self.read(|source, lane| {
            source.main(&lane.ledger, Draft::new(lane.most_events, lane.most_bytes))
        });
        let Some(mut fill) = fill else { return Next::Nothing };
        if lock(&self.lane.ledger).is_at_end(fill.end) {
            return Next::Nothing;
        }
        self.ask_heads(&mut fill, &mut BTreeSet::new()).await;
        let mut ledger = lock(&self.lane.ledger);
        match fill.draft.into_shipment(&mut ledger) {
            Some(shipment) => Next::Batch(Pending {
                shipment,
                end: fill.end,
                failures: 0,
                retry_at: Instant::now(),
            }),
            None => {
                ledger.advance(fill.end);
                Next::Passed
            }
        }
    }

    /// Sends what is due of the lagging chains; false if nothing is due.
    async fn catch_up_turn(&mut self) -> bool {
        let now = Instant::now();
        let mut due: BTreeSet<SlotId> = {
            let ledger = lock(&self.lane.ledger);
            ledger.lagging().filter(|(_, lag)| lag.due <= now).map(|(id, _)| id).collect()
        };
        if due.is_empty() {
            return false;
        }
        let Some(mut fill) = self.read(|source, lane| {
            let draft = Draft::new(lane.most_events, lane.most_bytes);
            source.behind(&lane.ledger, &mut due, draft)
        }) else {
            return false;
        };
        self.ask_heads(&mut fill, &mut due).await;
        let resume: Vec<(SlotId, u64)> =
            due.iter().map(|id| (*id, fill.draft.excluded(*id).unwrap_or(fill.end))).collect();
        let shipment = fill.draft.into_shipment(&mut lock(&self.lane.ledger));
        let mut behind = BTreeSet::new();
        if let Some(Shipment { batch, loads }) = shipment {
            let answer = self.append(batch).await;
            let delays = self.delays();
            match answer {
                Ok(outcomes) => {
                    self.recovered();
                    let mut ledger = lock(&self.lane.ledger);
                    for (load, outcome) in loads.iter().zip(outcomes) {
                        let failures = failures(&ledger.slot(load.slot).flow);
                        if !apply(&mut ledger, load, outcome, failures, &delays) {
                            behind.insert(load.slot);
                        }
                    }
                }
                Err(error) => {
                    tracing::debug!(sink = %self.lane.name, %error, "catch-up failed");
                    let mut ledger = lock(&self.lane.ledger);
                    ledger.last_fault = Some(Fault::from(&error));
                    for load in &loads {
                        let failures = failures(&ledger.slot(load.slot).flow);
                        ledger.lag(load.slot, delays.lag(load, &error, failures));
                        behind.insert(load.slot);
                    }
                }
            }
        }
        let mut ledger = lock(&self.lane.ledger);
        let position = ledger.position;
        for (id, resume) in resume {
            if behind.contains(&id) {
                continue;
            }
            let Flow::Lagging(lag) = ledger.slot(id).flow else { continue };
            let from = lag.from.max(resume);
            if from >= position {
                ledger.rejoin(id);
            } else if from > lag.from {
                ledger.lag(id, Lag::now(from));
            }
        }
        true
    }

    /// Asks the sink what it has of the chains of a draft that it meets for the first time.
    async fn ask_heads(&mut self, fill: &mut Fill, due: &mut BTreeSet<SlotId>) {
        if !self.lane.ask_heads {
            return;
        }
        let mut unknown = {
            let ledger = lock(&self.lane.ledger);
            let slots = fill.draft.unknown(&ledger).into_iter();
            slots.map(|slot| (slot, ledger.slot(slot).chain.clone())).collect::<Vec<_>>()
        }
        .into_iter();
        let limit = self.options.append_timeout;
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < HEADS_AT_A_TIME
                && let Some((slot, chain)) = unknown.next()
            {
                let sink = Arc::clone(&self.sink);
                asked.spawn(async move {
                    (slot, guarded(limit, async move { sink.head(&chain).await }).await)
                });
            }
            let Some(answer) = asked.join_next().await else { return };
            // The panic of a sink is caught inside, so this is one of the runtime shutting down.
            let Ok((slot, answer)) = answer else { continue };
            self.meet(fill, due, slot, answer);
        }
    }

    fn meet(
        &self,
        fill: &mut Fill,
        due: &mut BTreeSet<SlotId>,
        slot: SlotId,
        answer: Result<Option<Head>, SinkError>,
    ) {
        let mut ledger = lock(&self.lane.ledger);
        match answer {
            Ok(head) => {
                if !fill.draft.meet(&mut ledger, slot, head, &self.lane.journal) {
                    due.remove(&slot);
                }
            }
            Err(error) => {
                due.remove(&slot);
                let Some(from) = fill.draft.withdraw(slot) else { return };
                tracing::debug!(sink = %self.lane.name, %error, "a sink cannot be asked for a head");
                ledger.last_fault = Some(Fault::from(&error));
                let failures = failures(&ledger.slot(slot).flow).saturating_add(1);
                let delays = self.delays();
                let due = Instant::now() + delays.after(&error, failures);
                ledger.lag(slot, Lag { from, failures, due, exact: None });
            }
        }
    }

    /// Reads from the journal; none where it cannot be read at present.
    fn read(
        &mut self,
        read: impl FnOnce(&mut Source, &Lane) -> Result<Fill, crate::error::AuditError>,
    ) -> Option<Fill> {
        if self.blind_until.is_some_and(|until| Instant::now() < until) {
            return None;
        }
        match read(&mut self.source, &self.lane) {
            Ok(fill) => {
                if self.blind_until.take().is_some() {
                    lock(&self.lane.ledger).trouble = None;
                }
                Some(fill)
            }
            Err(error) => {
                self.source.reset();
                self.blind_until = Some(Instant::now() + self.backoff.longest(None));
                let mut ledger = lock(&self.lane.ledger);
                if ledger.trouble.is_none() {
                    tracing::error!(sink = %self.lane.name, %error, "the journal cannot be read");
                }
                let failures = ledger.trouble.as_ref().map_or(0, |trouble| trouble.failures);
                ledger.trouble = Some(Trouble {
                    failures: failures.saturating_add(1),
                    blocked: true,
                    message: error.to_string(),
                });
                None
            }
        }
    }

    /// Notes that the sink took a batch.
    fn recovered(&self) {
        let mut ledger = lock(&self.lane.ledger);
        if self.blind_until.is_none() && ledger.trouble.take().is_some() {
            tracing::info!(sink = %self.lane.name, "a sink takes events again");
        }
    }

    /// Notes that the sink failed as a whole, and says how long to leave it alone.
    fn failed(&self, failures: u32, error: &SinkError) -> Duration {
        if failures.is_power_of_two() {
            tracing::warn!(sink = %self.lane.name, failures, %error, "a sink does not take events");
        }
        lock(&self.lane.ledger).trouble =
            Some(Trouble { failures, blocked: !error.is_retryable(), message: error.to_string() });
        self.delays().after(error, failures)
    }

    fn store(&mut self) {
        // A failure is logged, and tried again after the interval.
        let started = Instant::now();
        let _ = self.lane.store();
        // With very many chains storing takes its time, and must not become the main work.
        self.store_at =
            Instant::now() + self.options.cursor_interval.max(started.elapsed().saturating_mul(20));
    }

    /// Until when to drain, and the time that is left for it.
    fn time_left(&self) -> Option<Duration> {
        match *self.control.borrow() {
            Control::Drain { until, .. } => Some(until.saturating_duration_since(Instant::now())),
            Control::Run | Control::Stop => None,
        }
    }

    fn is_drained(&self) -> bool {
        let Control::Drain { target, .. } = *self.control.borrow() else { return false };
        let ledger = lock(&self.lane.ledger);
        let done = self.pending.is_none() && ledger.position >= target;
        done && ledger.lagging().next().is_none()
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self) {
        let draining = !matches!(*self.control.borrow_and_update(), Control::Run);
        if draining && !std::mem::replace(&mut self.hastened, true) {
            // There is little time left, so all that waits for its turn has it now.
            let now = Instant::now();
            lock(&self.lane.ledger).hasten(now);
            if let Some(pending) = &mut self.pending {
                pending.retry_at = now;
            }
            return;
        }
        let (position, mut wake) = {
            let ledger = lock(&self.lane.ledger);
            let mut wake = Vec::new();
            if ledger.dirty {
                wake.push(self.store_at);
            }
            if self.pending.is_none() {
                wake.extend(ledger.lagging().map(|(_, lag)| lag.due).min());
            }
            (ledger.position, wake)
        };
        wake.extend(self.pending.as_ref().map(|pending| pending.retry_at));
        if let Some(blind) = self.blind_until {
            // Nothing can be read before that, so nothing else but the cursor is to be done.
            wake.retain(|at| *at == self.store_at);
            wake.push(blind);
        }
        let sleep = async {
            match wake.into_iter().min() {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let more = async {
            let closed = self.pending.is_some()
                || self.blind_until.is_some()
                || self.lane.journal.wait_past(position).await.is_err();
            if closed {
                std::future::pending::<()>().await;
            }
        };
        // The sender lives as long as this task; if it did not, there would be nobody to work for.
        let told = async { drop(self.control.changed().await) };
        race(race(sleep, more), told).await;
    }
}

/// Resolves when the work has to end, done or not.
async fn stopped(mut control: watch::Receiver<Control>) {
    loop {
        let until = match *control.borrow_and_update() {
            Control::Run => None,
            Control::Drain { until, .. } => Some(until),
            Control::Stop => return,
        };
        let deadline = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let told = async { control.changed().await.is_err() };
        let over = async {
            deadline.await;
            true
        };
        if race(told, over).await {
            return;
        }
    }
}
