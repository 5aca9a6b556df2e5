//! Appending through the sink, side by side with the client of the server's makers inserting the same
//! rows.
//!
//! `servers/with clickhouse -- cargo bench -p agent-audit-clickhouse --bench append` prints events per
//! second of both and the ratio of their times. Both insert batches of the same size, content first
//! and events second, into the same tables, and wait for each. The sink looks at the table before and
//! after each batch as well, which the client does not.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a measurement")]

use std::time::Instant;

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink, ClickHouseStore};
use agent_audit_core::{
    columns::{COLUMNS, Columns, Value},
    conformance::TestChain,
    content::PartBody,
    hash::Hash,
    id::{ChainId, TenantId},
    sink::{Batch, Segment, SegmentOutcome, Sink},
};
use clickhouse::{Client, Compression, Row};
use serde::Serialize;

const EVENTS: u64 = 20_000;
const ROUNDS: usize = 7;

fn main() {
    let Ok(url) = std::env::var("AUDIT_TEST_CLICKHOUSE") else {
        println!("AUDIT_TEST_CLICKHOUSE is not set: servers/with clickhouse -- cargo bench …");
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for batch in [1_000, 10_000] {
        runtime.block_on(compare(&url, batch));
    }
}

async fn compare(url: &str, size: u64) {
    let mut chain = TestChain::of(TenantId::new("acme").unwrap());
    chain.extend(usize::try_from(EVENTS).unwrap());
    let batches: Vec<Batch> = (0..EVENTS / size)
        .map(|at| Batch::new(vec![chain.segment(at * size..=(at + 1) * size - 1)]))
        .collect();
    let bytes: usize = chain.records().iter().map(|record| record.to_bytes().len()).sum();

    let mut ratios = Vec::new();
    let mut on_disk = (0, 0);
    for _ in 0..ROUNDS {
        let (name, raw) = database(url).await;
        let sink = ClickHouseSink::with_config(
            ClickHouseConfig::new(url).with_database(&name).with_max_batch(10_000, usize::MAX),
        )
        .unwrap();
        sink.check().await.unwrap();
        let start = Instant::now();
        for batch in &batches {
            let ack = sink.append(batch).await.unwrap();
            assert!(matches!(ack.outcomes[..], [SegmentOutcome::Accepted]), "{ack:?}");
        }
        let through_sink = start.elapsed().as_secs_f64();
        on_disk = bytes_on_disk(&raw, &name).await;
        drop_database(&raw, &name).await;

        let (name, raw) = database(url).await;
        // Learns the types of the columns, as it does once.
        insert(&raw, &chain.segment(0..=0)).await;
        truncate(&raw).await;
        let start = Instant::now();
        for batch in &batches {
            insert(&raw, &batch.segments()[0]).await;
        }
        let directly = start.elapsed().as_secs_f64();
        let stored: u64 =
            raw.query("SELECT toUInt64(count()) FROM audit_events").fetch_one().await.unwrap();
        assert_eq!(stored, EVENTS);
        drop_database(&raw, &name).await;
        ratios.push((directly / through_sink, through_sink, directly));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, through_sink, directly) = ratios[ROUNDS / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (events, bytes) = (EVENTS as f64, bytes as f64);
    println!("events of {:.0} bytes with their content, {size} a batch", bytes / events);
    println!("on disk  {:>9} bytes an event, {} for its content", on_disk.0, on_disk.1);
    println!("sink     {:>9.0} events/s", events / through_sink);
    println!("client   {:>9.0} events/s", events / directly);
    println!("ratio    {ratio:>9.2} (median of {ROUNDS}; at least 0.8 is the aim)");
}

async fn database(url: &str) -> (String, Client) {
    let name = format!("bench_{}", ChainId::random().to_string().replace('-', ""));
    let config = ClickHouseConfig::new(url).with_database(&name);
    ClickHouseStore::new(config).unwrap().migrate().await.unwrap();
    let (credentials, host) = url.split_once("://").unwrap().1.rsplit_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let raw = Client::default()
        .with_url(format!("http://{host}"))
        .with_user(user)
        .with_password(password)
        .with_compression(Compression::None)
        .with_database(&name);
    (name, raw)
}

/// Bytes on disk for each event: of the row of the event, and of its content.
async fn bytes_on_disk(raw: &Client, name: &str) -> (u64, u64) {
    let mut sizes = [0, 0];
    for (table, size) in ["audit_events", "audit_content"].iter().zip(&mut sizes) {
        raw.query(&format!("OPTIMIZE TABLE {table} FINAL")).execute().await.unwrap();
        let bytes: u64 = raw
            .query(&format!(
                "SELECT toUInt64(sum(bytes_on_disk)) FROM system.parts \
                 WHERE active AND database = '{name}' AND table = '{table}'"
            ))
            .fetch_one()
            .await
            .unwrap();
        *size = bytes / EVENTS;
    }
    sizes.into()
}

async fn truncate(raw: &Client) {
    for table in ["audit_events", "audit_content"] {
        raw.query(&format!("TRUNCATE TABLE {table}")).execute().await.unwrap();
    }
}

async fn drop_database(raw: &Client, name: &str) {
    let raw = raw.clone().with_database("default");
    raw.query(&format!("DROP DATABASE {name}")).execute().await.unwrap();
}

#[derive(Row, Serialize)]
struct EventRow<'a> {
    tenant_id: &'a str,
    chain_id: &'a str,
    sequence: i64,
    #[serde(with = "serde_bytes_32")]
    event_hash: &'a [u8],
    event_id: &'a str,
    event_type: &'a str,
    session_id: &'a str,
    agent_id: &'a str,
    timestamp_utc: i64,
    occurred_at: Option<i64>,
    parent_event_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    span_id: Option<&'a str>,
    subject_id: Option<&'a str>,
    writer_id: Option<&'a str>,
    status: Option<&'a str>,
    provider: Option<&'a str>,
    model: Option<&'a str>,
    requested_model: Option<&'a str>,
    model_version: Option<&'a str>,
    tool_name: Option<&'a str>,
    call_id: Option<&'a str>,
    approval_event_id: Option<&'a str>,
    review_id: Option<&'a str>,
    reviewer_id: Option<&'a str>,
    decision: Option<&'a str>,
    presented_event_id: Option<&'a str>,
    decided_after_us: Option<i64>,
    parent_session_id: Option<&'a str>,
    spawned_by: Option<&'a str>,
    #[serde(rename = "external_ids.key")]
    external_keys: Vec<&'a str>,
    #[serde(rename = "external_ids.value")]
    external_values: Vec<&'a str>,
    event: Bytes<'a>,
}

#[derive(Row, Serialize)]
struct ContentRow<'a> {
    tenant_id: &'a str,
    chain_id: &'a str,
    sequence: i64,
    #[serde(with = "serde_bytes_32")]
    event_hash: &'a [u8],
    ordinal: u32,
    name: &'a str,
    media_type: &'a str,
    purge_after: u32,
    state: &'a str,
    kept: u8,
    salt: Bytes<'a>,
    bytes: Bytes<'a>,
    key_id: &'a str,
    algorithm: u8,
    nonce: Bytes<'a>,
    absent_reason: &'a str,
    absent_at: Option<u64>,
    absent_evidence: Option<&'a str>,
}

