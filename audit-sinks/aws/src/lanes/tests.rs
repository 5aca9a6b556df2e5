#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use agent_audit_core::{conformance::TestChain, content::Part};
use proptest::prelude::*;

use super::*;

type Answer<'a> = dyn Fn(&Message<'_>) -> Result<(), Fault> + Sync + 'a;
type Refusal<'a> = dyn Fn(&[Message<'_>]) -> Option<Fault> + Sync + 'a;

/// A service in memory.
struct Service<'a> {
    limits: Limits,
    answer: &'a Answer<'a>,
    refusal: &'a Refusal<'a>,
    /// What it took, in order, and how many messages each request had.
    taken: Mutex<Vec<(String, u64)>>,
    requests: Mutex<Vec<usize>>,
    under_way: Mutex<HashSet<String>>,
}

impl<'a> Service<'a> {
    fn new(answer: &'a Answer<'a>, refusal: &'a Refusal<'a>) -> Self {
        let limits = Limits {
            messages: 10,
            messages_of_a_chain: usize::MAX,
            request_bytes: 1 << 20,
            message_bytes: 256 << 10,
            parallelism: 3,
            time: Duration::from_secs(60),
        };
        let (taken, requests, under_way) = Default::default();
        Self { limits, answer, refusal, taken, requests, under_way }
    }

    fn taken(&self, chain: &TestChain) -> Vec<u64> {
        let key = chain.chain().to_string();
        let taken = self.taken.lock().unwrap();
        taken.iter().filter(|(of, _)| *of == key).map(|(_, at)| *at).collect()
    }
}

#[async_trait]
impl Transport for Service<'_> {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn key(&self, chain: &ChainRef) -> Arc<str> {
        chain.to_string().into()
    }
    fn overhead(&self, message: &Message<'_>) -> usize {
        message.key.len()
    }
    async fn send(&self, messages: Vec<Message<'_>>) -> Result<Vec<Result<(), Fault>>, Fault> {
        let bytes: usize = messages.iter().map(|message| message.bytes).sum();
        assert!((1..=self.limits.messages).contains(&messages.len()));
        assert!(bytes <= self.limits.request_bytes || messages.len() == 1);
        let chains: HashSet<String> = messages.iter().map(|m| m.key.to_string()).collect();
        for chain in &chains {
            assert!(self.under_way.lock().unwrap().insert(chain.clone()), "{chain} is under way");
        }
        tokio::task::yield_now().await;
        for chain in &chains {
            self.under_way.lock().unwrap().remove(chain);
        }
        self.requests.lock().unwrap().push(messages.len());
        if let Some(fault) = (self.refusal)(&messages) {
            return Err(fault);
        }
        let results: Vec<_> = messages.iter().map(self.answer).collect();
        for (message, result) in messages.iter().zip(&results) {
            if result.is_ok() {
                self.taken.lock().unwrap().push((message.key.to_string(), message.sequence));
            }
        }
        Ok(results)
    }
}

fn busy() -> Fault {
    Fault::new(SinkErrorKind::Exhausted, "the shard is busy")
}

fn yes(_: &Message<'_>) -> Result<(), Fault> {
    Ok(())
}

