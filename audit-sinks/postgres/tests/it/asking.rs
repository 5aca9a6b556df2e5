//! The tables as they are asked: the answers of the records themselves, and nobody else's.

use std::{sync::Arc, time::Duration};

use agent_audit_core::{
    columns::COLUMNS,
    conformance::TestChain,
    content::Part,
    id::{EventId, SessionId, TenantId},
    memory::MemorySink,
    record::Record,
    sink::{Batch, ChainRef, Segment, Sink},
    timestamp::Timestamp,
};
use agent_audit_postgres::{PostgresConfig, PostgresEvents, PostgresSink};
use agent_audit_query::{
    Cursor, EventStore, Filter, Ledger, Order, QueryErrorKind, Request, Select,
    conformance::{Input, assert_same_answers},
    scan::Scanned,
};
use agent_audit_test_support::{
    odd,
    proxy::{Behaviour, Proxy},
    sessions::Sessions,
};

use super::{
    database::{Database, PASSWORD, count},
    store, tenant,
};

/// The same records in tables and in memory.
struct Twins {
    sink: PostgresSink,
    memory: MemorySink,
    events: PostgresEvents,
}

impl Twins {
    fn of(database: &Database) -> Self {
        Self {
            sink: database.sink(),
            memory: MemorySink::new(),
            events: events(database, "audit_test_any"),
        }
    }

    async fn store(&self, segments: Vec<Segment>) {
        for segment in segments {
            store(&self.sink, &segment).await;
            self.memory.append(&Batch::new(vec![segment])).await.unwrap();
        }
    }

    fn reference(&self) -> Scanned<MemorySink> {
        Scanned::new("memory", self.memory.clone())
    }
}

fn events(database: &Database, login: &str) -> PostgresEvents {
    PostgresEvents::new(database.config(login)).unwrap()
}

/// Asks both for the events and the sessions that match, in each order and direction, from the start
/// and from a place on; says how many events there were.
async fn same(twins: &Twins, tenant: &TenantId, filter: &Filter) -> usize {
    let (reference, events) = (twins.reference(), &twins.events);
    let mut count = 0;
    for order in [Order::Time, Order::Chain] {
        for descending in [false, true] {
            let mut select = Select::new(filter.clone(), order, 10_000);
            select.descending = descending;
            let all = reference.select(tenant, &select).await.unwrap();
            assert_eq!(events.select(tenant, &select).await.unwrap(), all, "{select:?}");
            count = all.len();
            for found in all.iter().step_by(all.len() / 3 + 1) {
                let mut select = select.clone().after(Some(found.place().clone()));
                select.limit = 9;
                let expected = reference.select(tenant, &select).await.unwrap();
                assert_eq!(events.select(tenant, &select).await.unwrap(), expected, "{select:?}");
            }
        }
    }
    for limit in [3, 10_000] {
        let expected = reference.sessions(tenant, filter, None, limit).await.unwrap();
        assert_eq!(events.sessions(tenant, filter, None, limit).await.unwrap(), expected);
    }
    count
}

/// Asks both for the events and the sessions that match; says how many events there were.
async fn once(twins: &Twins, tenant: &TenantId, filter: &Filter) -> usize {
    let select = Select::new(filter.clone(), Order::Time, 10_000);
    let expected = twins.reference().select(tenant, &select).await.unwrap();
    assert_eq!(twins.events.select(tenant, &select).await.unwrap(), expected, "{filter}");
    let sessions = twins.reference().sessions(tenant, filter, None, 3).await.unwrap();
    assert_eq!(twins.events.sessions(tenant, filter, None, 3).await.unwrap(), sessions, "{filter}");
    expected.len()
}

