//! The databases as they are asked: the answers of the records themselves, and nobody else's.

use std::{fs, path::Path, sync::Arc};

use agent_audit_core::{
    columns::COLUMNS,
    conformance::TestChain,
    content::Part,
    id::{EventId, SessionId, TenantId},
    memory::MemorySink,
    record::Record,
    sink::{Batch, ChainRef, Segment, Sink},
};
use agent_audit_query::{
    Cursor, EventStore, Filter, Ledger, Order, QueryErrorKind, Request, Select,
    conformance::{Input, assert_same_answers},
    scan::Scanned,
};
use agent_audit_sqlite::{SqliteConfig, SqliteEvents, SqliteSink, file_of_tenant};
use agent_audit_test_support::{odd, sessions::Sessions};

use super::{raw, store, tenant};

/// The same records in databases and in memory.
struct Twins {
    dir: tempfile::TempDir,
    sink: SqliteSink,
    memory: MemorySink,
}

impl Twins {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sink = SqliteSink::open(dir.path()).unwrap();
        Self { dir, sink, memory: MemorySink::new() }
    }

    async fn store(&self, segments: Vec<Segment>) {
        for segment in segments {
            store(&self.sink, &segment).await;
            self.memory.append(&Batch::new(vec![segment])).await.unwrap();
        }
    }

    fn events(&self) -> SqliteEvents {
        SqliteEvents::open(self.dir.path()).unwrap()
    }

    fn reference(&self) -> Scanned<MemorySink> {
        Scanned::new("memory", self.memory.clone())
    }
}

