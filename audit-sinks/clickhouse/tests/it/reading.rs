//! Reading: in bounded memory, past the term of content, and on tables that someone has edited.

use agent_audit_clickhouse::ClickHouseSink;
use agent_audit_core::{
    columns::check_columns,
    conformance::TestChain,
    content::{AbsentReason, Part, PartBody},
    sink::ChainRef,
    verify::{ChainVerifier, Checkpoints, Verdict},
};

use super::{any_tenant, database::Database, store};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn reading_starts_where_it_is_told_and_passes_large_content() {
    let database = Database::new().await;
    let sink = database.sink();
    let mut chain = TestChain::new();
    chain.extend(2_500);
    for _ in 0..5 {
        chain.extend_with(vec![Part::text("output", "x".repeat(3 << 20)).commit()]);
    }
    chain.extend(10);
    for range in [0..=1_999, 2_000..=2_514] {
        store(&sink, &chain.segment(range)).await;
    }
    for from in [0, 1, 1_023, 1_024, 2_499, 2_502, 2_514] {
        let mut records = database.store().records(chain.chain(), from).await.unwrap();
        let mut next = from;
        while let Some(item) = records.next().await {
            let (row, record) = item.unwrap();
            assert_eq!(row.sequence(), next);
            assert!(record == chain.records()[usize::try_from(next).unwrap()], "{next}");
            next += 1;
        }
        assert_eq!(next, 2_515);
    }
    for from in [2_515, u64::MAX] {
        let mut records = database.store().records(chain.chain(), from).await.unwrap();
        assert!(records.next().await.is_none());
        assert!(records.next().await.is_none());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn tenants_and_chains_are_listed() {
    let database = Database::new().await;
    let sink = database.sink();
    assert!(database.store().tenants().await.unwrap().is_empty());
    let mut tenants: Vec<_> = (0..3).map(|_| any_tenant()).collect();
    tenants.sort();
    let mut expected: Vec<Vec<ChainRef>> = Vec::new();
    for tenant in &tenants {
        let mut chains = Vec::new();
        for _ in 0..3 {
            let mut chain = TestChain::of(tenant.clone());
            store(&sink, &chain.extend(2)).await;
            chains.push(chain.chain().clone());
        }
        chains.sort_by(|one, other| one.chain_id.as_str().cmp(other.chain_id.as_str()));
        expected.push(chains);
    }
    assert_eq!(database.store().tenants().await.unwrap(), tenants);
    for (tenant, chains) in tenants.iter().zip(expected) {
        assert_eq!(database.store().chains(tenant).await.unwrap(), chains);
    }
    assert!(database.store().chains(&any_tenant()).await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn content_goes_when_its_term_ends_and_the_event_stays() {
    let database = Database::new().await;
    let (brief, lasting) = (any_tenant(), any_tenant());
    let config = database
        .config()
        .with_content_retention_days(30)
        .with_tenant_content_retention_days(brief.clone(), Some(0));
    let sink = ClickHouseSink::with_config(config).unwrap();
    let mut chains = [TestChain::of(brief), TestChain::of(lasting)];
    for chain in &mut chains {
        store(&sink, &chain.extend(20)).await;
    }
    // What the server does by itself within hours.
    database.execute("OPTIMIZE TABLE audit_content FINAL").await;
    database.execute("OPTIMIZE TABLE audit_events FINAL").await;
    let [brief, lasting] = &chains;
    assert_eq!(database.records(lasting.chain()).await, lasting.records());

    let rows = database.rows(brief.chain()).await;
    assert_eq!(rows.len(), 20);
    let mut gone = 0;
    for ((row, record), written) in rows.iter().zip(brief.records()) {
        assert_eq!(record.event_bytes(), written.event_bytes());
        assert_eq!(check_columns(row, record.event_bytes()), None);
        let due = written.event().unwrap().timestamp_utc.as_nanos() / 1_000_000_000;
        for part in record.parts() {
            let PartBody::Absent { reason: AbsentReason::Purged, at: Some(at), .. } = part else {
                panic!("it has gone: {part:?}");
            };
            assert_eq!(at.as_nanos() / 1_000_000_000, due);
            gone += 1;
        }
    }
    assert!(gone > 5);
    let held = format!(
        "audit_content WHERE tenant_id = '{}' AND (kept OR notEmpty(salt) OR notEmpty(bytes))",
        brief.chain().tenant_id
    );
    assert_eq!(database.count(&held).await, 0);
    let mut verifier = ChainVerifier::new(brief.chain().clone(), Checkpoints::none());
    rows.iter().for_each(|(_, record)| verifier.push(&record.to_bytes()));
    let report = verifier.finish();
    assert_eq!(report.events, 20, "every event is still verified: {:#?}", report.findings);
    // The same again is no conflict, and brings nothing back.
    store(&sink, &brief.segment(0..=19)).await;
    assert_eq!(database.count(&held).await, 0);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_someone_edits_is_found() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(12)).await;
    let found = async || {
        let stores = database.store().record_stores().await.unwrap();
        let mut mismatches = Vec::new();
        let mut verifier = ChainVerifier::new(chain.chain().clone(), Checkpoints::none());
        stores[0]
            .read(chain.chain(), 0, &mut |record| {
                mismatches.push(record.column_mismatch.map(str::to_owned));
                verifier.push(record.bytes);
            })
            .unwrap();
        (mismatches, verifier.finish())
    };
    let (mismatches, report) = found().await;
    assert!(mismatches.iter().all(Option::is_none), "{mismatches:?}");
    let sound = report.findings.len();

    let edits = [
        ("session_id = 'elsewhere'", "session_id"),
        ("model = 'another'", "model"),
        ("occurred_at = now64(9)", "occurred_at"),
        ("event_hash = unhex(repeat('00', 32))", "event_hash"),
        ("`external_ids.key` = ['a'], `external_ids.value` = ['b']", "external_ids"),
    ];
    for (at, (edit, column)) in (1usize..).zip(edits) {
        let update = format!(
            "ALTER TABLE audit_events UPDATE {edit} WHERE sequence = {at} SETTINGS mutations_sync = 2"
        );
        database.execute(&update).await;
        let (mismatches, _) = found().await;
        assert_eq!(mismatches[at].as_deref(), Some(column), "{mismatches:?}");
    }
    let update = "ALTER TABLE audit_events UPDATE event = replaceOne(event, 'refund', 'payout') \
                  WHERE sequence = 7 SETTINGS mutations_sync = 2";
    database.execute(update).await;
    let (mismatches, report) = found().await;
    assert_eq!(mismatches[7].as_deref(), Some("event_hash"));
    assert!(report.findings.len() > sound, "the verifier finds other bytes");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn rows_that_nobody_wrote_are_seen() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(4)).await;
    // Before position 0, and a second one at position 2 with the same bytes and another column.
    for (edit, value) in [("sequence", "-5"), ("session_id", "'elsewhere'")] {
        let copy = format!(
            "INSERT INTO audit_events SELECT * REPLACE ({value} AS {edit}) FROM \
             (SELECT * FROM audit_events WHERE sequence = 2 ORDER BY _block_number LIMIT 1)"
        );
        database.execute(&copy).await;
    }
    let stores = database.store().record_stores().await.unwrap();
    let mut mismatches = Vec::new();
    stores[0]
        .read(chain.chain(), 0, &mut |record| {
            mismatches.push(record.column_mismatch.map(str::to_owned));
        })
        .unwrap();
    let found: Vec<_> = mismatches.iter().map(Option::as_deref).collect();
    assert_eq!(found, [Some("sequence"), None, None, None, Some("session_id"), None]);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn equal_rows_are_read_once_however_many_there_are() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(6)).await;
    for table in ["audit_events", "audit_content"] {
        // From 1 to 2, 4, … 2,048 of each: more than are read at a time.
        for _ in 0..11 {
            let copy = format!(
                "INSERT INTO {table} SELECT * FROM {table} SETTINGS insert_deduplicate = 0"
            );
            database.execute(&copy).await;
        }
    }
    assert_eq!(database.count("audit_events").await, 6 * 2_048);
    assert_eq!(database.records(chain.chain()).await, chain.records());
    store(&database.sink(), &chain.extend(2)).await;
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_part_that_is_none_is_an_error_of_its_record_alone() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(12)).await;
    let with_content: Vec<u64> = (0..)
        .zip(chain.records())
        .filter(|(_, record)| !record.parts().is_empty())
        .map(|(at, _)| at)
        .collect();
    let (edited, deleted) = (with_content[0], with_content[1]);
    for change in [
        format!("UPDATE salt = 'short' WHERE sequence = {edited}"),
        format!("DELETE WHERE sequence = {deleted}"),
    ] {
        let alter = format!("ALTER TABLE audit_content {change} SETTINGS mutations_sync = 2");
        database.execute(&alter).await;
    }
    let mut records = database.store().records(chain.chain(), 0).await.unwrap();
    let mut at = 0;
    while let Some(item) = records.next().await {
        match item {
            Ok((row, record)) if at == deleted => {
                assert_eq!(check_columns(&row, record.event_bytes()), Some("content"));
            }
            Ok((_, record)) => assert!(record == chain.records()[usize::try_from(at).unwrap()]),
            Err(error) => {
                assert_eq!(at, edited);
                assert!(error.to_string().contains(&format!("event {edited} of chain")), "{error}");
            }
        }
        at += 1;
    }
    assert_eq!(at, 12, "the records after it are read");
}

