//! Faults on purpose: deterministic, scripted, counted.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

use crate::sink::{Batch, ChainRef, SegmentOutcome, SinkError, SinkErrorKind};

/// What a sink is asked to do, as a fault sees it.
///
/// ```
/// use agent_audit_core::memory::Operation;
/// assert_ne!(Operation::Append, Operation::Head);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// `append`.
    Append,
    /// `head`.
    Head,
    /// `check`.
    Check,
    /// `close`.
    Close,
}

/// One fault: what goes wrong, how often, and for whom.
///
/// ```
/// use agent_audit_core::{memory::{Fault, MemorySink}, sink::SinkErrorKind};
/// let sink = MemorySink::new();
/// let outage = sink.faults().inject(Fault::before(SinkErrorKind::Unavailable).times(3));
/// let lost = sink.faults().inject(Fault::after(SinkErrorKind::Timeout).tenant("acme"));
/// assert_eq!((outage.fired(), lost.fired()), (0, 0));
/// ```
#[derive(Debug, Clone)]
pub struct Fault {
    action: Action,
    operation: Operation,
    tenant: Option<String>,
    times: u64,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Before(SinkErrorKind),
    After(SinkErrorKind),
    HangBefore,
    HangAfter,
    Conflict,
    Prefix(usize),
}

impl Fault {
    /// Fails and keeps nothing.
    #[must_use]
    pub fn before(kind: SinkErrorKind) -> Self {
        Self::new(Action::Before(kind))
    }

    /// Keeps the events and fails all the same: a lost acknowledgement.
    #[must_use]
    pub fn after(kind: SinkErrorKind) -> Self {
        Self::new(Action::After(kind))
    }

    /// Waits until [released](Injected::release) before anything is kept, then goes on as if nothing
    /// had been.
    #[must_use]
    pub fn hang_before() -> Self {
        Self::new(Action::HangBefore)
    }

    /// Keeps the events and waits until [released](Injected::release) before it acknowledges.
    #[must_use]
    pub fn hang_after() -> Self {
        Self::new(Action::HangAfter)
    }

    /// Refuses a segment as if another event were held at its first position.
    #[must_use]
    pub fn conflict() -> Self {
        Self::new(Action::Conflict)
    }

    /// Keeps only so many events of a segment and acknowledges those.
    #[must_use]
    pub fn prefix(events: usize) -> Self {
        Self::new(Action::Prefix(events))
    }

    /// Happens so many times; without it, once.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Happens every time, until [cleared](Faults::clear).
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    /// Concerns only the segments of this tenant: others in the same batch are kept and
    /// acknowledged. A hang still delays the answer for the whole batch.
    #[must_use]
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Concerns another operation than `append`.
    #[must_use]
    pub fn on(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    fn new(action: Action) -> Self {
        Self { action, operation: Operation::Append, tenant: None, times: 1 }
    }
}

/// The faults of one [`MemorySink`](super::MemorySink).
///
/// They form a script: of those that concern an operation, the one that was injected first happens
/// until it has happened as often as it should; then the next.
///
/// ```
/// use agent_audit_core::{memory::{Fault, MemorySink, Operation}, sink::{Sink, SinkErrorKind}};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let sink = MemorySink::new();
/// let fault = sink.faults().inject(Fault::before(SinkErrorKind::Timeout).on(Operation::Check));
/// assert!(sink.check().await.is_err());
/// assert!(sink.check().await.is_ok());
/// assert_eq!(fault.fired(), 1);
/// assert_eq!(sink.faults().calls(Operation::Check), 2);
/// # });
/// ```
#[derive(Clone, Copy)]
pub struct Faults<'a> {
    script: &'a Script,
}

impl Faults<'_> {
    /// Adds a fault to the end of the script.
    pub fn inject(&self, fault: Fault) -> Injected {
        let active = Arc::new(Active {
            fault,
            fired: AtomicU64::new(0),
            released: AtomicBool::new(false),
            wake: Notify::new(),
        });
        self.script.lock().active.push(Arc::clone(&active));
        Injected { active }
    }

    /// Ends every fault and lets go of everything that hangs.
    pub fn clear(&self) {
        for active in std::mem::take(&mut self.script.lock().active) {
            active.release();
        }
    }

    /// How often the sink was asked to do something, faults included.
    #[must_use]
    pub fn calls(&self, operation: Operation) -> u64 {
        let script = self.script.lock();
        script.calls.iter().filter(|(asked, _)| *asked == operation).map(|(_, count)| count).sum()
    }
}

impl fmt::Debug for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let script = self.script.lock();
        f.debug_list().entries(script.active.iter().map(|active| &active.fault)).finish()
    }
}

/// A fault that was injected: how often it has happened, and the way to let go of one that hangs.
///
/// ```
/// use agent_audit_core::memory::{Fault, MemorySink};
/// let sink = MemorySink::new();
/// let hang = sink.faults().inject(Fault::hang_before());
/// hang.release();
/// assert_eq!(hang.fired(), 0);
/// ```
#[derive(Clone)]
pub struct Injected {
    active: Arc<Active>,
}

impl Injected {
    /// How often it has happened.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.active.fired.load(Ordering::SeqCst)
    }

    /// Waits until it has happened at least so often: a hang that has fired is hanging.
    pub async fn wait_until_fired(&self, times: u64) {
        loop {
            let mut woken = std::pin::pin!(self.active.wake.notified());
            woken.as_mut().enable();
            if self.fired() >= times {
                return;
            }
            woken.await;
        }
    }

    /// Lets go of every operation that hangs on it, now and later.
    pub fn release(&self) {
        self.active.release();
    }
}

