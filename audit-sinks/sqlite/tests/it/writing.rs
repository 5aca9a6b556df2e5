//! Writing: refusals, limits, and what no one may change.

use std::{fs, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};

use agent_audit_core::{
    columns::check_columns,
    conformance::{TestChain, chain},
    content::Part,
    sink::{ChainRef, SegmentOutcome, Sink, SinkErrorKind},
};
use agent_audit_sqlite::{SqliteConfig, SqliteSink, SqliteStore, file_of_tenant};

use super::{append, failure, raw, records, store, tenant};

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let acme = tenant("acme");
    let mut chain = TestChain::of(acme.clone());
    store(&SqliteSink::open(dir.path()).unwrap(), &chain.extend(1)).await;
    raw(dir.path(), &acme).pragma_update(None, "user_version", 2).unwrap();

    let error = failure(&SqliteSink::open(dir.path()).unwrap(), &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("schema version 2"), "{error}");
    assert!(!error.is_retryable());
    let reader = SqliteStore::open_read_only(dir.path()).unwrap();
    let error = reader.records(chain.chain(), 0).unwrap_err();
    assert!(error.to_string().contains("use a later release"), "{error}");
}

#[tokio::test]
async fn a_foreign_database_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let acme = tenant("acme");
    raw(dir.path(), &acme).execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    let error = failure(&SqliteSink::open(dir.path()).unwrap(), &chain(&acme, 1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    let tables = "SELECT group_concat(name) FROM sqlite_schema";
    let tables: String = raw(dir.path(), &acme).query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, "recipes");
}

#[tokio::test]
async fn a_file_that_is_no_database_fails_its_tenant_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    fs::write(dir.path().join(file_of_tenant(&acme)), "no database at all".repeat(100)).unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let outcomes = append(&sink, &[&chain(&acme, 2), &chain(&globex, 2)]).await;
    let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.kind(), SinkErrorKind::Corrupt);
}

#[tokio::test]
async fn a_database_of_another_tenant_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    store(&sink, &chain(&tenant("acme"), 1)).await;
    sink.close().await.unwrap();
    let file = |name| dir.path().join(file_of_tenant(&tenant(name)));
    fs::rename(file("acme"), file("globex")).unwrap();
    let error = failure(&sink, &chain(&tenant("globex"), 1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Corrupt);
    assert!(error.to_string().contains("holds the ledger of acme"), "{error}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_one_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = SqliteSink::open(&path).unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_directory_without_permission_is_an_error_of_check_and_append() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let sink = SqliteSink::open(&ledger).unwrap();
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(ledger.join("probe"), "").is_ok() {
        // The superuser may write everywhere; for them a directory that is gone must do.
        fs::remove_dir_all(&ledger).unwrap();
        fs::write(&ledger, "").unwrap();
        assert_eq!(sink.check().await.unwrap_err().kind(), SinkErrorKind::Misconfigured);
        let error = failure(&sink, &chain(&tenant("acme"), 1)).await;
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
        return;
    }
    assert_eq!(sink.check().await.unwrap_err().kind(), SinkErrorKind::PermissionDenied);
    let error = failure(&sink, &chain(&tenant("acme"), 1)).await;
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o700)).unwrap();
}

#[tokio::test]
async fn files_are_for_their_owner_alone_and_durable() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("a/b/ledger");
    let sink = SqliteSink::open(&ledger).unwrap();
    sink.check().await.unwrap();
    assert_eq!(fs::read_dir(&ledger).unwrap().count(), 0, "check leaves nothing behind");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&ledger), 0o700);
    store(&sink, &chain(&tenant("acme"), 1)).await;
    let files: Vec<_> = fs::read_dir(&ledger).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "database, log and index: {files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let conn = raw(&ledger, &tenant("acme"));
    let text = |name| conn.pragma_query_value(None, name, |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(text("journal_mode"), "wal");
}

