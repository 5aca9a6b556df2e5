//! Reading: beside a live writer, of edited tables, and in order.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agent_audit_core::{
    columns::check_columns,
    conformance::TestChain,
    content::Part,
    sink::{ChainRef, SinkErrorKind},
    verify::directory::StoredRecord,
};
use tokio_postgres::Client;

use super::{
    database::{Database, count},
    records, store, tenant,
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn reading_starts_where_it_is_told_and_passes_large_content() {
    let database = Database::shared().await;
    let mut chain = TestChain::new();
    chain.extend(600);
    for _ in 0..4 {
        chain.extend_with(vec![Part::text("output", "x".repeat(3 << 20)).commit()]);
    }
    store(&database.sink(), &chain.segment(0..=603)).await;
    let reader = database.reader();
    for from in [0, 1, 255, 256, 257, 599, 603, 604, u64::MAX] {
        let mut found = reader.records(chain.chain(), from).await.unwrap();
        let mut at = from;
        while let Some(item) = found.next().await {
            let (row, record) = item.unwrap();
            assert_eq!(row.sequence(), at);
            assert_eq!(record, chain.records()[usize::try_from(at).unwrap()]);
            at += 1;
        }
        assert_eq!(at, from.max(604));
        assert!(found.next().await.is_none(), "the end stays the end");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn tenants_and_chains_are_listed() {
    let database = Database::own().await;
    let sink = database.sink();
    let mut expected = Vec::new();
    for name in ["acme", "Acme", "globex"] {
        for _ in 0..3 {
            let mut chain = TestChain::of(tenant(name));
            store(&sink, &chain.extend(2)).await;
            expected.push(chain.chain().clone());
        }
    }
    expected.sort();
    let reader = database.reader();
    let tenants = reader.tenants().await.unwrap();
    let names: Vec<&str> = tenants.iter().map(|tenant| tenant.as_str()).collect();
    assert_eq!(names, ["Acme", "acme", "globex"]);
    let mut found = Vec::new();
    for tenant in &tenants {
        found.extend(reader.chains(tenant).await.unwrap());
    }
    assert_eq!(found, expected);
    // What the verifier reads with, from within a runtime.
    let stores = reader.record_stores().unwrap();
    let names: Vec<&str> = stores.iter().map(|store| store.name()).collect();
    assert_eq!(names, ["postgres/Acme", "postgres/acme", "postgres/globex"]);
    let found: Vec<ChainRef> = stores.iter().flat_map(|store| store.chains().unwrap()).collect();
    assert_eq!(found, expected);

    // A chain whose events are gone is still listed, and one whose head is gone too.
    let admin = attacker(&database).await;
    for (table, chain) in [("audit_events", &expected[0]), ("audit_heads", &expected[1])] {
        let delete = format!("DELETE FROM agent_audit.{table} WHERE chain_id = $1");
        assert!(admin.execute(&delete, &[&chain.chain_id.as_str()]).await.unwrap() > 0);
    }
    assert_eq!(reader.chains(&tenant("Acme")).await.unwrap(), expected[..3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_reader_beside_a_busy_writer_sees_a_true_prefix() {
    let database = Database::shared().await;
    let sink = database.sink();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(300)).await;
    let done = Arc::new(AtomicBool::new(false));
    let (of, stop, reader) = (chain.chain().clone(), Arc::clone(&done), database.reader());
    let reading = tokio::spawn(async move {
        let mut longest = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let found = records(&reader, &of).await;
            assert!(found.len() >= longest.len(), "a reader goes back in time");
            longest = found;
        }
        longest
    });
    for _ in 0..60 {
        store(&sink, &chain.extend(3)).await;
    }
    done.store(true, Ordering::Relaxed);
    let found = reading.await.unwrap();
    assert!(found.len() >= 300);
    assert_eq!(found, chain.records()[..found.len()]);
}

/// A superuser, for whom no trigger fires.
async fn attacker(database: &Database) -> Client {
    let client = database.admin().await;
    client.batch_execute("SET session_replication_role = replica").await.unwrap();
    client
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn every_edited_column_is_named() {
    let database = Database::own().await;
    let sink = database.sink();
    let admin = attacker(&database).await;
    admin
        .batch_execute(
            "ALTER TABLE agent_audit.audit_events DROP CONSTRAINT event_hash_of_32_bytes",
        )
        .await
        .unwrap();
    let columns = "SELECT column_name::text FROM information_schema.columns \
        WHERE table_schema = 'agent_audit' AND table_name = 'audit_events' AND data_type = 'text' \
        AND column_name NOT IN ('tenant_id', 'chain_id')";
    let columns = admin.query(columns, &[]).await.unwrap();
    let events = |set: &str| {
        format!("UPDATE agent_audit.audit_events SET {set} WHERE sequence = 8 AND chain_id = ")
    };
    let part = "agent_audit.audit_content";
    let of_chain = "event_id IN (SELECT event_id FROM agent_audit.audit_events WHERE sequence = 8 AND chain_id = ";
    let mut edits: Vec<(String, String)> = columns
        .iter()
        .map(|row| row.get::<_, String>(0))
        .map(|column| (events(&format!("{column} = 'forged'")), column))
        .collect();
    assert!(edits.len() > 20);
    for (sql, column) in [
        (events("timestamp_utc = timestamp_utc + 1"), "timestamp_utc"),
        (events("occurred_at = 1"), "occurred_at"),
        (events("decided_after_us = 1"), "decided_after_us"),
        (events("parent_event_id = NULL"), "parent_event_id"),
        (events("event_hash = decode(repeat('00', 32), 'hex')"), "event_hash"),
        (events("event_hash = '\\x00'"), "event_hash"),
        (events("event = '\\x7b7d'"), "event"),
        (
            format!("UPDATE agent_audit.audit_external_ids SET value = 'A-9' WHERE {of_chain}"),
            "external_ids",
        ),
        (format!("DELETE FROM agent_audit.audit_external_ids WHERE {of_chain}"), "external_ids"),
        (format!("UPDATE {part} SET name = 'forged' WHERE {of_chain}"), "content"),
        (format!("UPDATE {part} SET ordinal = 7 WHERE {of_chain}"), "content"),
        (format!("DELETE FROM {part} WHERE {of_chain}"), "content"),
    ] {
        edits.push((sql, column.to_owned()));
    }
    let mut expected = Vec::new();
    for (sql, column) in edits {
        let mut chain = TestChain::of(tenant("acme"));
        store(&sink, &chain.extend(18)).await;
        let close = if sql.contains("IN (SELECT") { ")" } else { "" };
        let sql = format!("{sql}'{}'{close}", chain.chain().chain_id);
        assert_eq!(
            admin.execute(&sql, &[]).await.unwrap_or_else(|e| panic!("{sql}: {e:?}")),
            1,
            "{sql}"
        );
        let mut found = Vec::new();
        let mut read = database.reader().records(chain.chain(), 0).await.unwrap();
        while let Some(item) = read.next().await {
            found.push(item.unwrap());
        }
        assert_eq!(found.len(), 18, "{sql}");
        for (at, (row, record)) in found.iter().enumerate() {
            let wrong = (at == 8).then_some(&*column);
            assert_eq!(check_columns(row, record.event_bytes()), wrong, "{sql}: event {at}");
        }
        expected.push((chain.chain().clone(), column));
    }
    let stores = database.reader().record_stores().unwrap();
    for (chain, column) in expected {
        let mut seen = Vec::new();
        let mut each =
            |stored: StoredRecord<'_>| seen.push(stored.column_mismatch.map(str::to_owned));
        stores[0].read(&chain, 7, &mut each).unwrap();
        assert_eq!(seen.len(), 11);
        assert_eq!((&seen[0], &seen[1]), (&None, &Some(column)));
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_record_that_cannot_be_read_does_not_hide_the_next() {
    let database = Database::own().await;
    let sink = database.sink();
    let admin = attacker(&database).await;
    admin
        .batch_execute(
            "ALTER TABLE agent_audit.audit_events DROP CONSTRAINT sequence_from_zero;
             ALTER TABLE agent_audit.audit_content DROP CONSTRAINT state_is_known;",
        )
        .await
        .unwrap();
    let content = |set: &str, at: i32| {
        format!(
            "UPDATE agent_audit.audit_content SET {set} WHERE event_id IN \
             (SELECT event_id FROM agent_audit.audit_events WHERE sequence = {at} AND chain_id = $1)"
        )
    };
    for (sql, event) in [
        (content("salt = '\\x00'", 2), 2),
        (content("salt = NULL", 2), 2),
        (content("state = 'forged'", 5), 5),
        (content("state = 'absent', absent_reason = 'lost'", 7), 7),
        (content("state = 'sealed', algorithm = 300", 8), 8),
        ("UPDATE agent_audit.audit_events SET sequence = -1 WHERE sequence = 4 AND chain_id = $1".to_owned(), -1),
    ] {
        let mut chain = TestChain::of(tenant("acme"));
        store(&sink, &chain.extend(12)).await;
        assert!(admin.execute(&sql, &[&chain.chain().chain_id.as_str()]).await.unwrap() > 0);
        let mut read = database.reader().records(chain.chain(), 0).await.unwrap();
        let (mut total, mut errors) = (0, Vec::new());
        while let Some(item) = read.next().await {
            total += 1;
            errors.extend(item.err());
        }
        let [error] = &errors[..] else { panic!("{sql}: {errors:?}") };
        assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{sql}");
        assert!(error.to_string().contains(&format!("read event {event} of chain")), "{error}");
        assert_eq!(total, 12, "{sql}");
        let mut sizes = Vec::new();
        let stores = database.reader().record_stores().unwrap();
        stores[0].read(chain.chain(), 0, &mut |stored| sizes.push(stored.bytes.len())).unwrap();
        assert_eq!(sizes.len(), 12, "{sql}");
        assert_eq!(sizes.iter().filter(|len| **len == 0).count(), 1, "{sql}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_position_that_is_stored_twice_is_read_twice() {
    let database = Database::own().await;
    let sink = database.sink();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(3)).await;
    let admin = attacker(&database).await;
    // Past the gate, into another month: no index is in the way there.
    admin
        .batch_execute(
            "CREATE TEMP TABLE copy AS SELECT * FROM agent_audit.audit_events WHERE sequence = 1;
             UPDATE copy SET event_id = 'ffffffff-ffff-7fff-bfff-ffffffffffff';
             INSERT INTO agent_audit.audit_events SELECT * FROM copy;",
        )
        .await
        .unwrap();
    assert_eq!(count(&admin, "SELECT count(*) FROM agent_audit.audit_events").await, 4);
    let stores = database.reader().record_stores().unwrap();
    let mut seen = Vec::new();
    let mut each = |stored: StoredRecord<'_>| seen.push(stored.column_mismatch.map(str::to_owned));
    stores[0].read(chain.chain(), 0, &mut each).unwrap();
    // The copy has no content, and an id that is not its own.
    assert_eq!(seen, [None, None, Some("event_id".to_owned()), None]);
}