impl fmt::Debug for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injected")
            .field("fault", &self.active.fault)
            .field("fired", &self.fired())
            .finish()
    }
}

struct Active {
    fault: Fault,
    fired: AtomicU64,
    released: AtomicBool,
    wake: Notify,
}

impl Active {
    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }

    fn concerns(&self, operation: Operation, tenant: Option<&str>) -> bool {
        self.fault.operation == operation
            && self.fired.load(Ordering::SeqCst) < self.fault.times
            && self.fault.tenant.as_deref().is_none_or(|of| tenant == Some(of))
    }

    fn fire(self: &Arc<Self>) -> Arc<Self> {
        self.fired.fetch_add(1, Ordering::SeqCst);
        self.wake.notify_waiters();
        Arc::clone(self)
    }

    async fn hang(&self) {
        loop {
            let mut woken = std::pin::pin!(self.wake.notified());
            woken.as_mut().enable();
            if self.released.load(Ordering::SeqCst) {
                return;
            }
            woken.await;
        }
    }
}

/// The faults of one sink, in order, and how often it was asked.
#[derive(Default)]
pub(super) struct Script {
    state: Mutex<ScriptState>,
}

#[derive(Default)]
struct ScriptState {
    active: Vec<Arc<Active>>,
    calls: Vec<(Operation, u64)>,
}

impl Script {
    pub(super) fn handle(&self) -> Faults<'_> {
        Faults { script: self }
    }

    /// Decides what goes wrong with a batch: with all of it, or with single segments.
    pub(super) fn plan(&self, batch: &Batch) -> Plan {
        let mut script = self.lock();
        script.count(Operation::Append);
        let mut plan = Plan::default();
        for (at, segment) in batch.segments().iter().enumerate() {
            let tenant = segment.chain().tenant_id.as_str();
            if plan.whole.is_some() {
                break;
            }
            let found =
                script.active.iter().find(|fault| fault.concerns(Operation::Append, Some(tenant)));
            let Some(found) = found else { continue };
            let per_segment = found.fault.tenant.is_some()
                || matches!(found.fault.action, Action::Conflict | Action::Prefix(_));
            let fired = found.fire();
            if per_segment {
                plan.segments.insert(at, fired);
            } else {
                plan.whole = Some(fired);
            }
        }
        plan
    }

    /// Lets an operation that keeps nothing go wrong.
    pub(super) async fn run(
        &self,
        operation: Operation,
        chain: Option<&ChainRef>,
    ) -> Result<(), SinkError> {
        let fired = {
            let mut script = self.lock();
            script.count(operation);
            let tenant = chain.map(|chain| chain.tenant_id.as_str());
            script.active.iter().find(|fault| fault.concerns(operation, tenant)).map(Active::fire)
        };
        let Some(fired) = fired else { return Ok(()) };
        match fired.fault.action {
            Action::Before(kind) | Action::After(kind) => Err(injected(kind)),
            Action::HangBefore | Action::HangAfter => {
                fired.hang().await;
                Ok(())
            }
            Action::Conflict | Action::Prefix(_) => Ok(()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ScriptState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ScriptState {
    fn count(&mut self, operation: Operation) {
        match self.calls.iter_mut().find(|(asked, _)| *asked == operation) {
            Some((_, count)) => *count += 1,
            None => self.calls.push((operation, 1)),
        }
    }
}

/// What goes wrong with one batch.
#[derive(Default)]
pub(super) struct Plan {
    whole: Option<Arc<Active>>,
    segments: BTreeMap<usize, Arc<Active>>,
}

impl Plan {
    /// What goes wrong before anything is kept.
    pub(super) async fn before(&self) -> Result<(), SinkError> {
        for fired in self.whole.iter().chain(self.segments.values()) {
            if let Action::HangBefore = fired.fault.action {
                fired.hang().await;
            }
        }
        match self.whole.as_deref().map(|fired| fired.fault.action) {
            Some(Action::Before(kind)) => Err(injected(kind)),
            _ => Ok(()),
        }
    }

    /// What goes wrong with one segment; `keep` keeps so many of its events.
    pub(super) fn segment(
        &self,
        at: usize,
        first: u64,
        keep: impl FnOnce(usize) -> SegmentOutcome,
    ) -> SegmentOutcome {
        match self.segments.get(&at).map(|fired| fired.fault.action) {
            Some(Action::Before(kind)) => SegmentOutcome::Failed { error: injected(kind) },
            Some(Action::After(kind)) => match keep(usize::MAX) {
                SegmentOutcome::Accepted => {
                    SegmentOutcome::Failed { error: injected(kind).with_maybe_applied() }
                }
                refused => refused,
            },
            Some(Action::Conflict) => SegmentOutcome::Conflict { sequence: first },
            Some(Action::Prefix(events)) => keep(events),
            Some(Action::HangBefore | Action::HangAfter) | None => keep(usize::MAX),
        }
    }

    /// What goes wrong after everything is kept.
    pub(super) async fn after(&self) -> Result<(), SinkError> {
        for fired in self.whole.iter().chain(self.segments.values()) {
            if let Action::HangAfter = fired.fault.action {
                fired.hang().await;
            }
        }
        match self.whole.as_deref().map(|fired| fired.fault.action) {
            Some(Action::After(kind)) => Err(injected(kind).with_maybe_applied()),
            _ => Ok(()),
        }
    }
}

fn injected(kind: SinkErrorKind) -> SinkError {
    SinkError::new(kind, "a test injected this fault")
}
