//! The lines of the contract about acknowledgement, order and conflict.

use std::sync::Arc;

use super::{Applies, Harness, TestChain};
use crate::{
    id::{ChainId, TenantId},
    sink::{Batch, BatchAck, ChainRef, Segment, SegmentOutcome, Sink},
};

pub(super) use super::{content::*, faults::*};

pub(super) async fn an_acknowledgement_survives_a_restart(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    store(&harness.sink().await, &[chain.extend(20)]).await;
    let again = harness.sink().await;
    expect_stored(harness, &chain).await;
    store(&again, &[chain.extend(1)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn closing_keeps_what_was_acknowledged(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(3)]).await;
    sink.close().await.expect("a sink at rest can be closed");
    sink.close().await.expect("a closed sink can be closed");
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn the_same_segment_again_is_accepted_once(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let segment = chain.extend(5);
    let sink = harness.sink().await;
    store(&sink, std::slice::from_ref(&segment)).await;
    store(&sink, std::slice::from_ref(&segment)).await;
    store(&harness.sink().await, &[segment]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn an_overlapping_segment_is_accepted_once(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(5)]).await;
    chain.extend(4);
    store(&sink, &[chain.segment(2..=8)]).await;
    store(&sink, &[chain.segment(1..=3)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn the_same_segment_twice_in_a_batch_is_accepted_once(
    harness: &dyn Harness,
) -> Applies {
    let mut chain = TestChain::new();
    let segment = chain.extend(5);
    store(&harness.sink().await, &[segment.clone(), segment]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn the_same_segment_through_two_handles_at_once_is_accepted_once(
    harness: &dyn Harness,
) -> Applies {
    let mut chain = TestChain::new();
    let segment = chain.extend(50);
    let tasks = [harness.sink().await, harness.sink().await].map(|sink| {
        let segment = segment.clone();
        tokio::spawn(async move { store(&sink, &[segment]).await })
    });
    for task in tasks {
        task.await.expect("both handles store the segment");
    }
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn segments_of_one_chain_in_one_batch_keep_their_order(
    harness: &dyn Harness,
) -> Applies {
    let (mut one, mut two) = (TestChain::new(), TestChain::new());
    let batch = [one.extend(3), two.extend(2), one.extend(4), two.extend(1), one.extend(1)];
    store(&harness.sink().await, &batch).await;
    expect_stored(harness, &one).await;
    expect_stored(harness, &two).await;
    Applies::Yes
}

pub(super) async fn another_event_at_a_position_is_a_conflict(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().conflicts {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(5)]).await;
    for fork_at in [0, 4] {
        let fork = chain.fork(fork_at).extend(3);
        for sink in [&sink, &harness.sink().await] {
            let outcome = only(append(sink, std::slice::from_ref(&fork)).await);
            let conflict =
                matches!(outcome, SegmentOutcome::Conflict { sequence } if sequence == fork_at);
            assert!(conflict, "expected a conflict at {fork_at}, not {outcome:?}");
        }
        expect_stored(harness, &chain).await;
    }
    store(&sink, &[chain.extend(2)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn a_conflict_names_the_first_position_that_differs(
    harness: &dyn Harness,
) -> Applies {
    if !harness.capabilities().conflicts {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(6)]).await;
    let mut fork = chain.fork(3);
    fork.extend(5);
    let outcome = only(append(&sink, &[fork.segment(1..=7)]).await);
    let conflict = matches!(outcome, SegmentOutcome::Conflict { sequence: 3 });
    assert!(conflict, "expected a conflict at 3, not {outcome:?}");
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn a_conflict_stops_its_own_chain_alone(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().conflicts {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let mut sibling = TestChain::of(chain.chain().tenant_id.clone());
    let mut stranger = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(2), sibling.extend(2), stranger.extend(2)]).await;
    let batch = [sibling.extend(1), chain.fork(1).extend(2), sibling.extend(1), stranger.extend(3)];
    let outcomes = append(&sink, &batch).await.outcomes;
    let expected = matches!(
        outcomes[..],
        [
            SegmentOutcome::Accepted,
            SegmentOutcome::Conflict { sequence: 1 },
            SegmentOutcome::Accepted,
            SegmentOutcome::Accepted
        ]
    );
    assert!(expected, "expected a conflict of the second segment alone, not {outcomes:?}");
    for chain in [&chain, &sibling, &stranger] {
        expect_stored(harness, chain).await;
    }
    Applies::Yes
}

pub(super) async fn a_hole_is_never_stored(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().order {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    chain.extend(10);
    expect_refused(&sink, chain.segment(1..=2)).await;
    assert!(harness.read_back(chain.chain()).await.is_empty(), "nothing before position 0");
    store(&sink, &[chain.segment(0..=4)]).await;
    expect_refused(&sink, chain.segment(6..=9)).await;
    let stored = harness.read_back(chain.chain()).await;
    assert_eq!(stored, chain.records()[..5], "nothing after the hole");
    store(&sink, &[chain.segment(5..=9)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn an_event_that_is_not_linked_is_never_stored(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().order {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    store(&sink, &[chain.extend(3)]).await;
    let mut fork = chain.fork(2);
    fork.extend(1);
    expect_refused(&sink, fork.extend(2)).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn a_chain_goes_on_from_its_head(harness: &dyn Harness) -> Applies {
    if !harness.sink().await.info().readable_heads {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    for events in [1, 4, 7] {
        let segment = chain.extend(events);
        store(&harness.sink().await, std::slice::from_ref(&segment)).await;
        let head = harness.sink().await.head(chain.chain()).await;
        let head = head.expect("the head can be read").expect("the chain has a head");
        assert_eq!(head.sequence, segment.last());
        assert_eq!(head.event_hash, segment.hashes()[segment.len() - 1]);
    }
    Applies::Yes
}

pub(super) async fn the_head_of_an_unknown_chain_is_none(harness: &dyn Harness) -> Applies {
    let sink = harness.sink().await;
    if !sink.info().readable_heads {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let head = async |chain: &ChainRef| sink.head(chain).await.expect("the head can be read");
    assert_eq!(head(chain.chain()).await, None, "of an unknown tenant");
    store(&sink, &[chain.extend(1)]).await;
    let other = ChainRef::new(chain.chain().tenant_id.clone(), ChainId::random());
    assert_eq!(head(&other).await, None, "of a known tenant");
    Applies::Yes
}

pub(super) async fn tenants_with_the_same_chain_id_are_apart(harness: &dyn Harness) -> Applies {
    let chain_id = ChainId::random();
    let name = ChainId::random().to_string();
    // Names that differ only in case, or by one being the beginning of the other.
    let names =
        [format!("t{name}"), format!("T{name}"), format!("t{name}.x"), format!("t{name}-x")];
    let mut chains = names.map(|name| {
        let tenant = TenantId::new(name).expect("it is a name");
        TestChain::at(ChainRef::new(tenant, chain_id.clone()))
    });
    let sink = harness.sink().await;
    for events in [2, 3] {
        let batch: Vec<Segment> = chains.iter_mut().map(|chain| chain.extend(events)).collect();
        store(&sink, &batch).await;
    }
    for chain in &chains {
        expect_stored(harness, chain).await;
    }
    Applies::Yes
}

pub(super) async fn many_chains_in_one_batch_are_all_stored(harness: &dyn Harness) -> Applies {
    let tenants = [(); 5].map(|()| TestChain::new().chain().tenant_id.clone());
    let mut chains: Vec<TestChain> =
        (0..500).map(|at| TestChain::of(tenants[at % tenants.len()].clone())).collect();
    let batch: Vec<Segment> = chains.iter_mut().map(|chain| chain.extend(2)).collect();
    store(&harness.sink().await, &batch).await;
    for chain in &chains {
        expect_stored(harness, chain).await;
    }
    Applies::Yes
}

pub(super) async fn a_segment_longer_than_a_batch_is_stored(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    let events = sink.info().max_batch_events.clamp(1, 5_000) + 1;
    store(&sink, &[chain.extend(events)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn an_empty_batch_is_accepted(harness: &dyn Harness) -> Applies {
    let ack = append(&harness.sink().await, &[]).await;
    assert!(ack.outcomes.is_empty(), "one outcome for each segment");
    Applies::Yes
}

pub(super) async fn check_writes_nothing(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    sink.check().await.expect("the store is sound");
    assert!(harness.read_back(chain.chain()).await.is_empty());
    store(&sink, &[chain.extend(3)]).await;
    let before = sink.head(chain.chain()).await.expect("the head can be read");
    sink.check().await.expect("the store is sound");
    assert_eq!(sink.head(chain.chain()).await.expect("the head can be read"), before);
    expect_stored(harness, &chain).await;
    Applies::Yes
}

/// Appends and holds the answer against the form of an answer.
pub(super) async fn append(sink: &Arc<dyn Sink>, segments: &[Segment]) -> BatchAck {
    let ack = match sink.append(&Batch::new(segments.to_vec())).await {
        Ok(ack) => ack,
        // A batch that failed as a whole is one where each segment failed.
        Err(error) => {
            assert_eq!(segments.len(), 1, "a fault of a batch of several chains: {error}");
            BatchAck::new(vec![SegmentOutcome::Failed { error }])
        }
    };
    assert_eq!(ack.outcomes.len(), segments.len(), "one outcome for each segment");
    for (outcome, segment) in ack.outcomes.iter().zip(segments) {
        if let SegmentOutcome::Prefix { through } = outcome {
            let within = (segment.first()..segment.last()).contains(through);
            assert!(within, "a prefix ends within its segment, not at {through}");
        }
    }
    ack
}

/// Appends until all is accepted, as delivery does: what is left comes again, identical.
pub(super) async fn store(sink: &Arc<dyn Sink>, segments: &[Segment]) {
    let mut left = segments.to_vec();
    for _ in 0..50 {
        let ack = append(sink, &left).await;
        let outcomes = left.into_iter().zip(ack.outcomes);
        left = outcomes
            .filter_map(|(segment, outcome)| match outcome {
                SegmentOutcome::Accepted => None,
                SegmentOutcome::Prefix { .. } => Some(segment),
                SegmentOutcome::Failed { error } if error.is_retryable() => Some(segment),
                other => {
                    panic!("segment of {} is not accepted: {other:?}", segment.chain());
                }
            })
            .collect();
        if left.is_empty() {
            return;
        }
    }
    assert!(left.is_empty(), "not accepted after many tries: {} segments", left.len());
}

pub(super) async fn expect_refused(sink: &Arc<dyn Sink>, segment: Segment) {
    let chain = segment.chain().clone();
    let outcome = only(append(sink, &[segment]).await);
    let SegmentOutcome::Failed { error } = &outcome else {
        panic!("a segment of {chain} that does not attach must fail: {outcome:?}");
    };
    assert!(!error.is_retryable(), "trying again does not help: {error}");
    assert!(!error.maybe_applied(), "nothing was applied: {error}");
}

/// Holds what a reader finds against what was acknowledged, byte for byte.
pub(super) async fn expect_stored(harness: &dyn Harness, chain: &TestChain) {
    let stored = harness.read_back(chain.chain()).await;
    let name = chain.chain();
    assert_eq!(stored.len(), chain.records().len(), "how many records {name} has");
    for (at, (stored, sent)) in stored.iter().zip(chain.records()).enumerate() {
        assert!(stored.event_bytes() == sent.event_bytes(), "bytes of event {at} of {name}");
        if harness.capabilities().content {
            assert!(stored.parts() == sent.parts(), "content of event {at} of {name}");
        }
    }
}

pub(super) fn only(ack: BatchAck) -> SegmentOutcome {
    ack.outcomes.into_iter().next().expect("one outcome for each segment")
}