/// Bytes as a `String` of the server.
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// 32 bytes as a `FixedString(32)` of the server.
mod serde_bytes_32 {
    use serde::{Serializer, ser::SerializeTuple as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(bytes.len())?;
        for byte in bytes {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

/// The rows of a segment, by the client: what its own documentation shows.
async fn insert(raw: &Client, segment: &Segment) {
    let chain = segment.chain();
    let mut content = raw.insert::<ContentRow<'_>>("audit_content").await.unwrap();
    for (sequence, hash, record) in segment.iter() {
        let columns = Columns::of(record.event_bytes()).unwrap();
        for ((ordinal, (name, media_type)), body) in (0..).zip(columns.parts()).zip(record.parts())
        {
            let PartBody::Clear { salt, bytes } = body else { panic!("all of it is clear") };
            let row = ContentRow {
                tenant_id: chain.tenant_id.as_str(),
                chain_id: chain.chain_id.as_str(),
                sequence: i64::try_from(sequence).unwrap(),
                event_hash: hash.as_bytes(),
                ordinal,
                name,
                media_type,
                purge_after: u32::MAX,
                state: "clear",
                kept: 1,
                salt: Bytes(salt.as_bytes()),
                bytes: Bytes(bytes),
                key_id: "",
                algorithm: 0,
                nonce: Bytes(&[]),
                absent_reason: "",
                absent_at: None,
                absent_evidence: None,
            };
            content.write(&row).await.unwrap();
        }
    }
    content.end().await.unwrap();
    let mut events = raw.insert::<EventRow<'_>>("audit_events").await.unwrap();
    for (_, hash, record) in segment.iter() {
        let columns = Columns::of(record.event_bytes()).unwrap();
        events
            .write(&event_row(chain.tenant_id.as_str(), &columns, hash, record.event_bytes()))
            .await
            .unwrap();
    }
    events.end().await.unwrap();
}

fn event_row<'a>(
    tenant: &'a str,
    columns: &'a Columns<'a>,
    hash: &'a Hash,
    event: &'a [u8],
) -> EventRow<'a> {
    let values: [Value<'a>; COLUMNS.len()] = columns.values(hash);
    let text = |at: usize| values[at].as_text();
    let integer = |at: usize| values[at].as_integer();
    EventRow {
        tenant_id: tenant,
        chain_id: text(0).unwrap(),
        sequence: integer(1).unwrap(),
        event_hash: hash.as_bytes(),
        event_id: text(3).unwrap(),
        event_type: text(4).unwrap(),
        session_id: text(5).unwrap(),
        agent_id: text(6).unwrap(),
        timestamp_utc: integer(7).unwrap(),
        occurred_at: integer(8),
        parent_event_id: text(9),
        trace_id: text(10),
        span_id: text(11),
        subject_id: text(12),
        writer_id: text(13),
        status: text(14),
        provider: text(15),
        model: text(16),
        requested_model: text(17),
        model_version: text(18),
        tool_name: text(19),
        call_id: text(20),
        approval_event_id: text(21),
        review_id: text(22),
        reviewer_id: text(23),
        decision: text(24),
        presented_event_id: text(25),
        decided_after_us: integer(26),
        parent_session_id: text(27),
        spawned_by: text(28),
        external_keys: columns.external_ids().map(|(key, _)| key).collect(),
        external_values: columns.external_ids().map(|(_, value)| value).collect(),
        event: Bytes(event),
    }
}
