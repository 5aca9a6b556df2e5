//! Topics, raw messages and sinks for the tests.

use std::{sync::Arc, time::Duration};

use agent_audit_core::{
    id::{ChainId, TenantId},
    record::Record,
    sink::{Batch, ChainRef, Segment, SegmentOutcome, Sink, SinkError},
};
use agent_audit_kafka::{KafkaConfig, KafkaSink, Ledger, TopicReader};
use agent_audit_test_support::servers::required;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

/// The address of the cluster of this run.
pub(crate) fn brokers() -> String {
    required("AUDIT_TEST_KAFKA")
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A name that nobody else uses, within what the users of the tests may touch.
pub(crate) fn fresh(what: &str) -> String {
    format!("audit-{what}-{}", ChainId::random())
}

/// A fresh topic with this many partitions and this limit for messages.
pub(crate) async fn topic(brokers: &str, partitions: i32, max_message: usize) -> String {
    let name = fresh("events");
    create(brokers, &name, partitions, max_message).await;
    name
}

pub(crate) async fn create(brokers: &str, name: &str, partitions: i32, max_message: usize) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let limit = max_message.to_string();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1))
        .set("max.message.bytes", &limit);
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    for result in admin.create_topics([&topic], &options).await.unwrap() {
        result.unwrap();
    }
}

pub(crate) const ROOM: usize = 16 << 20;

pub(crate) fn config(topic: &str) -> KafkaConfig {
    KafkaConfig::new(brokers()).with_topic(topic).with_message_timeout(Duration::from_secs(20))
}

pub(crate) async fn append(sink: &dyn Sink, segments: &[&Segment]) -> Vec<SegmentOutcome> {
    let batch = Batch::new(segments.iter().map(|segment| (*segment).clone()).collect());
    sink.append(&batch).await.unwrap().outcomes
}

pub(crate) async fn store(sink: &dyn Sink, segment: &Segment) {
    let outcomes = append(sink, &[segment]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
}

pub(crate) async fn failure(sink: &dyn Sink, segment: &Segment) -> SinkError {
    match append(sink, &[segment]).await.remove(0) {
        SegmentOutcome::Failed { error } => error,
        other => panic!("expected a failure, not {other:?}"),
    }
}

/// What a reader finds of a chain in a topic.
pub(crate) fn records(brokers: &str, topic: &str, chain: &ChainRef) -> Vec<Record> {
    let mut reader = TopicReader::open(&KafkaConfig::new(brokers), &[topic]).unwrap();
    let mut ledger = Ledger::default();
    reader
        .read_to_end(&mut |message| {
            let (chain, record) = message.unwrap();
            ledger.take(&chain, record);
        })
        .unwrap();
    ledger.records(chain)
}

pub(crate) fn sink(config: KafkaConfig) -> Arc<KafkaSink> {
    Arc::new(KafkaSink::new(config).unwrap())
}
