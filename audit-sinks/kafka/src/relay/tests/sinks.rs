//! The work for sinks that refuse in their own ways.

use std::{fmt, sync::Arc};

use agent_audit_core::{
    memory::{Fault, MemorySink, Operation},
    sink::{Batch, BatchAck, ChainRef, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind},
};
use async_trait::async_trait;
use tokio::{sync::watch, task::JoinSet};

use super::*;
use crate::relay::{Shared, calls::Calls};

/// A relay without a cluster: the test reads.
struct Bench {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
    _stop: watch::Sender<bool>,
    offset: i64,
}

impl Bench {
    fn new(sinks: Vec<Arc<dyn Sink>>) -> Self {
        let shared = Shared::new(limits(true), &sinks);
        shared.state().assign(PLACE.0, PLACE.1);
        let calls = Calls {
            limit: Duration::from_millis(200),
            shortest: Duration::from_millis(1),
            longest: Duration::from_millis(5),
        };
        let (stop, stopped) = watch::channel(false);
        let tasks = shared.start(&sinks, calls, &stopped);
        Self { shared, _tasks: tasks, _stop: stop, offset: 0 }
    }

    /// Reads messages, all at once.
    fn read<'a>(&mut self, messages: impl IntoIterator<Item = (&'a TestChain, &'a Record)>) {
        let mut state = self.shared.state();
        for (chain, record) in messages {
            read(&mut state, self.offset, chain, record);
            self.offset += 1;
        }
        drop(state);
        self.shared.wake_all();
    }

    fn read_chain(&mut self, chain: &TestChain) {
        self.read(chain.records().iter().map(|record| (chain, record)));
    }

    async fn until(&self, what: &str, reached: impl Fn(&State) -> bool) {
        let waiting = async {
            while !reached(&self.shared.state()) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
        assert!(waited.is_ok(), "waited in vain for {what}: {:#?}", self.shared.state().status());
    }

    /// Waits until nothing is on its way, and gives what was refused: sink and position.
    async fn refused(&self) -> Vec<(Option<String>, u64)> {
        self.until("all to be sent", |state| state.chains.values().all(|chain| !chain.is_moving()))
            .await;
        let mut state = self.shared.state();
        quarantine(&mut state).into_iter().map(|(sink, at, _)| (sink, at)).collect()
    }

    /// Every message is where it belongs.
    fn all_passed(&self) {
        let state = self.shared.state();
        assert_eq!((committable(&state), bytes(&state)), (Some(self.offset), 0));
    }
}

type Answer = dyn Fn(&Batch) -> Option<Result<BatchAck, SinkError>> + Send + Sync;

/// A sink in memory that answers some batches in its own way.
struct Peculiar {
    kept: MemorySink,
    answer: Box<Answer>,
}

impl Peculiar {
    fn sink(
        kept: &MemorySink,
        answer: impl Fn(&Batch) -> Option<Result<BatchAck, SinkError>> + Send + Sync + 'static,
    ) -> Arc<dyn Sink> {
        Arc::new(Self { kept: kept.clone(), answer: Box::new(answer) })
    }

    /// One that fails whole calls in which this tenant has events.
    fn poisoned(kept: &MemorySink, tenant: &'static str, kind: SinkErrorKind) -> Arc<dyn Sink> {
        Self::sink(kept, move |batch| {
            let poison = |segment: &Segment| segment.chain().tenant_id.as_str() == tenant;
            let poisoned = batch.segments().iter().any(poison);
            poisoned.then(|| Err(SinkError::new(kind, "there is poison in it")))
        })
    }
}

impl fmt::Debug for Peculiar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peculiar").field("kept", &self.kept).finish_non_exhaustive()
    }
}

