//! Reading: beside a live writer, on copies, on edited files, and never changing anything.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use agent_audit_core::{
    columns::check_columns,
    conformance::TestChain,
    content::Part,
    sink::{Sink, SinkErrorKind},
    verify::directory::StoredRecord,
};
use agent_audit_sqlite::{SqliteConfig, SqliteSink, SqliteStore, file_of_tenant};

use super::{raw, records, store, tenant};

/// Name and bytes of every file.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_copy_is_read_with_and_without_its_log_and_never_changed() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut chain = TestChain::of(tenant("Acme"));
    store(&sink, &chain.extend(300)).await;
    let file = file_of_tenant(&tenant("Acme"));
    let (log, index) = (format!("{file}-wal"), format!("{file}-shm"));
    for with_index in [true, false] {
        let copy = tempfile::tempdir().unwrap();
        for name in [&file, &log, &index].iter().take(if with_index { 3 } else { 2 }) {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let before = files(copy.path());
        assert!(!before[&log].is_empty());
        assert_eq!(records(copy.path(), chain.chain()), chain.records(), "index: {with_index}");
        let mut after = files(copy.path());
        if with_index {
            // The index is not data: beside a live writer it is where locks are.
            after.insert(index.clone(), before[&index].clone());
        }
        assert!(before == after, "index: {with_index}");
    }
    sink.close().await.unwrap();
    let before = files(dir.path());
    assert_eq!(before.keys().collect::<Vec<_>>(), [&file]);
    assert_eq!(records(dir.path(), chain.chain()), chain.records());
    assert!(files(dir.path()) == before);
}

#[tokio::test]
async fn a_path_of_any_characters_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a b?c#d%41&mode=rwc/ü");
    let sink = SqliteSink::open(&odd).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(2)).await;
    assert_eq!(records(&odd, chain.chain()), chain.records(), "live");
    sink.close().await.unwrap();
    assert_eq!(records(&odd, chain.chain()), chain.records(), "at rest");
}

/// A pool of one handle closes a database for each tenant in turn, which deletes its log: readers
/// meet every state that the files can be in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_beside_a_busy_writer_sees_a_true_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let config = SqliteConfig::new(dir.path()).with_max_open(1);
    let sink = SqliteSink::with_config(config).unwrap();
    let mut chains = ["acme", "globex"].map(|name| TestChain::of(tenant(name)));
    for chain in &mut chains {
        store(&sink, &chain.extend(300)).await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = chains
        .iter()
        .map(|chain| {
            let (chain, dir, done) = (chain.chain().clone(), dir.path().to_owned(), done.clone());
            std::thread::spawn(move || {
                let reader = SqliteStore::open_read_only(dir).unwrap();
                let mut longest = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let found: Vec<_> = reader
                        .records(&chain, 0)
                        .unwrap()
                        .map(|item| {
                            let (row, record) = item.unwrap();
                            assert_eq!(check_columns(&row, record.event_bytes()), None);
                            record
                        })
                        .collect();
                    assert!(found.len() >= longest.len(), "a reader goes back in time");
                    longest = found;
                }
                longest
            })
        })
        .collect();
    for _ in 0..150 {
        for chain in &mut chains {
            store(&sink, &chain.extend(3)).await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for (reader, chain) in readers.into_iter().zip(&chains) {
        let found = reader.join().unwrap();
        assert_eq!(found, chain.records()[..found.len()]);
    }
    assert_eq!(records(dir.path(), chains[0].chain()), chains[0].records());
}

#[tokio::test]
async fn reading_starts_where_it_is_told_and_passes_large_content() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    chain.extend(600);
    for _ in 0..4 {
        chain.extend_with(vec![Part::text("output", "x".repeat(3 << 20)).commit()]);
    }
    store(&sink, &chain.segment(0..=603)).await;
    let reader = SqliteStore::open_read_only(dir.path()).unwrap();
    for from in [0, 1, 255, 256, 257, 599, 603] {
        let found = reader.records(chain.chain(), from).unwrap().map(|item| item.unwrap());
        let found: Vec<_> = found.inspect(|(row, _)| assert!(row.sequence() >= from)).collect();
        assert_eq!(found[0].0.sequence(), from);
        assert_eq!(found.len() as u64, 604 - from);
    }
    for from in [604, u64::MAX] {
        assert!(reader.records(chain.chain(), from).unwrap().next().is_none());
    }
}

