//! What the client or the cluster refuses: one segment alone, and with words that help.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Batch, SegmentOutcome, Sink as _, SinkErrorKind},
};
use agent_audit_kafka::KafkaConfig;
use agent_audit_test_support::servers::required;

use crate::cluster::{self, tenant};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_message_too_large_for_the_sink_is_refused_alone() {
    let brokers = cluster::brokers();
    let topic = cluster::topic(&brokers, 1, cluster::ROOM).await;
    too_large(&topic, cluster::config(&topic).with_max_message_bytes(100_000)).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_message_too_large_for_the_topic_is_refused_alone() {
    let brokers = cluster::brokers();
    let topic = cluster::topic(&brokers, 1, 1_048_588).await;
    too_large(&topic, cluster::config(&topic)).await;
}

async fn too_large(topic: &str, config: KafkaConfig) {
    let sink = cluster::sink(config);
    let mut ill = TestChain::of(tenant("acme"));
    let mut sound = TestChain::of(tenant("globex"));
    ill.extend(3);
    // Random, so that it does not become small again by compression.
    let noise: Vec<u8> = (0..3 << 20).map(|_| rand::random()).collect();
    ill.extend_with(vec![Part::new("output", "application/octet-stream", noise).commit()]);
    ill.extend(2);

    let outcomes = cluster::append(&*sink, &[&ill.segment(0..=5), &sound.extend(5)]).await;
    let expected =
        matches!(outcomes[..], [SegmentOutcome::Prefix { through: 2 }, SegmentOutcome::Accepted]);
    assert!(expected, "{outcomes:?}");
    let error = cluster::failure(&*sink, &ill.segment(3..=5)).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected, "{error}");
    assert!(!error.is_retryable() && !error.maybe_applied(), "{error}");
    assert!(error.to_string().contains("max_message_bytes"), "{error}");
    let brokers = cluster::brokers();
    assert_eq!(cluster::records(&brokers, topic, ill.chain())[..3], ill.records()[..3]);
    assert_eq!(cluster::records(&brokers, topic, sound.chain()), sound.records());
    cluster::store(&*sink, &sound.extend(2)).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_topic_that_is_missing_is_waited_for_and_named() {
    let (brokers, prefix) = (cluster::brokers(), cluster::fresh("missing"));
    let of = |name: &str| format!("{prefix}-{name}");
    cluster::create(&brokers, &of("globex"), 1, cluster::ROOM).await;
    let config = cluster::config(&of("{tenant}")).with_message_timeout(Duration::from_secs(8));
    let sink = cluster::sink(config.clone());
    let (mut ill, mut sound) = (TestChain::of(tenant("acme")), TestChain::of(tenant("globex")));
    let segment = ill.extend(3);
    let mut outcomes = cluster::append(&*sink, &[&segment, &sound.extend(2)]).await;
    assert!(matches!(outcomes[1], SegmentOutcome::Accepted), "{outcomes:?}");
    let SegmentOutcome::Failed { error } = outcomes.remove(0) else { panic!("{outcomes:?}") };
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");
    assert!(error.is_retryable() && error.to_string().contains(&of("acme")), "{error}");

    let check = cluster::sink(config.with_topic(of("acme"))).check().await.unwrap_err();
    assert_eq!(check.kind(), SinkErrorKind::Misconfigured, "{check}");
    assert!(check.to_string().contains(&of("acme")), "{check}");

    cluster::create(&brokers, &of("acme"), 1, cluster::ROOM).await;
    let mut tries = 0;
    while !matches!(cluster::append(&*sink, &[&segment]).await[..], [SegmentOutcome::Accepted]) {
        tries += 1;
        assert!(tries < 500, "the topic is there and not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(cluster::records(&brokers, &of("acme"), ill.chain()), ill.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA_SASL: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_wrong_password_is_an_error_of_check_and_append_that_does_not_show_it() {
    let topic = cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await;
    let mut config = cluster::config(&topic).with_message_timeout(Duration::from_secs(3));
    config.brokers = required("AUDIT_TEST_KAFKA_SASL");
    let sink = cluster::sink(config.clone().with_sasl(
        "PLAIN",
        "writer",
        "wrong-secret".to_owned().into(),
    ));
    let check = sink.check().await.unwrap_err();
    assert_eq!(check.kind(), SinkErrorKind::Unauthenticated, "{check}");
    let batch = Batch::new(vec![TestChain::new().extend(2), TestChain::new().extend(2)]);
    let append = sink.append(&batch).await.unwrap_err();
    assert_eq!(append.kind(), SinkErrorKind::Unauthenticated, "{append}");
    assert!(!append.is_retryable() && !check.is_retryable(), "a person has to mend that");
    let shown = format!("{check} {check:?} {append} {append:?} {sink:?}");
    assert!(!shown.contains("wrong-secret"), "{shown}");
    // The right one works.
    let sink =
        cluster::sink(config.with_sasl("PLAIN", "writer", "writer-secret".to_owned().into()));
    sink.check().await.unwrap();
    cluster::store(&*sink, &TestChain::new().extend(2)).await;
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_KAFKA_SASL: servers/with kafka -- cargo test -- --include-ignored"]
async fn who_may_only_read_or_nothing_cannot_write() {
    let topic = cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await;
    let mut config = cluster::config(&topic).with_message_timeout(Duration::from_secs(5));
    config.brokers = required("AUDIT_TEST_KAFKA_SASL");
    for (user, reads) in [("relay", true), ("nobody", false)] {
        let password = format!("{user}-secret");
        let sink = cluster::sink(config.clone().with_sasl("PLAIN", user, password.into()));
        let error = cluster::failure(&*sink, &TestChain::new().extend(2)).await;
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{user}: {error}");
        assert!(error.to_string().contains("grant WRITE"), "{error}");
        if !reads {
            let error = sink.check().await.unwrap_err();
            assert_eq!(error.kind(), SinkErrorKind::PermissionDenied, "{user}: {error}");
        }
    }
}