#[tokio::test]
async fn a_locked_database_is_worth_a_retry_and_delays_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let (mut locked, mut free) = (TestChain::of(acme.clone()), TestChain::of(globex));
    // Only one tenant at a time is written for, and one handle: the others wait for nothing more.
    let config = SqliteConfig::new(dir.path())
        .with_parallelism(1)
        .with_max_open(1)
        .with_busy_timeout(Duration::from_millis(20));
    let sink = SqliteSink::with_config(config).unwrap();
    store(&sink, &locked.extend(1)).await;
    let conn = raw(dir.path(), &acme);
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();

    let segment = locked.extend(1);
    let outcomes = append(&sink, &[&segment, &free.extend(2)]).await;
    let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(error.is_retryable() && !error.maybe_applied());
    conn.execute_batch("ROLLBACK").unwrap();
    store(&sink, &segment).await;
    assert_eq!(records(dir.path(), locked.chain()), locked.records());
}

#[tokio::test]
async fn a_full_database_is_exhausted_and_nothing_is_half_written() {
    let dir = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(dir.path()).with_max_database_bytes(400 << 10);
    let sink = SqliteSink::with_config(config).unwrap();
    let mut full = TestChain::of(tenant("acme"));
    store(&sink, &full.extend(3)).await;
    let fitting = full.records().to_vec();
    full.extend(2);
    full.extend_with(vec![Part::text("output", "x".repeat(1 << 20)).commit()]);

    let mut free = TestChain::of(tenant("globex"));
    let outcomes = append(&sink, &[&full.segment(3..=5), &free.extend(2)]).await;
    let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.kind(), SinkErrorKind::Exhausted);
    assert!(error.is_retryable() && !error.maybe_applied());
    assert_eq!(records(dir.path(), full.chain()), fitting);
    let conn = raw(dir.path(), &tenant("acme"));
    let check: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    // With room again the identical segment goes in.
    store(&SqliteSink::open(dir.path()).unwrap(), &full.segment(3..=5)).await;
    assert_eq!(records(dir.path(), full.chain()), full.records());
}

#[tokio::test]
async fn an_event_id_that_is_taken_refuses_its_segment_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let one = chain(&tenant("acme"), 2);
    store(&sink, &one).await;
    // The same events again, moved to another chain.
    let other = ChainRef::new(tenant("acme"), "another-chain".parse().unwrap());
    let mut previous = agent_audit_core::hash::Hash::ZERO;
    let moved = one.records().iter().map(|record| {
        let mut event = record.event().unwrap();
        event.chain_id = other.chain_id.clone();
        event.previous_event_hash = previous;
        let bytes = event.canonical_bytes().unwrap();
        let record = agent_audit_core::record::Record::new(bytes, record.parts().to_vec());
        previous = record.event_hash();
        record
    });
    let moved = agent_audit_core::sink::Segment::new(other.clone(), moved.collect()).unwrap();
    let mut sound = TestChain::of(tenant("acme"));
    let outcomes = append(&sink, &[&moved, &sound.extend(2)]).await;
    let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &outcomes[..] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(error.to_string().contains("events.event_id"), "{error}");
    assert!(records(dir.path(), &other).is_empty());
}

#[tokio::test]
async fn nobody_changes_an_event_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let acme = tenant("acme");
    let mut chain = TestChain::of(acme.clone());
    store(&sink, &chain.extend(18)).await;
    let conn = raw(dir.path(), &acme);
    conn.pragma_update(None, "recursive_triggers", true).unwrap();
    for sql in [
        "UPDATE events SET status = 'ok'",
        "UPDATE events SET event = x'00' WHERE sequence = 1",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events SELECT * FROM events",
        "DELETE FROM content",
        "UPDATE content SET bytes = x'00'",
        "UPDATE content SET state = 'absent', absent_reason = 'purged'",
        "UPDATE content SET state = 'absent', salt = NULL, bytes = NULL",
        "UPDATE content SET state = 'absent', absent_reason = 'lost', salt = NULL, bytes = NULL",
        "UPDATE content SET name = 'x', state = 'absent', absent_reason = 'purged', salt = NULL, bytes = NULL",
        "UPDATE external_ids SET value = 'x'",
        "DELETE FROM external_ids",
        "UPDATE ledger SET tenant_id = 'globex'",
        "DELETE FROM ledger",
    ] {
        let changed = conn.execute(sql, []);
        assert!(changed.is_err(), "{sql} changed {changed:?} rows");
    }
    assert_eq!(records(dir.path(), chain.chain()), chain.records());

    let purge =
        "UPDATE content SET state = 'absent', absent_reason = 'purged', salt = NULL, bytes = NULL";
    assert!(conn.execute(purge, []).unwrap() > 0);
    assert!(conn.execute(purge, []).is_err(), "what is gone stays as it is");
    let purged = records(dir.path(), chain.chain());
    for (purged, record) in purged.iter().zip(chain.records()) {
        assert_eq!(purged.event_bytes(), record.event_bytes());
        assert!(purged.parts().iter().all(|part| part.bytes().is_none()));
    }
}

