//! What goes wrong with a server, and what is said of it.

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use agent_audit_core::{
    conformance::{TestChain, chain},
    content::Part,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_postgres::{PostgresConfig, PostgresSink};
use agent_audit_test_support::servers::Instance;

use super::{
    database::{Database, PASSWORD, Server},
    failure, records, store, tenant,
};

fn sink(url: String) -> PostgresSink {
    PostgresSink::new(PostgresConfig::new(url)).unwrap()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_wrong_password_is_not_authenticated_and_not_shown() {
    let database = Database::shared().await;
    let wrong = "wr0ng-secret";
    for (login, password) in
        [("audit_test_writer", wrong), ("nobody_of_this_name", wrong), ("audit_test_writer", "")]
    {
        let url = database.server.url(login, password, &database.name);
        let sink = sink(if password.is_empty() { url.replace(":@", "@") } else { url });
        for error in
            [sink.check().await.unwrap_err(), failure(&sink, &chain(&tenant("acme"), 1)).await]
        {
            assert_eq!(error.kind(), SinkErrorKind::Unauthenticated, "{error}");
            assert!(!error.is_retryable() && !error.maybe_applied());
            let shown = format!("{error} {error:?} {sink:?}");
            assert!(!shown.contains(wrong) && !shown.contains(PASSWORD), "{shown}");
            assert!(shown.contains(login), "{shown}");
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn what_is_not_there_is_said_by_name() {
    let database = Database::shared().await;
    let error = sink(database.server.url("audit_test_writer", PASSWORD, "no_such_database"));
    let error = error.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("no_such_database"), "{error}");
    // A port that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = sink(format!("postgres://agent:{PASSWORD}@127.0.0.1:{port}/ledger"));
    let error = error.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
    assert!(
        error.is_retryable() && error.to_string().contains(&format!("127.0.0.1:{port}")),
        "{error}"
    );
    assert!(!error.to_string().contains(PASSWORD));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_server_that_takes_no_writes_is_worth_a_retry() {
    let database = Database::own().await;
    let admin = database.server.admin("postgres").await;
    let set = |value: &str| {
        format!("ALTER DATABASE {} SET default_transaction_read_only = {value}", database.name)
    };
    admin.batch_execute(&set("on")).await.unwrap();
    let sink = database.sink();
    let mut chain = TestChain::of(tenant("acme"));
    let segment = chain.extend(2);
    for error in [sink.check().await.unwrap_err(), failure(&sink, &segment).await] {
        assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
        assert!(error.is_retryable() && !error.maybe_applied());
        assert!(error.to_string().contains("takes no writes"), "{error}");
    }
    admin.batch_execute(&set("off")).await.unwrap();
    sink.close().await.unwrap();
    store(&sink, &segment).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_statement_that_takes_too_long_is_a_timeout_and_not_applied() {
    let database = Database::own().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&database.sink(), &chain.extend(1)).await;
    let admin = database.admin().await;
    let hold = "BEGIN; LOCK TABLE agent_audit.audit_heads IN ACCESS EXCLUSIVE MODE";
    admin.batch_execute(hold).await.unwrap();
    let segment = chain.extend(1);
    let short = Duration::from_millis(100);
    let config = || database.config("audit_test_writer").with_partitions_ahead(0);
    for (config, kind) in [
        (
            config().with_statement_timeout(short).with_lock_timeout(short * 100),
            SinkErrorKind::Timeout,
        ),
        (config().with_lock_timeout(short), SinkErrorKind::Unavailable),
    ] {
        let sink = PostgresSink::new(config).unwrap();
        let error = failure(&sink, &segment).await;
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.is_retryable() && !error.maybe_applied(), "{error}");
    }
    admin.batch_execute("ROLLBACK").await.unwrap();
    store(&database.sink(), &segment).await;
    assert_eq!(records(&database.reader(), chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn no_connection_left_is_exhausted() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let create = format!(
        "DROP ROLE IF EXISTS audit_test_limited;
         CREATE ROLE audit_test_limited LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0 IN ROLE audit_writer"
    );
    admin.batch_execute(&create).await.unwrap();
    let sink = PostgresSink::new(database.config("audit_test_limited")).unwrap();
    let error = sink.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Exhausted, "{error}");
    assert!(error.is_retryable());
}

/// Connections are made again, and a session that the server ended is not handed out for ever.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_session_that_the_server_ended_is_made_again() {
    let database = Database::own().await;
    let sink = database.sink();
    let mut chain = TestChain::of(tenant("acme"));
    let admin = database.admin().await;
    for _ in 0..5 {
        store(&sink, &chain.extend(1)).await;
        let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE usename = 'audit_test_writer' AND datname = current_database()";
        assert_eq!(admin.query_one(end, &[]).await.unwrap().get::<_, i64>(0), 1);
        let segment = chain.extend(1);
        let mut tries = 0;
        loop {
            match super::append(&sink, &[&segment]).await.remove(0) {
                agent_audit_core::sink::SegmentOutcome::Accepted => break,
                agent_audit_core::sink::SegmentOutcome::Failed { error } => {
                    assert!(error.is_retryable(), "{error}");
                    assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
                }
                other => panic!("{other:?}"),
            }
            tries += 1;
            assert!(tries < 3, "it is not made again");
        }
    }
    assert_eq!(records(&database.reader(), chain.chain()).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_server_that_does_not_sync_is_refused_by_the_check() {
    let instance = Instance::start("postgres");
    let server = Server::at(instance.variable("AUDIT_TEST_POSTGRES"));
    let database = Database::create(server, "ledger".to_owned()).await;
    database.sink().check().await.unwrap();
    let admin = database.admin().await;
    for setting in ["fsync", "full_page_writes"] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = off")).await.unwrap();
        let reloaded = "SELECT pg_reload_conf()";
        admin.batch_execute(reloaded).await.unwrap();
        let error = loop {
            if let Err(error) = database.sink().check().await {
                break error;
            }
        };
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
        assert!(error.to_string().contains("turn fsync and full_page_writes on"), "{error}");
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting} = on")).await.unwrap();
        admin.batch_execute(reloaded).await.unwrap();
        while database.sink().check().await.is_err() {}
    }
}

/// Events acknowledged before a server is killed are there when it is back.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn what_was_acknowledged_survives_a_killed_server() {
    let instance = Instance::start("postgres");
    let server = Server::at(instance.variable("AUDIT_TEST_POSTGRES"));
    let database = Database::create(server, "ledger".to_owned()).await;
    let sink = database.sink();
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..3 {
        store(&sink, &chain.extend(40)).await;
        instance.kill();
        let segment = chain.extend(1);
        let error = failure(&sink, &segment).await;
        assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
        assert!(error.is_retryable());
        instance.restart();
        let stored = records(&database.reader(), chain.chain()).await;
        assert_eq!(stored, chain.records()[..chain.records().len() - 1]);
        while !matches!(
            super::append(&sink, &[&segment]).await[..],
            [agent_audit_core::sink::SegmentOutcome::Accepted]
        ) {}
    }
    assert_eq!(records(&database.reader(), chain.chain()).await, chain.records());
}

/// A small file system in memory, for the tables of one database.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// None where this user may not mount one.
    fn mount(place: &'a Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "audit-postgres"])
            .arg(place)
            .output();
        if !mounted.is_ok_and(|done| done.status.success()) {
            return None;
        }
        let tables = place.join("tables");
        fs::create_dir(&tables).unwrap();
        let given = Command::new("chown").arg("postgres").arg(&tables).status().unwrap();
        assert!(given.success());
        Some(Self(place))
    }

    /// Takes all but so many bytes.
    fn leave_free(&self, bytes: u64) {
        let mut file = fs::File::create(self.0.join("ballast")).unwrap();
        for block in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![1; block]).is_ok() {}
        }
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(bytes)).unwrap();
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // The server still has files open there: the mount goes when it lets go of them.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_full_disk_is_exhausted_and_nothing_is_half_written() {
    let instance = Instance::start("postgres");
    let place = instance.directory().join("small");
    let Some(disk) = Disk::mount(&place) else {
        let why = "a_full_disk: NOT RUN, this user may not mount a file system";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        // Past the capture of the test runner: what was not tested must be seen.
        writeln!(std::io::stderr(), "{why}").unwrap();
        return;
    };
    let server = Server::at(instance.variable("AUDIT_TEST_POSTGRES"));
    server.prepare("ledger").await;
    let admin = server.admin("postgres").await;
    for sql in [
        format!("CREATE TABLESPACE small LOCATION '{}'", place.join("tables").display()),
        "GRANT CREATE ON TABLESPACE small TO PUBLIC".to_owned(),
        "ALTER DATABASE ledger SET default_tablespace = small".to_owned(),
    ] {
        admin.batch_execute(&sql).await.unwrap();
    }
    let database = Database::with_tables(server, "ledger".to_owned()).await;
    let sink = database.sink();
    let mut full = TestChain::of(tenant("acme"));
    store(&sink, &full.extend(3)).await;
    let before = full.records().to_vec();
    disk.leave_free(256 << 10);
    let noise: Vec<u8> =
        (0..60_000u64).flat_map(|_| *agent_audit_core::id::EventId::new().as_bytes()).collect();
    let segment =
        full.extend_with(vec![Part::new("output", "application/octet-stream", noise).commit()]);
    for _ in 0..2 {
        let error = failure(&sink, &segment).await;
        assert_eq!(error.kind(), SinkErrorKind::Exhausted, "{error}");
        assert!(error.is_retryable() && !error.maybe_applied(), "{error}");
        assert_eq!(records(&database.reader(), full.chain()).await, before);
    }
    // With room again the identical segment goes in.
    disk.make_room();
    store(&sink, &segment).await;
    assert_eq!(records(&database.reader(), full.chain()).await, full.records());
    drop(admin);
    instance.stop();
    drop(disk);
    instance.restart();
}
