//! Asking: the same answers as from the records themselves, of one tenant alone, in bounded work.

use std::sync::Arc;

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseEvents};
use agent_audit_core::{conformance::TestChain, id::TenantId};
use agent_audit_query::{
    Cursor, EventStore, Filter, Found, Ledger, Order, QueryErrorKind, Request, Select,
    conformance::{Input, assert_same_answers},
};

use super::{
    any_tenant,
    database::Database,
    interposer::{Interposer, Then},
    store,
};

const EVERYTHING: usize = usize::MAX / 4;

/// A database that holds the input of the suite.
async fn asked(prefix: &str) -> (Database, Input) {
    let database = Database::new().await;
    let input = Input::new(prefix).await;
    input.load(&database.sink()).await;
    (database, input)
}

async fn all(store: &dyn EventStore, tenant: &TenantId) -> Vec<Found> {
    let select = Select::new(Filter::new(), Order::Time, EVERYTHING).content();
    store.select(tenant, &select).await.unwrap()
}

async fn again(database: &Database, table: &str) {
    database
        .execute(&format!(
            "INSERT INTO {table} SELECT * FROM {table} SETTINGS insert_deduplicate = 0"
        ))
        .await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn every_question_is_answered_as_by_the_records() {
    let (database, input) = asked("").await;
    assert_same_answers(&input, database.events()).await;
    let tenants = input.reference().tenants().await.unwrap();
    assert_eq!(database.events().tenants().await.unwrap(), tenants);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn rows_that_came_twice_are_read_once() {
    let (database, input) = asked("").await;
    for table in ["audit_events", "audit_content", "audit_events"] {
        again(&database, table).await;
    }
    let (events, reference) = (database.events(), input.reference());
    for tenant in input.tenants() {
        for order in [Order::Time, Order::Chain] {
            for descending in [false, true] {
                let mut select = Select::new(Filter::new(), order, EVERYTHING).content();
                select.descending = descending;
                let expected = reference.select(tenant, &select).await.unwrap();
                assert!(events.select(tenant, &select).await.unwrap() == expected);
                // Pages end within a row that came four times, and are whole all the same.
                select.limit = 5;
                for page in expected.chunks(5).take(20) {
                    assert!(events.select(tenant, &select).await.unwrap() == page);
                    select.after = page.last().map(|found| found.place().clone());
                }
            }
        }
        for filter in [Filter::new(), Filter::new().family("tool.").external_value("A-1")] {
            let found = events.sessions(tenant, &filter, None, 1_000).await.unwrap();
            assert_eq!(found, reference.sessions(tenant, &filter, None, 1_000).await.unwrap());
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_a_second_writer_put_behind_the_first_answers_nothing() {
    let (database, other) = (Database::new().await, Database::new().await);
    let mut chain = TestChain::of(any_tenant());
    chain.extend(40);
    let mut fork = chain.fork(10);
    fork.extend(20);
    store(&database.sink(), &chain.segment(0..=39)).await;
    store(&other.sink(), &fork.segment(0..=29)).await;
    for table in ["audit_events", "audit_content"] {
        let copy = format!(
            "INSERT INTO {table} SELECT * FROM {}.{table} WHERE sequence >= 10",
            other.name()
        );
        database.execute(&copy).await;
    }
    let tenant = &chain.chain().tenant_id;
    let events = database.events();
    let found = all(&*events, tenant).await;
    let records: Vec<_> = found.into_iter().map(Found::into_record).collect();
    assert!(records == chain.records());
    // In pages, whatever stands between their events.
    let ledger = Ledger::new(events.clone(), tenant.clone());
    let (mut request, mut read) = (Request::first(3), 0);
    while let Some(next) = {
        let page = ledger.events(&Filter::new(), &request).await.unwrap();
        read += page.events.len();
        page.next
    } {
        request = Request::after(next, 3);
    }
    assert_eq!(read, 40);
    // By its own id, and counted by its session.
    for record in &fork.records()[10..] {
        let lost = Found::new(record.clone()).unwrap();
        let error = ledger.event(lost.event_id(), false).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::NotFound, "{error}");
    }
    let sessions = ledger.sessions(&Filter::new(), None, 1_000).await.unwrap();
    assert_eq!(sessions.iter().map(|session| session.events).sum::<u64>(), 40);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_value_is_never_a_part_of_the_statement() {
    let (database, input) = asked("").await;
    let tenant = &input.tenants()[0];
    let (events, reference) = (database.events(), input.reference());
    let hostile = [
        "' OR 1 = 1 --",
        "\\' OR 1 = 1 --",
        "') OR tenant_id != (' ",
        "{p0:String}",
        "a\tb\nc\rd\0e",
        "\\N",
        "['x','y']",
        "%",
        "\r\n--boundary\r\nContent-Disposition: form-data; name=\"query\"\r\n\r\nSELECT 1",
        "; DROP TABLE audit_events",
        "žluťoučký 👩‍👩‍👧",
    ];
    for text in hostile {
        let mut filters = vec![
            Filter::new().event_type(text),
            Filter::new().status(text),
            Filter::new().provider(text),
            Filter::new().model(text),
            Filter::new().model_version(text),
            Filter::new().tool(text).tool("refund"),
            Filter::new().review(text),
            Filter::new().reviewer(text),
            Filter::new().decision(text),
            Filter::new().family(text),
            Filter::new().external(text, "A-1").external("order", text),
            Filter::new().external_value(text),
        ];
        // What a filter's own types would refuse, as it may come from outside.
        let columns = agent_audit_core::columns::COLUMNS.map(|column| {
            serde_json::from_value(serde_json::json!({ "columns": [[column, [text]]] })).unwrap()
        });
        filters.extend(columns);
        for filter in filters {
            filter.check().unwrap();
            let select = Select::new(filter, Order::Time, EVERYTHING);
            let expected = reference.select(tenant, &select).await.unwrap();
            assert_eq!(events.select(tenant, &select).await.unwrap(), expected, "{select:?}");
            let sessions = events.sessions(tenant, &select.filter, None, 10).await.unwrap();
            let expected = reference.sessions(tenant, &select.filter, None, 10).await.unwrap();
            assert_eq!(sessions, expected, "{select:?}");
        }
        for order in [Order::Time, Order::Chain] {
            let middle = all(reference, tenant).await[20].timestamp();
            for sequence in [0, u64::MAX] {
                let place = Some(Cursor::new(middle, text, sequence));
                let select = Select::new(Filter::new(), order, 50).after(place);
                let expected = reference.select(tenant, &select).await.unwrap();
                assert_eq!(events.select(tenant, &select).await.unwrap(), expected, "{select:?}");
            }
        }
    }
    assert!(database.count("audit_events").await > 0);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_name_that_is_stored_is_as_hostile_as_one_that_is_asked_for() {
    let database = Database::new().await;
    let mut chain = TestChain::of(any_tenant());
    store(&database.sink(), &chain.extend(10)).await;
    // Somebody who may insert puts rows of another name there.
    for name in ["' OR 1 = 1 --", "a\\n\\t\\'\\\\", "{p0:String}"] {
        let name = name.replace('\\', "\\\\").replace('\'', "\\'");
        let copy = format!(
            "INSERT INTO audit_events SELECT * REPLACE ('{name}' AS chain_id) FROM audit_events \
             WHERE sequence = 2 LIMIT 1"
        );
        database.execute(&copy).await;
    }
    let ledger = Ledger::new(database.events(), chain.chain().tenant_id.clone());
    let error = ledger.events(&Filter::new(), &Request::first(100)).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    assert_eq!(ledger.chains().await.unwrap_err().kind(), QueryErrorKind::Corrupt);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn what_does_not_agree_with_its_record_is_an_error() {
    for (edit, filter) in [
        ("session_id = 'elsewhere'", Filter::new().session("elsewhere".parse().unwrap())),
        ("timestamp_utc = timestamp_utc + INTERVAL 1 SECOND", Filter::new()),
        ("event_hash = unhex(repeat('00', 32))", Filter::new()),
        ("event = replaceOne(event, '\"sequence\":7', '\"sequence\":8')", Filter::new()),
        ("event = 'none'", Filter::new()),
    ] {
        let database = Database::new().await;
        let mut chain = TestChain::of(any_tenant());
        store(&database.sink(), &chain.extend(20)).await;
        let update = format!(
            "ALTER TABLE audit_events UPDATE {edit} WHERE sequence = 7 SETTINGS mutations_sync = 2"
        );
        database.execute(&update).await;
        let ledger = Ledger::new(database.events(), chain.chain().tenant_id.clone());
        let error = ledger.events(&filter, &Request::first(100)).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{edit}: {error}");
        assert!(error.to_string().contains("agent-audit verify"), "{edit}: {error}");
    }
    // Content that an event names and that is gone, and such that is none.
    let database = Database::new().await;
    let mut chain = TestChain::of(any_tenant());
    store(&database.sink(), &chain.extend(20)).await;
    let of = chain.records().iter().position(|record| !record.parts().is_empty()).unwrap();
    let ledger = Ledger::new(database.events(), chain.chain().tenant_id.clone());
    for change in ["UPDATE salt = 'short'", "DELETE"] {
        let alter = format!(
            "ALTER TABLE audit_content {change} WHERE sequence = {of} SETTINGS mutations_sync = 2"
        );
        database.execute(&alter).await;
        ledger.events(&Filter::new(), &Request::first(100)).await.unwrap();
        let request = Request::first(100).content();
        let error = ledger.events(&Filter::new(), &request).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{change}: {error}");
        assert!(error.to_string().contains(&format!("event {of} of chain")), "{change}: {error}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn an_older_schema_is_named_and_a_newer_one_too() {
    let database = Database::empty();
    let tenant = any_tenant();
    let error = database.events().chains(&tenant).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("ClickHouseStore::migrate"), "{error}");

    let create = format!("CREATE DATABASE {}", database.name());
    database.raw().with_database("default").query_raw(&create).execute().await.unwrap();
    let old = include_str!("../schema-1.sql");
    for statement in old.split(";\n").filter(|statement| statement.contains("CREATE TABLE")) {
        database.execute(statement).await;
    }
    database.execute("INSERT INTO audit_schema (version) VALUES (1)").await;
    let error = database.events().chains(&tenant).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("schema version 1"), "{error}");

    // What an older release wrote: rows of a chain, some of them twice, in parts of their own.
    let (written, mut chain) = (Database::new().await, TestChain::of(tenant.clone()));
    store(&written.sink(), &chain.extend(3_000)).await;
    for table in ["audit_events", "audit_content"] {
        for range in ["sequence < 2000", "sequence >= 1500"] {
            let copy = format!(
                "INSERT INTO {table} SELECT * FROM {}.{table} WHERE {range}",
                written.name()
            );
            database.execute(&copy).await;
        }
    }
    for _ in 0..2 {
        database.store().migrate().await.unwrap();
    }
    let events = database.events();
    let expected = all(&*written.events(), &tenant).await;
    assert!(all(&*events, &tenant).await == expected && expected.len() == 3_000);
    let sessions = written.events().sessions(&tenant, &Filter::new(), None, 10_000).await.unwrap();
    assert_eq!(events.sessions(&tenant, &Filter::new(), None, 10_000).await.unwrap(), sessions);
    store(&database.sink(), &chain.extend(5)).await;
    assert_eq!(all(&*events, &tenant).await.len(), 3_005);

    database.execute("INSERT INTO audit_schema (version) VALUES (99)").await;
    let error = database.events().chains(&tenant).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::UnknownVersion, "{error}");
    assert!(error.to_string().contains("99"), "{error}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_server_that_goes_away_is_unavailable() {
    let (database, input) = asked("").await;
    let tenant = &input.tenants()[0];
    // Before the first statement, behind the one that looks for events, and behind the one that
    // reads them.
    for requests in 0..3 {
        let interposer = Arc::new(Interposer::start(database.address()).await);
        let events = ClickHouseEvents::new(database.config_through(interposer.address())).unwrap();
        events.chains(tenant).await.unwrap();
        drop_after(&interposer, requests);
        let select = Select::new(Filter::new(), Order::Time, 50).content();
        let error = events.select(tenant, &select).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Unavailable, "{error}");
        let (_, password) = database.credentials();
        assert!(!format!("{error} {error:?}").contains(&password));
        assert_eq!(events.select(tenant, &select).await.unwrap().len(), 50, "it is asked again");
    }
    let nobody = ClickHouseEvents::new(ClickHouseConfig::new("http://127.0.0.1:1")).unwrap();
    let error = nobody.tenants().await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Unavailable, "{error}");
}

/// Closes the connection instead of passing a request on, behind so many others.
fn drop_after(interposer: &Arc<Interposer>, requests: usize) {
    let again = Arc::clone(interposer);
    interposer.before("POST", move || async move {
        if requests == 0 {
            return Then::Drop;
        }
        drop_after(&again, requests - 1);
        Then::Forward
    });
}

/// Rows are read by the indexes: of a table that is a hundred times the answer, a small part.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_question_reads_a_small_part_of_the_table() {
    let (database, input) = asked("").await;
    let tenant = &input.tenants()[0];
    let found = all(input.reference(), tenant).await;
    // Other chains of the same tenant, in the same days; nobody reads their records.
    let fill = "INSERT INTO audit_events SELECT audit_events.* REPLACE ( \
        concat(chain_id, '-', toString(number)) AS chain_id, \
        toString(generateUUIDv4(1)) AS event_id, \
        concat(session_id, '-', toString(number)) AS session_id, \
        timestamp_utc + toIntervalSecond(number + 1) AS timestamp_utc, \
        if(isNull(parent_event_id), NULL, toString(generateUUIDv4(2))) AS parent_event_id, \
        if(isNull(subject_id), NULL, concat(subject_id, toString(number))) AS subject_id, \
        if(isNull(call_id), NULL, concat(call_id, toString(number))) AS call_id, \
        if(isNull(approval_event_id), NULL, toString(generateUUIDv4(3))) AS approval_event_id, \
        if(isNull(presented_event_id), NULL, toString(generateUUIDv4(4))) AS presented_event_id, \
        if(isNull(review_id), NULL, toString(generateUUIDv4(5))) AS review_id, \
        if(isNull(spawned_by), NULL, toString(generateUUIDv4(6))) AS spawned_by, \
        if(isNull(parent_session_id), NULL, concat(parent_session_id, toString(number))) AS parent_session_id, \
        arrayMap(value -> concat(value, toString(number)), external_ids.value) AS `external_ids.value`) \
        FROM audit_events CROSS JOIN numbers(400) AS filler";
    database.execute(fill).await;
    database.execute("OPTIMIZE TABLE audit_events FINAL").await;
    let rows = database.count("audit_events").await;
    assert!(rows > 100_000, "{rows}");

    let interposer = Interposer::start(database.address()).await;
    let events = ClickHouseEvents::new(database.config_through(interposer.address())).unwrap();
    events.chains(tenant).await.unwrap();
    let read = || -> u64 {
        let answered = interposer.answered();
        let rows = answered.iter().filter_map(|head| head.split("\"read_rows\":").nth(1));
        rows.filter_map(|rest| rest.split('"').nth(1)?.parse::<u64>().ok()).sum()
    };
    read();
    let id = |make: fn(Filter, agent_audit_core::id::EventId) -> Filter, column: &str| {
        let mut texts = found.iter().filter_map(|found| {
            let event: serde_json::Value =
                serde_json::from_slice(found.record().event_bytes()).unwrap();
            let text = event.get(column).or_else(|| event.get("payload")?.get(column))?;
            text.as_str()?.parse().ok()
        });
        make(Filter::new(), texts.next().unwrap_or_else(|| panic!("some event has {column}")))
    };
    for filter in [
        Filter::new().session("session-01".parse().unwrap()),
        Filter::new().event(found[50].event_id()).event(found[99].event_id()),
        id(Filter::parent, "parent_event_id"),
        id(Filter::approval, "approval_event_id"),
        id(Filter::presented, "presented_event_id"),
        id(Filter::spawned_by, "spawned_by"),
        Filter::new().subject("person-2".parse().unwrap()),
        Filter::new().call("call-refund-1".parse().unwrap()),
        Filter::new().review("expired"),
        Filter::new().parent_session("session-01".parse().unwrap()),
        Filter::new().external("payment", "call-lookup-0"),
        Filter::new().external_value("call-lookup-0"),
    ] {
        for order in [Order::Time, Order::Chain] {
            let select = Select::new(filter.clone(), order, 1_000);
            assert!(!events.select(tenant, &select).await.unwrap().is_empty(), "{filter}");
            let read = read();
            assert!(read > 0 && read < rows / 5, "{filter} in {order:?}: {read} of {rows} rows");
        }
    }
    // The first events of all; those of an hour; a chain from a place on.
    let all = Filter::new();
    let chain = Filter::new().chain(found[0].chain_id().parse().unwrap());
    for (select, most) in [
        (Select::new(all.clone(), Order::Time, 50), 2),
        (Select::new(all.clone(), Order::Chain, 50), 5),
        (Select::new(chain, Order::Chain, 50).after(Some(found[10].place().clone())), 10),
    ] {
        assert_eq!(events.select(tenant, &select).await.unwrap().len(), 50);
        let read = read();
        assert!(read > 0 && read < rows / most, "{select:?}: {read} of {rows} rows");
    }
    events.chains(tenant).await.unwrap();
    assert!(read() < rows / 5, "chains are counted beforehand");
}
