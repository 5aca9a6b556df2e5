//! Creating the tables: once, by many, and by nobody who may not.

use agent_audit_core::{
    conformance::chain,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_postgres::{MIGRATIONS, ROLES};

use super::{
    database::{Database, Server, count},
    failure, store, tenant,
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn migrating_again_changes_nothing_and_mends_grants() {
    let database = Database::own().await;
    let sink = database.sink();
    store(&sink, &chain(&tenant("acme"), 3)).await;
    let admin = database.admin().await;
    admin.batch_execute("GRANT SELECT ON agent_audit.audit_events TO audit_writer").await.unwrap();
    admin.batch_execute(ROLES).await.unwrap();
    assert_eq!(database.store("audit_test_owner").migrate().await.unwrap(), 0);
    let writer = database.client("audit_test_writer").await;
    let sql = "SELECT FROM agent_audit.audit_events";
    assert_eq!(super::database::refused(&writer, sql).await, "42501");
    store(&sink, &chain(&tenant("acme"), 3)).await;
    let applied = "SELECT count(*) FROM agent_audit.audit_migrations \
                   WHERE applied_by = 'audit_test_owner'";
    assert_eq!(usize::try_from(count(&admin, applied).await), Ok(MIGRATIONS.len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn many_who_migrate_at_once_do_it_once() {
    let name = "agent_audit_test_migrate";
    let server = Server::of_environment();
    server.prepare(name).await;
    let database = std::sync::Arc::new(Database { server, name: name.to_owned() });
    let tasks = (0..6).map(|_| {
        let database = std::sync::Arc::clone(&database);
        tokio::spawn(async move { database.store("audit_test_owner").migrate().await.unwrap() })
    });
    let mut steps = 0;
    for task in tasks.collect::<Vec<_>>() {
        steps += task.await.unwrap();
    }
    assert_eq!(steps, MIGRATIONS.len());
    database.sink().check().await.unwrap();
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn missing_tables_are_an_error_that_says_what_to_run() {
    let name = "agent_audit_test_empty";
    let server = Server::of_environment();
    server.prepare(name).await;
    let database = Database { server, name: name.to_owned() };
    let said = |error: agent_audit_core::sink::SinkError| {
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
        assert!(!error.is_retryable());
        for way_out in ["sql/roles.sql", "PostgresStore::migrate"] {
            assert!(error.to_string().contains(way_out), "{error}");
        }
    };
    said(database.sink().check().await.unwrap_err());
    said(failure(&database.sink(), &chain(&tenant("acme"), 1)).await);
    said(database.reader().tenants().await.unwrap_err());
    let admin = database.admin().await;
    admin.batch_execute("DROP SCHEMA agent_audit").await.unwrap();
    said(database.sink().check().await.unwrap_err());
    said(database.store("audit_test_owner").migrate().await.unwrap_err());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn tables_of_another_version_are_refused_and_left_alone() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let insert =
        "INSERT INTO agent_audit.audit_migrations (version, name) VALUES (5, '0005_later')";
    admin.batch_execute(insert).await.unwrap();
    for error in [
        database.sink().check().await.unwrap_err(),
        database.reader().tenants().await.unwrap_err(),
        database.store("audit_test_owner").migrate().await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains("version 5"), "{error}");
        assert!(error.to_string().contains("use a later release"), "{error}");
    }
    let delete = "DELETE FROM agent_audit.audit_migrations WHERE version > 2";
    admin.batch_execute(delete).await.unwrap();
    let error = database.sink().check().await.unwrap_err();
    assert!(error.to_string().contains("have version 2, this program needs 4"), "{error}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn only_the_owner_migrates_and_only_a_writer_passes_the_check() {
    let database = Database::shared().await;
    for login in ["audit_test_writer", "audit_test_any", "audit_test_eraser", "audit_test_stranger"]
    {
        let error = database.store(login).migrate().await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{login}: {error}");
    }
    for login in ["audit_test_any", "audit_test_eraser", "audit_test_stranger"] {
        let sink = agent_audit_postgres::PostgresSink::new(database.config(login)).unwrap();
        let error = sink.check().await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{login}: {error}");
        let error = failure(&sink, &chain(&tenant("acme"), 1)).await;
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{login}: {error}");
        assert!(!error.is_retryable() && !error.maybe_applied());
    }
    database.sink().check().await.unwrap();
}