/// The verifier runs where no runtime is, and within one.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn the_verifier_reads_it_as_any_other_store() {
    use agent_audit_core::{
        event::Other,
        log::{AuditLog, Draft},
        verify::directory::{RecordStore, VerifyOptions, verify_directory},
    };
    let database = Database::new().await;
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::builder(dir.path()).with_sink(database.sink()).open().unwrap();
    let tenants = [any_tenant(), any_tenant()];
    for tenant in &tenants {
        let session = log.session(tenant.as_str(), "s-1", "agent").unwrap();
        for _ in 0..30 {
            let draft = Draft::new(Other::custom("note").unwrap());
            session.record(draft.with_part(Part::text("text", "hello"))).await.unwrap();
        }
    }
    assert!(log.close(std::time::Duration::from_secs(30)).await.unwrap().is_complete());

    let stores = async || database.store().record_stores().await.unwrap();
    let verify = |stores: Vec<Box<dyn RecordStore>>| {
        let options = stores.into_iter().fold(VerifyOptions::default(), |mut options, store| {
            options.stores.push(store);
            options
        });
        verify_directory(dir.path(), options).unwrap()
    };
    assert_eq!(stores().await.len(), 2);
    let report = verify(stores().await);
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", report.findings);

    database
        .execute(
            "ALTER TABLE audit_events UPDATE agent_id = 'somebody else' WHERE sequence = 5 \
             SETTINGS mutations_sync = 2",
        )
        .await;
    let stores = stores().await;
    let outside = std::thread::scope(|scope| scope.spawn(|| verify(stores)).join().unwrap());
    assert_eq!(outside.verdict(), Verdict::Tampered, "{:#?}", outside.findings);
    assert!(outside.findings.iter().any(|finding| finding.detail.contains("agent_id")));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_store_that_goes_away_is_an_error_and_not_an_end() {
    let database = Database::new().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(2)).await;
    let stores = database.store().record_stores().await.unwrap();
    database.execute("DROP TABLE audit_events").await;
    let mut records = 0;
    let read = stores[0].read(chain.chain(), 0, &mut |_| records += 1);
    assert!(read.is_err() && records == 0);
    assert!(stores[0].chains().is_err());
}