#[async_trait]
impl Sink for Peculiar {
    fn info(&self) -> &SinkInfo {
        self.kept.info()
    }
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        match (self.answer)(batch) {
            Some(answer) => answer,
            None => self.kept.append(batch).await,
        }
    }
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        self.kept.head(chain).await
    }
    async fn check(&self) -> Result<(), SinkError> {
        Ok(())
    }
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// As an archive whose writer may not read what it has written, but for the last event: it compares
/// that one alone.
fn sees_the_last_alone(kept: &MemorySink) -> Arc<dyn Sink> {
    let stored = kept.clone();
    Peculiar::sink(kept, move |batch| {
        let [segment] = batch.segments() else { return None };
        let last = (stored.records(segment.chain()).len() as u64).checked_sub(1)?;
        if segment.first() > last {
            return None;
        }
        let at = segment.last().min(last);
        let outcome = if at < last {
            let error = SinkError::new(SinkErrorKind::PermissionDenied, "compare what is stored");
            SegmentOutcome::Failed { error }
        } else {
            let known = stored.records(segment.chain()).pop()?.event_hash();
            let same = segment.iter().any(|(position, hash, _)| position == at && *hash == known);
            if same {
                return None;
            }
            SegmentOutcome::Conflict { sequence: at }
        };
        Some(Ok(BatchAck::new(vec![outcome])))
    })
}

async fn store(sink: &MemorySink, segment: Segment) {
    let outcomes = sink.append(&Batch::new(vec![segment])).await.unwrap().outcomes;
    assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
}

#[tokio::test]
async fn of_a_branch_that_is_refused_late_every_event_is_quarantined() {
    for precise in [true, false] {
        let (kept, other) = (MemorySink::named("archive"), MemorySink::named("other"));
        let mut chain = TestChain::new();
        let shared = chain.extend(4);
        let mut fork = chain.fork(4);
        store(&kept, shared).await;
        let sink = if precise { Arc::new(kept.clone()) } else { sees_the_last_alone(&kept) };
        let mut bench = Bench::new(vec![sink, Arc::new(other.clone())]);
        // The relay knows that it has four events. Then somebody else stores others behind them.
        bench.read_chain(&chain);
        assert!(bench.refused().await.is_empty());
        store(&kept, fork.extend(4)).await;
        chain.extend(6);
        bench.read(chain.records()[4..10].iter().map(|record| (&chain, record)));
        let refused = bench.refused().await;
        let archive = |at| (Some("archive".to_owned()), at);
        assert_eq!(refused, (4..10).map(archive).collect::<Vec<_>>(), "precise: {precise}");
        assert_eq!(kept.records(chain.chain()), fork.records());
        bench.all_passed();
    }
}

#[tokio::test]
async fn what_is_the_same_before_a_conflict_is_not_quarantined() {
    let (kept, other) = (MemorySink::named("archive"), MemorySink::named("other"));
    let mut chain = TestChain::new();
    chain.extend(8);
    let mut fork = chain.fork(5);
    fork.extend(3);
    let mut bench = Bench::new(vec![Arc::new(kept.clone()), Arc::new(other.clone())]);
    bench.read(chain.records()[..1].iter().map(|record| (&chain, record)));
    assert!(bench.refused().await.is_empty());
    store(&kept, fork.segment(0..=7)).await;
    bench.read(chain.records()[1..].iter().map(|record| (&chain, record)));
    let archive = |at| (Some("archive".to_owned()), at);
    assert_eq!(bench.refused().await, [archive(5), archive(6), archive(7)]);
    assert_eq!(other.records(chain.chain()), chain.records());
    bench.all_passed();
}

#[tokio::test]
async fn of_an_old_branch_that_is_refused_late_every_event_is_quarantined() {
    let kept = MemorySink::named("archive");
    let mut chain = TestChain::new();
    store(&kept, chain.extend(8)).await;
    let mut fork = chain.fork(4);
    fork.extend(4);
    chain.extend(2);
    let mut bench = Bench::new(vec![sees_the_last_alone(&kept)]);
    let forged = fork.records()[4..].iter();
    bench.read(forged.chain(&chain.records()[8..]).map(|record| (&chain, record)));
    let archive = |at| (Some("archive".to_owned()), at);
    assert_eq!(bench.refused().await, [archive(4), archive(5), archive(6), archive(7)]);
    assert_eq!(kept.records(chain.chain()), chain.records(), "the chain goes on");
    bench.all_passed();
}

