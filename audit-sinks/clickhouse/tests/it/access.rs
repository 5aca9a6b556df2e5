//! Who may do what: each role can do what it is for, and nothing else.

use agent_audit_clickhouse::{ClickHouseSink, ClickHouseStore, PERMISSIONS, TENANT_READER};
use agent_audit_core::{
    conformance::TestChain,
    content::{AbsentReason, PartBody},
    id::TenantId,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_test_support::servers::Instance;
use clickhouse::{Client, Compression};
use tokio::task::block_in_place;

use super::{any_tenant, append, database::Database, store};

const PASSWORD: &str = "p'a\\ss";
/// The same in SQL.
const QUOTED: &str = r"'p\'a\\ss'";

/// The roles of [`PERMISSIONS`] at a server of this test alone: roles and policies are the server's.
struct Access {
    database: Database,
    /// Behind the database, which goes first.
    _server: Instance,
}

impl Access {
    async fn new() -> Self {
        let server = block_in_place(|| Instance::start("clickhouse"));
        let database = Database::at(server.variable("AUDIT_TEST_CLICKHOUSE").to_owned());
        database.store().migrate().await.unwrap();
        let access = Self { database, _server: server };
        for statement in statements(&access.named(PERMISSIONS)) {
            access.database.execute(&statement).await;
        }
        for role in ["writer", "reader", "asker", "verifier", "eraser"] {
            let create = format!(
                "CREATE USER IF NOT EXISTS user_{role} IDENTIFIED WITH sha256_password \
                 BY {QUOTED} DEFAULT ROLE audit_{role}"
            );
            access.database.execute(&create).await;
        }
        access
    }

    /// SQL of the crate, for this database.
    fn named(&self, sql: &str) -> String {
        sql.replace(" audit.", &format!(" {}.", self.database.name()))
    }

    /// A reader of one tenant, as the crate's SQL makes one.
    async fn tenant_reader(&self, tenant: &TenantId) -> String {
        let sql = self.named(TENANT_READER).replace("TENANT", tenant.as_str());
        for statement in statements(&sql.replace("'PASSWORD'", QUOTED)) {
            self.database.execute(&statement).await;
        }
        format!("audit_reader_{tenant}")
    }

    fn sink(&self, user: &str) -> ClickHouseSink {
        ClickHouseSink::with_config(self.database.config_of(user, PASSWORD)).unwrap()
    }

    fn store(&self, user: &str) -> ClickHouseStore {
        ClickHouseStore::new(self.database.config_of(user, PASSWORD)).unwrap()
    }

    fn raw(&self, user: &str) -> Client {
        Client::default()
            .with_url(format!("http://{}", self.database.address()))
            .with_user(user)
            .with_password(PASSWORD)
            .with_compression(Compression::None)
            .with_database(self.database.name())
    }

    /// Every one of these statements is refused for want of a grant.
    async fn refused(&self, user: &str, statements: &[&str]) {
        for statement in statements {
            let error = self.raw(user).query_raw(statement).execute().await;
            let text = error.expect_err(statement).to_string();
            assert!(text.contains("ACCESS_DENIED"), "{user}: {statement}: {text}");
        }
    }
}

fn statements(sql: &str) -> Vec<String> {
    let lines = sql.lines().filter(|line| !line.starts_with("--"));
    let sql: String = lines.flat_map(|line| [line, "\n"]).collect();
    sql.split(";\n").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

/// What nobody below the administrator may do to a ledger.
const DESTRUCTIVE: &[&str] = &[
    "ALTER TABLE audit_events UPDATE session_id = 'x' WHERE 1",
    "ALTER TABLE audit_events DELETE WHERE 1",
    "ALTER TABLE audit_content DELETE WHERE 1",
    "ALTER TABLE audit_events DROP COLUMN session_id",
    "ALTER TABLE audit_content MODIFY SETTING merge_with_ttl_timeout = 1",
    "DELETE FROM audit_events WHERE 1",
    "TRUNCATE TABLE audit_events",
    "TRUNCATE TABLE audit_content",
    "DROP TABLE audit_events",
    "OPTIMIZE TABLE audit_content FINAL",
    "INSERT INTO audit_schema (version) VALUES (9)",
    "CREATE TABLE mine (x UInt8) ENGINE = MergeTree ORDER BY x",
];

const READING: &[&str] = &[
    "SELECT event FROM audit_events",
    "SELECT session_id FROM audit_events",
    "SELECT bytes FROM audit_content",
    "SELECT salt FROM audit_content",
];

const INSERTING: &[&str] = &[
    "INSERT INTO audit_events (tenant_id) VALUES ('x')",
    "INSERT INTO audit_content (tenant_id) VALUES ('x')",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
async fn the_writer_appends_and_reads_neither_events_nor_content() {
    let access = Access::new().await;
    let user = "user_writer";
    let sink = access.sink(user);
    sink.check().await.unwrap();
    let mut chains = [TestChain::new(), TestChain::new()];
    for chain in &mut chains {
        store(&sink, &chain.extend(10)).await;
        store(&sink, &chain.segment(4..=9)).await;
        let fork = chain.fork(5).extend(1);
        let outcomes = append(&sink, &[&fork]).await;
        assert!(
            matches!(
                outcomes[..],
                [agent_audit_core::sink::SegmentOutcome::Conflict { sequence: 5 }]
            ),
            "{outcomes:?}"
        );
        assert_eq!(sink.head(chain.chain()).await.unwrap().unwrap().sequence, 9);
    }
    for chain in &chains {
        assert_eq!(access.database.records(chain.chain()).await, chain.records());
    }
    access.refused(user, DESTRUCTIVE).await;
    access.refused(user, READING).await;
    let reading = access.store(user).records(chains[0].chain(), 0).await.unwrap().next().await;
    assert_eq!(reading.unwrap().unwrap_err().kind(), SinkErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
async fn a_reader_reads_its_own_tenant_and_no_other() {
    let access = Access::new().await;
    let (acme, globex) = (any_tenant(), any_tenant());
    let mut chains = [TestChain::of(acme.clone()), TestChain::of(globex.clone())];
    for chain in &mut chains {
        store(&access.database.sink(), &chain.extend(12)).await;
    }
    for (tenant, own, other) in [(&acme, 0, 1), (&globex, 1, 0)] {
        let user = access.tenant_reader(tenant).await;
        let user = user.as_str();
        let reader = access.store(user);
        assert_eq!(reader.tenants().await.unwrap(), std::slice::from_ref(tenant));
        let mut records = reader.records(chains[own].chain(), 0).await.unwrap();
        for written in chains[own].records() {
            assert!(records.next().await.unwrap().unwrap().1 == *written);
        }
        assert!(records.next().await.is_none());
        // Not even when it is named: by rows, by content, by a count.
        let foreign = chains[other].chain();
        assert!(reader.chains(&foreign.tenant_id).await.unwrap().is_empty());
        assert!(reader.records(foreign, 0).await.unwrap().next().await.is_none());
        for table in ["audit_events", "audit_content"] {
            let count = format!(
                "SELECT toUInt64(count()) FROM {table} WHERE tenant_id = '{}'",
                foreign.tenant_id
            );
            let found: u64 = access.raw(user).query_raw(&count).fetch_one().await.unwrap();
            assert_eq!(found, 0, "{table}");
        }
        access.refused(user, DESTRUCTIVE).await;
        access.refused(user, INSERTING).await;
        let error = access.sink(user).check().await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    }
    // A reader whom nobody has given a tenant reads nothing.
    let reader = access.store("user_reader");
    assert!(reader.tenants().await.unwrap().is_empty());
    assert!(reader.records(chains[0].chain(), 0).await.unwrap().next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
async fn the_verifier_reads_everything_and_changes_nothing() {
    let access = Access::new().await;
    let mut chains = [TestChain::new(), TestChain::new()];
    for chain in &mut chains {
        store(&access.database.sink(), &chain.extend(12)).await;
    }
    let user = "user_verifier";
    assert_eq!(access.store(user).record_stores().await.unwrap().len(), 2);
    for chain in &chains {
        let mut records = access.store(user).records(chain.chain(), 0).await.unwrap();
        for written in chain.records() {
            assert!(records.next().await.unwrap().unwrap().1 == *written);
        }
    }
    access.refused(user, DESTRUCTIVE).await;
    access.refused(user, INSERTING).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
async fn the_eraser_makes_content_absent_and_never_sees_it() {
    let access = Access::new().await;
    let (acme, globex) = (any_tenant(), any_tenant());
    let mut chains = [TestChain::of(acme.clone()), TestChain::of(globex)];
    for chain in &mut chains {
        store(&access.database.sink(), &chain.extend(12)).await;
    }
    let user = "user_eraser";
    let erase = format!(
        "ALTER TABLE audit_content UPDATE state = 'absent', kept = 1, salt = '', bytes = '', \
         key_id = '', nonce = '', absent_reason = 'erased', \
         absent_at = toUInt64(1700000000000000000), absent_evidence = NULL \
         WHERE tenant_id = '{acme}' AND state != 'absent' SETTINGS mutations_sync = 2"
    );
    access.raw(user).query_raw(&erase).execute().await.unwrap();
    let records = access.database.records(chains[0].chain()).await;
    let mut erased = 0;
    for (record, written) in records.iter().zip(chains[0].records()) {
        assert_eq!(record.event_bytes(), written.event_bytes());
        for part in record.parts() {
            let gone = matches!(
                part,
                PartBody::Absent { reason: AbsentReason::Erased, at: Some(_), evidence: None }
            );
            assert!(gone, "{part:?}");
            erased += 1;
        }
    }
    assert!(erased > 0);
    assert_eq!(access.database.records(chains[1].chain()).await, chains[1].records());
    access.refused(user, DESTRUCTIVE).await;
    access.refused(user, INSERTING).await;
    access.refused(user, READING).await;
    let touching = [
        "ALTER TABLE audit_content UPDATE tenant_id = 'x' WHERE 1",
        "ALTER TABLE audit_content UPDATE name = 'x' WHERE 1",
        "ALTER TABLE audit_content UPDATE purge_after = now() WHERE 1",
    ];
    access.refused(user, &touching).await;
}

#[cfg(feature = "query")]
mod asking {
    use std::sync::Arc;

    use agent_audit_clickhouse::ClickHouseEvents;
    use agent_audit_query::{EventStore, Filter, Ledger, Order, QueryErrorKind, Request, Select};

    use super::*;

    impl Access {
        fn events(&self, user: &str) -> ClickHouseEvents {
            ClickHouseEvents::new(self.database.config_of(user, PASSWORD)).unwrap()
        }

        /// Everything of the tenant, with content, and its sessions.
        async fn sees_all(&self, events: Arc<dyn EventStore>, chain: &TestChain) {
            let ledger = Ledger::new(events, chain.chain().tenant_id.clone());
            let request = Request::first(100).content();
            let page = ledger.events(&Filter::new(), &request).await.unwrap();
            let records: Vec<_> = page.events.into_iter().map(|e| e.into_record()).collect();
            assert!(records == chain.records());
            assert!(!ledger.sessions(&Filter::new(), None, 10).await.unwrap().is_empty());
            assert_eq!(ledger.chains().await.unwrap(), [chain.chain().chain_id.clone()]);
        }
    }

    async fn sees_nothing(events: &dyn EventStore, tenant: &TenantId) {
        let select = Select::new(Filter::new(), Order::Time, 100);
        assert!(events.select(tenant, &select).await.unwrap().is_empty());
        assert!(events.sessions(tenant, &Filter::new(), None, 10).await.unwrap().is_empty());
        assert!(events.chains(tenant).await.unwrap().is_empty());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
    async fn who_asks_is_held_to_a_tenant_by_the_server() {
        let access = Access::new().await;
        let (acme, globex) = (any_tenant(), any_tenant());
        let mut chains = [TestChain::of(acme.clone()), TestChain::of(globex.clone())];
        for chain in &mut chains {
            store(&access.database.sink(), &chain.extend(12)).await;
        }
        // A user of one tenant.
        let user = access.tenant_reader(&acme).await;
        let reader = Arc::new(access.events(&user));
        assert_eq!(reader.tenants().await.unwrap(), std::slice::from_ref(&acme));
        access.sees_all(reader.clone(), &chains[0]).await;
        sees_nothing(&*reader, &globex).await;
        sees_nothing(&access.events("user_reader"), &acme).await;

        // A user of one tenant at a time.
        let asker = access.events("user_asker").with_tenant_setting("SQL_audit_tenant").unwrap();
        let asker = Arc::new(asker);
        for chain in &chains {
            access.sees_all(asker.clone(), chain).await;
        }
        sees_nothing(&*asker, &any_tenant()).await;
        let error = asker.tenants().await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Unsupported, "{error}");
        let count = |setting: &str| format!("SELECT toUInt64(count()) FROM audit_events{setting}");
        let raw = access.raw("user_asker");
        let of_acme = count(&format!(" SETTINGS SQL_audit_tenant = '{acme}'"));
        let found: u64 = raw.query_raw(&of_acme).fetch_one().await.unwrap();
        assert_eq!(found, 12, "without any condition");
        // Who names none is refused.
        let error = access.events("user_asker").chains(&acme).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::PermissionDenied, "{error}");
        assert!(raw.query_raw(&count("")).fetch_one::<u64>().await.is_err());
        access.refused("user_asker", INSERTING).await;

        // Others may not ask at all.
        let select = Select::new(Filter::new(), Order::Time, 100);
        let error = access.events("user_writer").select(&acme, &select).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::PermissionDenied, "{error}");
        let wrong = access.database.config_of("user_asker", "wrong");
        let error = ClickHouseEvents::new(wrong).unwrap().chains(&acme).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::PermissionDenied, "{error}");
        assert!(!format!("{error:?}").contains("wrong\""), "{error:?}");
    }
}
