//! The documented policies, on the emulator that checks policies.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_sqs::{SqsReader, SqsSink};
use agent_audit_test_support::aws::user_with_policy;

use crate::{
    failure, in_order,
    queue::{Queue, REGION, guarded_emulator},
    store,
};

const WRITER: &str = include_str!("../../policies/writer.json");
const READER: &str = include_str!("../../policies/reader.json");

/// A key of a user with a policy for this queue and bucket alone.
fn user(queue: &Queue, role: &str, policy: &str) -> (String, String) {
    let policy = policy
        // The service checks a batch against the action for one; the emulator has an action for
        // each kind of batch.
        .replace("\"sqs:SendMessage\"", "\"sqs:SendMessage\", \"sqs:SendMessageBatch\"")
        .replace("\"sqs:DeleteMessage\"", "\"sqs:DeleteMessage\", \"sqs:DeleteMessageBatch\"")
        .replace("REGION", REGION)
        .replace("ACCOUNT", "000000000000")
        .replace("QUEUE", &queue.name)
        .replace("BUCKET", &queue.bucket);
    user_with_policy(queue.at, &format!("{}-{role}", queue.name), &policy)
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_writer_sends_and_checks_and_reads_nothing() {
    let queue = Queue::create(guarded_emulator()).await;
    let (id, secret) = user(&queue, "writer", WRITER);
    let mut config = queue.config();
    config.aws = config.aws.with_credentials(&id, &secret);
    let mut chain = TestChain::new();
    for config in [config.clone(), config.clone().with_strict_order()] {
        let sink = SqsSink::connect(config).await.unwrap();
        sink.check().await.unwrap();
        store(&sink, &chain.extend(3)).await;
        let large = Part::text("output", "x".repeat(2 << 20)).commit();
        store(&sink, &chain.extend_with(vec![large])).await;
    }
    assert_eq!(in_order(queue.drain().await), chain.records());

    let error = SqsReader::connect(config.clone()).await.unwrap().receive().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    config.queue_url = Queue::create(queue.at).await.url();
    let other = SqsSink::connect(config).await.unwrap();
    for error in [other.check().await.unwrap_err(), failure(&other, &chain.extend(1)).await] {
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
        assert!(error.to_string().contains("grant this identity"), "{error}");
        assert!(!format!("{error:?}").contains(&secret) && !format!("{error:?}").contains(&id));
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_reader_receives_and_deletes_and_sends_nothing() {
    let queue = Queue::create(guarded_emulator()).await;
    let mut chain = TestChain::new();
    store(&queue.sink().await, &chain.extend(3)).await;
    let large = Part::text("output", "x".repeat(2 << 20)).commit();
    store(&queue.sink().await, &chain.extend_with(vec![large])).await;
    let (id, secret) = user(&queue, "reader", READER);
    let mut config = queue.config();
    config.aws = config.aws.with_credentials(id, secret);
    let reader = SqsReader::connect(config.clone()).await.unwrap();
    let messages = reader.receive().await.unwrap();
    reader.delete(&messages).await.unwrap();
    let received = messages.into_iter().map(|message| message.received.unwrap());
    assert_eq!(in_order(received), chain.records());
    let sink = SqsSink::connect(config).await.unwrap();
    let error = failure(&sink, &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn who_is_unknown_is_not_let_in_and_its_secret_is_not_shown() {
    let queue = Queue::create(guarded_emulator()).await;
    let mut config = queue.config();
    config.aws = config.aws.with_credentials("AKIANOBODY", "secret-of-nobody");
    let sink = SqsSink::connect(config).await.unwrap();
    let errors =
        [sink.check().await.unwrap_err(), failure(&sink, &TestChain::new().extend(1)).await];
    for error in errors {
        assert_eq!(error.kind(), SinkErrorKind::Unauthenticated);
        let text = format!("{error} {error:?} {sink:?}");
        assert!(!text.contains("secret-of-nobody") && !text.contains("AKIANOBODY"), "{text}");
    }
}
