//! The main flow of one sink: send, judge the answer, retry, remember.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::sink::{Batch, Head, SegmentOutcome, SinkError, SinkErrorKind};

use super::{
    Control,
    aside::Aside,
    call::{guarded, race},
    draft::{Decoded, Draft, Load, Shipment},
    lane::Lane,
    ledger::{Fault, Flow, Lag, SlotId, Trouble},
    options::Role,
    outcome::{Answer, again, apply, failures, is_refusal, settle},
    post::Post,
    source::{Fill, Source, lock},
};

/// How many chains a sink is asked about at a time.
const HEADS_AT_A_TIME: usize = 16;

/// What part of the time for a call the main flow waits for a head; a chain whose head takes longer
/// is asked about beside it.
const HEAD_PATIENCE: u32 = 6;

/// How often a whole batch may fail before its segments are tried one by one; one that has timed out
/// is taken apart at once.
const PATIENCE: u32 = 3;

/// How many segments of a batch that failed are tried at a time, to find out who is at fault.
const PROBES: usize = 4;

/// What part of the time for a call a sink that works has to take what the journal lets go of.
const PATIENCE_TO_GO: u32 = 6;

/// How many entries are looked at before others get their turn, when the journal lets go of them.
const COUNTED_AT_A_TIME: u64 = 4_096;

/// The one who works for one sink.
pub(super) struct Worker {
    post: Post,
    source: Source,
    pending: Option<Pending>,
    /// The journal could not be read, and is not read again before this.
    blind_until: Option<Instant>,
    /// The cursor may be stored again.
    store_at: Instant,
    hastened: bool,
    /// The sink has failed as a whole since then.
    failed_at_last: bool,
}

/// A batch that is not acknowledged.
struct Pending {
    batch: Arc<Batch>,
    loads: Vec<Load>,
    then: Then,
    failures: u32,
    /// One of its segments may be at fault, and not the sink.
    suspect: bool,
    retry_at: Instant,
}

/// What is settled with a batch.
enum Then {
    /// Everything before this entry.
    Main { end: u64 },
    /// Lagging chains, each up to an entry.
    Behind { resume: Vec<(SlotId, u64)> },
}

/// What the main flow has to do.
enum Next {
    Batch(Shipment, u64),
    /// Entries that nothing is to be done about.
    Passed,
    Nothing,
}

impl Worker {
    pub(super) fn new(post: Post) -> Self {
        Self {
            source: Source::new(Arc::clone(&post.lane.journal)),
            post,
            pending: None,
            blind_until: None,
            store_at: Instant::now(),
            hastened: false,
            failed_at_last: false,
        }
    }

    fn lane(&self) -> &Lane {
        &self.post.lane
    }

    /// Works until everything is delivered that was durable when the log was closed, or until the
    /// deadline, or until it is told to stop.
    pub(super) async fn run(mut self) {
        let control = self.post.control.clone();
        // Whatever the work is at when it is given up, the ledger is true: it changes only between
        // two waits.
        race(self.serve(), stopped(control)).await;
        // A failure is logged, and costs no more than doing it again after the next open.
        let _ = self.lane().store();
        let until = match *self.post.control.borrow() {
            Control::Drain { until, .. } => Some(until),
            Control::Run | Control::Stop => None,
        };
        if let Some(until) = until {
            let limit = until.saturating_duration_since(Instant::now());
            let limit = limit.max(Duration::from_millis(100));
            let sink = Arc::clone(&self.post.sink);
            if let Err(error) = guarded(limit, async move { sink.close().await }).await {
                tracing::warn!(sink = %self.lane().name, %error, "a sink could not be closed");
            }
        }
        self.lane().end();
    }

