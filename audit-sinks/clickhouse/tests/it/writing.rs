//! Writing: one insert for all, none suffers from another, and what the server reports is understood
//! and kept to itself.

use std::sync::Arc;

use agent_audit_clickhouse::ClickHouseSink;
use agent_audit_core::{
    columns::check_columns,
    conformance::TestChain,
    content::Part,
    event::{Event, chain::ChainClosed},
    id::SessionId,
    record::Record,
    sink::{ChainRef, Segment, SegmentOutcome, Sink, SinkErrorKind},
};

use super::{
    any_tenant, append,
    database::Database,
    failure,
    interposer::{Interposer, Then},
    store,
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn columns_say_what_the_event_says() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(18)).await;
    let rows = database.rows(chain.chain()).await;
    for (row, record) in &rows {
        assert_eq!(check_columns(row, record.event_bytes()), None);
        assert_eq!(row.event_hash(), Some(record.event_hash()));
    }
    let column = |at: usize, name| rows[at].0.column(name).unwrap_or_default();
    assert_eq!(column(1, "event_type"), "session.started");
    assert_eq!(column(2, "model"), "gpt-5-2025-08-07");
    assert_eq!(column(2, "decision"), "", "a model's decision is no reviewer's");
    assert_eq!(column(5, "decided_after_us"), "4200000");
    assert_eq!(column(7, "tool_name"), "refund");
    // What the database itself finds by them.
    let outside = "audit_events WHERE notEmpty(external_ids.value)";
    assert!(database.count(outside).await > 0, "things outside are found");
    let day = "audit_events WHERE toDate(timestamp_utc) >= today() - 1 AND tool_name = 'refund'";
    assert!(database.count(day).await > 0, "times are times");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_batch_of_many_tenants_is_one_insert_into_each_table() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let config = database.config_through(interposer.address());
    let sink = ClickHouseSink::with_config(config).unwrap();
    let mut chains: Vec<TestChain> = (0..20).map(|_| TestChain::new()).collect();
    let segments: Vec<Segment> = chains.iter_mut().map(|chain| chain.extend(10)).collect();
    let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
    for table in ["audit_events", "audit_content"] {
        let insert = format!("INSERT%20INTO%20{table}");
        assert_eq!(interposer.count(&insert), 1, "{:#?}", interposer.seen());
        let parts = format!(
            "system.parts WHERE database = '{}' AND table = '{table}' AND level = 0",
            database.name()
        );
        assert_eq!(database.count(&parts).await, 1, "an insert is one part, all of it or nothing");
    }
    for chain in &chains {
        assert_eq!(database.records(chain.chain()).await, chain.records());
    }
    // The password is in no request line, and every insert is waited for.
    let password = database.credentials().1;
    for head in interposer.seen() {
        assert!(!head.lines().next().unwrap().contains(&password), "{head}");
        assert!(!head.contains("INSERT") || head.contains("async_insert=0"), "{head}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn gathered_inserts_are_waited_for() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let config = database.config_through(interposer.address()).with_async_insert(true);
    let sink = ClickHouseSink::with_config(config).unwrap();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(10)).await;
    assert_eq!(interposer.count("async_insert=1&wait_for_async_insert=1"), 2);
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_fails_between_content_and_events_is_made_good() {
    let database = Database::new().await;
    let interposer = Interposer::start(database.address()).await;
    let config = database.config_through(interposer.address());
    let sink = ClickHouseSink::with_config(config).unwrap();
    let mut chain = TestChain::new();
    let segment = chain.extend(20);
    interposer.before("INSERT%20INTO%20audit_events", || async { Then::Drop });
    let error = failure(&sink, &segment).await;
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(error.is_retryable() && error.maybe_applied());
    let parts: usize = segment.records().iter().map(|record| record.parts().len()).sum();
    assert_eq!(database.count("audit_content").await, parts as u64, "content goes first");
    assert_eq!(database.count("audit_events").await, 0);
    assert!(database.records(chain.chain()).await.is_empty(), "no event, no record");
    assert_eq!(sink.head(chain.chain()).await.unwrap(), None);

    store(&sink, &segment).await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
    assert_eq!(database.count("audit_content").await, parts as u64, "the token is known");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_fails_at_the_last_look_may_have_been_applied() {
    let database = Database::new().await;
    let interposer = Arc::new(Interposer::start(database.address()).await);
    let config = database.config_through(interposer.address());
    let sink = ClickHouseSink::with_config(config).unwrap();
    let mut chain = TestChain::new();
    let segment = chain.extend(5);
    let next = Arc::clone(&interposer);
    interposer.before("INSERT%20INTO%20audit_events", move || async move {
        // The request behind this one.
        next.before("POST", || async { Then::Drop });
        Then::Forward
    });
    let error = failure(&sink, &segment).await;
    assert!(error.is_retryable() && error.maybe_applied(), "{error}");
    assert_eq!(database.records(chain.chain()).await, chain.records());
    store(&sink, &segment).await;
    assert_eq!(database.count("audit_events").await, 5);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_row_that_is_refused_stops_its_chain_alone_and_is_not_shown() {
    const CANARY: &str = "canary-4111-1111-1111-1111";
    let database = Database::new().await;
    let sink = database.sink();
    database
        .execute(&format!(
            "ALTER TABLE audit_events ADD CONSTRAINT poison CHECK session_id != '{CANARY}'"
        ))
        .await;
    let mut event = Event::example(ChainClosed::new("shutdown"));
    event.tenant_id = any_tenant();
    event.session_id = SessionId::new(CANARY).unwrap();
    let poisoned = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
    let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
    let poison = Segment::new(poisoned.clone(), vec![record]).unwrap();
    let (mut sibling, mut stranger) = (TestChain::of(event.tenant_id.clone()), TestChain::new());
    let outcomes =
        append(&sink, &[&sibling.extend(4), &poison, &stranger.extend(4), &sibling.extend(2)])
            .await;
    let [
        SegmentOutcome::Accepted,
        SegmentOutcome::Failed { error },
        SegmentOutcome::Accepted,
        SegmentOutcome::Accepted,
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(!error.is_retryable() && !error.maybe_applied());
    for chain in [&sibling, &stranger] {
        assert_eq!(database.records(chain.chain()).await, chain.records());
    }
    assert!(database.records(&poisoned).await.is_empty());

    // The server's own text shows the row.
    let raw = format!("INSERT INTO audit_events (tenant_id, session_id) VALUES ('x', '{CANARY}')");
    let text = database.raw().query_raw(&raw).execute().await.unwrap_err().to_string();
    assert!(text.contains("VIOLATED_CONSTRAINT") && text.contains(CANARY), "{text}");
    assert!(!format!("{error} {error:?}").contains(CANARY), "{error:?}");
    assert!(std::error::Error::source(error).is_none());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_full_disk_is_exhausted_and_nothing_is_half_written() {
    let database = Database::new().await;
    let sink = database.sink();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(3)).await;
    let segment = chain.extend(3);
    let setting = "min_free_disk_bytes_to_perform_insert";
    for table in ["audit_events", "audit_content"] {
        let full = format!("ALTER TABLE {table} MODIFY SETTING {setting} = 1000000000000000");
        database.execute(&full).await;
        let error = failure(&sink, &segment).await;
        assert_eq!(error.kind(), SinkErrorKind::Exhausted, "{error}");
        assert!(error.is_retryable() && !error.maybe_applied());
        assert_eq!(database.records(chain.chain()).await, chain.records()[..3]);
        database.execute(&format!("ALTER TABLE {table} RESET SETTING {setting}")).await;
    }
    store(&sink, &segment).await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn events_that_were_taken_away_are_written_again_though_the_token_is_known() {
    let database = Database::new().await;
    let sink = database.sink();
    let mut chain = TestChain::new();
    let segment = chain.extend(5);
    store(&sink, &segment).await;
    for table in ["audit_events", "audit_content"] {
        let delete = format!("ALTER TABLE {table} DELETE WHERE 1 SETTINGS mutations_sync = 2");
        database.execute(&delete).await;
    }
    assert!(database.records(chain.chain()).await.is_empty());
    store(&sink, &segment).await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn an_event_that_is_gone_is_not_passed_over() {
    let database = Database::new().await;
    let sink = database.sink();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(6)).await;
    let delete = "ALTER TABLE audit_events DELETE WHERE sequence = 3 SETTINGS mutations_sync = 2";
    database.execute(delete).await;
    chain.extend(2);
    for range in [1..=5, 4..=7, 2..=7] {
        let error = failure(&sink, &chain.segment(range.clone())).await;
        assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{range:?}: {error}");
        assert!(error.to_string().contains("event 3 was stored and is gone"), "{error}");
        assert!(!error.is_retryable());
    }
    // Other positions are not in question.
    store(&sink, &chain.segment(6..=7)).await;
    assert_eq!(sink.head(chain.chain()).await.unwrap().unwrap().sequence, 7);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn values_of_any_text_are_values() {
    let database = Database::new().await;
    let sink = database.sink();
    for text in [
        "'; DROP TABLE audit_events; --",
        r"\' OR 1 = 1 --",
        r"ends with \",
        "{p:String} ?fields ? `x` %00",
        "\u{202e}ünï 👩‍👩‍👧",
    ] {
        let mut event = Event::example(ChainClosed::new("shutdown"));
        event.tenant_id = any_tenant();
        event.session_id = SessionId::new(text).unwrap();
        let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
        let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
        store(&sink, &Segment::new(chain.clone(), vec![record.clone()]).unwrap()).await;
        let rows = database.rows(&chain).await;
        assert_eq!(rows[0].0.column("session_id").as_deref(), Some(text));
        assert_eq!(check_columns(&rows[0].0, record.event_bytes()), None);
    }
    assert_eq!(database.count("audit_events").await, 5);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_server_that_is_away_is_worth_a_retry() {
    let database = Database::new().await;
    // A port that was free a moment ago.
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sink = ClickHouseSink::with_config(database.config_through(away)).unwrap();
    let mut chain = TestChain::new();
    let segment = chain.extend_with(vec![Part::text("output", "x").commit()]);
    let error = failure(&sink, &segment).await;
    assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable() && !error.maybe_applied());
    assert!(error.to_string().contains("connection refused"), "{error}");
    assert_eq!(sink.check().await.unwrap_err().kind(), SinkErrorKind::Unavailable);
    let head = sink.head(chain.chain()).await.unwrap_err();
    assert_eq!(head.kind(), SinkErrorKind::Unavailable);
}
