//! What the service does when it fails, and what the emulator does by itself.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Batch, Sink as _, SinkErrorKind},
};
use agent_audit_test_support::{
    proxy::{Behaviour, Proxy},
    servers::Instance,
    service::{Answer, Response, Service},
    sinks::{failure, store},
};
use serde_json::json;

use super::{SECRET, emulator, impatient, in_order};
use crate::place::{Config, KIND, NAME, Place, Sink};

/// Holds what a service answers to every request against the error that comes of it: status, code,
/// kind, and whether it is worth a retry.
pub(crate) async fn answers_are_errors_of_their_kind(
    answers: &[(u16, &'static str, SinkErrorKind, bool)],
    configure: fn(Config) -> Config,
) {
    let mut chain = TestChain::new();
    let segment = chain.extend_with(vec![Part::text("output", "canary-4111").commit()]);
    for &(status, code, kind, retryable) in answers {
        let service = Service::start(move |_| {
            let error = json!({ "__type": code, "message": "value 'canary-4111' is wrong" });
            Answer::Send(Response::json(status, &error))
        });
        let config = configure(Place::known(NAME, "large", service.address()).config());
        let error = failure(&Sink::connect(config).await.unwrap(), &segment).await;
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(code) && text.contains(&format!("{KIND} {NAME}")), "{text}");
        assert!(!text.contains("canary") && !text.contains(SECRET), "{text}");
        assert_eq!(error.maybe_applied(), kind == SinkErrorKind::Unavailable, "{text}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn what_is_missing_is_an_error_of_check_and_append() {
    let name = format!("no-such-{NAME}");
    let sink = Place::known(&name, "no-such-bucket", emulator()).sink().await;
    for error in
        [sink.check().await.unwrap_err(), failure(&sink, &TestChain::new().extend(1)).await]
    {
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
        assert!(error.to_string().contains(&format!("{KIND} {name}")), "{error}");
        assert!(error.to_string().contains("create it"), "{error}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn check_is_content_with_what_is_sound_and_names_a_missing_bucket() {
    let place = Place::create(emulator()).await;
    place.sink().await.check().await.unwrap();
    let lost = Place::known(&place.name, "no-such-bucket", place.at);
    let error = lost.sink().await.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("no-such-bucket"), "{error}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_service_that_hangs_or_breaks_off_may_have_applied_and_one_that_refuses_has_not() {
    let place = Place::create(emulator()).await;
    let proxy = Proxy::start(place.at);
    let config = impatient(place.config_through(proxy.address()));
    let sink = Sink::connect(config).await.unwrap();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(1)).await;
    let segment = chain.extend(2);
    for (behaviour, kind, maybe_applied) in [
        (Behaviour::HalfOpen, SinkErrorKind::Timeout, true),
        (Behaviour::ResetAfterCommit { after: 0 }, SinkErrorKind::Unavailable, true),
        (Behaviour::Refuse, SinkErrorKind::Unavailable, false),
    ] {
        proxy.set(behaviour);
        let mut error = failure(&sink, &segment).await;
        if behaviour == Behaviour::Refuse && error.maybe_applied() {
            // It met a connection that was open still; the next one is new.
            error = failure(&sink, &segment).await;
        }
        assert_eq!((error.kind(), error.maybe_applied()), (kind, maybe_applied), "{error}");
        assert!(error.is_retryable());
    }
    proxy.set(Behaviour::Pass);
    store(&sink, &segment).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts servers/aws"]
async fn a_service_that_went_away_and_came_back_has_what_was_acknowledged_and_takes_the_rest() {
    let server = Instance::start("aws");
    let place = Place::create(super::address(server.variable("AUDIT_TEST_AWS"))).await;
    let sink = Sink::connect(impatient(place.config())).await.unwrap();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(5)).await;
    server.stop();
    let segment = chain.extend(5);
    for error in [sink.check().await.unwrap_err(), failure(&sink, &segment).await] {
        assert!(error.is_retryable(), "{error}");
    }
    server.restart();
    store(&sink, &segment).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test]
async fn an_empty_batch_asks_nothing_of_the_service() {
    let sink = Place::known(NAME, "large", ([127, 0, 0, 1], 1).into()).sink().await;
    let ack = sink.append(&Batch::new(Vec::new())).await.unwrap();
    assert!(ack.outcomes.is_empty());
}