    /// Works, and gives way when the journal lets go of what the sink has not acknowledged.
    async fn serve(&mut self) {
        let lane = Arc::clone(&self.post.lane);
        let mut floors = lane.floor.subscribe();
        let patience = self.post.options.append_timeout / PATIENCE_TO_GO;
        loop {
            let mut aside = Aside::new(self.post.clone());
            let work = async {
                self.work().await;
                None
            };
            let beside = async {
                aside.work().await;
                None
            };
            let told = async {
                let behind = |floor: &u64| *floor > lock(&lane.ledger).low();
                loop {
                    // The sender lives as long as the lane.
                    let floor = floors.wait_for(behind).await.map_or(0, |floor| *floor);
                    if lock(&lane.ledger).trouble().is_some() {
                        return Some(floor);
                    }
                    // It works and is slow: what is on its way now may still arrive.
                    tokio::time::sleep(patience).await;
                    if behind(&floor) {
                        return Some(floor);
                    }
                }
            };
            let floor = race(race(work, beside), told).await;
            drop(aside);
            let Some(floor) = floor else { return };
            if !self.let_go(floor).await {
                tokio::time::sleep(self.post.backoff.longest(None)).await;
            }
        }
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
                lock(&self.lane().ledger).note_state();
                self.lane().aside.notify_one();
                tokio::task::yield_now().await;
            } else if self.is_drained() {
                return;
            } else {
                self.rest().await;
            }
        }
    }

    /// Sends the next batch of the live chains, or what failed once more; false if there is nothing
    /// to do at present.
    async fn main_turn(&mut self) -> bool {
        if let Some(pending) = &self.pending {
            if Instant::now() < pending.retry_at {
                return false;
            }
            self.send().await;
            return true;
        }
        match self.next_batch().await {
            Next::Batch(shipment, end) => {
                self.pending = Some(Pending::new(shipment, Then::Main { end }));
                self.send().await;
                true
            }
            Next::Passed => true,
            Next::Nothing => false,
        }
    }

    /// Sends what is pending, and settles it if the sink answers.
    async fn send(&mut self) {
        let Some(pending) = &self.pending else { return };
        let failed = pending.failures;
        if pending.suspect && pending.loads.len() > 1 {
            return self.take_apart().await;
        }
        let batch = Arc::clone(&pending.batch);
        self.mark(failed > 0, failed > 0);
        let answer = self.post.append(Arc::clone(&batch), failed > 0).await;
        self.mark(failed > 0, false);
        match answer {
            Ok(outcomes) => {
                self.recovered();
                let answers = self.post.judge(&batch, outcomes);
                self.settle(answers);
            }
            Err(error) => self.failed_batch(error),
        }
    }

    /// Notes whether a batch that failed is held, and on its way.
    fn mark(&self, retrying: bool, trying: bool) {
        let mut ledger = lock(&self.lane().ledger);
        ledger.retrying = retrying;
        ledger.trying = trying;
    }

    fn failed_batch(&mut self, error: SinkError) {
        let Some(pending) = &mut self.pending else { return };
        pending.failures = pending.failures.saturating_add(1);
        let (failures, alone) = (pending.failures, pending.loads.len() == 1);
        if is_refusal(&error) {
            // The sink works, and refuses: whose events, if there is a choice?
            if alone {
                let batch = Arc::clone(&pending.batch);
                let answers = self.post.judge(&batch, vec![SegmentOutcome::Failed { error }]);
                self.recovered();
                return self.settle(answers);
            }
            pending.suspect = true;
            pending.retry_at = Instant::now();
            return;
        }
        pending.suspect |= failures >= PATIENCE || error.kind() == SinkErrorKind::Timeout;
        let delay = self.failed(failures, &error);
        let Some(pending) = &mut self.pending else { return };
        if failures >= PATIENCE && alone && error.is_retryable() {
            // It may be this chain and not the sink: the next one will tell.
            let outcome = SegmentOutcome::Failed { error: again(&error) };
            return self.settle(vec![Answer::Outcome(outcome)]);
        }
        pending.retry_at = Instant::now() + delay;
        self.mark(true, false);
    }

    /// Finds out whether the sink is at fault or one of the segments: sends some of them, each
    /// alone, others each time. If one is taken, the rest goes on beside the main flow, each alone.
    async fn take_apart(&mut self) {
        let Some(pending) = &self.pending else { return };
        let (batch, segments) = (Arc::clone(&pending.batch), pending.loads.len());
        let first = usize::try_from(pending.failures).unwrap_or(0) % segments;
        let mut probes = JoinSet::new();
        for at in (first..segments).chain(0..first).take(PROBES) {
            let (post, alone) = (self.post.clone(), &batch.segments()[at..=at]);
            let alone = Arc::new(Batch::new(alone.to_vec()));
            probes.spawn(async move { (at, post.append(alone, true).await) });
        }
        self.mark(true, true);
        let mut answers = BTreeMap::new();
        let mut fault = None;
        while let Some(probe) = match answers.is_empty() {
            true => probes.join_next().await,
            // The others are left as soon as one has shown that the sink works.
            false => probes.try_join_next(),
        } {
            // The panic of a sink is caught inside, so this is one of the runtime shutting down.
            let Ok((at, answer)) = probe else { continue };
            match answer {
                Ok(outcomes) => drop(answers.insert(at, outcomes)),
                Err(error) if is_refusal(&error) => {
                    answers.insert(at, vec![SegmentOutcome::Failed { error }]);
                }
                Err(error) => fault = Some(error),
            }
        }
        drop(probes);
        self.mark(true, false);
        if answers.is_empty() {
            let Some(pending) = &mut self.pending else { return };
            pending.failures = pending.failures.saturating_add(1);
            let failures = pending.failures;
            let delay = match fault {
                Some(fault) => self.failed(failures, &fault),
                None => self.post.backoff.longest(None),
            };
            if let Some(pending) = &mut self.pending {
                pending.retry_at = Instant::now() + delay;
            }
            return;
        }
        self.recovered();
        let answers = (0..segments).map(|at| match answers.remove(&at).and_then(|mut o| o.pop()) {
            Some(outcome) => self.post.lane.judge(&batch.segments()[at], outcome),
            None => Answer::Unknown,
        });
        let answers = answers.collect();
        self.settle(answers);
    }

    /// Takes up what became of each segment of what is pending.
    fn settle(&mut self, answers: Vec<Answer>) {
        let Some(Pending { loads, then, .. }) = self.pending.take() else { return };
        let delays = self.post.delays();
        let mut ledger = lock(&self.post.lane.ledger);
        (ledger.retrying, ledger.trying) = (false, false);
        match then {
            Then::Main { end } => {
                for (load, answer) in loads.iter().zip(answers) {
                    settle(&mut ledger, load, answer, &delays);
                }
                ledger.advance(end);
            }
            Then::Behind { resume } => {
                let mut behind = BTreeSet::new();
                for (load, answer) in loads.iter().zip(answers) {
                    let failed = failures(&ledger.slot(load.slot).flow);
                    if !apply(&mut ledger, load, answer, failed, &delays) {
                        behind.insert(load.slot);
                    }
                }
                for (id, resume) in resume {
                    if behind.contains(&id) {
                        continue;
                    }
                    let Flow::Lagging(lag) = ledger.slot(id).flow else { continue };
                    let from = lag.from.max(resume);
                    if from >= ledger.passed {
                        ledger.rejoin(id);
                    } else if from > lag.from {
                        ledger.lag(id, Lag::now(from));
                    }
                }
            }
        }
    }

    /// Reads what comes next for the live chains.
    async fn next_batch(&mut self) -> Next {
        let fill = self.read(|source, lane| {
            source.main(&lane.ledger, Draft::new(lane.most_events, lane.most_bytes))
        });
        let Some(mut fill) = fill else { return Next::Nothing };
        {
            let mut ledger = lock(&self.lane().ledger);
            if ledger.is_at_end(fill.end) {
                return Next::Nothing;
            }
            ledger.in_hand = fill.draft.events();
        }
        self.ask_heads(&mut fill, &mut BTreeSet::new()).await;
        let mut ledger = lock(&self.post.lane.ledger);
        match fill.draft.into_shipment(&mut ledger) {
            Some(shipment) => Next::Batch(shipment, fill.end),
            None => {
                ledger.advance(fill.end);
                Next::Passed
            }
        }
    }

    /// Sends what is due of the lagging chains that have no fault of their own; false if nothing is
    /// due. It takes turns with the main flow, so that a chain goes back to it between two batches.
    async fn catch_up_turn(&mut self) -> bool {
        let now = Instant::now();
        let mut due: BTreeSet<SlotId> = {
            let ledger = lock(&self.lane().ledger);
            let due = ledger.lagging().filter(|(_, lag)| lag.due <= now && !lag.apart);
            due.map(|(id, _)| id).collect()
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
        let resume =
            due.iter().map(|id| (*id, fill.draft.excluded(*id).unwrap_or(fill.end))).collect();
        let shipment = fill.draft.into_shipment(&mut lock(&self.lane().ledger));
        let sends = shipment.is_some();
        let shipment =
            shipment.unwrap_or_else(|| Shipment { batch: Arc::default(), loads: Vec::new() });
        self.pending = Some(Pending::new(shipment, Then::Behind { resume }));
        if sends {
            self.send().await;
        } else {
            self.settle(Vec::new());
        }
        true
    }

    /// Asks the sink what it has of the chains of a draft that it meets for the first time.
    async fn ask_heads(&mut self, fill: &mut Fill, due: &mut BTreeSet<SlotId>) {
        if !self.lane().nature.ask_heads {
            return;
        }
        let mut unknown = {
            let ledger = lock(&self.lane().ledger);
            let slots = fill.draft.unknown(&ledger).into_iter();
            slots.map(|slot| (slot, ledger.slot(slot).chain.clone())).collect::<Vec<_>>()
        }
        .into_iter();
        let limit = self.post.options.append_timeout / HEAD_PATIENCE;
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < HEADS_AT_A_TIME
                && let Some((slot, chain)) = unknown.next()
            {
                let post = self.post.clone();
                asked.spawn(async move { (slot, post.head(chain, limit).await) });
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
        let mut ledger = lock(&self.lane().ledger);
        match answer {
            Ok(head) => {
                if !fill.draft.meet(&mut ledger, slot, head, &self.lane().journal) {
                    due.remove(&slot);
                }
            }
            Err(error) => {
                due.remove(&slot);
                let Some(from) = fill.draft.withdraw(slot) else { return };
                let sink = &self.lane().name;
                tracing::debug!(%sink, %error, "a sink cannot be asked for a head");
                ledger.last_fault = Some(Fault::from(&error));
                ledger.counters.failures += 1;
                let failures = failures(&ledger.slot(slot).flow).saturating_add(1);
                let mut due = Instant::now();
                if error.kind() != SinkErrorKind::Timeout {
                    due += self.post.delays().after(&error, failures);
                }
                ledger.lag(slot, Lag { from, failures, due, apart: true, exact: None });
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
        match read(&mut self.source, &self.post.lane) {
            Ok(fill) => {
                if self.blind_until.take().is_some() {
                    lock(&self.lane().ledger).set_trouble(None);
                }
                Some(fill)
            }
            Err(error) => {
                self.source.reset();
                self.blind_until = Some(Instant::now() + self.post.backoff.longest(None));
                let mut ledger = lock(&self.lane().ledger);
                let failures = ledger.trouble().map_or(0, |trouble| trouble.failures);
                ledger.set_trouble(Some(Trouble {
                    failures: failures.saturating_add(1),
                    blocked: true,
                    message: format!("the journal cannot be read: {error}"),
                }));
                None
            }
        }
    }

    /// Notes that the sink took a batch.
    fn recovered(&self) {
        if self.blind_until.is_none() {
            lock(&self.lane().ledger).set_trouble(None);
        }
    }

    /// Notes that the sink failed as a whole, and says how long to leave it alone.
    fn failed(&mut self, failures: u32, error: &SinkError) -> Duration {
        self.failed_at_last |= self.hastened;
        lock(&self.lane().ledger).set_trouble(Some(Trouble {
            failures,
            blocked: !error.is_retryable(),
            message: error.to_string(),
        }));
        self.post.delays().after(error, failures)
    }

    fn store(&mut self) {
        // A failure is logged, and tried again after the interval.
        let started = Instant::now();
        let _ = self.lane().store();
        // With very many chains storing takes its time, and must not become the main work.
        let interval = self.post.options.cursor_interval;
        self.store_at = Instant::now() + interval.max(started.elapsed().saturating_mul(20));
    }

    /// Whether everything is delivered that has to be before the log closes. An optional sink that
    /// fails meanwhile is not waited for.
    fn is_drained(&self) -> bool {
        let Control::Drain { target, .. } = *self.post.control.borrow() else { return false };
        let ledger = lock(&self.lane().ledger);
        if self.lane().role == Role::Optional && self.failed_at_last && ledger.trouble().is_some() {
            return true;
        }
        let done = self.pending.is_none() && ledger.position >= target;
        let given_up = self.lane().role == Role::Optional && self.hastened;
        done && ledger.lagging().all(|(_, lag)| given_up && lag.failures > 0)
    }

    /// Waits until there may be something to do.
    async fn rest(&mut self) {
        let draining = !matches!(*self.post.control.borrow_and_update(), Control::Run);
        if draining && !std::mem::replace(&mut self.hastened, true) {
            // There is little time left, so all that waits for its turn has it now.
            let now = Instant::now();
            lock(&self.lane().ledger).hasten(now);
            self.lane().aside.notify_one();
            if let Some(pending) = &mut self.pending {
                pending.retry_at = now;
            }
            return;
        }
        let lane = Arc::clone(&self.post.lane);
        let (position, mut wake) = {
            let ledger = lock(&lane.ledger);
            let mut wake = Vec::new();
            if ledger.dirty {
                wake.push(self.store_at);
            }
            if self.pending.is_none() {
                let due = ledger.lagging().filter(|(_, lag)| !lag.apart).map(|(_, lag)| lag.due);
                wake.extend(due.min());
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
                || lane.journal.wait_past(position).await.is_err();
            if closed {
                std::future::pending::<()>().await;
            }
        };
        // The sender lives as long as this task; if it did not, there would be nobody to work for.
        let told = async { drop(self.post.control.changed().await) };
        let told = race(told, lane.main.notified());
        race(race(sleep, more), told).await;
    }

    /// Lets go of entries before `floor`: what the sink has not acknowledged of them is declared
    /// missing, durably, before the journal may delete them. False where the journal cannot be read.
    async fn let_go(&mut self, floor: u64) -> bool {
        self.hold();
        let Some(lost) = self.lost_before(floor).await else { return false };
        let lane = &self.post.lane;
        {
            let mut ledger = lock(&lane.ledger);
            let (mut events, mut halted) = (0, 0);
            for (id, (first, last)) in &lost {
                events += last + 1 - first;
                halted += usize::from(ledger.give_up(*id, floor, *first, *last));
            }
            ledger.let_go(floor);
            if events > 0 {
                tracing::error!(
                    sink = %lane.name, events, chains = lost.len(), halted,
                    "the journal lets go of events that an optional sink did not take in time"
                );
            }
        }
        // A failure is logged; the journal then keeps the entries until the cursor is stored.
        let _ = lane.store();
        true
    }

    /// Leaves what is on its way to catch-up, to come again as it was.
    fn hold(&mut self) {
        if let Some(pending) = &self.pending {
            let unknown = pending.loads.iter().map(|_| Answer::Unknown).collect();
            self.settle(unknown);
        }
        let mut ledger = lock(&self.post.lane.ledger);
        // What was read and not sent is read again.
        ledger.passed = ledger.position;
        ledger.in_hand = 0;
    }

    /// First and last event of each chain that the sink would not get; none where the journal cannot
    /// be read.
    async fn lost_before(&mut self, floor: u64) -> Option<BTreeMap<SlotId, (u64, u64)>> {
        let lane = Arc::clone(&self.post.lane);
        let mut lost = BTreeMap::new();
        let low = lock(&lane.ledger).low().max(lane.journal.first_index());
        if low >= floor {
            return Some(lost);
        }
        let failed = |error: &dyn std::fmt::Display| {
            tracing::error!(
                sink = %lane.name, %error,
                "the journal cannot be read, so it keeps what an optional sink does not have"
            );
        };
        let mut reader = lane.journal.reader(low).map_err(|error| failed(&error)).ok()?;
        let mut entry = Vec::new();
        while reader.position() < floor {
            let index = reader.next(&mut entry).map_err(|error| failed(&error)).ok()?;
            let Some(index) = index else { break };
            let event = Decoded::read(index, &entry).map_err(|error| failed(&error)).ok()?;
            let sequence = event.view.sequence;
            let (id, next) = {
                let mut ledger = lock(&lane.ledger);
                let id = ledger.find(&event.view).map_err(|error| failed(&error)).ok()?;
                (id, ledger.slot(id).next)
            };
            if sequence >= next {
                let (_, last) = lost.entry(id).or_insert((sequence, sequence));
                *last = sequence;
            }
            if index.is_multiple_of(COUNTED_AT_A_TIME) {
                tokio::task::yield_now().await;
            }
        }
        Some(lost)
    }
}

impl Pending {
    fn new(Shipment { batch, loads }: Shipment, then: Then) -> Self {
        let retry_at = Instant::now();
        Self { batch, loads, then, failures: 0, suspect: false, retry_at }
    }
}

/// Resolves when the work has to end, done or not.
async fn stopped(mut control: tokio::sync::watch::Receiver<Control>) {
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
