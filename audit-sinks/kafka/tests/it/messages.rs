//! What a message looks like to those who read the topic with their own tools.

use std::{collections::HashMap, time::Duration};

use agent_audit_core::{conformance::TestChain, sink::Sink as _};
use agent_audit_kafka::{Compression, Encoding, KafkaConfig, Ledger, TopicReader, decode};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    message::{Headers as _, OwnedMessage},
};

use crate::cluster::{self, tenant};

/// The messages of a topic with one partition.
fn raw(topic: &str, count: usize) -> Vec<OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster::brokers())
        .set("group.id", cluster::fresh("raw"))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.push(consumer.poll(Duration::from_secs(20)).unwrap().unwrap().detach());
    }
    messages
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn key_headers_and_value_say_what_the_event_says() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let topic = cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await;
        let sink = cluster::sink(cluster::config(&topic).with_encoding(encoding));
        let mut chain = TestChain::of(tenant("acme"));
        cluster::store(&*sink, &chain.extend(12)).await;
        for (message, record) in raw(&topic, 12).iter().zip(chain.records()) {
            let view = record.view().unwrap();
            assert_eq!(message.key().unwrap(), chain.chain().to_string().as_bytes());
            assert_eq!(decode(message.payload().unwrap()).unwrap(), *record);
            let headers: HashMap<_, _> = message
                .headers()
                .unwrap()
                .iter()
                .map(|header| (header.key, std::str::from_utf8(header.value.unwrap()).unwrap()))
                .collect();
            let hash = record.event_hash().to_string();
            let expected = HashMap::from([
                ("audit-tenant", "acme"),
                ("audit-event-type", view.event_type),
                ("audit-event-hash", &hash),
                ("audit-schema-version", view.schema_version),
                ("audit-encoding", encoding.as_str()),
            ]);
            assert_eq!(headers, expected);
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn each_tenant_has_a_topic_of_its_own_where_the_template_says_so() {
    let (brokers, prefix) = (cluster::brokers(), cluster::fresh("of"));
    let mut chains = ["acme", "globex"].map(|name| TestChain::of(tenant(name)));
    for chain in &chains {
        let name = format!("{prefix}-{}", chain.chain().tenant_id);
        cluster::create(&brokers, &name, 2, cluster::ROOM).await;
    }
    let sink = cluster::sink(cluster::config(&format!("{prefix}-{{tenant}}")));
    sink.check().await.unwrap();
    let [first, second] = &mut chains;
    let segments = [first.extend(5), second.extend(3)];
    let outcomes = cluster::append(&*sink, &[&segments[0], &segments[1]]).await;
    assert!(format!("{outcomes:?}") == "[Accepted, Accepted]", "{outcomes:?}");
    for (chain, other) in [(&*first, &*second), (&*second, &*first)] {
        let topic = format!("{prefix}-{}", chain.chain().tenant_id);
        assert_eq!(cluster::records(&brokers, &topic, chain.chain()), chain.records());
        assert!(cluster::records(&brokers, &topic, other.chain()).is_empty());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn every_compression_is_read_back() {
    let topic = cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await;
    let mut chain = TestChain::new();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Gzip] {
        let sink = cluster::sink(cluster::config(&topic).with_compression(compression));
        cluster::store(&*sink, &chain.extend(20)).await;
    }
    assert_eq!(cluster::records(&cluster::brokers(), &topic, chain.chain()), chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_chain_stays_in_one_partition_and_in_order() {
    let brokers = cluster::brokers();
    let topic = cluster::topic(&brokers, 8, cluster::ROOM).await;
    let sink = cluster::sink(cluster::config(&topic));
    let mut chains: Vec<_> = (0..40).map(|_| TestChain::new()).collect();
    for _ in 0..5 {
        let segments: Vec<_> = chains.iter_mut().map(|chain| chain.extend(7)).collect();
        let outcomes = cluster::append(&*sink, &segments.iter().collect::<Vec<_>>()).await;
        assert_eq!(format!("{outcomes:?}").matches("Accepted").count(), 40, "{outcomes:?}");
    }
    let mut next: HashMap<_, u64> = HashMap::new();
    let mut ledger = Ledger::default();
    let mut reader = TopicReader::open(&KafkaConfig::new(brokers), &[&topic]).unwrap();
    reader
        .read_to_end(&mut |message| {
            let (chain, record) = message.unwrap();
            let expected = next.entry(chain.clone()).or_default();
            assert_eq!(record.view().unwrap().sequence, *expected, "{chain}");
            *expected += 1;
            ledger.take(&chain, record);
        })
        .unwrap();
    for chain in &chains {
        assert_eq!(ledger.records(chain.chain()), chain.records());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_batch_larger_than_the_buffer_waits_for_its_own_beginning() {
    let topic = cluster::topic(&cluster::brokers(), 2, cluster::ROOM).await;
    let config =
        cluster::config(&topic).with_max_message_bytes(100_000).with_max_buffered_bytes(100_000);
    let sink = cluster::sink(config);
    let mut chain = TestChain::new();
    cluster::store(&*sink, &chain.extend(1_000)).await;
    let bytes: usize = chain.records().iter().map(|record| record.to_bytes().len()).sum();
    assert!(bytes > 500_000, "it is larger by far: {bytes}");
    assert_eq!(cluster::records(&cluster::brokers(), &topic, chain.chain()), chain.records());
}
