//! The documented policies, on the emulator that checks policies.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_kinesis::{KinesisReader, KinesisSink};
use agent_audit_test_support::aws::user_with_policy;

use crate::{
    failure, in_order, store,
    stream::{REGION, Stream, guarded_emulator, rest},
};

const WRITER: &str = include_str!("../../policies/writer.json");
const READER: &str = include_str!("../../policies/reader.json");

/// A key of a user with a policy for this stream and bucket alone.
fn user(stream: &Stream, role: &str, policy: &str) -> (String, String) {
    let policy = policy
        .replace("REGION", REGION)
        .replace("ACCOUNT", "000000000000")
        .replace("STREAM", &stream.name)
        .replace("BUCKET", &stream.bucket);
    user_with_policy(stream.at, &format!("{}-{role}", stream.name), &policy)
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_writer_puts_and_checks_and_reads_nothing() {
    let stream = Stream::create(guarded_emulator()).await;
    let (id, secret) = user(&stream, "writer", WRITER);
    let mut config = stream.config();
    config.aws = config.aws.with_credentials(&id, &secret);
    let mut chain = TestChain::new();
    for config in [config.clone(), config.clone().with_strict_order()] {
        let sink = KinesisSink::connect(config).await.unwrap();
        sink.check().await.unwrap();
        store(&sink, &chain.extend(3)).await;
        let large = Part::text("output", "x".repeat(2 << 20)).commit();
        store(&sink, &chain.extend_with(vec![large])).await;
    }
    assert_eq!(in_order(stream.everything().await), chain.records());

    let error = KinesisReader::connect(config.clone()).await.unwrap().receive().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    config.stream = Stream::create(stream.at).await.name;
    let other = KinesisSink::connect(config).await.unwrap();
    for error in [other.check().await.unwrap_err(), failure(&other, &chain.extend(1)).await] {
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
        assert!(error.to_string().contains("grant this identity"), "{error}");
        assert!(!format!("{error:?}").contains(&secret) && !format!("{error:?}").contains(&id));
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_reader_reads_and_writes_nothing() {
    let stream = Stream::create(guarded_emulator()).await;
    let mut chain = TestChain::new();
    store(&stream.sink().await, &chain.extend(3)).await;
    let large = Part::text("output", "x".repeat(2 << 20)).commit();
    store(&stream.sink().await, &chain.extend_with(vec![large])).await;
    let (id, secret) = user(&stream, "reader", READER);
    let mut config = stream.config();
    config.aws = config.aws.with_credentials(id, secret);
    // An iterator names its stream for the service, and not for the emulator.
    config.stream = format!("arn:aws:kinesis:{REGION}:000000000000:stream/{}", stream.name);
    let mut reader = KinesisReader::connect(config.clone()).await.unwrap();
    assert_eq!(in_order(rest(&mut reader).await), chain.records());
    let sink = KinesisSink::connect(config).await.unwrap();
    let error = failure(&sink, &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn who_is_unknown_is_not_let_in_and_its_secret_is_not_shown() {
    let stream = Stream::create(guarded_emulator()).await;
    let mut config = stream.config();
    config.aws = config.aws.with_credentials("AKIANOBODY", "secret-of-nobody");
    let sink = KinesisSink::connect(config).await.unwrap();
    let errors =
        [sink.check().await.unwrap_err(), failure(&sink, &TestChain::new().extend(1)).await];
    for error in errors {
        assert_eq!(error.kind(), SinkErrorKind::Unauthenticated);
        let text = format!("{error} {error:?} {sink:?}");
        assert!(!text.contains("secret-of-nobody") && !text.contains("AKIANOBODY"), "{text}");
    }
}
