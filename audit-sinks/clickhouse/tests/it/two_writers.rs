//! Two writers of one chain at once, which is a mistake of who runs them: one is refused, what came
//! first stays, and a reader sees both.

use std::sync::Arc;

use agent_audit_clickhouse::{ClickHouseSink, ClickHouseStore};
use agent_audit_core::{
    conformance::TestChain,
    sink::{Segment, SegmentOutcome, Sink},
    verify::{ChainVerifier, Checkpoints, FindingKind},
};

use super::{
    append,
    database::Database,
    interposer::{Interposer, Then},
    store,
};

/// A sink that another one comes before, in the moment between its look and its insert.
async fn overtaken(database: &Database, interposer: &Interposer, other: Segment) -> ClickHouseSink {
    let first = Arc::new(database.sink());
    interposer.before("INSERT", move || async move {
        store(&*first, &other).await;
        Then::Forward
    });
    ClickHouseSink::with_config(database.config_through(interposer.address())).unwrap()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn the_same_events_at_the_same_moment_are_stored_once() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let mut chain = TestChain::new();
    let segment = chain.extend(20);
    let sink = overtaken(&database, &interposer, segment.clone()).await;
    store(&sink, &segment).await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
    // The token of the insert is that of the events: the server itself has dropped the second.
    assert_eq!(database.count("audit_events").await, 20);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn the_same_events_in_another_cut_are_read_once() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let mut chain = TestChain::new();
    chain.extend(20);
    let sink = overtaken(&database, &interposer, chain.segment(0..=9)).await;
    store(&sink, &chain.segment(0..=19)).await;
    assert_eq!(database.count("audit_events").await, 30, "the tokens differ");
    assert_eq!(database.records(chain.chain()).await, chain.records());
    assert_eq!(sink.head(chain.chain()).await.unwrap().unwrap().sequence, 19);
    database.execute("OPTIMIZE TABLE audit_events FINAL").await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn other_events_at_the_same_moment_are_a_conflict_and_the_first_are_kept() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(3)).await;
    let mut fork = chain.fork(3);
    let (first, second) = (chain.extend(4), fork.extend(2));
    let sink = overtaken(&database, &interposer, first).await;
    let outcomes = append(&sink, &[&second]).await;
    let conflict = matches!(outcomes[..], [SegmentOutcome::Conflict { sequence: 3 }]);
    assert!(conflict, "{outcomes:?}");

    for merged in [false, true] {
        if merged {
            database.execute("OPTIMIZE TABLE audit_events FINAL").await;
        }
        // Whoever came first goes on, and whoever was refused is refused again.
        let head = sink.head(chain.chain()).await.unwrap().unwrap();
        assert_eq!((head.sequence, head.event_hash), (6, chain.records()[6].event_hash()));
        let again = append(&sink, &[&second]).await;
        assert!(matches!(again[..], [SegmentOutcome::Conflict { sequence: 3 }]), "{again:?}");
        store(&sink, &chain.segment(3..=6)).await;

        let rows = database.rows(chain.chain()).await;
        let positions: Vec<u64> = rows.iter().map(|(row, _)| row.sequence()).collect();
        assert_eq!(positions, [0, 1, 2, 3, 3, 4, 4, 5, 6], "merged: {merged}");
        for (at, record) in [(3, &chain.records()[3]), (4, &second.records()[0])] {
            assert!(rows[at].1 == *record, "what came first is first, with its own content");
        }
        let mut verifier = ChainVerifier::new(chain.chain().clone(), Checkpoints::none());
        rows.iter().for_each(|(_, record)| verifier.push(&record.to_bytes()));
        let report = verifier.finish();
        let seen = report.findings.iter().any(|finding| {
            matches!(finding.kind, FindingKind::Forked | FindingKind::Duplicated)
                && finding.sequence == Some(3)
        });
        assert!(seen, "the verifier names the fork: {:#?}", report.findings);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_follows_an_event_that_came_second_is_refused_with_it() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(3)).await;
    let mut fork = chain.fork(3);
    let first = chain.extend(1);
    let (second, third) = (fork.extend(2), fork.extend(2));
    let mut bystander = TestChain::new();
    let sink = overtaken(&database, &interposer, first).await;
    let outcomes = append(&sink, &[&second, &bystander.extend(2), &third]).await;
    let [
        SegmentOutcome::Conflict { sequence: 3 },
        SegmentOutcome::Accepted,
        SegmentOutcome::Failed { error },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert!(!error.is_retryable() && error.maybe_applied(), "{error}");
    assert_eq!(database.records(bystander.chain()).await, bystander.records());
    assert!(database.records(chain.chain()).await[3] == chain.records()[3]);
    // The rows that came second are at positions that the first writer has not reached: it is told
    // so, and a person has to decide.
    let outcomes = append(&database.sink(), &[&chain.extend(1)]).await;
    let told = matches!(outcomes[..], [SegmentOutcome::Conflict { sequence: 4 }]);
    assert!(told, "{outcomes:?}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn many_writers_of_one_chain_leave_one_that_was_acknowledged() {
    let database = Database::new().await;
    let chain = TestChain::new();
    let mut forks: Vec<TestChain> = (0..8).map(|_| chain.clone()).collect();
    let writers: Vec<_> = forks
        .iter_mut()
        .map(|fork| {
            let (segment, sink) = (fork.extend(5), database.sink());
            tokio::spawn(async move { append(&sink, &[&segment]).await.remove(0) })
        })
        .collect();
    let mut accepted = Vec::new();
    for (writer, fork) in writers.into_iter().zip(&forks) {
        match writer.await.unwrap() {
            SegmentOutcome::Accepted => accepted.push(fork),
            SegmentOutcome::Conflict { sequence: 0 } => {}
            other => panic!("{other:?}"),
        }
    }
    let [winner] = accepted[..] else { panic!("{} were acknowledged", accepted.len()) };
    let store = ClickHouseStore::new(database.config()).unwrap();
    let mut records = store.records(chain.chain(), 0).await.unwrap();
    let mut last = None;
    while let Some(item) = records.next().await {
        let (row, record) = item.unwrap();
        if last.replace(row.sequence()) != Some(row.sequence()) {
            let at = usize::try_from(row.sequence()).unwrap();
            assert!(record == winner.records()[at], "the acknowledged one is read first");
        }
    }
}