/// Asks both for the events and the sessions that match, in each order and direction, from the start
/// and from a place on; says how many events there were.
async fn same(twins: &Twins, events: &SqliteEvents, tenant: &TenantId, filter: &Filter) -> usize {
    let reference = twins.reference();
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
async fn once(twins: &Twins, events: &SqliteEvents, tenant: &TenantId, filter: &Filter) -> usize {
    let select = Select::new(filter.clone(), Order::Time, 10_000);
    let expected = twins.reference().select(tenant, &select).await.unwrap();
    assert_eq!(events.select(tenant, &select).await.unwrap(), expected, "{filter}");
    let sessions = twins.reference().sessions(tenant, filter, None, 3).await.unwrap();
    assert_eq!(events.sessions(tenant, filter, None, 3).await.unwrap(), sessions, "{filter}");
    expected.len()
}

/// A filter as it may be read from somewhere.
fn read(json: serde_json::Value) -> Filter {
    let filter: Filter = serde_json::from_value(json).unwrap();
    filter.check().unwrap();
    filter
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answers_are_those_of_the_records() {
    let input = Input::new("of-").await;
    let dir = tempfile::tempdir().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    input.load(&sink).await;
    let events = Arc::new(SqliteEvents::open(dir.path()).unwrap());
    assert_eq!(events.tenants().await.unwrap(), input.reference().tenants().await.unwrap());
    assert_same_answers(&input, events).await;
    // At rest, with one handle for all.
    sink.close().await.unwrap();
    let config = SqliteConfig::new(dir.path()).with_max_open(1);
    let events = SqliteEvents::with_config(config).unwrap();
    let all = Select::new(Filter::new(), Order::Time, 10_000).content();
    for _ in 0..2 {
        for tenant in input.tenants() {
            let expected = input.reference().select(tenant, &all).await.unwrap();
            assert_eq!(events.select(tenant, &all).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn many_alternatives_and_equal_times_change_nothing() {
    let twins = Twins::new();
    let acme = tenant("acme");
    // Three chains and no time between events.
    let mut sessions = Sessions::new(acme.clone(), 3, 1_790_000_000_000_000_000, 0);
    let segments = sessions.next(160);
    let ids: Vec<EventId> = segments
        .iter()
        .flat_map(Segment::records)
        .map(|record| record.view().unwrap().event_id.parse().unwrap())
        .collect();
    let chains: Vec<ChainRef> = segments.iter().map(|segment| segment.chain().clone()).collect();
    twins.store(segments).await;
    let events = twins.events();
    let session = |number| SessionId::new(format!("session-{number:07}")).unwrap();
    let tools: Vec<String> =
        (0..200).map(|at| format!("tool {at}")).chain(["search".into()]).collect();
    let strangers = (0..2_000).map(|_| EventId::new()).fold(Filter::new(), Filter::parent);
    let chain = |at: usize| chains[at].chain_id.clone();
    for (filter, some) in [
        (ids.iter().fold(strangers, |filter, id| filter.parent(*id)), true),
        (ids.iter().take(300).fold(Filter::new(), |filter, id| filter.event(*id)), true),
        ((0..90).map(session).fold(Filter::new(), Filter::session), true),
        ((3..9).map(session).fold(Filter::new(), Filter::session).tool("refund"), true),
        (tools.iter().fold(Filter::new(), |filter, tool| filter.tool(tool)), true),
        (Filter::new().chain(chain(0)).chain(chain(2)).family("review."), true),
        (Filter::new().chain(chain(1)).from_sequence(5).to_sequence(30), true),
        (Filter::new().chain(chain(1)).chain("zzz".parse().unwrap()).status("ok"), true),
        (Filter::new().from_sequence(150), true),
        (Filter::new().to_sequence(u64::MAX).from_sequence(u64::MAX - 1), false),
        (
            Filter::new().event_type("tool.completed").event_type("review.decided").model("none"),
            false,
        ),
        (Filter::new().family(""), true),
        (Filter::new().family("nothing."), false),
        (Filter::new().family("review.").event_type("tool.completed"), false),
        (
            read(
                serde_json::json!({"columns": [["tool_name", ["search", "refund"]], ["tool_name", ["refund"]]]}),
            ),
            true,
        ),
    ] {
        assert_eq!(same(&twins, &events, &acme, &filter).await > 0, some, "{filter}");
    }
    // Places between, before and behind all events.
    for (time, chain, sequence) in [
        (0, "", 0),
        (i64::MAX, "zzz", u64::MAX),
        (1_790_000_000_000_000_000, "a\0b' OR 1=1 --", 3),
        (1_790_000_000_000_000_000, "\u{10ffff}", u64::MAX),
    ] {
        for order in [Order::Time, Order::Chain] {
            for descending in [false, true] {
                for filter in [
                    Filter::new(),
                    Filter::new().session(session(1)),
                    Filter::new().chain(chains[1].chain_id.clone()),
                ] {
                    let place = Cursor::new(time, chain, sequence);
                    let mut select = Select::new(filter, order, 50).after(Some(place));
                    select.descending = descending;
                    let expected = twins.reference().select(&acme, &select).await.unwrap();
                    assert_eq!(
                        events.select(&acme, &select).await.unwrap(),
                        expected,
                        "{select:?}"
                    );
                }
            }
        }
    }
    let none = Select::new(Filter::new(), Order::Time, 0);
    assert_eq!(events.select(&acme, &none).await.unwrap(), []);
    let most = Select::new(Filter::new(), Order::Time, usize::MAX);
    assert_eq!(events.select(&acme, &most).await.unwrap().len(), 480);
}

#[tokio::test]
async fn no_value_is_taken_for_anything_else() {
    let twins = Twins::new();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let odd = odd::values();
    twins.store(vec![odd::chain(&acme, &odd), odd::chain(&globex, &odd)]).await;
    let events = twins.events();
    for value in &odd {
        let mut found = 0;
        for column in COLUMNS {
            let filter = read(serde_json::json!({"columns": [[column, [value]]]}));
            found += once(&twins, &events, &acme, &filter).await;
            let more =
                serde_json::json!({"columns": [[column, [value, "other"]]], "family": value});
            once(&twins, &events, &acme, &read(more)).await;
        }
        assert!(found >= 6, "{value:?} is found as a name");
        assert_eq!(same(&twins, &events, &acme, &Filter::new().external(value, value)).await, 1);
        assert_eq!(same(&twins, &events, &acme, &Filter::new().external_value(value)).await, 1);
        let both = Filter::new().external_value(value).external("k", value).tool(value);
        assert_eq!(same(&twins, &events, &acme, &both).await, 1);
        same(&twins, &events, &acme, &Filter::new().family(value)).await;
        if let Ok(session) = SessionId::new(value) {
            let after = Some(&session);
            let expected =
                twins.reference().sessions(&acme, &Filter::new(), after, 3).await.unwrap();
            let found = events.sessions(&acme, &Filter::new(), after, 3).await.unwrap();
            assert_eq!(found, expected);
        }
    }
    // Nothing was changed, and everybody's events are still theirs.
    let count = Select::new(Filter::new(), Order::Time, 1_000);
    for tenant in [&acme, &globex] {
        let found = events.select(tenant, &count).await.unwrap();
        assert_eq!(found.len(), odd.len() * 3);
        assert!(found.iter().all(|found| found.tenant_id() == tenant.as_str()));
    }
}

#[tokio::test]
async fn a_tenant_reads_its_own_database_alone() {
    let twins = Twins::new();
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let segment = |tenant: &TenantId| Sessions::new(tenant.clone(), 1, 1, 1).next(30);
    twins.store(segment(&acme)).await;
    twins.store(segment(&globex)).await;
    let store: Arc<dyn EventStore> = Arc::new(twins.events());
    let theirs = Ledger::new(Arc::clone(&store), globex.clone());
    let page = theirs.events(&Filter::new(), &Request::first(30)).await.unwrap();
    let own = Ledger::new(Arc::clone(&store), acme.clone());
    for found in &page.events {
        let by_id = own.event(found.event_id(), true).await.unwrap_err();
        assert_eq!(by_id.kind(), QueryErrorKind::NotFound);
        for request in
            [Request::after(found.place().clone(), 99), Request::before(found.place().clone(), 99)]
        {
            let page = own.events(&Filter::new(), &request).await.unwrap();
            assert!(page.events.iter().all(|found| found.tenant_id() == "acme"));
        }
        let chain = Filter::new().chain(found.chain_id().parse().unwrap());
        assert!(own.events(&chain, &Request::last(9)).await.unwrap().events.is_empty());
    }
    // Names that are no tenant's, and names that some file systems take for another one's.
    for name in ["ACME", "acme.sqlite3", "globex-wal", "a"] {
        let ledger = Ledger::new(Arc::clone(&store), tenant(name));
        assert!(ledger.events(&Filter::new(), &Request::first(9)).await.unwrap().events.is_empty());
        assert!(ledger.chains().await.unwrap().is_empty());
        assert!(ledger.sessions(&Filter::new(), None, 9).await.unwrap().is_empty());
    }
    // A file that was put in another one's place is not read, not even one event of it.
    twins.sink.close().await.unwrap();
    let path = |tenant: &TenantId| twins.dir.path().join(file_of_tenant(tenant));
    fs::copy(path(&globex), path(&tenant("initech"))).unwrap();
    let initech = Ledger::new(Arc::clone(&store), tenant("initech"));
    let error = initech.events(&Filter::new(), &Request::first(9)).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("holds the ledger of globex"), "{error}");
    assert_eq!(initech.chains().await.unwrap_err().kind(), QueryErrorKind::Corrupt);
    assert!(initech.sessions(&Filter::new(), None, 9).await.is_err());
}

async fn ask(events: &SqliteEvents, name: &str) -> Result<usize, QueryErrorKind> {
    let select = Select::new(Filter::new(), Order::Time, 9).content();
    let found = events.select(&tenant(name), &select).await;
    let sessions = events.sessions(&tenant(name), &Filter::new(), None, 9).await;
    let chains = events.chains(&tenant(name)).await;
    let kind = |error: &agent_audit_query::QueryError| error.kind();
    let kinds = [
        found.as_ref().err().map(kind),
        sessions.err().as_ref().map(kind),
        chains.err().as_ref().map(kind),
    ];
    assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
    found.map(|found| found.len()).map_err(|error| error.kind())
}

#[tokio::test]
async fn a_database_that_cannot_be_read_says_why() {
    let twins = Twins::new();
    let name = "a-name-that-no-message-needs";
    for name in ["later", "foreign", "stranger", "broken", "cut", name] {
        twins.store(Sessions::new(tenant(name), 1, 1, 1).next(200)).await;
    }
    twins.sink.close().await.unwrap();
    let dir = twins.dir.path();
    raw(dir, &tenant("later")).pragma_update(None, "user_version", 99).unwrap();
    raw(dir, &tenant("foreign")).pragma_update(None, "application_id", 7).unwrap();
    let path = |name: &str| dir.join(file_of_tenant(&tenant(name)));
    fs::write(path("broken"), "no database at all".repeat(100)).unwrap();
    let whole = fs::read(path("cut")).unwrap();
    fs::write(path("cut"), &whole[..whole.len() / 3]).unwrap();
    fs::write(path("empty"), "").unwrap();

    let events = twins.events();
    assert_eq!(ask(&events, "later").await, Err(QueryErrorKind::UnknownVersion));
    assert_eq!(ask(&events, "foreign").await, Err(QueryErrorKind::Corrupt));
    assert_eq!(ask(&events, "broken").await, Err(QueryErrorKind::Corrupt));
    assert_eq!(ask(&events, "cut").await, Err(QueryErrorKind::Corrupt));
    assert_eq!(ask(&events, "empty").await, Ok(0));
    assert_eq!(ask(&events, "nobody").await, Ok(0));
    assert_eq!(ask(&events, "stranger").await, Ok(9));
    // A writer of a later release, while the database is open here.
    raw(dir, &tenant("stranger")).pragma_update(None, "user_version", 2).unwrap();
    assert_eq!(ask(&events, "stranger").await, Err(QueryErrorKind::UnknownVersion));
    raw(dir, &tenant("stranger")).pragma_update(None, "user_version", 1).unwrap();
    assert_eq!(ask(&events, "stranger").await, Ok(9));
}

#[tokio::test]
async fn a_database_that_goes_away_is_unavailable_and_not_empty() {
    let twins = Twins::new();
    for name in ["acme", "globex", "initech"] {
        twins.store(Sessions::new(tenant(name), 1, 1, 1).next(200)).await;
    }
    twins.sink.close().await.unwrap();
    let dir = twins.dir.path();
    let path = |name: &str| dir.join(file_of_tenant(&tenant(name)));
    let events = twins.events();
    for name in ["acme", "globex", "initech"] {
        assert_eq!(ask(&events, name).await, Ok(9));
    }
    fs::rename(path("acme"), dir.join("elsewhere")).unwrap();
    assert_eq!(ask(&events, "acme").await, Err(QueryErrorKind::Unavailable));
    fs::rename(dir.join("elsewhere"), path("acme")).unwrap();
    assert_eq!(ask(&events, "acme").await, Ok(9));
    // Another tenant's, in the place of one that is open.
    fs::copy(path("globex"), dir.join("copy")).unwrap();
    fs::rename(dir.join("copy"), path("initech")).unwrap();
    assert_eq!(ask(&events, "initech").await, Err(QueryErrorKind::Corrupt));

    fs::rename(dir, dir.with_extension("gone")).unwrap();
    assert_eq!(ask(&events, "acme").await, Err(QueryErrorKind::Unavailable));
    assert_eq!(ask(&events, "never-seen").await, Err(QueryErrorKind::Unavailable));
    assert_eq!(events.tenants().await.unwrap_err().kind(), QueryErrorKind::Unavailable);
    fs::rename(dir.with_extension("gone"), dir).unwrap();
    assert_eq!(ask(&events, "acme").await, Ok(9));
    assert_eq!(ask(&events, "never-seen").await, Ok(0));
}

/// Takes content out of the database of acme, as no trigger would let anybody.
fn forge(dir: &Path, sql: &str) {
    let conn = raw(dir, &tenant("acme"));
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    conn.execute_batch(&format!("DROP TRIGGER content_refuses_delete; {sql}")).unwrap();
}

#[tokio::test]
async fn content_comes_where_it_is_asked_for_and_whole() {
    let twins = Twins::new();
    let mut chain = TestChain::of(tenant("acme"));
    for count in 0..4 {
        let part = |at: usize| Part::text(format!("part-{at}"), format!("of {count}")).commit();
        chain.extend_with((0..count).map(part).collect());
    }
    twins.store(vec![chain.segment(0..=3)]).await;
    let events = twins.events();
    let bare = Select::new(Filter::new(), Order::Chain, 9);
    let full = bare.clone().content();
    let found = events.select(&tenant("acme"), &full).await.unwrap();
    let records: Vec<Record> = found.into_iter().map(|found| found.into_record()).collect();
    assert_eq!(records, chain.records());
    let found = events.select(&tenant("acme"), &bare).await.unwrap();
    assert!(found.iter().all(|found| found.record().parts().is_empty()));

    let absent = "UPDATE content SET state = 'absent', salt = NULL, bytes = NULL, absent_reason = 'erased' \
                  WHERE event_row = 2";
    raw(twins.dir.path(), &tenant("acme")).execute_batch(absent).unwrap();
    let found = events.select(&tenant("acme"), &full).await.unwrap();
    assert_eq!(found[1].record().parts().len(), 1);
    assert_eq!(found[1].record().content("part-0"), None);

    forge(twins.dir.path(), "DELETE FROM content WHERE event_row = 3 AND ordinal = 0");
    let error = events.select(&tenant("acme"), &full).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt);
    assert!(error.to_string().contains("lacks content"), "{error}");
    assert_eq!(events.select(&tenant("acme"), &bare).await.unwrap().len(), 4);
}

/// What a ledger's columns say is held against its records, whoever changed them.
#[tokio::test]
async fn a_column_that_was_changed_hides_in_no_answer() {
    let twins = Twins::new();
    twins.store(Sessions::new(tenant("acme"), 1, 1, 1).next(60)).await;
    let conn = raw(twins.dir.path(), &tenant("acme"));
    conn.execute_batch("DROP TRIGGER events_refuse_update").unwrap();
    conn.execute_batch("UPDATE events SET tool_name = 'refund' WHERE event_row = 1").unwrap();
    let ledger = Ledger::new(Arc::new(twins.events()), tenant("acme"));
    let error =
        ledger.events(&Filter::new().tool("refund"), &Request::first(99)).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    conn.execute_batch("UPDATE events SET event = x'7b7d' WHERE event_row = 1").unwrap();
    let error = ledger.events(&Filter::new(), &Request::first(99)).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_beside_a_busy_writer_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    // Each append closes the other tenant's database, which deletes its log.
    let config = SqliteConfig::new(dir.path()).with_max_open(1);
    let sink = SqliteSink::with_config(config).unwrap();
    let mut sessions = ["acme", "globex"].map(|name| Sessions::new(tenant(name), 1, 1, 1));
    for sessions in &mut sessions {
        for segment in sessions.next(100) {
            store(&sink, &segment).await;
        }
    }
    let events = Arc::new(SqliteEvents::open(dir.path()).unwrap());
    let asking = {
        let ledger = Ledger::new(events, tenant("acme"));
        tokio::spawn(async move {
            let mut longest = 0;
            while longest < 400 {
                let page = ledger.events(&Filter::new(), &Request::first(1_000)).await.unwrap();
                assert!(page.events.len() >= longest, "a reader goes back in time");
                longest = page.events.len();
            }
        })
    };
    for _ in 0..100 {
        for sessions in &mut sessions {
            for segment in sessions.next(3) {
                store(&sink, &segment).await;
            }
        }
    }
    asking.await.unwrap();
}
