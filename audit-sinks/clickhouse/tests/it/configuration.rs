//! Set up wrongly: each fault says what to mend. And TLS.

use std::time::Duration;

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink, ClickHouseStore};
use agent_audit_core::{
    conformance::TestChain,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_test_support::servers::required;

use super::{database::Database, failure, store};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn without_tables_everything_says_to_migrate() {
    let database = Database::empty();
    let (sink, reader) = (database.sink(), database.store());
    let mut chain = TestChain::new();
    let segment = chain.extend(2);
    for place in ["no database", "no table"] {
        let errors = [
            sink.check().await.unwrap_err(),
            failure(&sink, &segment).await,
            reader.tenants().await.unwrap_err(),
            reader.chains(&chain.chain().tenant_id).await.unwrap_err(),
            reader.records(chain.chain(), 0).await.unwrap_err(),
            reader.record_stores().await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{place}: {error}");
            assert!(error.to_string().contains("ClickHouseStore::migrate"), "{place}: {error}");
            assert!(!error.is_retryable() && !error.maybe_applied());
        }
        let create = format!("CREATE DATABASE IF NOT EXISTS {}", database.name());
        database.raw().with_database("default").query_raw(&create).execute().await.unwrap();
    }
    reader.migrate().await.unwrap();
    sink.check().await.unwrap();
    store(&sink, &segment).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn migrating_again_or_side_by_side_changes_nothing() {
    let database = Database::empty();
    let stores = [(); 4].map(|()| database.store());
    let migrations = stores.map(|store| tokio::spawn(async move { store.migrate().await }));
    for migration in migrations {
        migration.await.unwrap().unwrap();
    }
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(5)).await;
    database.store().migrate().await.unwrap();
    assert_eq!(database.records(chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn tables_of_a_later_release_are_left_alone() {
    let database = Database::new().await;
    database.execute("INSERT INTO audit_schema (version) VALUES (77)").await;
    for error in
        [database.store().migrate().await.unwrap_err(), database.sink().check().await.unwrap_err()]
    {
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains("schema version 77"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_wrong_password_is_told_and_not_shown() {
    let database = Database::new().await;
    let (user, password) = database.credentials();
    let mut chain = TestChain::new();
    let segment = chain.extend(1);
    for (user, password) in [(user.as_str(), "wrong-s3cret"), ("nobody", password.as_str())] {
        let sink = ClickHouseSink::with_config(database.config_of(user, password)).unwrap();
        for error in [sink.check().await.unwrap_err(), failure(&sink, &segment).await] {
            assert_eq!(error.kind(), SinkErrorKind::Unauthenticated, "{error}");
            assert!(!error.is_retryable() && !error.maybe_applied());
            let shown = format!("{error} {error:?} {sink:?}");
            assert!(!shown.contains(password), "{shown}");
        }
    }
    assert_eq!(database.count("audit_events").await, 0);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let database = Database::new().await;
    // It accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = database
        .config_through(silent.local_addr().unwrap())
        .with_timeout(Duration::from_millis(200));
    let sink = ClickHouseSink::with_config(config).unwrap();
    let error = failure(&sink, &TestChain::new().extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Timeout, "{error}");
    // It was the look before the insert that got no answer.
    assert!(error.is_retryable() && !error.maybe_applied());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn the_tables_make_every_part_durable_before_it_counts() {
    let database = Database::new().await;
    for table in ["audit_events", "audit_content", "audit_schema"] {
        let query = format!("SHOW CREATE TABLE {table}");
        let created: String = database.raw().query_raw(&query).fetch_one().await.unwrap();
        for setting in [
            "fsync_after_insert = 1",
            "fsync_part_directory = 1",
            "min_rows_to_fsync_after_merge = 1",
        ] {
            assert!(created.contains(setting), "{table} has no {setting}: {created}");
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_CLICKHOUSE_TLS: servers/with clickhouse -- cargo test -- --include-ignored"]
async fn over_tls_the_server_must_be_trusted() {
    let (url, authority) =
        (required("AUDIT_TEST_CLICKHOUSE_TLS"), required("AUDIT_TEST_CLICKHOUSE_CA"));
    let plain = Database::new().await;
    let config = ClickHouseConfig::new(url).with_database(plain.name());
    let trusting =
        ClickHouseSink::with_config(config.clone().with_certificate(&authority)).unwrap();
    trusting.check().await.unwrap();
    let mut chain = TestChain::new();
    store(&trusting, &chain.extend(30)).await;
    let reader = ClickHouseStore::new(config.clone().with_certificate(&authority)).unwrap();
    assert_eq!(reader.chains(&chain.chain().tenant_id).await.unwrap(), [chain.chain().clone()]);
    assert_eq!(plain.records(chain.chain()).await, chain.records());

    let stranger = ClickHouseSink::with_config(config.clone()).unwrap();
    let error = failure(&stranger, &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(error.to_string().contains("certificate is not trusted"), "{error}");

    let key = std::path::Path::new(&authority).with_file_name("password");
    for file in [key.as_path(), "/nowhere/ca.pem".as_ref()] {
        let error = ClickHouseSink::with_config(config.clone().with_certificate(file)).unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
    }
}