#[tokio::test]
async fn what_a_sink_cannot_compare_does_not_stop_its_chain() {
    let kept = MemorySink::named("archive");
    let mut chain = TestChain::new();
    store(&kept, chain.extend(8)).await;
    let forged = chain.fork(3).extend(1);
    chain.extend(2);
    let mut bench = Bench::new(vec![sees_the_last_alone(&kept)]);
    // What is read by and by is compared when the run reaches the end of what is stored.
    bench.read(chain.records()[4..6].iter().map(|record| (&chain, record)));
    bench.until("a failure", |state| state.sinks[0].last_error.is_some()).await;
    bench.read(chain.records()[6..8].iter().map(|record| (&chain, record)));
    assert!(bench.refused().await.is_empty());
    bench.read([(&chain, &forged.records()[0])]);
    bench.read(chain.records()[8..].iter().map(|record| (&chain, record)));
    assert_eq!(bench.refused().await, [(Some("archive".to_owned()), 3)]);
    assert_eq!(kept.records(chain.chain()), chain.records());
    bench.all_passed();
}

#[tokio::test]
async fn a_call_that_is_refused_for_good_harms_the_chain_alone_that_it_is_refused_for() {
    let kept = MemorySink::named("a");
    let sink = Peculiar::poisoned(&kept, "acme", SinkErrorKind::Rejected);
    let mut bench = Bench::new(vec![sink]);
    let mut chains = ["globex", "acme", "initech"].map(of);
    for chain in &mut chains {
        chain.extend(3);
    }
    let [first, poison, last] = &chains;
    let messages = chains.iter().flat_map(|chain| chain.records().iter().map(move |r| (chain, r)));
    bench.read(messages);
    let a = |at| (Some("a".to_owned()), at);
    assert_eq!(bench.refused().await, [a(0), a(1), a(2)]);
    for chain in [first, last] {
        assert_eq!(kept.records(chain.chain()), chain.records());
    }
    assert!(kept.records(poison.chain()).is_empty());
    bench.all_passed();
    let status = bench.shared.state().status();
    assert_eq!((status.sinks[0].halted, status.sinks[0].failures), (1, 0));
}

#[tokio::test]
async fn an_event_that_is_refused_for_good_takes_none_before_it_along() {
    let kept = MemorySink::named("a");
    let mut chain = TestChain::new();
    chain.extend(20);
    let poison = chain.records()[13].event_hash();
    let sink = Peculiar::sink(&kept, move |batch| {
        let refused = batch.segments().iter().any(|segment| segment.hashes().contains(&poison));
        refused.then(|| Err(SinkError::new(SinkErrorKind::Rejected, "an event is too large")))
    });
    let mut bench = Bench::new(vec![sink]);
    bench.read_chain(&chain);
    let a = |at| (Some("a".to_owned()), at);
    assert_eq!(bench.refused().await, (13..20).map(a).collect::<Vec<_>>());
    assert_eq!(kept.records(chain.chain()), chain.records()[..13]);
    bench.all_passed();
}

#[tokio::test]
async fn a_call_that_fails_because_of_one_chain_delays_no_other() {
    for kind in [SinkErrorKind::Unavailable, SinkErrorKind::PermissionDenied] {
        let kept = MemorySink::named("a");
        let mut bench = Bench::new(vec![Peculiar::poisoned(&kept, "acme", kind)]);
        let (mut poison, mut sound) = (of("acme"), of("globex"));
        poison.extend(2);
        bench.read_chain(&poison);
        for _ in 0..5 {
            let more = sound.extend(3);
            bench.read(more.records().iter().map(|record| (&sound, record)));
            let stored = |_: &State| kept.records(sound.chain()) == sound.records();
            bench.until("the sound one", stored).await;
        }
        assert!(bench.shared.state().refusals.is_empty(), "it may be mended");
        assert_eq!(committable(&bench.shared.state()), Some(0));
    }
}

