//! What each mode of libpq encrypts, and whom it trusts.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
};

use agent_audit_core::sink::{Sink, SinkErrorKind};
use agent_audit_postgres::{PostgresConfig, PostgresSink, SslMode};
use agent_audit_test_support::servers::Instance;

use super::database::{Database, PASSWORD, Server};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn each_mode_encrypts_and_trusts_as_libpq_says() {
    use SslMode::{Disable, Prefer, Require, VerifyCa, VerifyFull};

    let instance = Instance::start("postgres");
    let server = Server::at(instance.variable("AUDIT_TEST_POSTGRES"));
    let authority = instance.variable("AUDIT_TEST_POSTGRES_CA");
    let stranger = instance.directory().join("stranger.pem");
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args(["-subj", "/CN=somebody else", "-keyout", "/dev/null", "-out"])
        .arg(&stranger)
        .output()
        .unwrap();
    assert!(made.status.success());
    let stranger = stranger.to_str().unwrap();
    let database = Database::create(server, "ledger".to_owned()).await;
    let admin = database.admin().await;
    let (own, other) = ("localhost", "db.example.com");
    for (at, (mode, roots, host, encrypted)) in [
        (Some(Disable), None, own, Ok(false)),
        (None, None, own, Ok(true)),
        (Some(Prefer), None, other, Ok(true)),
        (Some(Prefer), Some(stranger), other, Ok(true)),
        (Some(Require), None, other, Ok(true)),
        (Some(Require), Some(authority), other, Ok(true)),
        (Some(Require), Some(stranger), own, Err(SinkErrorKind::Misconfigured)),
        (Some(VerifyCa), Some(authority), other, Ok(true)),
        (Some(VerifyCa), Some(stranger), own, Err(SinkErrorKind::Misconfigured)),
        (Some(VerifyFull), Some(authority), own, Ok(true)),
        (Some(VerifyFull), Some(authority), "127.0.0.1", Ok(true)),
        (Some(VerifyFull), Some(authority), other, Err(SinkErrorKind::Misconfigured)),
        (Some(VerifyFull), Some(stranger), own, Err(SinkErrorKind::Misconfigured)),
        (None, Some(authority), other, Err(SinkErrorKind::Misconfigured)),
    ]
    .into_iter()
    .enumerate()
    {
        let port = database.server.port;
        let url = format!(
            "postgres://audit_test_writer@{host}:{port}/ledger?hostaddr=127.0.0.1&application_name=tls-{at}"
        );
        let mut config = PostgresConfig::new(url).with_password(PASSWORD);
        config.ssl_mode = mode;
        config.root_certificates = roots.map(Into::into);
        let sink = PostgresSink::new(config).unwrap();
        let checked = sink.check().await;
        match encrypted {
            Ok(encrypted) => {
                checked.unwrap_or_else(|error| panic!("case {at}: {error}"));
                let sql = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                           WHERE application_name = $1";
                let row = admin.query_one(sql, &[&format!("tls-{at}")]).await.unwrap();
                assert_eq!(row.get::<_, bool>(0), encrypted, "case {at}");
            }
            Err(kind) => {
                let error = checked.unwrap_err();
                assert_eq!(error.kind(), kind, "case {at}: {error}");
                assert!(
                    error.to_string().contains("certificate is not trusted"),
                    "case {at}: {error}"
                );
            }
        }
    }
}

/// A server that answers the question for TLS with no.
#[tokio::test]
async fn a_server_without_tls_is_not_spoken_to_in_the_clear() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = [0; 8];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(b"N").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        rest
    });
    let url = format!("postgres://agent:{PASSWORD}@127.0.0.1:{port}/ledger?sslmode=require");
    let sink = PostgresSink::new(PostgresConfig::new(url)).unwrap();
    let error = sink.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("offers no TLS"), "{error}");
    drop(sink);
    assert!(server.join().unwrap().is_empty(), "nothing was said in the clear");
}

#[test]
fn certificates_that_cannot_be_read_are_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, empty) = (dir.path().join("missing.pem"), dir.path().join("empty.pem"));
    std::fs::write(&empty, "no certificate").unwrap();
    for file in [missing, empty] {
        let config = PostgresConfig::new("postgres://db/ledger").with_root_certificates(&file);
        let error = PostgresSink::new(config).unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
