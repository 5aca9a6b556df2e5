//! The sinks that a command can write to, by their names.

use std::sync::Arc;

use agent_audit_core::sink::Sink;
use agent_audit_sqlite::SqliteSink;

use crate::failure::Failure;

/// The sinks of a build: names and what stands behind them.
const KNOWN: &[&str] = &[
    "sqlite:DIR",
    #[cfg(feature = "postgres")]
    "postgres",
    #[cfg(feature = "clickhouse")]
    "clickhouse",
    #[cfg(feature = "s3")]
    "s3",
    #[cfg(feature = "otlp")]
    "otlp",
    #[cfg(feature = "kinesis")]
    "kinesis",
    #[cfg(feature = "sqs")]
    "sqs",
];

/// Opens a sink by its name, as the environment sets it up.
pub(crate) async fn open(name: &str) -> Result<Arc<dyn Sink>, Failure> {
    let (kind, rest) = match name.split_once(':') {
        Some((kind, rest)) => (kind, Some(rest)),
        None => (name, None),
    };
    if let ("sqlite", Some(dir)) = (kind, rest.filter(|dir| !dir.is_empty())) {
        return Ok(Arc::new(SqliteSink::open(dir)?));
    }
    if rest.is_some() {
        // A URL on the command line can be read by everybody on the machine, with its password.
        return Err(Failure::new(format!(
            "the sink `{kind}:…` is not known: use one of {}; all but the directory of sqlite comes \
             from the environment",
            KNOWN.join(", ")
        )));
    }
    match kind {
        #[cfg(feature = "postgres")]
        "postgres" => {
            use agent_audit_postgres::{PostgresConfig, PostgresSink};
            Ok(Arc::new(PostgresSink::new(PostgresConfig::from_env()?)?))
        }
        #[cfg(feature = "clickhouse")]
        "clickhouse" => {
            use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink};
            Ok(Arc::new(ClickHouseSink::with_config(ClickHouseConfig::from_env()?)?))
        }
        #[cfg(feature = "s3")]
        "s3" => {
            use agent_audit_s3::{S3Config, S3Sink};
            Ok(Arc::new(S3Sink::open(S3Config::from_env()?).await?))
        }
        #[cfg(feature = "otlp")]
        "otlp" => Ok(Arc::new(agent_audit_otlp::OtlpSink::from_env()?)),
        #[cfg(feature = "kinesis")]
        "kinesis" => {
            use agent_audit_kinesis::{KinesisConfig, KinesisSink};
            Ok(Arc::new(KinesisSink::connect(KinesisConfig::from_env()?).await?))
        }
        #[cfg(feature = "sqs")]
        "sqs" => {
            use agent_audit_sqs::{SqsConfig, SqsSink};
            Ok(Arc::new(SqsSink::connect(SqsConfig::from_env()?).await?))
        }
        _ => Err(Failure::new(format!(
            "the sink `{kind}` is not known: use one of {}, or a build with the feature `{kind}`",
            KNOWN.join(", ")
        ))),
    }
}
