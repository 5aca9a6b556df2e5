//! The collector that the environment names, and what it has written.

use std::{
    env, fs,
    io::{Read, Seek, SeekFrom},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use agent_audit_core::{id::ChainId, record::Record, sink::ChainRef};
use agent_audit_otlp::{OtlpConfig, ReceivedEvents};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
};

/// Which way a test goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Grpc,
    Http,
}

impl Way {
    /// A sink for the real collector.
    pub(crate) fn config(self) -> OtlpConfig {
        match self {
            Self::Grpc => OtlpConfig::grpc(variable("AUDIT_TEST_OTLP_GRPC")),
            Self::Http => OtlpConfig::http(variable("AUDIT_TEST_OTLP_HTTP")),
        }
    }
}

pub(crate) fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: servers/with otlp -- cargo test -- --include-ignored")
    })
}

/// The records of a chain that the collector has written, in order, each once.
pub(crate) async fn records(chain: &ChainRef) -> Vec<Record> {
    catch_up().await;
    let file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let events = file.as_ref().unwrap().received.chain(chain);
    events.map(|(_, bytes)| Record::new(bytes.to_vec(), Vec::new())).collect()
}

/// The log records that hold this text, as JSON, each with the resource that it came with.
pub(crate) async fn json(text: &str) -> Vec<(serde_json::Value, serde_json::Value)> {
    catch_up().await;
    let written = fs::read_to_string(variable("AUDIT_TEST_OTLP_FILE")).unwrap();
    let mut found = Vec::new();
    for line in written.lines().filter(|line| line.contains(text)) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for resource in line["resourceLogs"].as_array().unwrap() {
            for scope in resource["scopeLogs"].as_array().unwrap() {
                for record in scope["logRecords"].as_array().unwrap() {
                    if record.to_string().contains(text) {
                        found.push((resource["resource"].clone(), record.clone()));
                    }
                }
            }
        }
    }
    found
}

/// What is read of the file so far: it holds what all tests send, and no line is read twice.
struct File {
    at: u64,
    received: ReceivedEvents,
    /// The last line of each barrier that was met.
    markers: Vec<String>,
}

static FILE: Mutex<Option<File>> = Mutex::new(None);

/// Reads until everything is read that was acknowledged before: the collector writes in order, so
/// it sends a marker of its own and reads up to it.
async fn catch_up() {
    let marker = format!("marker-{}", ChainId::random());
    let record = LogRecord {
        body: Some(AnyValue { value: Some(Value::StringValue(marker.clone())) }),
        ..LogRecord::default()
    };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            scope_logs: vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    };
    let mut client = LogsServiceClient::connect(variable("AUDIT_TEST_OTLP_GRPC")).await.unwrap();
    client.export(request).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !read_on(&marker) {
        assert!(Instant::now() < deadline, "the collector does not write what it has taken");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Reads what is new; whether the marker was met.
fn read_on(marker: &str) -> bool {
    let mut file = FILE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = file.get_or_insert_with(|| File {
        at: 0,
        received: ReceivedEvents::new(),
        markers: Vec::new(),
    });
    let mut written = fs::File::open(variable("AUDIT_TEST_OTLP_FILE")).unwrap();
    written.seek(SeekFrom::Start(file.at)).unwrap();
    let mut new = Vec::new();
    written.read_to_end(&mut new).unwrap();
    // The last line may be half written.
    new.truncate(new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    file.at += u64::try_from(new.len()).unwrap();
    for line in std::str::from_utf8(&new).unwrap().lines() {
        match line.split_once("marker-") {
            Some((_, rest)) if line.len() < 400 => file.markers.push(rest.to_owned()),
            _ => file.received.add_line(line).unwrap(),
        }
    }
    let name = marker.trim_start_matches("marker-");
    let met = file.markers.iter().any(|met| met.starts_with(name));
    file.markers.retain(|met| !met.starts_with(name));
    met
}