fn never(_: &[Message<'_>]) -> Option<Fault> {
    None
}

#[tokio::test]
async fn a_batch_is_sent_in_order_in_full_requests() {
    let (mut one, mut two) = (TestChain::new(), TestChain::new());
    let batch = Batch::new(vec![one.extend(23), two.extend(4), one.extend(2), two.extend(3)]);
    let service = Service::new(&yes, &never);
    let ack = append(&batch, &service, None).await.unwrap();
    assert!(ack.outcomes.iter().all(|o| matches!(o, SegmentOutcome::Accepted)), "{ack:?}");
    assert_eq!(service.taken(&one), (0..25).collect::<Vec<_>>());
    assert_eq!(service.taken(&two), (0..7).collect::<Vec<_>>());
    assert!(service.requests.lock().unwrap().len() <= 5);
}

#[tokio::test]
async fn a_message_that_is_not_taken_stops_its_chain_and_what_is_behind_it_may_have_been_applied() {
    let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
    let key = ill.chain().to_string();
    let answer =
        move |m: &Message<'_>| if *m.key == key && m.sequence == 3 { Err(busy()) } else { Ok(()) };
    let batch = Batch::new(vec![ill.extend(2), ill.extend(3), ill.extend(40), sound.extend(30)]);
    let service = Service::new(&answer, &never);
    let ack = append(&batch, &service, None).await.unwrap();
    let [
        SegmentOutcome::Accepted,
        SegmentOutcome::Prefix { through: 2 },
        SegmentOutcome::Failed { error },
        SegmentOutcome::Accepted,
    ] = &ack.outcomes[..]
    else {
        panic!("{ack:?}");
    };
    assert!(error.kind() == SinkErrorKind::Exhausted && error.is_retryable());
    assert!(error.maybe_applied(), "position 4 is there");
    assert_eq!(service.taken(&ill), [0, 1, 2, 4, 5, 6, 7, 8, 9], "nothing more of it was sent");
}

#[tokio::test]
async fn strict_order_sends_nothing_of_a_chain_before_the_message_ahead_was_taken() {
    let mut chains: Vec<TestChain> = (0..6).map(|_| TestChain::new()).collect();
    let answer = |m: &Message<'_>| if m.sequence == 2 { Err(busy()) } else { Ok(()) };
    let batch = Batch::new(chains.iter_mut().map(|chain| chain.extend(5)).collect());
    let mut service = Service::new(&answer, &never);
    service.limits.messages_of_a_chain = 1;
    let ack = append(&batch, &service, None).await.unwrap();
    for outcome in &ack.outcomes {
        assert!(matches!(outcome, SegmentOutcome::Prefix { through: 1 }), "{outcome:?}");
    }
    assert!(chains.iter().all(|chain| service.taken(chain) == [0, 1]));
    assert_eq!(*service.requests.lock().unwrap(), [6, 6, 6], "chains share requests");
}

#[tokio::test]
async fn a_refused_message_is_found_and_stops_its_own_chain_alone() {
    let (mut ill, mut sound, mut other) = (TestChain::new(), TestChain::new(), TestChain::new());
    let key = ill.chain().to_string();
    let refusal = move |messages: &[Message<'_>]| {
        let poisoned = messages.iter().any(|m| *m.key == key && m.sequence == 5);
        poisoned.then(|| Fault::new(SinkErrorKind::Rejected, "the message is not to its taste"))
    };
    let batch = Batch::new(vec![sound.extend(3), ill.extend(9), other.extend(14)]);
    let service = Service::new(&yes, &refusal);
    let ack = append(&batch, &service, None).await.unwrap();
    let good = matches!(
        ack.outcomes[..],
        [SegmentOutcome::Accepted, SegmentOutcome::Prefix { through: 4 }, SegmentOutcome::Accepted]
    );
    assert!(good, "{ack:?}");
    let batch = Batch::new(vec![ill.segment(5..=8), sound.extend(1)]);
    let ack = append(&batch, &service, None).await.unwrap();
    let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &ack.outcomes[..] else {
        panic!("{ack:?}");
    };
    assert!(error.kind() == SinkErrorKind::Rejected && !error.is_retryable());
    assert!(!error.maybe_applied());
}

#[tokio::test]
async fn a_service_that_fails_is_not_asked_again() {
    let mut chains: Vec<TestChain> = (0..30).map(|_| TestChain::new()).collect();
    let batch = Batch::new(chains.iter_mut().map(|chain| chain.extend(10)).collect());
    let down = |_: &[Message<'_>]| {
        Some(Fault::new(SinkErrorKind::Unavailable, "no answer").with_maybe_applied())
    };
    let service = Service::new(&yes, &down);
    let error = append(&batch, &service, None).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(error.maybe_applied());
    let asked = service.requests.lock().unwrap().len();
    assert!((1..=3).contains(&asked), "as many as were under way: {asked}");

    // One that fails later fails those that it did not take, and none of them for good.
    let key = chains[20].chain().to_string();
    let denied = move |messages: &[Message<'_>]| {
        let now = *messages[0].key == key;
        now.then(|| Fault::new(SinkErrorKind::PermissionDenied, "put records: denied"))
    };
    let service = Service::new(&yes, &denied);
    let ack = append(&batch, &service, None).await.unwrap();
    let mut failed = 0;
    for outcome in &ack.outcomes {
        match outcome {
            SegmentOutcome::Accepted => {}
            SegmentOutcome::Failed { error } => {
                failed += 1;
                assert!(error.is_retryable() && !error.maybe_applied());
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((8..=10).contains(&failed), "{failed}");
}

#[tokio::test]
async fn nothing_is_sent_after_the_time_is_up() {
    let mut service = Service::new(&yes, &never);
    service.limits.time = Duration::ZERO;
    let batch = Batch::new(vec![TestChain::new().extend(3)]);
    let error = append(&batch, &service, None).await.unwrap_err();
    assert!(error.kind() == SinkErrorKind::Timeout && !error.maybe_applied());
    assert!(service.requests.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_large_event_without_a_bucket_is_refused_and_never_truncated() {
    let mut chain = TestChain::new();
    chain.extend(2);
    chain.extend_with(vec![Part::text("output", "x".repeat(300 << 10)).commit()]);
    chain.extend(2);
    let service = Service::new(&yes, &never);
    let batch = Batch::new(vec![chain.segment(0..=4)]);
    let ack = append(&batch, &service, None).await.unwrap();
    assert!(matches!(ack.outcomes[..], [SegmentOutcome::Prefix { through: 1 }]), "{ack:?}");
    let batch = Batch::new(vec![chain.segment(2..=4)]);
    let ack = append(&batch, &service, None).await.unwrap();
    let [SegmentOutcome::Failed { error }] = &ack.outcomes[..] else { panic!("{ack:?}") };
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(error.to_string().contains("set a bucket for large events"), "{error}");
    assert_eq!(service.taken(&chain), [0, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a service takes and refuses: what is acknowledged was taken, without a hole.
    #[test]
    fn never_a_hole_is_acknowledged(
        segments in prop::collection::vec((0usize..5, 1usize..12), 1..12),
        failing in prop::collection::hash_set((0usize..5, 0u64..30), 0..20),
        poisoned in prop::collection::hash_set((0usize..5, 0u64..30), 0..3),
        broken_after in prop::option::of(1usize..12),
        messages in 1usize..12,
        strict in any::<bool>(),
    ) {
        let mut chains: Vec<TestChain> = (0..5).map(|_| TestChain::new()).collect();
        let keys: BTreeMap<String, usize> =
            chains.iter().enumerate().map(|(at, chain)| (chain.chain().to_string(), at)).collect();
        let batch =
            Batch::new(segments.iter().map(|(chain, len)| chains[*chain].extend(*len)).collect());
        let place = |m: &Message<'_>| (keys[&*m.key], m.sequence);
        let answer = |m: &Message<'_>| if failing.contains(&place(m)) { Err(busy()) } else { Ok(()) };
        let asked = Mutex::new(0);
        let refusal = |messages: &[Message<'_>]| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            if broken_after.is_some_and(|after| *asked > after) {
                return Some(Fault::new(SinkErrorKind::Unavailable, "gone"));
            }
            let poisoned = messages.iter().any(|m| poisoned.contains(&place(m)));
            poisoned.then(|| Fault::new(SinkErrorKind::Rejected, "poison"))
        };
        let mut service = Service::new(&answer, &refusal);
        service.limits.messages = messages;
        if strict {
            service.limits.messages_of_a_chain = 1;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let Ok(ack) = runtime.block_on(append(&batch, &service, None)) else {
            prop_assert!(broken_after.is_some());
            return Ok(());
        };
        let mut open = [true; 5];
        for ((segment, outcome), (chain, _)) in
            batch.segments().iter().zip(&ack.outcomes).zip(&segments)
        {
            let taken = service.taken(&chains[*chain]);
            let acknowledged = match outcome {
                SegmentOutcome::Accepted => Some(segment.last()),
                SegmentOutcome::Prefix { through } => Some(*through),
                _ => None,
            };
            if let Some(through) = acknowledged {
                prop_assert!(open[*chain], "nothing behind a hole is acknowledged");
                prop_assert!((segment.first()..=through).all(|at| taken.contains(&at)));
            }
            open[*chain] &= acknowledged == Some(segment.last());
            if strict {
                prop_assert!(taken.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            }
            if broken_after.is_none() {
                // It gets as far as the first message that the service does not take.
                let bad = (segment.first()..=segment.last()).find(|at| {
                    failing.contains(&(*chain, *at)) || poisoned.contains(&(*chain, *at))
                });
                let before = (0..segment.first()).any(|at| {
                    failing.contains(&(*chain, at)) || poisoned.contains(&(*chain, at))
                });
                if !before {
                    let most = bad.map_or(Some(segment.last()), |bad| bad.checked_sub(1));
                    let most = most.filter(|most| *most >= segment.first());
                    prop_assert_eq!(acknowledged, most);
                }
            }
        }
    }
}