#[tokio::test]
async fn a_chain_on_which_a_sink_hangs_or_panics_delays_no_other() {
    for panics in [true, false] {
        let kept = MemorySink::named("a");
        let hang = kept.clone();
        if !panics {
            hang.faults().inject(Fault::hang_before().tenant("acme").always());
        }
        let sink = Peculiar::sink(&kept, move |batch| {
            let poison = |segment: &Segment| segment.chain().tenant_id.as_str() == "acme";
            assert!(!panics || !batch.segments().iter().any(poison), "as it is meant to");
            None
        });
        let mut bench = Bench::new(vec![sink]);
        let (mut poison, mut sound) = (of("acme"), of("globex"));
        for _ in 0..5 {
            let (ill, more) = (poison.extend(1), sound.extend(3));
            bench.read(ill.records().iter().map(|record| (&poison, record)));
            bench.read(more.records().iter().map(|record| (&sound, record)));
            let stored = |_: &State| kept.records(sound.chain()) == sound.records();
            bench.until("the sound one", stored).await;
        }
        assert!(kept.records(poison.chain()).is_empty());
        assert!(bench.shared.state().refusals.is_empty());
    }
}

#[tokio::test]
async fn a_sink_that_was_away_for_long_gets_everything() {
    let kept = MemorySink::named("a");
    let mut bench = Bench::new(vec![Arc::new(kept.clone())]);
    let away = kept.faults().inject(Fault::before(SinkErrorKind::Unavailable).always());
    let mut chains: Vec<_> = (0..30).map(|_| TestChain::new()).collect();
    for chain in &mut chains {
        chain.extend(4);
        bench.read_chain(chain);
    }
    bench.until("failures", |_| away.fired() > 20).await;
    assert!(bench.shared.state().status().sinks[0].failures > 3);
    kept.faults().clear();
    assert!(bench.refused().await.is_empty());
    for chain in &chains {
        assert_eq!(kept.records(chain.chain()), chain.records());
    }
    bench.all_passed();
    let status = bench.shared.state().status();
    assert_eq!((status.sinks[0].failures, &status.sinks[0].last_error), (0, &None));
}

#[tokio::test]
async fn a_head_that_one_sink_cannot_tell_delays_no_other_chain_and_no_other_sink() {
    let (ill, sound) = (MemorySink::named("ill"), MemorySink::named("sound"));
    let unreadable = Fault::before(SinkErrorKind::Unavailable).on(Operation::Head);
    ill.faults().inject(unreadable.tenant("acme").always());
    let mut bench = Bench::new(vec![Arc::new(ill.clone()), Arc::new(sound.clone())]);
    let (mut one, mut other) = (of("acme"), of("globex"));
    one.extend(3);
    other.extend(3);
    bench.read_chain(&one);
    bench.read_chain(&other);
    bench.until("what can be stored", |_| ill.len() == 3 && sound.len() == 6).await;
    assert_eq!(ill.records(other.chain()), other.records());
    ill.faults().clear();
    assert!(bench.refused().await.is_empty());
    assert_eq!(ill.records(one.chain()), one.records());
    bench.all_passed();
}

#[tokio::test]
async fn a_chain_whose_head_is_corrupt_at_one_sink_is_halted_there() {
    let (ill, sound) = (MemorySink::named("ill"), MemorySink::named("sound"));
    let corrupt = Fault::before(SinkErrorKind::Corrupt).on(Operation::Head);
    ill.faults().inject(corrupt.tenant("acme").always());
    let mut bench = Bench::new(vec![Arc::new(ill.clone()), Arc::new(sound.clone())]);
    let (mut one, mut other) = (of("acme"), of("globex"));
    one.extend(2);
    other.extend(2);
    bench.read_chain(&one);
    bench.read_chain(&other);
    let refused = bench.refused().await;
    let at = |at| (Some("ill".to_owned()), at);
    assert_eq!(refused, [at(0), at(1)]);
    assert_eq!(ill.records(other.chain()), other.records());
    assert_eq!(sound.len(), 4);
    bench.all_passed();
}
