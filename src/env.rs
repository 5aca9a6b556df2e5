//! A log and its sinks, as the environment says.

use std::{path::Path, sync::Arc};

use agent_audit_core::{
    delivery::{NamedSink, Role},
    error::AuditError,
    log::AuditLogBuilder,
    sink::{Sink, SinkError},
};

/// The kinds of sinks that this build knows.
const KNOWN: &[&str] = &[
    #[cfg(feature = "clickhouse")]
    "clickhouse",
    #[cfg(feature = "kafka")]
    "kafka",
    #[cfg(feature = "kinesis")]
    "kinesis",
    #[cfg(feature = "otlp")]
    "otlp",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "s3")]
    "s3",
    #[cfg(feature = "sqlite")]
    "sqlite",
    #[cfg(feature = "sqs")]
    "sqs",
];

/// A log and its sinks as the environment says, ready to be opened.
///
/// - [`AuditLogBuilder::from_env`] says which variables describe the log; `AGENT_AUDIT_DIR` must be
///   set.
/// - `AGENT_AUDIT_SINKS` names the required sinks, `AGENT_AUDIT_OPTIONAL_SINKS` the
///   [optional](crate::delivery#optional-sinks) ones: kinds separated by commas, as `sqlite,kafka`.
///   A kind is the name of the feature that adds it.
/// - Each sink reads its own variables: see `from_env` of its configuration. `sqlite` keeps its
///   databases in the log's directory, where nothing else is said.
///
/// ```
/// # pollster::block_on(async {
/// // Nothing is set here.
/// let error = agent_audit::builder_from_env().await.unwrap_err();
/// assert!(error.to_string().contains("AGENT_AUDIT_DIR"));
/// # });
/// ```
///
/// # Errors
/// [`Invalid`](crate::AuditErrorKind::Invalid) where a variable is missing or does not say what it
/// should, or this program was built without a sink that is named. What a sink says where it cannot
/// be set up.
pub async fn builder_from_env() -> Result<AuditLogBuilder, AuditError> {
    let mut builder = AuditLogBuilder::from_env()?;
    for named in NamedSink::from_env()? {
        let made = make(named.kind(), builder.dir()).await;
        let sink = made.ok_or_else(|| named.unknown(KNOWN))?;
        let sink = sink.map_err(|error| named.failed(error))?;
        builder = match named.role() {
            Role::Optional => builder.with_optional_sink(sink),
            _ => builder.with_sink(sink),
        };
    }
    Ok(builder)
}

/// A sink of a kind; none where this build does not know it.
async fn make(kind: &str, dir: &Path) -> Option<Result<Arc<dyn Sink>, SinkError>> {
    // Some builds know no sink at all.
    let _ = dir;
    match kind {
        #[cfg(feature = "clickhouse")]
        "clickhouse" => Some(shared(clickhouse())),
        #[cfg(feature = "kafka")]
        "kafka" => Some(shared(agent_audit_kafka::KafkaSink::from_env())),
        #[cfg(feature = "kinesis")]
        "kinesis" => Some(shared(kinesis().await)),
        #[cfg(feature = "otlp")]
        "otlp" => Some(shared(agent_audit_otlp::OtlpSink::from_env())),
        #[cfg(feature = "postgres")]
        "postgres" => Some(shared(postgres())),
        #[cfg(feature = "s3")]
        "s3" => Some(shared(s3().await)),
        #[cfg(feature = "sqlite")]
        "sqlite" => Some(shared(sqlite(dir))),
        #[cfg(feature = "sqs")]
        "sqs" => Some(shared(sqs().await)),
        _ => None,
    }
}

#[allow(dead_code, reason = "some builds know no sink at all")]
fn shared<S: Sink + 'static>(made: Result<S, SinkError>) -> Result<Arc<dyn Sink>, SinkError> {
    made.map(|sink| Arc::new(sink) as Arc<dyn Sink>)
}

#[cfg(feature = "clickhouse")]
fn clickhouse() -> Result<agent_audit_clickhouse::ClickHouseSink, SinkError> {
    use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink};
    ClickHouseConfig::from_env().and_then(ClickHouseSink::with_config)
}

#[cfg(feature = "kinesis")]
async fn kinesis() -> Result<agent_audit_kinesis::KinesisSink, SinkError> {
    use agent_audit_kinesis::{KinesisConfig, KinesisSink};
    KinesisSink::connect(KinesisConfig::from_env()?).await
}

