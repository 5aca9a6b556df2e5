//! What delivery promises, each promise tried against a sink that fails in a given way.

mod apart;
mod close;
mod crash;
mod flow;
mod heads;
mod health;
mod holes;
mod optional;
mod quarantine;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;

use super::*;
use crate::{
    event::{Event, chain::ChainClosed},
    hash::Hash,
    id::{ChainId, TenantId},
    journal::JournalOptions,
    log::entry,
    record::Record,
    sink::{Batch, BatchAck, Head, SegmentOutcome, SinkError, SinkErrorKind, SinkInfo},
};

/// A journal in a directory of its own, and who writes linked chains to it.
struct World {
    /// Deleted when the test is over.
    _dir: tempfile::TempDir,
    layout: Layout,
    journal: Arc<Journal>,
    heads: BTreeMap<String, (u64, Hash)>,
    /// The hashes of every chain, as they were written.
    written: BTreeMap<String, Vec<Hash>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        // Small, so that a few entries are enough to be trimmed.
        let options = JournalOptions::default().with_segment_bytes(4096);
        let (journal, _) = Journal::open(layout.journal(), options).unwrap();
        let journal = Arc::new(journal);
        Self { _dir: dir, layout, journal, heads: BTreeMap::new(), written: BTreeMap::new() }
    }

    /// Writes the next event of a tenant's chain.
    fn write(&mut self, tenant: &str) {
        let (sequence, previous) = self.heads.get(tenant).copied().unwrap_or((0, Hash::ZERO));
        let mut event = Event::example(ChainClosed::new("test"));
        event.tenant_id = TenantId::new(tenant).unwrap();
        event.sequence = sequence;
        event.previous_event_hash = previous;
        let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
        let hash = record.event_hash();
        let bytes = [&[entry::RECORD][..], &record.to_bytes()].concat();
        let permit = self.journal.admit_blocking(bytes.len()).unwrap();
        let ticket = self.journal.append(permit, &[&bytes]).unwrap();
        self.journal.durable(ticket).wait().unwrap();
        self.heads.insert(tenant.to_owned(), (sequence + 1, hash));
        self.written.entry(tenant.to_owned()).or_default().push(hash);
    }

    fn write_all(&mut self, tenants: &str) {
        for tenant in tenants.chars() {
            self.write(&tenant.to_string());
        }
    }

    fn start(&self, sinks: &[&Arc<Store>]) -> Delivery {
        self.start_with(sinks, options())
    }

    fn start_with(&self, sinks: &[&Arc<Store>], options: DeliveryOptions) -> Delivery {
        let sinks = sinks.iter().map(|sink| Arc::clone(*sink) as Arc<dyn Sink>);
        self.try_start(sinks.map(|sink| (Role::Required, sink)), options).unwrap()
    }

    fn try_start(
        &self,
        sinks: impl IntoIterator<Item = (Role, Arc<dyn Sink>)>,
        options: DeliveryOptions,
    ) -> Result<Delivery, AuditError> {
        let sinks = sinks.into_iter().collect();
        Delivery::start(Arc::clone(&self.journal), &self.layout, sinks, options, None)
    }

    fn cursor_path(&self) -> std::path::PathBuf {
        self.layout.cursors().join("store.json")
    }

    fn cursor(&self) -> Option<cursor::Cursor> {
        cursor::load(&self.cursor_path(), "store").unwrap()
    }

    /// Starts one required sink and one optional one.
    fn start_both(
        &self,
        required: &Arc<Store>,
        optional: &Arc<Store>,
        options: DeliveryOptions,
    ) -> Delivery {
        let sinks = [(Role::Required, required), (Role::Optional, optional)];
        let sinks = sinks.map(|(role, sink)| (role, Arc::clone(sink) as Arc<dyn Sink>));
        self.try_start(sinks, options).unwrap()
    }

    /// The sink holds exactly what was written, in order.
    fn assert_complete(&self, sink: &Store) {
        let state = sink.lock();
        assert_eq!(state.faults, Vec::<String>::new());
        assert_eq!(state.chains, self.written);
    }
}

/// Retries at once, cursors stored whenever they change.
fn options() -> DeliveryOptions {
    DeliveryOptions::default()
        .with_retries(Duration::from_micros(100), Duration::from_micros(500))
        .with_cursor_interval(Duration::ZERO)
}

fn chain(tenant: &str) -> ChainRef {
    ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new("chain-1").unwrap())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

const FOREVER: Duration = Duration::from_secs(60);

/// Waits until something is so; a minute is a failure.
#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + FOREVER;
    while !condition() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An idempotent store that does as a script says.
