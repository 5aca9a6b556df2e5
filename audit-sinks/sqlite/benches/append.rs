//! Appending through the sink, side by side with rusqlite inserting the same rows.
//!
//! `cargo bench -p agent-audit-sqlite --bench append` prints events per second of both and the ratio
//! of their times. Both commit every 1,000 events with the same schema and pragmas.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{path::Path, time::Instant};

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    sink::{Batch, Segment, Sink},
};
use agent_audit_sqlite::{SCHEMA, SqliteSink};
use rusqlite::{Connection, params_from_iter, types::Value};

const BATCHES: u64 = 30;
const BATCH: u64 = 1_000;
const ROUNDS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut chain = TestChain::of(TenantId::new("acme").unwrap());
    chain.extend(usize::try_from(BATCHES * BATCH).unwrap());
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|at| chain.segment(at * BATCH..=(at + 1) * BATCH - 1))
        .map(|segment: Segment| Batch::new(vec![segment]))
        .collect();
    let bytes: usize = chain.records().iter().map(|record| record.to_bytes().len()).sum();

    let mut rows = None;
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().unwrap();
        let sink = SqliteSink::open(dir.path()).unwrap();
        runtime.block_on(sink.head(chain.chain())).unwrap();
        let start = Instant::now();
        for batch in &batches {
            runtime.block_on(sink.append(batch)).unwrap();
        }
        let through_sink = start.elapsed().as_secs_f64();
        runtime.block_on(sink.close()).unwrap();
        let rows = rows.get_or_insert_with(|| Rows::read(&dir.path().join("acme.sqlite3")));

        let dir = tempfile::tempdir().unwrap();
        let conn = raw(&dir.path().join("raw.sqlite3"));
        let start = Instant::now();
        for at in 0..BATCHES {
            rows.insert(&conn, i64::try_from(at * BATCH).unwrap());
        }
        let directly = start.elapsed().as_secs_f64();
        ratios.push((directly / through_sink, through_sink, directly));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, through_sink, directly) = ratios[ROUNDS / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (events, size) = ((BATCHES * BATCH) as f64, bytes as f64);
    println!("events of {:.0} bytes with their content, {BATCH} a commit", size / events);
    println!("sink      {:>9.0} events/s", events / through_sink);
    println!("rusqlite  {:>9.0} events/s", events / directly);
    println!("ratio     {ratio:>9.2} (median of {ROUNDS}; at least 0.8 is the aim)");
}

fn raw(path: &Path) -> Connection {
    let conn = Connection::open(path).unwrap();
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).unwrap();
    conn.pragma_update(None, "synchronous", "FULL").unwrap();
    conn.pragma_update(None, "foreign_keys", true).unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

/// The rows of each table, in order of `event_row`.
struct Rows([(&'static str, usize, Vec<Vec<Value>>); 3]);

impl Rows {
    fn read(path: &Path) -> Self {
        let conn = Connection::open(path).unwrap();
        Self(["events", "content", "external_ids"].map(|table| {
            let order = if table == "events" { "event_row" } else { "event_row, ordinal" };
            let mut select =
                conn.prepare(&format!("SELECT * FROM {table} ORDER BY {order}")).unwrap();
            let columns = select.column_count();
            let rows = select
                .query_map([], |row| (0..columns).map(|at| row.get(at)).collect())
                .unwrap()
                .map(Result::unwrap)
                .collect();
            (table, columns, rows)
        }))
    }

    /// One transaction with the events after this row, and what belongs to them.
    fn insert(&self, conn: &Connection, after: i64) {
        let last = after + i64::try_from(BATCH).unwrap();
        let tx = conn.unchecked_transaction().unwrap();
        for (table, columns, rows) in &self.0 {
            let values = vec!["?"; *columns].join(", ");
            let mut insert =
                tx.prepare_cached(&format!("INSERT INTO {table} VALUES ({values})")).unwrap();
            let row_of = |row: &Vec<Value>| match row[0] {
                Value::Integer(row) => row,
                _ => 0,
            };
            let from = rows.partition_point(|row| row_of(row) <= after);
            for row in rows[from..].iter().take_while(|row| row_of(row) <= last) {
                insert.execute(params_from_iter(row)).unwrap();
            }
        }
        tx.commit().unwrap();
    }
}