#[cfg(feature = "postgres")]
fn postgres() -> Result<agent_audit_postgres::PostgresSink, SinkError> {
    use agent_audit_postgres::{PostgresConfig, PostgresSink};
    PostgresConfig::from_env().and_then(PostgresSink::new)
}

#[cfg(feature = "s3")]
async fn s3() -> Result<agent_audit_s3::S3Sink, SinkError> {
    use agent_audit_s3::{S3Config, S3Sink};
    S3Sink::open(S3Config::from_env()?).await
}

#[cfg(feature = "sqlite")]
fn sqlite(dir: &Path) -> Result<agent_audit_sqlite::SqliteSink, SinkError> {
    use agent_audit_sqlite::{SqliteConfig, SqliteSink};
    let usual = agent_audit_core::log::Layout::new(dir).sqlite();
    SqliteConfig::from_env(usual).and_then(SqliteSink::with_config)
}

#[cfg(feature = "sqs")]
async fn sqs() -> Result<agent_audit_sqs::SqsSink, SinkError> {
    use agent_audit_sqs::{SqsConfig, SqsSink};
    SqsSink::connect(SqsConfig::from_env()?).await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use std::{path::PathBuf, process::Command, time::Duration};

    use super::*;

    /// Runs a test of this file once more, in a process that has these variables alone of ours.
    fn run_with(test: &str, variables: &[(&str, &str)]) {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "--nocapture", &format!("env::tests::{test}")]);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AGENT_AUDIT_") {
                child.env_remove(name);
            }
        }
        let output = child.envs(variables.iter().copied()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{variables:?}: {text}");
    }

    fn built() -> Result<AuditLogBuilder, AuditError> {
        pollster::block_on(builder_from_env())
    }

    /// The directory of the log, in a process that was started by the test itself.
    fn told() -> Option<PathBuf> {
        std::env::var_os("AGENT_AUDIT_DIR").map(PathBuf::from)
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn a_log_opens_with_the_sinks_that_the_environment_names() {
        let Some(dir) = told() else {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            for variable in ["AGENT_AUDIT_SINKS", "AGENT_AUDIT_OPTIONAL_SINKS"] {
                let variables = [("AGENT_AUDIT_DIR", path.to_str().unwrap()), (variable, "sqlite")];
                run_with("a_log_opens_with_the_sinks_that_the_environment_names", &variables);
            }
            return;
        };
        let log = built().unwrap().open().unwrap();
        let health = log.health();
        let optional = std::env::var_os("AGENT_AUDIT_OPTIONAL_SINKS").is_some();
        assert_eq!((health.len(), health[0].kind), (1, "sqlite"));
        assert_eq!(health[0].is_required(), !optional);
        let session = log.session("acme", "s", "a").unwrap();
        session.record_blocking(crate::event::Other::custom("note").unwrap()).unwrap();
        let report = log.close_blocking(Duration::from_secs(60)).unwrap();
        assert!(report.is_complete() && report.undelivered.is_empty());
        assert!(dir.join("sqlite/acme.sqlite3").exists());
    }

    #[test]
    fn a_sink_that_nobody_here_knows_is_an_error_that_says_what_there_is() {
        if told().is_none() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().to_str().unwrap();
            let variables = [("AGENT_AUDIT_DIR", path), ("AGENT_AUDIT_SINKS", "pigeon")];
            let test = "a_sink_that_nobody_here_knows_is_an_error_that_says_what_there_is";
            return run_with(test, &variables);
        }
        let text = built().unwrap_err().to_string();
        assert!(text.contains("AGENT_AUDIT_SINKS") && text.contains("pigeon"), "{text}");
        for known in KNOWN {
            assert!(text.contains(known), "{text}");
        }
    }

    #[test]
    fn every_kind_that_is_known_can_be_made_or_says_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for kind in KNOWN {
            let made = runtime.block_on(make(kind, dir.path()));
            match made.unwrap_or_else(|| panic!("{kind} is listed and not known")) {
                Ok(sink) => assert_eq!(sink.info().kind, *kind),
                Err(error) => assert!(!error.to_string().is_empty(), "{kind}"),
            }
        }
        assert!(runtime.block_on(make("pigeon", dir.path())).is_none());
    }
}