/// A filter as it may be read from somewhere.
fn read(json: serde_json::Value) -> Filter {
    let filter: Filter = serde_json::from_value(json).unwrap();
    filter.check().unwrap();
    filter
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn the_answers_are_those_of_the_records() {
    let database = Database::own().await;
    let input = Input::new("of-").await;
    input.load(&database.sink()).await;
    let events = Arc::new(events(&database, "audit_test_any"));
    assert_eq!(events.tenants().await.unwrap(), input.reference().tenants().await.unwrap());
    assert_same_answers(&input, events).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn many_alternatives_equal_times_and_many_months_change_nothing() {
    let database = Database::own().await;
    let twins = Twins::of(&database);
    let now = u64::try_from(Timestamp::now().as_nanos_i64()).unwrap();
    let start = now - 40 * 86_400_000_000_000;
    // No time between events; and hours between them, over months with partitions of their own.
    for (name, step) in [("acme", 0), ("globex", 14_400_000_000_000)] {
        let tenant = tenant(name);
        let mut sessions = Sessions::new(tenant.clone(), 3, start, step);
        twins.store(sessions.next(2)).await;
        let segments = sessions.next(160);
        let ids: Vec<EventId> = segments
            .iter()
            .flat_map(Segment::records)
            .map(|record| record.view().unwrap().event_id.parse().unwrap())
            .collect();
        let chains: Vec<ChainRef> = segments.iter().map(|it| it.chain().clone()).collect();
        twins.store(segments).await;
        let session = |number| SessionId::new(format!("session-{number:07}")).unwrap();
        let tools: Vec<String> =
            (0..200).map(|at| format!("tool {at}")).chain(["search".into()]).collect();
        let chain = |at: usize| chains[at].chain_id.clone();
        let time = |step: u64| Timestamp::from_nanos(start + step * 14_400_000_000_000);
        let twice = serde_json::json!(
            {"columns": [["tool_name", ["search", "refund"]], ["tool_name", ["refund"]]]}
        );
        for (filter, some) in [
            (ids.iter().fold(Filter::new(), |filter, id| filter.parent(*id)), true),
            (ids.iter().take(300).fold(Filter::new(), |filter, id| filter.event(*id)), true),
            ((0..90).map(session).fold(Filter::new(), Filter::session), true),
            ((3..9).map(session).fold(Filter::new(), Filter::session).tool("refund"), true),
            (tools.iter().fold(Filter::new(), |filter, tool| filter.tool(tool)), true),
            (Filter::new().chain(chain(0)).chain(chain(2)).family("review."), true),
            (Filter::new().chain(chain(1)).from_sequence(5).to_sequence(30), true),
            (Filter::new().chain(chain(1)).chain("zzz".parse().unwrap()).status("ok"), true),
            (Filter::new().from_sequence(150), true),
            (Filter::new().since(time(0)).before(time(300)).family("tool."), true),
            (Filter::new().since(time(200)).before(time(400)).tool("search"), step > 0),
            (Filter::new().event_type("tool.completed").model("none"), false),
            (Filter::new().family(""), true),
            (Filter::new().family("nothing."), false),
            (Filter::new().family("review.").event_type("tool.completed"), false),
            (read(twice), true),
        ] {
            assert_eq!(same(&twins, &tenant, &filter).await > 0, some, "{filter}");
        }
        // Places between, before and behind all events.
        let start = i64::try_from(start).unwrap();
        for (time, name, sequence) in [
            (0, "", 0),
            (i64::MAX, "zzz", u64::MAX),
            (start, "a\0b' OR 1=1 --", 3),
            (start, "\u{10ffff}", u64::MAX),
        ] {
            for order in [Order::Time, Order::Chain] {
                for descending in [false, true] {
                    let one = Filter::new().chain(chain(1));
                    for filter in [Filter::new(), Filter::new().session(session(1)), one] {
                        let place = Cursor::new(time, name, sequence);
                        let mut select = Select::new(filter, order, 50).after(Some(place));
                        select.descending = descending;
                        let expected = twins.reference().select(&tenant, &select).await.unwrap();
                        let found = twins.events.select(&tenant, &select).await.unwrap();
                        assert_eq!(found, expected, "{select:?}");
                    }
                }
            }
        }
        let none = Select::new(Filter::new(), Order::Time, 0);
        assert_eq!(twins.events.select(&tenant, &none).await.unwrap(), []);
        let most = Select::new(Filter::new(), Order::Time, usize::MAX);
        assert_eq!(twins.events.select(&tenant, &most).await.unwrap().len(), 486);
    }
    let months = "SELECT count(DISTINCT tableoid) FROM agent_audit.audit_events";
    assert!(count(&database.admin().await, months).await > 2);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn no_value_is_taken_for_anything_else() {
    let database = Database::own().await;
    let twins = Twins::of(&database);
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let odd = odd::values();
    twins.store(vec![odd::chain(&acme, &odd), odd::chain(&globex, &odd)]).await;
    for value in &odd {
        let mut found = 0;
        for column in COLUMNS {
            let filter = read(serde_json::json!({"columns": [[column, [value]]]}));
            found += once(&twins, &acme, &filter).await;
            let more =
                serde_json::json!({"columns": [[column, [value, "other"]]], "family": value});
            once(&twins, &acme, &read(more)).await;
        }
        assert!(found >= 6, "{value:?} is found as a name");
        assert_eq!(same(&twins, &acme, &Filter::new().external(value, value)).await, 1);
        assert_eq!(same(&twins, &acme, &Filter::new().external_value(value)).await, 1);
        let both = Filter::new().external_value(value).external("k", value).tool(value);
        assert_eq!(same(&twins, &acme, &both).await, 1);
        same(&twins, &acme, &Filter::new().family(value)).await;
        if let Ok(session) = SessionId::new(value) {
            let (all, after) = (Filter::new(), Some(&session));
            let expected = twins.reference().sessions(&acme, &all, after, 3).await.unwrap();
            assert_eq!(twins.events.sessions(&acme, &all, after, 3).await.unwrap(), expected);
        }
    }
    // Nothing was changed, and everybody's events are still theirs.
    let count = Select::new(Filter::new(), Order::Time, 1_000);
    for tenant in [&acme, &globex] {
        let found = twins.events.select(tenant, &count).await.unwrap();
        assert_eq!(found.len(), odd.len() * 3);
        assert!(found.iter().all(|found| found.tenant_id() == tenant.as_str()));
    }
}

/// What a store says to each of its questions; one kind of error for all.
async fn ask(events: &PostgresEvents, name: &str) -> Result<usize, QueryErrorKind> {
    let select = Select::new(Filter::new(), Order::Time, 9).content();
    let found = events.select(&tenant(name), &select).await;
    let sessions = events.sessions(&tenant(name), &Filter::new(), None, 9).await;
    let chains = events.chains(&tenant(name)).await;
    let errors = [found.as_ref().err(), sessions.as_ref().err(), chains.as_ref().err()];
    let kinds = errors.map(|error| error.map(agent_audit_query::QueryError::kind));
    assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
    for error in errors.into_iter().flatten() {
        assert!(!format!("{error} {error:?}").contains(PASSWORD));
    }
    found.map(|found| found.len()).map_err(|error| error.kind())
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_login_reads_the_tenants_it_may_read_and_no_other() {
    let database = Database::own().await;
    for name in ["acme", "globex"] {
        for segment in Sessions::new(tenant(name), 1, 1, 1).next(30) {
            store(&database.sink(), &segment).await;
        }
    }
    let any = events(&database, "audit_test_any");
    assert_eq!(ask(&any, "acme").await, Ok(9));
    assert_eq!(ask(&any, "nobody").await, Ok(0));
    assert_eq!(any.tenants().await.unwrap(), [tenant("acme"), tenant("globex")]);
    let acme = events(&database, "audit_test_acme");
    assert_eq!(ask(&acme, "acme").await, Ok(9));
    for name in ["globex", "ACME", "nobody"] {
        assert_eq!(ask(&acme, name).await, Err(QueryErrorKind::PermissionDenied), "{name}");
    }
    assert_eq!(acme.tenants().await.unwrap(), [tenant("acme")]);
    let nobody = events(&database, "audit_test_nobody");
    assert_eq!(ask(&nobody, "acme").await, Err(QueryErrorKind::PermissionDenied));
    assert_eq!(nobody.tenants().await.unwrap(), []);
    for login in
        ["audit_test_writer", "audit_test_eraser", "audit_test_owner", "audit_test_stranger"]
    {
        let refused = ask(&events(&database, login), "acme").await;
        assert_eq!(refused, Err(QueryErrorKind::PermissionDenied), "{login}");
    }
    // For a superuser row-level security does not hold.
    let url = database.server.admin_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    let url = format!("{server}/{}?sslmode=disable", database.name);
    let superuser = PostgresEvents::new(PostgresConfig::new(url)).unwrap();
    let error = superuser.chains(&tenant("acme")).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::PermissionDenied);
    assert!(error.to_string().contains("row-level security does not hold"), "{error}");

    // Another tenant's ids, chains and places, and one connection for both.
    let config = database.config("audit_test_any").with_connections(1);
    let both: Arc<dyn EventStore> = Arc::new(PostgresEvents::new(config).unwrap());
    let own = Ledger::new(Arc::clone(&both), tenant("acme"));
    let theirs = Ledger::new(Arc::clone(&both), tenant("globex"));
    let page = theirs.events(&Filter::new(), &Request::first(30)).await.unwrap();
    for found in &page.events {
        let by_id = own.event(found.event_id(), true).await.unwrap_err();
        assert_eq!(by_id.kind(), QueryErrorKind::NotFound);
        theirs.event(found.event_id(), true).await.unwrap();
        let place = || found.place().clone();
        for request in [Request::after(place(), 99), Request::before(place(), 99)] {
            let page = own.events(&Filter::new(), &request).await.unwrap();
            assert!(page.events.iter().all(|found| found.tenant_id() == "acme"));
        }
        let chain = Filter::new().chain(found.chain_id().parse().unwrap());
        assert!(own.events(&chain, &Request::last(9)).await.unwrap().events.is_empty());
        assert!(own.sessions(&chain, None, 9).await.unwrap().is_empty());
    }
    // Both at once.
    let (one, other) = (Filter::new(), Filter::new());
    for _ in 0..20 {
        let (own, theirs) =
            tokio::join!(async { own.events(&one, &Request::first(99)).await.unwrap() }, async {
                theirs.events(&other, &Request::first(99)).await.unwrap()
            },);
        assert!(own.events.len() == 30 && theirs.events.len() == 30);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn tables_that_cannot_be_read_say_why() {
    let database = Database::own().await;
    for segment in Sessions::new(tenant("acme"), 1, 1, 1).next(30) {
        store(&database.sink(), &segment).await;
    }
    let events = events(&database, "audit_test_any");
    assert_eq!(ask(&events, "acme").await, Ok(9));
    let admin = database.admin().await;
    let version = |version: i32| {
        format!("UPDATE agent_audit.audit_migrations SET version = {version} WHERE version > 3")
    };
    admin.batch_execute(&version(99)).await.unwrap();
    assert_eq!(ask(&events, "acme").await, Err(QueryErrorKind::UnknownVersion));
    assert_eq!(events.tenants().await.unwrap_err().kind(), QueryErrorKind::UnknownVersion);
    admin
        .batch_execute("DELETE FROM agent_audit.audit_migrations WHERE version > 3")
        .await
        .unwrap();
    let error = events.chains(&tenant("acme")).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Other);
    assert!(error.to_string().contains("PostgresStore::migrate"), "{error}");

    let wrong = database.config("audit_test_any").with_password("not the password".to_owned());
    let wrong = PostgresEvents::new(wrong).unwrap();
    assert_eq!(ask(&wrong, "acme").await, Err(QueryErrorKind::PermissionDenied));
    let nowhere = PostgresConfig::new(format!("postgres://a:{PASSWORD}@127.0.0.1:1/ledger"));
    let nowhere = PostgresEvents::new(nowhere).unwrap();
    assert_eq!(ask(&nowhere, "acme").await, Err(QueryErrorKind::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_server_that_goes_away_is_unavailable_and_comes_back() {
    let database = Database::own().await;
    for segment in Sessions::new(tenant("acme"), 1, 1, 1).next(30) {
        store(&database.sink(), &segment).await;
    }
    let upstream = std::net::ToSocketAddrs::to_socket_addrs(&(
        database.server.host.as_str(),
        database.server.port,
    ));
    let proxy = Proxy::start(upstream.unwrap().next().unwrap());
    let url = format!(
        "postgres://audit_test_any:{PASSWORD}@{}/{}?sslmode=disable",
        proxy.address(),
        database.name
    );
    let config = PostgresConfig::new(url)
        .with_connect_timeout(Duration::from_millis(500))
        .with_statement_timeout(Duration::from_millis(100));
    let events = PostgresEvents::new(config).unwrap();
    for behaviour in [
        Behaviour::Refuse,
        Behaviour::ResetAtOnce,
        Behaviour::ResetMidRequest { after: 300 },
        Behaviour::ResetAfterCommit { after: 0 },
        Behaviour::Hang,
        Behaviour::HalfOpen,
    ] {
        assert_eq!(ask(&events, "acme").await, Ok(9));
        proxy.set(behaviour);
        assert_eq!(ask(&events, "acme").await, Err(QueryErrorKind::Unavailable), "{behaviour:?}");
        let error = events.tenants().await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Unavailable, "{behaviour:?}");
        proxy.set(Behaviour::Pass);
    }
    assert_eq!(ask(&events, "acme").await, Ok(9));

    // Somebody holds the table: the server gives the statement up.
    let admin = database.admin().await;
    admin.batch_execute("BEGIN; LOCK TABLE agent_audit.audit_events").await.unwrap();
    let select = Select::new(Filter::new(), Order::Time, 9);
    let error = events.select(&tenant("acme"), &select).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Unavailable, "{error}");
    admin.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(ask(&events, "acme").await, Ok(9));
    // The connections at rest are ended.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'audit_test_any' \
                AND datname = current_database()";
    assert!(count(&admin, kill).await > 0);
    assert_eq!(ask(&events, "acme").await, Ok(9));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn content_comes_where_it_is_asked_for_and_whole() {
    let database = Database::own().await;
    let mut chain = TestChain::of(tenant("acme"));
    for count in 0..4 {
        let part = |at: usize| Part::text(format!("part-{at}"), format!("of {count}")).commit();
        chain.extend_with((0..count).map(part).collect());
    }
    store(&database.sink(), &chain.segment(0..=3)).await;
    let events = events(&database, "audit_test_any");
    let bare = Select::new(Filter::new(), Order::Chain, 9);
    let full = bare.clone().content();
    let found = events.select(&tenant("acme"), &full).await.unwrap();
    let records: Vec<Record> = found.into_iter().map(|found| found.into_record()).collect();
    assert_eq!(records, chain.records());
    let found = events.select(&tenant("acme"), &bare).await.unwrap();
    assert!(found.iter().all(|found| found.record().parts().is_empty()));

    let admin = database.admin().await;
    let of = |sequence: i32| {
        format!(
            "event_id = (SELECT event_id FROM agent_audit.audit_events WHERE sequence = {sequence})"
        )
    };
    let absent = "UPDATE agent_audit.audit_content SET state = 'absent', salt = NULL, bytes = NULL, \
                  absent_reason = 'erased' WHERE";
    admin.batch_execute(&format!("{absent} {}", of(1))).await.unwrap();
    let found = events.select(&tenant("acme"), &full).await.unwrap();
    assert_eq!(found[1].record().parts().len(), 1);
    assert_eq!(found[1].record().content("part-0"), None);

    admin.batch_execute("SET session_replication_role = replica").await.unwrap();
    let delete = format!("DELETE FROM agent_audit.audit_content WHERE ordinal = 0 AND {}", of(2));
    admin.batch_execute(&delete).await.unwrap();
    let error = events.select(&tenant("acme"), &full).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt);
    assert!(error.to_string().contains("lacks content"), "{error}");
    assert_eq!(events.select(&tenant("acme"), &bare).await.unwrap().len(), 4);

    // What the columns say is held against the records.
    let forge = format!("UPDATE agent_audit.audit_events SET tool_name = 'refund' WHERE {}", of(3));
    admin.batch_execute(&forge).await.unwrap();
    let ledger = Ledger::new(Arc::new(events), tenant("acme"));
    let refunds = Filter::new().tool("refund");
    let error = ledger.events(&refunds, &Request::first(9)).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
}
