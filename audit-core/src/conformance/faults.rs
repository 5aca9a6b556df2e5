//! The lines of the contract about faults: each is tried not persisted, and persisted.

use std::time::Duration;

use super::{
    Applies, Fault, Harness, TestChain,
    cases::{append, expect_stored, only, store},
};
use crate::{
    content::Part,
    sink::{Batch, SegmentOutcome, SinkError},
};

pub(super) async fn an_append_that_was_cancelled_is_made_good(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    for _ in 0..10 {
        let segment = chain.extend(20);
        let batch = Batch::new(vec![segment.clone()]);
        // Polled once and dropped: whether anything was stored is not known.
        let _ = tokio::time::timeout(Duration::ZERO, sink.append(&batch)).await;
        store(&sink, &[segment]).await;
    }
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn an_append_that_failed_before_it_was_stored_is_made_good(
    harness: &dyn Harness,
) -> Applies {
    make_good(harness, Fault::BeforeCommit).await
}

pub(super) async fn an_append_whose_answer_was_lost_is_made_good(harness: &dyn Harness) -> Applies {
    make_good(harness, Fault::AfterCommit).await
}

async fn make_good(harness: &dyn Harness, fault: Fault) -> Applies {
    let mut chain = TestChain::new();
    store(&harness.sink().await, &[chain.extend(3)]).await;
    let before = chain.records().len();
    let Some(faulty) = harness.faulty(fault, chain.chain()).await else { return Applies::No };
    let segment = chain.extend(4);
    let outcome = only(append(&faulty, std::slice::from_ref(&segment)).await);
    let SegmentOutcome::Failed { error } = outcome else {
        panic!("the append must fail: {outcome:?}");
    };
    assert!(error.is_retryable(), "a passing fault is worth a retry: {error}");
    if fault == Fault::AfterCommit {
        assert!(
            error.maybe_applied(),
            "it was applied, and its error says that it was not: {error}"
        );
    }
    harness.mend().await;
    let stored = harness.read_back(chain.chain()).await.len();
    match fault {
        Fault::BeforeCommit => assert_eq!(stored, before, "nothing of it was stored"),
        Fault::AfterCommit => assert_eq!(stored, chain.records().len(), "all of it was stored"),
    }
    let fresh = harness.sink().await;
    if fresh.info().readable_heads {
        let head = fresh.head(chain.chain()).await.expect("the head can be read");
        assert_eq!(head.map(|head| head.sequence + 1), Some(stored as u64), "the head tells");
    }
    store(&fresh, &[segment]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn a_fault_of_one_tenant_leaves_the_others_alone(
    harness: &dyn Harness,
) -> Applies {
    let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
    store(&harness.sink().await, &[ill.extend(1), sound.extend(1)]).await;
    let faulty = harness.faulty(Fault::BeforeCommit, ill.chain()).await;
    let Some(faulty) = faulty else { return Applies::No };
    let mut other = TestChain::new();
    let failing = ill.extend(2);
    let batch = [failing.clone(), sound.extend(2), other.extend(2)];
    let outcomes = append(&faulty, &batch).await.outcomes;
    let alone = matches!(
        outcomes[..],
        [SegmentOutcome::Failed { .. }, SegmentOutcome::Accepted, SegmentOutcome::Accepted]
    );
    assert!(alone, "expected the first segment alone to fail, not {outcomes:?}");
    expect_stored(harness, &sound).await;
    expect_stored(harness, &other).await;
    harness.mend().await;
    store(&harness.sink().await, &[failing]).await;
    expect_stored(harness, &ill).await;
    Applies::Yes
}

pub(super) async fn errors_show_neither_content_nor_credentials(harness: &dyn Harness) -> Applies {
    const CANARY: &str = "canary-4111-1111-1111-1111";
    let mut secrets = harness.credentials();
    secrets.push(CANARY.to_owned());
    let mut chain = TestChain::new();
    let mut segment = || chain.extend_with(vec![Part::text("output", CANARY).commit()]);
    let (first, second, third) = (segment(), segment(), segment());
    let sink = harness.sink().await;
    let mut shown = vec![format!("{sink:?} {:?}", sink.info())];
    store(&sink, &[first]).await;
    shown.push(format!("{:?}", append(&sink, &[third]).await));
    shown.push(format!("{:?}", append(&sink, &[chain.fork(0).extend_with(canary(CANARY))]).await));
    for fault in [Fault::BeforeCommit, Fault::AfterCommit] {
        if let Some(faulty) = harness.faulty(fault, chain.chain()).await {
            match faulty.append(&Batch::new(vec![second.clone()])).await {
                Ok(ack) => {
                    for outcome in ack.outcomes {
                        shown.push(format!("{outcome:?}"));
                        if let SegmentOutcome::Failed { error } = outcome {
                            shown.push(all_of(&error));
                        }
                    }
                }
                Err(error) => shown.push(all_of(&error)),
            }
            harness.mend().await;
        }
    }
    for text in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "an error shows {secret:?}: {text}");
        }
    }
    Applies::Yes
}

fn canary(text: &str) -> Vec<(crate::content::ContentRef, crate::content::PartBody)> {
    vec![Part::text("output", text).commit()]
}

/// An error and everything behind it, in both of its forms.
fn all_of(error: &SinkError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}
