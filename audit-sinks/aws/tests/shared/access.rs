//! The documented policies, on the emulator that checks policies.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Segment, Sink as _, SinkErrorKind},
};
use agent_audit_test_support::{
    aws::user_with_policy,
    sinks::{failure, store},
};

use super::{guarded_emulator, in_order};
use crate::place::{Config, Inbox, Place, READER, Sink, WRITER};

/// A configuration with the key of a user who may do what a policy says of this place alone.
fn config_of(place: &Place, role: &str, policy: &str) -> (Config, [String; 2]) {
    let name = format!("{}-{role}", place.name);
    let (id, secret) = user_with_policy(place.at, &name, &place.policy(policy));
    let mut config = place.config();
    config.aws = config.aws.with_credentials(&id, &secret);
    (config, [id, secret])
}

fn large(chain: &mut TestChain) -> Segment {
    chain.extend_with(vec![Part::text("output", "x".repeat(2 << 20)).commit()])
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_writer_writes_and_checks_and_reads_nothing() {
    let place = Place::create(guarded_emulator()).await;
    let (config, key) = config_of(&place, "writer", WRITER);
    let mut chain = TestChain::new();
    for config in [config.clone(), config.clone().with_strict_order()] {
        let sink = Sink::connect(config).await.unwrap();
        sink.check().await.unwrap();
        store(&sink, &chain.extend(3)).await;
        store(&sink, &large(&mut chain)).await;
    }
    assert_eq!(in_order(place.arrived().await), chain.records());

    let error = Inbox::of(config.clone()).await.rest().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
    let other = Place::create(place.at).await.config().with_aws(config.aws);
    let other = Sink::connect(other).await.unwrap();
    for error in [other.check().await.unwrap_err(), failure(&other, &chain.extend(1)).await] {
        assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
        assert!(error.to_string().contains("grant this identity"), "{error}");
        assert!(key.iter().all(|word| !format!("{error:?}").contains(word)), "{error:?}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn the_reader_reads_and_writes_nothing() {
    let place = Place::create(guarded_emulator()).await;
    let mut chain = TestChain::new();
    store(&place.sink().await, &chain.extend(3)).await;
    store(&place.sink().await, &large(&mut chain)).await;
    let config = place.config_of_reader(config_of(&place, "reader", READER).0);
    let arrived = Inbox::of(config.clone()).await.rest().await.unwrap();
    assert_eq!(in_order(arrived), chain.records());
    let sink = Sink::connect(config).await.unwrap();
    let error = failure(&sink, &chain.extend(1)).await;
    assert_eq!(error.kind(), SinkErrorKind::PermissionDenied);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
async fn who_is_unknown_is_not_let_in_and_its_secret_is_not_shown() {
    let mut config = Place::create(guarded_emulator()).await.config();
    config.aws = config.aws.with_credentials("AKIANOBODY", "secret-of-nobody");
    let sink = Sink::connect(config).await.unwrap();
    let errors =
        [sink.check().await.unwrap_err(), failure(&sink, &TestChain::new().extend(1)).await];
    for error in errors {
        assert_eq!(error.kind(), SinkErrorKind::Unauthenticated);
        let text = format!("{error} {error:?} {sink:?}");
        assert!(!text.contains("secret-of-nobody") && !text.contains("AKIANOBODY"), "{text}");
    }
}