#[derive(Debug)]
struct Store {
    info: SinkInfo,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The hashes of each tenant's chain.
    chains: BTreeMap<String, Vec<Hash>>,
    /// What the next calls of `append` do; then they succeed.
    script: VecDeque<Act>,
    /// What every segment of a tenant does.
    tenants: BTreeMap<String, Part>,
    /// Every batch with a segment of this tenant makes the sink panic.
    poison: Option<String>,
    /// Tenants whose head cannot be read.
    headless: BTreeSet<String>,
    /// Tenants with whom every call hangs, and whether it is stored all the same.
    hanging: BTreeMap<String, bool>,
    /// Tenants whose head is never told.
    mute: BTreeSet<String>,
    /// Events that are refused for good, and whether each is stored all the same.
    refused: BTreeMap<(String, u64), bool>,
    /// A refusal is the answer for the whole call.
    refuses_calls: bool,
    /// How many calls of `append` are under way, and how many have been at the same time.
    under_way: usize,
    most_under_way: usize,
    /// Nobody is let in, as with a wrong password.
    locked: bool,
    /// Tenants and positions of each segment, call by call.
    calls: Vec<Vec<(String, u64, u64)>>,
    heads_asked: usize,
    closed: bool,
    /// It takes a chain with holes, which are zeros here.
    holes: bool,
    /// Breaches of what delivery promises to a sink.
    faults: Vec<String>,
}

/// What a call does as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Succeed,
    Fail {
        applied: bool,
        retryable: bool,
    },
    Hang {
        applied: bool,
    },
    Panic,
    WrongCount,
    /// The first segment does this.
    First(Part),
}

/// What one segment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Fail {
        applied: bool,
        retryable: bool,
    },
    /// A right is missing.
    Denied,
    Prefix,
    PrefixBeyond,
}

impl Store {
    fn new() -> Arc<Self> {
        Self::with(SinkInfo::new("store", "test"))
    }

    fn with_heads() -> Arc<Self> {
        Self::with(SinkInfo::new("store", "test").with_readable_heads())
    }

    /// One that takes a chain with declared holes.
    fn with_gaps() -> Arc<Self> {
        Self::with(SinkInfo::new("store", "test").with_gaps())
    }

    fn with(info: SinkInfo) -> Arc<Self> {
        let state = State { holes: info.accepts_gaps, ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Arc::new(Self { info, state, changed })
    }

    fn script(self: Arc<Self>, script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        self.lock().script.extend(script);
        self
    }

    fn tenant(self: Arc<Self>, tenant: &str, part: Part) -> Arc<Self> {
        self.lock().tenants.insert(tenant.to_owned(), part);
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the state is as asked; a minute is a failure.
    fn wait_until(&self, what: &str, mut condition: impl FnMut(&mut State) -> bool) {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.lock(), FOREVER, |state| !condition(state))
            .unwrap();
        assert!(!timeout.timed_out(), "never: {what}; {state:?}");
    }

    fn len(&self, tenant: &str) -> usize {
        self.lock().chains.get(tenant).map_or(0, Vec::len)
    }
}

impl State {
    /// What becomes of a segment with an event that is refused for good.
    fn refusal(&mut self, segment: &crate::sink::Segment) -> Option<SegmentOutcome> {
        let tenant = segment.chain().tenant_id.to_string();
        let refused = (segment.first()..=segment.last())
            .find_map(|sequence| self.refused.get(&(tenant.clone(), sequence)).copied());
        if refused? {
            self.store(segment, usize::MAX);
        }
        let error = SinkError::new(SinkErrorKind::Rejected, "scripted");
        Some(SegmentOutcome::Failed { error })
    }

    fn store(&mut self, segment: &crate::sink::Segment, events: usize) -> SegmentOutcome {
        let tenant = segment.chain().tenant_id.to_string();
        let chain = self.chains.entry(tenant.clone()).or_default();
        for (sequence, hash, _) in segment.iter().take(events) {
            let at = usize::try_from(sequence).unwrap();
            if self.holes && chain.len() < at {
                chain.resize(at, Hash::ZERO);
            }
            let length = chain.len();
            match chain.get_mut(at) {
                Some(held) if held == hash => {}
                Some(hole) if self.holes && *hole == Hash::ZERO => *hole = *hash,
                Some(_) => return SegmentOutcome::Conflict { sequence },
                None if at == length => chain.push(*hash),
                None => {
                    self.faults.push(format!("{tenant} got {at} after {}", chain.len()));
                    return SegmentOutcome::Conflict { sequence };
                }
            }
        }
        SegmentOutcome::Accepted
    }

