//! A real collector, and what it has written.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use agent_audit_core::{id::ChainId, record::Record, sink::ChainRef};
use agent_audit_otlp::{OtlpConfig, ReceivedEvents};
use agent_audit_test_support::servers::{Instance, required};
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
    pub(crate) const BOTH: [Self; 2] = [Self::Grpc, Self::Http];

    /// A sink at a base URL.
    pub(crate) fn config(self, base: &str) -> OtlpConfig {
        match self {
            Self::Grpc => OtlpConfig::grpc(base),
            Self::Http => OtlpConfig::http(base),
        }
    }
}

/// Where a collector is, and the file that it writes.
#[derive(Debug, Clone)]
pub(crate) struct Collector {
    pub(crate) grpc: String,
    pub(crate) http: String,
    pub(crate) auth_grpc: String,
    pub(crate) auth_http: String,
    pub(crate) token: String,
    file: PathBuf,
}

impl Collector {
    /// The one that the environment names.
    pub(crate) fn shared() -> Self {
        Self::named(&required)
    }

    /// One of a test's own.
    pub(crate) fn of(instance: &Instance) -> Self {
        Self::named(&|name| instance.variable(name).to_owned())
    }

    fn named(variable: &dyn Fn(&str) -> String) -> Self {
        Self {
            grpc: variable("AUDIT_TEST_OTLP_GRPC"),
            http: variable("AUDIT_TEST_OTLP_HTTP"),
            auth_grpc: variable("AUDIT_TEST_OTLP_AUTH_GRPC"),
            auth_http: variable("AUDIT_TEST_OTLP_AUTH_HTTP"),
            token: variable("AUDIT_TEST_OTLP_TOKEN"),
            file: variable("AUDIT_TEST_OTLP_FILE").into(),
        }
    }

    /// A sink for it.
    pub(crate) fn config(&self, way: Way) -> OtlpConfig {
        way.config(match way {
            Way::Grpc => &self.grpc,
            Way::Http => &self.http,
        })
    }

    /// The records of a chain that it has written, in order of their positions, each once.
    pub(crate) async fn records(&self, chain: &ChainRef) -> Vec<Record> {
        self.catch_up().await;
        let mut files = files();
        let received = &files.entry(self.file.clone()).or_default().received;
        let events = received.chain(chain);
        events.map(|(_, bytes)| Record::new(bytes.to_vec(), Vec::new())).collect()
    }

    /// The same in the order in which they came, each as often as it came.
    pub(crate) async fn arrived(&self, chain: &ChainRef) -> Vec<Record> {
        self.catch_up().await;
        let mut files = files();
        let arrived = files.entry(self.file.clone()).or_default().arrived.get(&chain.to_string());
        arrived.into_iter().flatten().map(|b| Record::new(b.clone(), Vec::new())).collect()
    }

    /// The log records that hold this text, as JSON, each with the resource that it came with.
    pub(crate) async fn json(&self, text: &str) -> Vec<(serde_json::Value, serde_json::Value)> {
        self.catch_up().await;
        let written = fs::read_to_string(&self.file).unwrap();
        let mut found = Vec::new();
        for line in written.lines().filter(|line| line.contains(text)) {
            let records = log_records(&serde_json::from_str(line).unwrap());
            found.extend(records.into_iter().filter(|(_, r)| r.to_string().contains(text)));
        }
        found
    }

    /// Reads until everything is read that was acknowledged before: the collector writes in order,
    /// so it is sent a marker, and its file is read up to that.
    async fn catch_up(&self) {
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
        let mut client = LogsServiceClient::connect(self.grpc.clone()).await.unwrap();
        client.export(request).await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !files().entry(self.file.clone()).or_default().read_on(&self.file, &marker) {
            assert!(Instant::now() < deadline, "the collector does not write what it has taken");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Every record of one line, with its resource.
fn log_records(line: &serde_json::Value) -> Vec<(serde_json::Value, serde_json::Value)> {
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut found = Vec::new();
    for resource in list(&line["resourceLogs"]) {
        for scope in list(&resource["scopeLogs"]) {
            let records = list(&scope["logRecords"]).into_iter();
            found.extend(records.map(|record| (resource["resource"].clone(), record)));
        }
    }
    found
}

/// An attribute of a record or resource as the collector writes it.
pub(crate) fn attribute<'a>(of: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let pairs = of["attributes"].as_array().unwrap();
    match pairs.iter().find(|pair| pair["key"] == name) {
        Some(pair) => &pair["value"],
        None => &serde_json::Value::Null,
    }
}

/// What is read of a file so far: it holds what all tests send, and no line is read twice.
#[derive(Default)]
struct File {
    at: u64,
    received: ReceivedEvents,
    /// By stream.
    arrived: HashMap<String, Vec<Vec<u8>>>,
    markers: Vec<String>,
}

static FILES: Mutex<Option<HashMap<PathBuf, File>>> = Mutex::new(None);

struct Files(MutexGuard<'static, Option<HashMap<PathBuf, File>>>);

fn files() -> Files {
    Files(FILES.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Files {
    fn entry(&mut self, file: PathBuf) -> std::collections::hash_map::Entry<'_, PathBuf, File> {
        self.0.get_or_insert_default().entry(file)
    }
}

impl File {
    /// Reads what is new; whether the marker was met.
    fn read_on(&mut self, file: &PathBuf, marker: &str) -> bool {
        let Ok(mut written) = fs::File::open(file) else { return false };
        written.seek(SeekFrom::Start(self.at)).unwrap();
        let mut new = Vec::new();
        written.read_to_end(&mut new).unwrap();
        // The last line may be half written.
        new.truncate(new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        self.at += u64::try_from(new.len()).unwrap();
        for line in std::str::from_utf8(&new).unwrap().lines() {
            self.received.add_line(line).unwrap();
            for (_, record) in log_records(&serde_json::from_str(line).unwrap()) {
                match record["body"]["stringValue"].as_str() {
                    Some(met) if met.starts_with("marker-") => self.markers.push(met.to_owned()),
                    _ => self.arrive(&record),
                }
            }
        }
        self.markers.iter().any(|met| met == marker)
    }

    fn arrive(&mut self, record: &serde_json::Value) {
        let text = |name| attribute(record, name)["stringValue"].as_str();
        let (Some(stream), Some(event)) = (text("audit.stream_id"), text("agent_audit.event"))
        else {
            return;
        };
        self.arrived.entry(stream.to_owned()).or_default().push(event.as_bytes().to_vec());
    }
}
