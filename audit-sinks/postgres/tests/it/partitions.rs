//! Months: created ahead, caught by the default partition, detached when they are over.

use std::collections::BTreeMap;

use agent_audit_core::{
    id::ChainId,
    sink::{ChainRef, SegmentOutcome, Sink, SinkErrorKind},
};
use agent_audit_postgres::PostgresSink;
use tokio_postgres::Client;

use super::{
    append, chain_at,
    database::{Database, count, refused},
    failure, records, store, tenant,
};

/// The first millisecond of the month that is so many away, and its suffix.
async fn month(admin: &Client, away: i32) -> (u64, String) {
    let sql = "SELECT (extract(epoch FROM m) * 1000)::bigint, to_char(m, 'YYYY_MM') \
        FROM (SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => $1)) x (m)";
    let row = admin.query_one(sql, &[&away]).await.unwrap();
    (row.get::<_, i64>(0).try_into().unwrap(), row.get(1))
}

async fn ensure(client: &Client, months: i32) -> BTreeMap<String, String> {
    let sql = "SELECT to_char(month, 'YYYY_MM'), state FROM agent_audit.ensure_partitions($1)";
    let rows = client.query(sql, &[&months]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Table of each event, in order.
async fn places(admin: &Client, chain: &ChainRef) -> Vec<String> {
    let sql = "SELECT relname::text FROM agent_audit.audit_events e JOIN pg_class c ON c.oid = e.tableoid \
               WHERE tenant_id = $1 AND chain_id = $2 ORDER BY sequence";
    let (tenant, chain) = (chain.tenant_id.as_str(), chain.chain_id.as_str());
    let rows = admin.query(sql, &[&tenant, &chain]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A sink that leaves partitions to others.
fn passive(database: &Database) -> PostgresSink {
    PostgresSink::new(database.config("audit_test_writer").with_partitions_ahead(0)).unwrap()
}

fn chain(name: &str) -> ChainRef {
    ChainRef::new(tenant(name), ChainId::random())
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn months_are_created_ahead_by_the_writer() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let writer = database.client("audit_test_writer").await;
    let first = ensure(&writer, 2).await;
    assert_eq!(first.len(), 4, "the last month, this one and two more");
    assert!(first.values().all(|state| state == "created"), "{first:?}");
    let again = ensure(&writer, 2).await;
    assert!(again.values().all(|state| state == "present"), "{again:?}");
    assert_eq!(ensure(&writer, -7).await.len(), 2);
    assert_eq!(ensure(&writer, 100_000).await.len(), 26, "two years at most");

    let mut expected = Vec::new();
    let mut times = Vec::new();
    for away in -1..=24 {
        let (start, suffix) = month(&admin, away).await;
        let (end, _) = month(&admin, away + 1).await;
        // The first and the last moment of each month.
        times.extend([start, end - 1]);
        expected.extend([format!("audit_events_{suffix}"), format!("audit_events_{suffix}")]);
    }
    let segment = chain_at(&chain("acme"), &times);
    store(&passive(&database), &segment).await;
    assert_eq!(places(&admin, segment.chain()).await, expected);
    assert_eq!(records(&database.reader(), segment.chain()).await, segment.records());
    for table in ["audit_events", "audit_content"] {
        let left = format!("SELECT count(*) FROM agent_audit.{table}_default");
        assert_eq!(count(&admin, &left).await, 0);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_sink_creates_months_when_it_starts() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let (now, suffix) = month(&admin, 0).await;
    let segment = chain_at(&chain("acme"), &[now]);
    store(&database.sink(), &segment).await;
    assert_eq!(places(&admin, segment.chain()).await, [format!("audit_events_{suffix}")]);
    let there = ensure(&admin, 3).await;
    assert!(there.len() == 5 && there.values().all(|state| state == "present"), "{there:?}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn an_event_of_a_month_without_a_partition_is_not_refused() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let sink = passive(&database);
    let (next, next_suffix) = month(&admin, 1).await;
    let (after, _) = month(&admin, 2).await;
    // 1970, 1999, next month, 2090, and the last that fits.
    let times = [0, 915_148_800_000, next + 5, 3_786_912_000_000, (1 << 48) - 1];
    let segment = chain_at(&chain("acme"), &times);
    store(&sink, &segment).await;
    assert_eq!(places(&admin, segment.chain()).await, ["audit_events_default"; 5]);
    assert_eq!(records(&database.reader(), segment.chain()).await, segment.records());

    // That month stays where it is, the others get their own.
    let states = ensure(&admin, 2).await;
    assert_eq!(states[&next_suffix], "default");
    assert_eq!(states.values().filter(|state| *state == "created").count(), 3, "{states:?}");
    let late = chain_at(&chain("acme"), &[next + 6, after]);
    store(&sink, &late).await;
    assert_eq!(places(&admin, late.chain()).await[0], "audit_events_default");
    assert_ne!(places(&admin, late.chain()).await[1], "audit_events_default");
    assert_eq!(records(&database.reader(), segment.chain()).await, segment.records());
}

/// No index of the database spans months with the position in it: the lock of the chain does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn two_writers_at_once_give_a_position_once_also_in_different_months() {
    let database = Database::own().await;
    let admin = database.admin().await;
    ensure(&admin, 1).await;
    let (now, _) = month(&admin, 0).await;
    let (next, _) = month(&admin, 1).await;
    for round in 0..40 {
        let chain = chain("acme");
        let rivals = [chain_at(&chain, &[now, next]), chain_at(&chain, &[next, now])];
        let tasks = rivals.clone().map(|segment| {
            let sink = passive(&database);
            tokio::spawn(async move {
                loop {
                    match append(&sink, &[&segment]).await.remove(0) {
                        // Not its turn yet.
                        SegmentOutcome::Failed { error } if error.is_retryable() => {}
                        outcome => return outcome,
                    }
                }
            })
        });
        let mut outcomes = Vec::new();
        for task in tasks {
            outcomes.push(task.await.unwrap());
        }
        let winner = match outcomes[..] {
            [SegmentOutcome::Accepted, SegmentOutcome::Conflict { sequence: 0 }] => &rivals[0],
            [SegmentOutcome::Conflict { sequence: 0 }, SegmentOutcome::Accepted] => &rivals[1],
            _ => panic!("round {round}: {outcomes:?}"),
        };
        assert_eq!(records(&database.reader(), &chain).await, winner.records());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn an_event_id_is_unique_within_its_tenant_over_all_months() {
    let database = Database::own().await;
    let sink = database.sink();
    let one = chain_at(&chain("acme"), &[1_000_000, 2_000_000_000_000]);
    store(&sink, &one).await;
    let again = |name: &str| {
        let events = one.records().iter().map(|record| {
            let event = record.event().unwrap();
            (event.event_id, event)
        });
        super::chain_of(&chain(name), events.collect())
    };
    let error = failure(&sink, &again("acme")).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(error.to_string().contains("constraint audit_events_default_pkey"), "{error}");
    store(&sink, &again("globex")).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_month_that_is_over_can_be_detached_and_attached_again() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let owner = database.client("audit_test_owner").await;
    let sink = database.sink();
    sink.check().await.unwrap();
    let (last, suffix) = month(&admin, -1).await;
    let (now, _) = month(&admin, 0).await;
    let chain = chain("acme");
    let whole = chain_at(&chain, &[last, last + 1, now, now + 1, now + 2]);
    let part = |range: std::ops::Range<usize>| {
        let records = whole.records()[range].to_vec();
        agent_audit_core::sink::Segment::new(chain.clone(), records).unwrap()
    };
    store(&sink, &part(0..4)).await;

    let last_month =
        "SELECT agent_audit.detach_month((now() AT TIME ZONE 'UTC' - interval '1 month')::date)";
    let this_month = "SELECT agent_audit.detach_month((now() AT TIME ZONE 'UTC')::date)";
    for login in ["audit_test_writer", "audit_test_any", "audit_test_eraser"] {
        assert_eq!(refused(&database.client(login).await, last_month).await, "42501", "{login}");
    }
    assert_eq!(refused(&owner, this_month).await, "55000");
    owner.batch_execute(last_month).await.unwrap();

    // What is left is there, the chain goes on, and what is not there is not taken for stored.
    assert_eq!(records(&database.reader(), &chain).await, whole.records()[2..4]);
    assert_eq!(sink.head(&chain).await.unwrap().unwrap().sequence, 3);
    store(&sink, &part(3..5)).await;
    let error = failure(&sink, &part(1..4)).await;
    assert_eq!(error.kind(), SinkErrorKind::Corrupt);
    assert!(error.to_string().contains("event 1 was stored and is gone"), "{error}");
    assert_eq!(ensure(&admin, 0).await[&suffix], "detached");

    // The tables that came out are still guarded.
    for table in ["audit_events", "audit_content"] {
        let table = format!("agent_audit.{table}_{suffix}");
        assert_eq!(count(&admin, &format!("SELECT count(*) FROM {table}")).await, 2);
        assert_eq!(refused(&admin, &format!("DELETE FROM {table}")).await, "23001");
        assert_eq!(refused(&admin, &format!("TRUNCATE {table}")).await, "23001");
        let update = format!("UPDATE {table} SET tenant_id = 'globex'");
        assert_eq!(refused(&admin, &update).await, "23001");
    }
    owner
        .batch_execute(&format!(
            "DO $$ DECLARE t text; BEGIN
                FOREACH t IN ARRAY ARRAY['audit_events', 'audit_content', 'audit_external_ids'] LOOP
                    EXECUTE format('ALTER TABLE agent_audit.%1$I ATTACH PARTITION agent_audit.%2$I
                        FOR VALUES FROM (%3$L) TO (%4$L)', t, t || '_{suffix}',
                        agent_audit.month_floor((now() AT TIME ZONE 'UTC' - interval '1 month')::date),
                        agent_audit.month_floor((now() AT TIME ZONE 'UTC')::date));
                END LOOP; END $$"
        ))
        .await
        .unwrap();
    assert_eq!(records(&database.reader(), &chain).await, whole.records());
    store(&sink, &part(0..5)).await;
    // Detached again and dropped by the owner: only now is it gone.
    owner.batch_execute(last_month).await.unwrap();
    for table in ["audit_events", "audit_content", "audit_external_ids"] {
        owner.batch_execute(&format!("DROP TABLE agent_audit.{table}_{suffix}")).await.unwrap();
    }
    assert_eq!(records(&database.reader(), &chain).await, whole.records()[2..]);
    assert_eq!(sink.head(&chain).await.unwrap().unwrap().sequence, 4);
}