#[tokio::test]
async fn tenants_and_chains_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut expected = Vec::new();
    for name in ["acme", "Acme", "globex"] {
        for _ in 0..3 {
            let mut chain = TestChain::of(tenant(name));
            store(&sink, &chain.extend(2)).await;
            expected.push(chain.chain().clone());
        }
    }
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    fs::write(dir.path().join(file_of_tenant(&tenant("just-created"))), "").unwrap();
    expected.sort();
    let reader = SqliteStore::open_read_only(dir.path()).unwrap();
    let tenants = reader.tenants().unwrap();
    let names: Vec<&str> = tenants.iter().map(|tenant| tenant.as_str()).collect();
    assert_eq!(names, ["Acme", "acme", "globex", "just-created"]);
    let chains: Vec<_> = tenants.iter().flat_map(|t| reader.chains(t).unwrap()).collect();
    assert_eq!(chains, expected);
    assert!(SqliteStore::open_read_only(dir.path().join("missing")).is_err());
}

/// What an attacker with the file does: no trigger is in the way.
fn edit(dir: &Path, sql: &str) {
    let conn = raw(dir, &tenant("acme"));
    let triggers = "SELECT group_concat('DROP TRIGGER ' || name, ';') FROM sqlite_schema WHERE type = 'trigger'";
    let triggers: Option<String> = conn.query_row(triggers, [], |row| row.get(0)).unwrap();
    conn.execute_batch(&triggers.unwrap_or_default()).unwrap();
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.pragma_update(None, "ignore_check_constraints", true).unwrap();
    conn.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn every_edited_column_is_named() {
    let original = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(original.path()).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(18)).await;
    sink.close().await.unwrap();
    let columns: Vec<String> = raw(original.path(), &tenant("acme"))
        .prepare("SELECT name FROM pragma_table_info('events') WHERE type = 'TEXT'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut edits: Vec<(String, String)> = columns
        .into_iter()
        .filter(|column| column != "chain_id")
        .map(|column| (format!("UPDATE events SET {column} = 'forged' WHERE sequence = 8"), column))
        .collect();
    assert!(edits.len() > 20);
    for (sql, column) in [
        ("UPDATE events SET timestamp_utc = timestamp_utc + 1 WHERE sequence = 8", "timestamp_utc"),
        ("UPDATE events SET occurred_at = 1 WHERE sequence = 8", "occurred_at"),
        ("UPDATE events SET decided_after_us = 1 WHERE sequence = 8", "decided_after_us"),
        ("UPDATE events SET parent_event_id = NULL WHERE sequence = 8", "parent_event_id"),
        ("UPDATE events SET event_hash = zeroblob(32) WHERE sequence = 8", "event_hash"),
        ("UPDATE events SET event_hash = x'00' WHERE sequence = 8", "event_hash"),
        ("UPDATE events SET event = x'7b7d' WHERE sequence = 8", "event"),
        ("UPDATE external_ids SET value = 'A-9'", "external_ids"),
        ("DELETE FROM external_ids", "external_ids"),
        ("UPDATE content SET name = 'forged' WHERE name = 'output'", "content"),
        ("UPDATE content SET ordinal = 7 WHERE name = 'output'", "content"),
        ("DELETE FROM content WHERE name = 'output'", "content"),
    ] {
        edits.push((sql.to_owned(), column.to_owned()));
    }
    for (sql, column) in edits {
        let copy = tempfile::tempdir().unwrap();
        let file = file_of_tenant(&tenant("acme"));
        fs::copy(original.path().join(&file), copy.path().join(&file)).unwrap();
        edit(copy.path(), &sql);
        let reader = SqliteStore::open_read_only(copy.path()).unwrap();
        let found: Vec<_> = reader.records(chain.chain(), 0).unwrap().map(Result::unwrap).collect();
        assert_eq!(found.len(), 18);
        let (row, record) = &found[8];
        assert_eq!(check_columns(row, record.event_bytes()), Some(&*column), "{sql}");
        assert_eq!(check_columns(&found[7].0, found[7].1.event_bytes()), None, "{sql}");
        let stores = reader.record_stores().unwrap();
        assert_eq!(stores[0].name(), "sqlite/acme.sqlite3");
        assert_eq!(stores[0].chains().unwrap(), std::slice::from_ref(chain.chain()));
        let mut seen = Vec::new();
        let mut each = |stored: StoredRecord<'_>| {
            seen.push((stored.bytes.to_vec(), stored.column_mismatch.map(str::to_owned)));
        };
        stores[0].read(chain.chain(), 7, &mut each).unwrap();
        assert_eq!(seen[0], (found[7].1.to_bytes(), None));
        assert_eq!(seen[1], (record.to_bytes(), Some(column)), "{sql}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_does_not_hide_the_next() {
    for (sql, event) in [
        ("UPDATE content SET salt = x'00' WHERE event_row = 3", 2),
        ("UPDATE content SET state = 'forged' WHERE event_row = 6", 5),
        ("UPDATE content SET state = 'absent', absent_reason = 'lost' WHERE event_row = 8", 7),
        ("UPDATE events SET sequence = -1 WHERE sequence = 4", -1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let sink = SqliteSink::open(dir.path()).unwrap();
        let mut chain = TestChain::of(tenant("acme"));
        store(&sink, &chain.extend(12)).await;
        sink.close().await.unwrap();
        edit(dir.path(), sql);
        let reader = SqliteStore::open_read_only(dir.path()).unwrap();
        let found: Vec<_> = reader.records(chain.chain(), 0).unwrap().collect();
        let errors: Vec<_> = found.iter().filter_map(|item| item.as_ref().err()).collect();
        let [error] = errors[..] else { panic!("{sql}: {errors:?}") };
        assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{sql}");
        assert!(error.to_string().contains(&format!("read event {event} of chain")), "{error}");
        assert_eq!(found.len(), 12, "{sql}");
        let mut sizes = Vec::new();
        let stores = reader.record_stores().unwrap();
        stores[0].read(chain.chain(), 0, &mut |stored| sizes.push(stored.bytes.len())).unwrap();
        assert_eq!(sizes.len(), 12, "{sql}");
        assert_eq!(sizes.iter().filter(|len| **len == 0).count(), 1, "{sql}");
    }
}

#[tokio::test]
async fn a_position_that_is_stored_twice_is_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut chain = TestChain::of(tenant("acme"));
    store(&sink, &chain.extend(300)).await;
    sink.close().await.unwrap();
    // Without its constraints, which go with the table.
    edit(
        dir.path(),
        "CREATE TABLE copy AS SELECT * FROM events; DROP TABLE events; ALTER TABLE copy RENAME TO events;
         INSERT INTO events SELECT * FROM events WHERE sequence IN (7, 255);
         UPDATE events SET event_row = rowid WHERE rowid > 300;",
    );
    let found = SqliteStore::open_read_only(dir.path()).unwrap().records(chain.chain(), 0).unwrap();
    let positions: Vec<u64> = found.map(|item| item.unwrap().0.sequence()).collect();
    let mut expected: Vec<u64> = (0..300).chain([7, 255]).collect();
    expected.sort_unstable();
    assert_eq!(positions, expected);
}
