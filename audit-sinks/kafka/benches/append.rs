//! Appending through the sink, side by side with rdkafka producing the same messages.
//!
//! `servers/with kafka -- cargo bench -p agent-audit-kafka --bench append` prints events per second
//! of both and the ratio of their times, in JSON and in Protobuf. Both producers are idempotent, ask
//! all replicas, compress with LZ4 and await each batch of 1,000 events; the values of the raw one
//! are made before the clock starts.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::{Duration, Instant};

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    sink::{Batch, SegmentOutcome, Sink as _},
};
use agent_audit_kafka::{
    Encoding, HEADER_ENCODING, HEADER_EVENT_HASH, HEADER_EVENT_TYPE, HEADER_SCHEMA_VERSION,
    HEADER_TENANT, KafkaConfig, KafkaSink,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

const BATCHES: usize = 40;
const CHAINS: usize = 20;
const OF_EACH: usize = 50;
const ROUNDS: usize = 9;

struct Message {
    key: String,
    value: Vec<u8>,
    headers: [(&'static str, String); 5],
}

fn main() {
    let brokers =
        std::env::var("AUDIT_TEST_KAFKA").expect("run: servers/with kafka -- cargo bench");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            compare(&brokers, encoding).await;
        }
    });
}

async fn compare(brokers: &str, encoding: Encoding) {
    let mut chains: Vec<_> = (0..CHAINS).map(|_| TestChain::new()).collect();
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|_| Batch::new(chains.iter_mut().map(|chain| chain.extend(OF_EACH)).collect()))
        .collect();
    let messages: Vec<Vec<Message>> =
        batches.iter().map(|batch| messages(batch, encoding)).collect();
    let bytes: usize = messages.iter().flatten().map(|message| message.value.len()).sum();

    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        // Each goes first as often as the other.
        let (through_sink, directly) = if round % 2 == 0 {
            let sink = through_sink(brokers, encoding, &batches).await;
            (sink, directly(brokers, &messages).await)
        } else {
            let raw = directly(brokers, &messages).await;
            (through_sink(brokers, encoding, &batches).await, raw)
        };
        // The first warms up the broker.
        if round > 0 {
            rounds.push((directly / through_sink, through_sink, directly));
        }
    }
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, through_sink, directly) = rounds[rounds.len() / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (events, size) = ((BATCHES * CHAINS * OF_EACH) as f64, bytes as f64);
    println!("{encoding}: messages of {:.0} bytes, {} a batch", size / events, CHAINS * OF_EACH);
    println!("sink     {:>9.0} events/s", events / through_sink);
    println!("rdkafka  {:>9.0} events/s", events / directly);
    println!("ratio    {ratio:>9.2} (median of {}; at least 0.8 is the aim)", rounds.len());
}

async fn topic(brokers: &str) -> String {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let name = format!("audit-bench-{}", ChainId::random());
    let topic = NewTopic::new(&name, 4, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    admin.create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
    name
}

async fn through_sink(brokers: &str, encoding: Encoding, batches: &[Batch]) -> f64 {
    let config = KafkaConfig::new(brokers).with_topic(topic(brokers).await).with_encoding(encoding);
    let sink = KafkaSink::new(config).unwrap();
    sink.check().await.unwrap();
    let start = Instant::now();
    for batch in batches {
        let ack = sink.append(batch).await.unwrap();
        assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
    }
    start.elapsed().as_secs_f64()
}

async fn directly(brokers: &str, batches: &[Vec<Message>]) -> f64 {
    use rdkafka::producer::Producer as _;

    let topic = topic(brokers).await;
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()
        .unwrap();
    producer.client().fetch_metadata(Some(&topic), Duration::from_secs(20)).unwrap();
    let start = Instant::now();
    for batch in batches {
        let sent: Vec<_> = batch
            .iter()
            .map(|message| {
                let headers = message
                    .headers
                    .iter()
                    .fold(OwnedHeaders::new_with_capacity(5), |headers, (key, value)| {
                        headers.insert(Header { key, value: Some(value) })
                    });
                let record = FutureRecord::to(&topic)
                    .key(&message.key)
                    .payload(&message.value)
                    .headers(headers);
                producer.send_result(record).map_err(|(error, _)| error).unwrap()
            })
            .collect();
        for report in sent {
            report.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
    }
    start.elapsed().as_secs_f64()
}

fn messages(batch: &Batch, encoding: Encoding) -> Vec<Message> {
    let mut messages = Vec::new();
    for segment in batch.segments() {
        for record in segment.records() {
            let view = record.view().unwrap();
            messages.push(Message {
                key: segment.chain().to_string(),
                value: encoding.encode(record).unwrap(),
                headers: [
                    (HEADER_TENANT, view.tenant_id.to_owned()),
                    (HEADER_EVENT_TYPE, view.event_type.to_owned()),
                    (HEADER_EVENT_HASH, record.event_hash().to_string()),
                    (HEADER_SCHEMA_VERSION, view.schema_version.to_owned()),
                    (HEADER_ENCODING, encoding.as_str().to_owned()),
                ],
            });
        }
    }
    messages
}
