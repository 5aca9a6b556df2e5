//! The sink itself: what it keeps and when it refuses.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::faults::{Faults, Operation, Script};
use crate::{
    canonical,
    event::Event,
    hash::Hash,
    record::Record,
    sink::{
        Batch, BatchAck, ChainRef, Head, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind,
        SinkInfo,
    },
};

/// A sink that keeps records in memory, for tests. Clones share what they keep.
///
/// It honours the whole [contract of sinks](crate::sink), except that "durable" ends with the
/// process.
///
/// ```
/// use agent_audit_core::{memory::MemorySink, sink::Sink};
/// let sink = MemorySink::named("archive");
/// assert_eq!(sink.info().name, "archive");
/// assert!(sink.is_empty());
/// ```
#[derive(Clone)]
pub struct MemorySink {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    info: SinkInfo,
    state: Mutex<State>,
    /// Whenever events were kept or changed.
    pub(super) changed: Notify,
    script: Script,
}

/// What is kept, by chain; the index is the position as long as nobody tampers.
#[derive(Default)]
pub(super) struct State {
    pub(super) chains: BTreeMap<ChainRef, Vec<Arc<Stored>>>,
}

pub(super) struct Stored {
    pub(super) hash: Hash,
    pub(super) record: Record,
    /// Absent where somebody tampered so that it cannot be read.
    pub(super) event: Option<Event>,
}

impl Stored {
    pub(super) fn new(record: Record) -> Arc<Self> {
        Arc::new(Self { hash: record.event_hash(), event: record.event().ok(), record })
    }
}

impl Default for MemorySink {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySink {
    /// An empty sink of the name `memory`.
    #[must_use]
    pub fn new() -> Self {
        Self::named("memory")
    }

    /// An empty sink of a name, where a log has several.
    ///
    /// ```
    /// use agent_audit_core::{memory::MemorySink, sink::Sink};
    /// assert_eq!(MemorySink::named("second").info().kind, "memory");
    /// ```
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            shared: Arc::new(Shared {
                info: SinkInfo::new(name, "memory").with_readable_heads(),
                state: Mutex::default(),
                changed: Notify::new(),
                script: Script::default(),
            }),
        }
    }

    /// How many records it keeps.
    ///
    /// ```
    /// assert_eq!(agent_audit_core::memory::MemorySink::new().len(), 0);
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().chains.values().map(Vec::len).sum()
    }

    /// Whether it keeps nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The chains of which it keeps records, by tenant and id.
    ///
    /// ```
    /// assert!(agent_audit_core::memory::MemorySink::new().chains().is_empty());
    /// ```
    #[must_use]
    pub fn chains(&self) -> Vec<ChainRef> {
        self.lock().chains.keys().cloned().collect()
    }

    /// The records of a chain as they are kept, in the order in which they are kept.
    ///
    /// ```
    /// use agent_audit_core::{chain::ChainRef, id::{ChainId, TenantId}, memory::MemorySink};
    /// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
    /// assert!(MemorySink::new().records(&chain).is_empty());
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    #[must_use]
    pub fn records(&self, chain: &ChainRef) -> Vec<Record> {
        let state = self.lock();
        let stored = state.chains.get(chain).map_or(&[][..], Vec::as_slice);
        stored.iter().map(|stored| stored.record.clone()).collect()
    }

    /// Makes it fail as scripted; see [`Faults`].
    #[must_use]
    pub fn faults(&self) -> Faults<'_> {
        self.shared.script.handle()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemorySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counted first: a lock that lives as long as the statement would be taken twice.
        let (chains, records) = (self.chains().len(), self.len());
        f.debug_struct("MemorySink")
            .field("name", &self.shared.info.name)
            .field("chains", &chains)
            .field("records", &records)
            .finish()
    }
}

#[async_trait]
impl Sink for MemorySink {
    fn info(&self) -> &SinkInfo {
        &self.shared.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let plan = self.shared.script.plan(batch);
        plan.before().await?;
        let outcomes = {
            let mut state = self.lock();
            let segments = batch.segments().iter().enumerate();
            segments
                .map(|(at, segment)| {
                    plan.segment(at, segment.first(), |limit| state.keep(segment, limit))
                })
                .collect()
        };
        self.shared.changed.notify_waiters();
        plan.after().await?;
        Ok(BatchAck::new(outcomes))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        self.shared.script.run(Operation::Head, Some(chain)).await?;
        let state = self.lock();
        let Some(stored) = state.chains.get(chain) else { return Ok(None) };
        Ok((0u64..).zip(stored).last().map(|(at, last)| Head::new(at, last.hash)))
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.shared.script.run(Operation::Check, None).await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.shared.script.run(Operation::Close, None).await
    }
}

impl State {
    /// Keeps a segment, or its first events up to a limit.
    fn keep(&mut self, segment: &Segment, limit: usize) -> SegmentOutcome {
        let held = self.chains.get(segment.chain()).map_or(&[][..], Vec::as_slice);
        if let Some(refused) = refuse(held, segment) {
            return refused;
        }
        let new: Vec<_> = (0u64..)
            .zip(segment.iter())
            .skip_while(|(_, (at, ..))| at_index(*at) < held.len())
            .take_while(|(nth, _)| at_index(*nth) < limit)
            .map(|(_, (_, _, record))| Stored::new(record.clone()))
            .collect();
        if !new.is_empty() {
            self.chains.entry(segment.chain().clone()).or_default().extend(new);
        }
        match (limit, segment.len()) {
            (0, _) => SegmentOutcome::Failed {
                error: SinkError::new(SinkErrorKind::Unavailable, "no event of it was tried"),
            },
            (limit, len) if limit < len => {
                SegmentOutcome::Prefix { through: segment.first() + limit as u64 - 1 }
            }
            _ => SegmentOutcome::Accepted,
        }
    }
}

/// Why a segment cannot follow what is held: another event in its place, a hole before it, or no
/// link to the event before it.
fn refuse(held: &[Arc<Stored>], segment: &Segment) -> Option<SegmentOutcome> {
    let differs =
        |at: u64, hash: &Hash| held.get(at_index(at)).is_some_and(|held| held.hash != *hash);
    if let Some((sequence, ..)) = segment.iter().find(|(at, hash, _)| differs(*at, hash)) {
        return Some(SegmentOutcome::Conflict { sequence });
    }
    let (chain, first) = (segment.chain(), segment.first());
    let before = first.checked_sub(1).map(|before| held.get(at_index(before)));
    let link = canonical::scan(segment.records()[0].event_bytes()).ok()?.previous_event_hash;
    let reason = match before {
        None => return None,
        Some(Some(before)) if before.hash == link => return None,
        Some(Some(_)) => "it is not linked to the event before it",
        Some(None) => "it would leave a hole",
    };
    let held = held.len();
    let context = format!(
        "{held} events of chain {chain} are held, a segment from {first} is refused: {reason}"
    );
    let error = SinkError::new(SinkErrorKind::Corrupt, context);
    Some(SegmentOutcome::Failed { error })
}

fn at_index(sequence: u64) -> usize {
    usize::try_from(sequence).unwrap_or(usize::MAX)
}
