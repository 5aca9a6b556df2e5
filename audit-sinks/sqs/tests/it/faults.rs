//! What the service does when it fails, injected between the sink and the emulator, and what the
//! emulator does by itself.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{SegmentOutcome, Sink as _, SinkErrorKind},
};
use agent_audit_sqs::{SqsConfig, SqsSink};
use agent_audit_test_support::{
    service::{Answer, Response, Service},
    sinks::{append, failure, store},
};
use aws_sdk_sqs::types::QueueAttributeName;
use serde_json::{Value, json};

use crate::{
    place::{NAME, Place, without},
    shared::{answers_are_errors_of_their_kind, emulator, in_order},
};

/// The position of the event in a message.
fn sequence(entry: &Value) -> u64 {
    let line: Value = serde_json::from_str(entry["MessageBody"].as_str().unwrap()).unwrap();
    line["event"]["sequence"].as_u64().unwrap()
}

async fn through(place: &Place, service: &Service) -> SqsSink {
    SqsSink::connect(place.config_through(service.address())).await.unwrap()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_message_that_fails_is_never_acknowledged_over_and_stops_its_own_chain_alone() {
    let place = Place::create(emulator()).await;
    let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
    let (group, at) = (ill.chain().to_string(), place.at);
    let service = Service::start(move |request| {
        Answer::Send(without(&request, at, "InternalError", |entry| {
            entry["MessageGroupId"] == *group && sequence(entry) == 2
        }))
    });
    let sink = through(&place, &service).await;
    let segment = ill.extend(5);
    let outcomes = append(&sink, &[&segment, &sound.extend(5)]).await;
    let good =
        matches!(outcomes[..], [SegmentOutcome::Prefix { through: 1 }, SegmentOutcome::Accepted]);
    assert!(good, "{outcomes:?}");
    let left = ill.segment(2..=4);
    let error = failure(&sink, &left).await;
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
    assert!(error.is_retryable() && error.maybe_applied(), "3 and 4 are there: {error}");

    // Sound again, the identical segment goes in; what was there is there once, ahead of what was
    // missing, and the reader makes it good.
    store(&place.sink().await, &left).await;
    let arrived = place.arrived().await;
    let positions = arrived.iter().filter(|r| r.chain == *ill.chain()).map(|r| r.sequence);
    assert_eq!(positions.collect::<Vec<_>>(), [0, 1, 3, 4, 2]);
    let of =
        |chain: &TestChain| in_order(arrived.iter().filter(|r| r.chain == *chain.chain()).cloned());
    assert_eq!(of(&ill), ill.records());
    assert_eq!(of(&sound), sound.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn in_strict_order_nothing_is_sent_behind_a_message_that_failed() {
    let place = Place::create(emulator()).await;
    let mut chains: Vec<TestChain> = (0..4).map(|_| TestChain::new()).collect();
    let (ill, at) = (chains[1].chain().to_string(), place.at);
    let service = Service::start(move |request| {
        let body = request.json();
        let mut groups: Vec<String> = Vec::new();
        for entry in body["Entries"].as_array().unwrap() {
            groups.push(entry["MessageGroupId"].to_string());
        }
        groups.sort_unstable();
        let count = groups.len();
        groups.dedup();
        assert_eq!(groups.len(), count, "one message of a chain in a call");
        Answer::Send(without(&request, at, "ThrottlingException", |entry| {
            entry["MessageGroupId"] == *ill && sequence(entry) == 2
        }))
    });
    let config = place.config_through(service.address()).with_strict_order();
    let sink = SqsSink::connect(config).await.unwrap();
    let segments: Vec<_> = chains.iter_mut().map(|chain| chain.extend(5)).collect();
    let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
    let good = matches!(
        outcomes[..],
        [
            SegmentOutcome::Accepted,
            SegmentOutcome::Prefix { through: 1 },
            SegmentOutcome::Accepted,
            SegmentOutcome::Accepted
        ]
    );
    assert!(good, "{outcomes:?}");
    let error = failure(&sink, &chains[1].segment(2..=4)).await;
    assert_eq!(error.kind(), SinkErrorKind::Exhausted);
    assert!(!error.maybe_applied(), "nothing was sent behind it: {error}");
    store(&place.sink().await, &chains[1].segment(2..=4)).await;
    let arrived = place.arrived().await;
    for chain in &chains {
        let of_chain = arrived.iter().filter(|r| r.chain == *chain.chain());
        assert_eq!(of_chain.map(|r| r.sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn the_same_event_again_is_one_message_also_after_it_was_deleted() {
    let place = Place::create(emulator()).await;
    let sink = place.sink().await;
    let mut chain = TestChain::new();
    let segment = chain.extend(12);
    store(&sink, &segment).await;
    store(&sink, &segment).await;
    assert_eq!(place.arrived().await.len(), 12);
    store(&sink, &segment).await;
    assert!(place.arrived().await.is_empty());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_message_says_tenant_type_and_hash_without_being_opened() {
    let place = Place::create(emulator()).await;
    let mut chain = TestChain::new();
    store(&place.sink().await, &chain.extend(2)).await;
    let receive = place.client().receive_message().queue_url(place.url());
    let receive = receive.max_number_of_messages(10).message_attribute_names("All");
    let receive = receive.message_system_attribute_names("All".into());
    let messages = receive.send().await.unwrap().messages.unwrap();
    assert_eq!(messages.len(), 2);
    for (message, record) in messages.iter().zip(chain.records()) {
        let event = record.event().unwrap();
        let hash = record.event_hash().to_string();
        let attributes = message.message_attributes().unwrap();
        let attribute = |name: &str| attributes[name].string_value().unwrap();
        assert_eq!(attribute("tenant"), event.tenant_id.as_str());
        assert_eq!(attribute("event_type"), record.view().unwrap().event_type);
        assert_eq!(attribute("event_hash"), hash);
        assert_eq!(message.body().unwrap(), record.to_json_line().unwrap());
        let system = message.attributes().unwrap();
        assert_eq!(system[&"MessageGroupId".into()], chain.chain().to_string());
        assert_eq!(system[&"MessageDeduplicationId".into()], hash);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn text_that_a_queue_does_not_take_comes_back_all_the_same() {
    let place = Place::create(emulator()).await;
    let mut chain = TestChain::new();
    let text = "\u{fffe}\u{ffff}\u{0}\u{1b}\u{7f}\u{feff}";
    store(&place.sink().await, &chain.extend_with(vec![Part::text("output", text).commit()])).await;
    store(&place.sink().await, &chain.extend(1)).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test]
async fn what_the_service_answers_is_an_error_of_its_kind_without_its_words() {
    use SinkErrorKind::{
        Exhausted, Misconfigured, PermissionDenied, Rejected, Unauthenticated, Unavailable,
    };
    let answers = [
        (400, "RequestThrottled", Exhausted, true),
        (400, "ThrottlingException", Exhausted, true),
        (400, "QueueDoesNotExist", Misconfigured, false),
        (400, "KmsDisabled", Misconfigured, false),
        (403, "AccessDeniedException", PermissionDenied, false),
        (403, "InvalidSignatureException", Unauthenticated, false),
        (403, "InvalidClientTokenId", Unauthenticated, false),
        (400, "BatchRequestTooLong", Rejected, false),
        (400, "InvalidMessageContents", Rejected, false),
        (500, "InternalFailure", Unavailable, true),
        (503, "ServiceUnavailable", Unavailable, true),
    ];
    answers_are_errors_of_their_kind(&answers, |config| config).await;
}

#[tokio::test]
async fn a_failure_of_one_message_is_of_its_kind_and_only_a_refused_one_stops_its_chain_for_good() {
    let mut chain = TestChain::new();
    let segment = chain.extend(1);
    for (code, kind, retryable) in [
        ("InvalidMessageContents", SinkErrorKind::Rejected, false),
        ("KmsAccessDenied", SinkErrorKind::PermissionDenied, true),
        ("KmsThrottled", SinkErrorKind::Exhausted, true),
        ("InternalError", SinkErrorKind::Unavailable, true),
    ] {
        let service = Service::start(move |_| {
            let failed = json!([{ "Id": "0", "Code": code, "SenderFault": true }]);
            Answer::Send(Response::json(200, &json!({ "Successful": [], "Failed": failed })))
        });
        let place = Place::known(NAME, "large", service.address());
        let error = failure(&place.sink().await, &segment).await;
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_leaves_messages_out_acknowledges_none_of_them() {
    let service = Service::start(|_| {
        let taken = |id: &str| json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "x" });
        let taken = [taken("3"), taken("0"), taken("1")];
        Answer::Send(Response::json(200, &json!({ "Successful": taken, "Failed": [] })))
    });
    let sink = Place::known(NAME, "large", service.address()).sink().await;
    let mut chain = TestChain::new();
    let outcomes = append(&sink, &[&chain.extend(4)]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Prefix { through: 1 }]), "{outcomes:?}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn check_names_a_queue_that_takes_smaller_messages() {
    let place = Place::create(emulator()).await;
    let set = place.client().set_queue_attributes().queue_url(place.url());
    set.attributes(QueueAttributeName::MaximumMessageSize, "2048").send().await.unwrap();
    let error = place.sink().await.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("raise MaximumMessageSize"), "{error}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_one_is_refused() {
    let error = SqsSink::connect(SqsConfig::new("https://sqs/0/audit")).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains(".fifo"), "{error}");
}