#[tokio::test]
async fn a_database_that_was_moved_away_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(2)).await;
    for entry in fs::read_dir(dir.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let error = failure(&sink, &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    store(&sink, &chain.segment(0..=2)).await;
    assert_eq!(records(dir.path(), chain.chain()), chain.records());
}

#[tokio::test]
async fn two_thousand_tenants_share_eight_handles() {
    let dir = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(dir.path()).with_max_open(8);
    let sink = Arc::new(SqliteSink::with_config(config).unwrap());
    let mut chains: Vec<TestChain> =
        (0..2_000).map(|at| TestChain::of(tenant(&format!("tenant-{at}")))).collect();
    let batch: Vec<_> = chains.iter_mut().map(|chain| chain.extend(1)).collect();
    let done = Arc::clone(&sink);
    let writing = tokio::spawn(async move {
        let outcomes = append(&*done, &batch.iter().collect::<Vec<_>>()).await;
        outcomes.iter().filter(|o| matches!(o, SegmentOutcome::Accepted)).count()
    });
    let mut most = 0;
    while !writing.is_finished() {
        most = most.max(databases_open(dir.path()));
        tokio::task::yield_now().await;
    }
    assert_eq!(writing.await.unwrap(), 2_000);
    // The list of handles is no snapshot: while it is read, each worker may exchange one.
    assert!(most <= 16, "{most} databases were open");
    let store = SqliteStore::open_read_only(dir.path()).unwrap();
    assert_eq!(store.tenants().unwrap().len(), 2_000);
    for chain in chains.iter().step_by(97) {
        assert_eq!(records(dir.path(), chain.chain()), chain.records());
        let head = sink.head(chain.chain()).await.unwrap().unwrap();
        assert_eq!(head.sequence, 0);
    }
    sink.close().await.unwrap();
    assert_eq!(databases_open(dir.path()), 0);
}

/// How many handles this process has on database files below a directory.
fn databases_open(dir: &std::path::Path) -> usize {
    let Ok(handles) = fs::read_dir("/proc/self/fd") else { return 0 };
    handles
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|file| file.starts_with(dir) && file.extension().is_some_and(|e| e == "sqlite3"))
        .count()
}

#[tokio::test]
async fn columns_say_what_the_event_says() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(18)).await;
    let reader = SqliteStore::open_read_only(dir.path()).unwrap();
    let rows: Vec<_> = reader.records(chain.chain(), 0).unwrap().map(Result::unwrap).collect();
    for (row, record) in &rows {
        assert_eq!(check_columns(row, record.event_bytes()), None);
        assert_eq!(row.event_hash(), Some(record.event_hash()));
    }
    let column = |at: usize, name| rows[at].0.column(name).unwrap_or_default();
    assert_eq!(column(1, "event_type"), "session.started");
    assert_eq!(column(1, "subject_id"), "subject-81f3");
    assert_eq!(column(2, "model"), "gpt-5-2025-08-07");
    assert_eq!(column(2, "requested_model"), "gpt-5");
    assert_eq!(column(2, "model_version"), "fp_44709d6fcb");
    assert_eq!(column(2, "decision"), "", "a model's decision is no reviewer's");
    assert_eq!(column(3, "call_id"), column(7, "call_id"));
    assert_eq!(column(5, "reviewer_id"), "reviewer-7");
    assert_eq!(column(5, "decision"), "approve");
    assert_eq!(column(5, "decided_after_us"), "4200000");
    assert_eq!(column(7, "tool_name"), "refund");
    assert_eq!(column(7, "parent_event_id"), column(6, "event_id"));
    assert_eq!(column(8, "status"), "ok");
    assert_eq!(column(9, "status"), "completed");
    let at: u64 = column(4, "timestamp_utc").parse().unwrap();
    assert_eq!(at, rows[4].1.event().unwrap().timestamp_utc.as_nanos());
}
