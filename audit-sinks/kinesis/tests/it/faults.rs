//! What the service does when it fails, injected between the sink and the emulator, and what the
//! emulator does by itself.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_audit_core::{
    conformance::TestChain,
    sink::{SegmentOutcome, Sink as _, SinkErrorKind},
};
use agent_audit_kinesis::{KinesisConfig, KinesisSink};
use agent_audit_test_support::{
    service::{Answer, Response, Service},
    sinks::{append, failure, store},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    place::{Place, THROTTLED, without},
    shared::{answers_are_errors_of_their_kind, emulator, in_order},
};

/// The position of the event in a record.
fn sequence(record: &Value) -> u64 {
    let line = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    line["event"]["sequence"].as_u64().unwrap()
}

async fn through(place: &Place, service: &Service) -> KinesisSink {
    KinesisSink::connect(place.config_through(service.address())).await.unwrap()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_throttled_record_is_never_acknowledged_over_and_stops_its_own_chain_alone() {
    let place = Place::create(emulator()).await;
    let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
    let (key, at) = (ill.chain().to_string(), place.at);
    let service = Service::start(move |request| {
        Answer::Send(without(&request, at, THROTTLED, |record| {
            record["PartitionKey"] == *key && sequence(record) == 2
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
    assert_eq!(error.kind(), SinkErrorKind::Exhausted);
    assert!(error.is_retryable() && error.maybe_applied(), "3 and 4 are there: {error}");

    // With capacity again the identical segment goes in, and the reader makes it good.
    store(&place.sink().await, &left).await;
    let arrived = place.arrived().await;
    let positions = arrived.iter().filter(|r| r.chain == *ill.chain()).map(|r| r.sequence);
    assert_eq!(positions.collect::<Vec<_>>(), [0, 1, 3, 4, 3, 4, 2, 3, 4]);
    let of =
        |chain: &TestChain| in_order(arrived.iter().filter(|r| r.chain == *chain.chain()).cloned());
    assert_eq!(of(&ill), ill.records());
    assert_eq!(of(&sound), sound.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn in_strict_order_nothing_is_put_behind_a_record_that_failed() {
    let place = Place::create(emulator()).await;
    let orders = Arc::new(Mutex::new(Vec::new()));
    let service = Service::start({
        let (at, orders) = (place.at, Arc::clone(&orders));
        move |request| {
            let record = request.json();
            let order = record["SequenceNumberForOrdering"].as_str().map(str::to_owned);
            if sequence(&record) == 3 && orders.lock().unwrap().len() < 4 {
                orders.lock().unwrap().push((order, None));
                return Answer::Send(Response::json(400, &json!({ "__type": THROTTLED })));
            }
            let response = request.forward(at);
            let given = response.to_json()["SequenceNumber"].as_str().map(str::to_owned);
            orders.lock().unwrap().push((order, given));
            Answer::Send(response)
        }
    });
    let config = place.config_through(service.address()).with_strict_order();
    let sink = KinesisSink::connect(config).await.unwrap();
    let mut chain = TestChain::new();
    let outcomes = append(&sink, &[&chain.extend(6)]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Prefix { through: 2 }]), "{outcomes:?}");
    store(&sink, &chain.segment(3..=5)).await;
    let arrived = place.arrived().await;
    assert_eq!(arrived.iter().map(|r| r.sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);

    // Each record names the one before it in its chain.
    let orders = orders.lock().unwrap().clone();
    let taken: Vec<_> = orders.iter().filter(|(_, given)| given.is_some()).collect();
    assert_eq!(taken.len(), 6);
    assert_eq!(taken[0].0, None);
    for pair in taken.windows(2) {
        assert_eq!(pair[1].0, pair[0].1);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_record_that_the_service_refuses_stops_its_own_chain_alone() {
    let place = Place::create(emulator()).await;
    let (mut ill, mut sound, mut other) = (TestChain::new(), TestChain::new(), TestChain::new());
    let (key, at) = (ill.chain().to_string(), place.at);
    let service = Service::start(move |request| {
        let body = request.json();
        let poisoned = |r: &Value| r["PartitionKey"] == *key && sequence(r) == 3;
        if body["Records"].as_array().unwrap().iter().any(poisoned) {
            return Answer::Send(Response::json(400, &json!({ "__type": "ValidationException" })));
        }
        Answer::Send(request.forward(at))
    });
    let sink = through(&place, &service).await;
    let batch = [&sound.extend(4), &ill.extend(6), &other.extend(4)];
    let outcomes = append(&sink, &batch).await;
    let good = matches!(
        outcomes[..],
        [SegmentOutcome::Accepted, SegmentOutcome::Prefix { through: 2 }, SegmentOutcome::Accepted]
    );
    assert!(good, "{outcomes:?}");
    let error = failure(&sink, &ill.segment(3..=5)).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(!error.is_retryable() && !error.maybe_applied());
}

#[tokio::test]
async fn what_the_service_answers_is_an_error_of_its_kind_without_its_words() {
    use SinkErrorKind::{
        Exhausted, Misconfigured, PermissionDenied, Rejected, Unauthenticated, Unavailable,
    };
    let answers = [
        (400, THROTTLED, Exhausted, true),
        (400, "KMSThrottlingException", Exhausted, true),
        (400, "ResourceNotFoundException", Misconfigured, false),
        (400, "KMSDisabledException", Misconfigured, false),
        (400, "AccessDeniedException", PermissionDenied, false),
        (403, "InvalidSignatureException", Unauthenticated, false),
        (400, "UnrecognizedClientException", Unauthenticated, false),
        (400, "ExpiredTokenException", Unauthenticated, false),
        (400, "ValidationException", Rejected, false),
        (500, "InternalFailureException", Unavailable, true),
        (503, "ServiceUnavailable", Unavailable, true),
    ];
    answers_are_errors_of_their_kind(&answers, |config| config).await;
    answers_are_errors_of_their_kind(&answers, KinesisConfig::with_strict_order).await;
}

#[tokio::test]
async fn an_answer_that_leaves_records_out_acknowledges_none_of_them() {
    let service = Service::start(|_| {
        let records = json!([{ "SequenceNumber": "1", "ShardId": "s" }, { "ShardId": "s" }]);
        Answer::Send(Response::json(200, &json!({ "FailedRecordCount": 0, "Records": records })))
    });
    let sink = Place::known("audit", "large", service.address()).sink().await;
    let mut chain = TestChain::new();
    let outcomes = append(&sink, &[&chain.extend(4)]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Prefix { through: 0 }]), "{outcomes:?}");
}

#[tokio::test]
async fn check_knows_a_stream_that_is_not_in_use_or_takes_smaller_records() {
    for (status, kib, kind) in [
        ("CREATING", 1024, Some(SinkErrorKind::Unavailable)),
        ("DELETING", 1024, Some(SinkErrorKind::Misconfigured)),
        ("UPDATING", 1024, None),
        ("ACTIVE", 512, Some(SinkErrorKind::Misconfigured)),
    ] {
        let service = Service::start(move |_| {
            let summary = json!({
                "StreamName": "audit", "StreamARN": "arn:aws:kinesis:x:0:stream/audit",
                "StreamStatus": status, "RetentionPeriodHours": 24, "StreamCreationTimestamp": 0,
                "EnhancedMonitoring": [], "OpenShardCount": 1, "MaxRecordSizeInKiB": kib,
            });
            Answer::Send(Response::json(200, &json!({ "StreamDescriptionSummary": summary })))
        });
        let mut config = Place::known("audit", "large", service.address()).config();
        config.claims = None;
        let checked = KinesisSink::connect(config).await.unwrap().check().await;
        assert_eq!(checked.err().map(|error| error.kind()), kind, "{status}");
    }
}

#[tokio::test]
async fn a_slow_service_makes_progress() {
    // Each record takes a while, and the time for a batch is over after the first ones.
    let service = Service::start(|_| {
        std::thread::sleep(Duration::from_millis(30));
        Answer::Send(Response::json(200, &json!({ "SequenceNumber": "1", "ShardId": "s" })))
    });
    let place = Place::known("audit", "large", service.address());
    let config = place.config().with_strict_order().with_append_time(Duration::from_millis(50));
    let sink = KinesisSink::connect(config).await.unwrap();
    let mut chain = TestChain::new();
    let mut left = chain.extend(12);
    let mut appends = 0;
    loop {
        appends += 1;
        match append(&sink, &[&left]).await.remove(0) {
            SegmentOutcome::Accepted => break,
            SegmentOutcome::Prefix { through } => left = chain.segment(through + 1..=11),
            other => panic!("{other:?}"),
        }
    }
    assert!(appends > 1, "the time was over before all was sent");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_one_is_refused() {
    for config in [
        KinesisConfig::new("no stream"),
        KinesisConfig::new("audit").with_max_bytes(1 << 20, 1 << 10),
    ] {
        let error = KinesisSink::connect(config).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_stream_can_be_named_by_its_arn() {
    let place = Place::create(emulator()).await;
    let mut config = place.config();
    config.stream = place.arn();
    let sink = KinesisSink::connect(config).await.unwrap();
    sink.check().await.unwrap();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(3)).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}
