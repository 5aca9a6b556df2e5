//! The reader: what comes again, and what is passed on.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    sink::{ChainRef, SinkErrorKind},
};
use agent_audit_test_support::{
    service::{Answer, Response, Service},
    sinks::store,
};
use serde_json::json;

use crate::{
    place::{NAME, Place},
    shared::{emulator, in_order},
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn what_is_not_deleted_comes_again_and_holds_up_its_chain_alone() {
    let place = Place::create(emulator()).await;
    let (mut one, mut two) = (TestChain::new(), TestChain::new());
    store(&place.sink().await, &one.extend(12)).await;
    store(&place.sink().await, &two.extend(1)).await;
    let reader = place.reader().await.with_visibility(Duration::from_secs(600));
    let first = reader.receive().await.unwrap();
    assert_eq!(first.len(), 10);
    // The rest of the chain waits; the other chain does not.
    let second = reader.receive().await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].received.as_ref().unwrap().chain, *two.chain());
    reader.delete(&second).await.unwrap();
    assert!(reader.receive().await.unwrap().is_empty());

    reader.release(&first).await.unwrap();
    let arrived = place.arrived().await;
    assert_eq!(in_order(arrived), one.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_strangers_message_is_reported_and_can_be_deleted() {
    let place = Place::create(emulator()).await;
    let mut chain = TestChain::new();
    let sink = place.sink().await;
    store(&sink, &chain.extend(1)).await;
    let group = chain.chain().to_string();
    let line = chain.records()[0].to_json_line().unwrap();
    let strange = [
        (group.as_str(), "hello", "neither JSON nor base64"),
        (&group, "{}", "not a record"),
        (&group, r#"{"claim":{"bucket":"payroll"}}"#, "without its fields"),
        // An event in the group of another chain.
        ("globex/c-1", &line, "its chain's group"),
    ];
    for (at, (group, body, _)) in strange.iter().enumerate() {
        let send = place.client().send_message().queue_url(place.url()).message_body(*body);
        let send = send.message_group_id(*group).message_deduplication_id(at.to_string());
        send.send().await.unwrap();
    }
    store(&sink, &chain.extend(1)).await;
    let reader = place.reader().await;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    while good.len() + bad.len() < 6 {
        let messages = reader.receive().await.unwrap();
        reader.delete(&messages).await.unwrap();
        for message in messages {
            match message.received {
                Ok(received) => good.push(received),
                Err(error) => bad.push(error),
            }
        }
    }
    assert_eq!(in_order(good), chain.records());
    for (_, _, says) in strange {
        let error = bad.iter().find(|error| error.to_string().contains(says));
        assert_eq!(
            error.map(|error| error.kind()),
            Some(SinkErrorKind::Corrupt),
            "{says}: {bad:?}"
        );
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_chain_with_a_long_name_is_kept_together() {
    let place = Place::create(emulator()).await;
    let name = "a".repeat(128);
    let chain = ChainRef::new(TenantId::new(&name).unwrap(), name.parse().unwrap());
    let mut chain = TestChain::at(chain);
    store(&place.sink().await, &chain.extend(4)).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test]
async fn a_message_that_was_not_deleted_is_an_error() {
    let service = Service::start(|request| {
        let action = request.header("x-amz-target").unwrap_or_default().to_owned();
        Answer::Send(Response::json(
            200,
            &if action.ends_with("ReceiveMessage") {
                json!({ "Messages": [{ "MessageId": "m", "ReceiptHandle": "r", "Body": "{}" }] })
            } else {
                let failed = json!([{ "Id": "0", "Code": "InternalError", "SenderFault": false }]);
                json!({ "Successful": [], "Failed": failed })
            },
        ))
    });
    let place = Place::known(NAME, "large", service.address());
    let reader = place.reader().await;
    let messages = reader.receive().await.unwrap();
    for error in
        [reader.delete(&messages).await.unwrap_err(), reader.release(&messages).await.unwrap_err()]
    {
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("queue audit.fifo"), "{error}");
    }
}
