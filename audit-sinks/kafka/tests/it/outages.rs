//! The cluster goes away and comes back.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    sink::{SegmentOutcome, Sink as _, SinkErrorKind},
};
use agent_audit_kafka::KafkaConfig;
use agent_audit_test_support::servers::Instance;

use crate::cluster;

#[tokio::test]
#[ignore = "starts a Kafka of its own: cargo test -- --include-ignored"]
async fn a_broker_that_is_killed_and_comes_back_has_everything_that_was_acknowledged() {
    let kafka = Instance::start("kafka");
    let brokers = kafka.variable("AUDIT_TEST_KAFKA").to_owned();
    let topic = cluster::topic(&brokers, 2, cluster::ROOM).await;
    let config =
        KafkaConfig::new(&brokers).with_topic(&topic).with_message_timeout(Duration::from_secs(3));
    let sink = cluster::sink(config);
    let mut chain = TestChain::new();
    cluster::store(&*sink, &chain.extend(50)).await;

    kafka.kill();
    let error = sink.check().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let segment = chain.extend(50);
    let error = cluster::failure(&*sink, &segment).await;
    let kinds = [SinkErrorKind::Unavailable, SinkErrorKind::Timeout];
    assert!(kinds.contains(&error.kind()) && error.is_retryable(), "{error}");
    assert!(error.maybe_applied(), "nobody knows: {error}");

    kafka.restart();
    // As delivery does: the identical segment, until it is taken.
    let mut tries = 0;
    loop {
        let outcome = cluster::append(&*sink, &[&segment]).await.remove(0);
        match outcome {
            SegmentOutcome::Accepted => break,
            SegmentOutcome::Failed { error } if error.is_retryable() => {}
            other => panic!("{other:?}"),
        }
        tries += 1;
        assert!(tries < 30, "the broker is back and not found");
    }
    cluster::store(&*sink, &chain.extend(50)).await;
    sink.check().await.unwrap();
    assert_eq!(cluster::records(&brokers, &topic, chain.chain()), chain.records());
}