    fn segment(&mut self, segment: &crate::sink::Segment, part: Option<Part>) -> SegmentOutcome {
        if let Some(refused) = self.refusal(segment) {
            return refused;
        }
        match part {
            None => self.store(segment, usize::MAX),
            Some(Part::Fail { applied, retryable }) => {
                if applied {
                    self.store(segment, usize::MAX);
                }
                SegmentOutcome::Failed { error: error(applied, retryable) }
            }
            Some(Part::Denied) => {
                let error = SinkError::new(SinkErrorKind::PermissionDenied, "scripted");
                SegmentOutcome::Failed { error }
            }
            Some(Part::Prefix) => {
                let events = segment.len().div_ceil(2);
                match self.store(segment, events) {
                    SegmentOutcome::Accepted => SegmentOutcome::Prefix {
                        through: segment.first() + u64::try_from(events).unwrap() - 1,
                    },
                    other => other,
                }
            }
            Some(Part::PrefixBeyond) => SegmentOutcome::Prefix { through: segment.last() + 1 },
        }
    }
}

fn error(applied: bool, retryable: bool) -> SinkError {
    let error = SinkError::new(SinkErrorKind::Other, "scripted").with_retryable(retryable);
    // Nobody knows whether it was applied, whether it was or not.
    if applied || retryable { error.with_maybe_applied() } else { error }
}

/// Counts the calls that hang.
struct UnderWay<'a>(&'a Store);

impl<'a> UnderWay<'a> {
    fn new(store: &'a Store) -> Self {
        let mut state = store.lock();
        state.under_way += 1;
        state.most_under_way = state.most_under_way.max(state.under_way);
        store.changed.notify_all();
        drop(state);
        Self(store)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().under_way -= 1;
    }
}

#[async_trait]
impl Sink for Store {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let act = {
            let mut state = self.lock();
            let mut seen = BTreeSet::new();
            let mut call = Vec::new();
            for segment in batch.segments() {
                let tenant = segment.chain().tenant_id.to_string();
                if !seen.insert(tenant.clone()) {
                    state.faults.push(format!("two segments of {tenant} in one batch"));
                }
                call.push((tenant, segment.first(), segment.last()));
            }
            if batch.event_count() > self.info.max_batch_events {
                state.faults.push(format!("a batch of {} events", batch.event_count()));
            }
            let poisoned = call.iter().any(|(tenant, ..)| state.poison.as_ref() == Some(tenant));
            state.calls.push(call);
            let act = state.script.pop_front().unwrap_or(Act::Succeed);
            let act = if poisoned { Act::Panic } else { act };
            let hangs = batch
                .segments()
                .iter()
                .find_map(|segment| state.hanging.get(segment.chain().tenant_id.as_str()).copied());
            let act = hangs.map_or(act, |applied| Act::Hang { applied });
            let applied = matches!(
                act,
                Act::Fail { applied: true, .. } | Act::Hang { applied: true } | Act::Succeed
            );
            let mut outcomes = Vec::new();
            for (at, segment) in batch.segments().iter().enumerate() {
                let tenant = segment.chain().tenant_id.as_str();
                let part = match act {
                    Act::First(part) if at == 0 => Some(part),
                    _ => state.tenants.get(tenant).copied(),
                };
                if applied || matches!(act, Act::First(_)) {
                    outcomes.push(state.segment(segment, part));
                }
            }
            self.changed.notify_all();
            let refused = outcomes.iter().any(|outcome| match outcome {
                SegmentOutcome::Failed { error } => error.kind() == SinkErrorKind::Rejected,
                _ => false,
            });
            if refused && state.refuses_calls {
                return Err(SinkError::new(SinkErrorKind::Rejected, "scripted"));
            }
            match act {
                Act::Succeed | Act::First(_) => return Ok(BatchAck::new(outcomes)),
                act => act,
            }
        };
        match act {
            Act::Fail { applied, retryable } => Err(error(applied, retryable)),
            Act::Panic => panic!("scripted"),
            Act::WrongCount => Ok(BatchAck::accepted(batch.segments().len() + 1)),
            _ => {
                let _under_way = UnderWay::new(self);
                std::future::pending().await
            }
        }
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        let mute = {
            let mut state = self.lock();
            state.heads_asked += 1;
            self.changed.notify_all();
            state.mute.contains(chain.tenant_id.as_str())
        };
        if mute {
            std::future::pending::<()>().await;
        }
        let state = self.lock();
        if state.locked {
            return Err(error(false, false));
        }
        if state.headless.contains(chain.tenant_id.as_str()) {
            return Err(error(false, true));
        }
        let held = state.chains.get(chain.tenant_id.as_str());
        Ok(held.and_then(|chain| {
            let sequence = u64::try_from(chain.len()).unwrap().checked_sub(1)?;
            Some(Head::new(sequence, *chain.last()?))
        }))
    }

    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.lock().closed = true;
        Ok(())
    }
}
