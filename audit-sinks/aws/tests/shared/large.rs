//! Events that are larger than a message may be.

use std::net::SocketAddr;

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    sink::{Segment, SegmentOutcome, SinkErrorKind},
};
use agent_audit_test_support::sinks::{append, failure, store};

use super::{emulator, in_order};
use crate::place::{ClaimConfig, Place, Sink};

const CLAIM: &str = r#"{"claim":"#;

fn with_content(chain: &mut TestChain, bytes: usize) -> Segment {
    chain.extend_with(vec![Part::text("output", "x".repeat(bytes)).commit()])
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn an_event_of_three_mebibytes_goes_by_reference_and_comes_back_whole() {
    let place = Place::create(emulator()).await;
    let sink = place.sink().await;
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(3)).await;
    store(&sink, &with_content(&mut chain, 3 << 20)).await;
    store(&sink, &chain.extend(2)).await;

    let claims: Vec<_> =
        place.texts().await.into_iter().filter(|text| text.starts_with(CLAIM)).collect();
    let [claim] = &claims[..] else { panic!("{} claims", claims.len()) };
    assert!(claim.len() < 1_000, "{claim}");
    let claim: serde_json::Value = serde_json::from_str(claim).unwrap();
    let line = chain.records()[3].to_json_line().unwrap();
    assert_eq!(claim["claim"]["bytes"], line.len());
    assert_eq!(claim["claim"]["bucket"], place.bucket);
    assert_eq!(claim["event_hash"], chain.records()[3].event_hash().to_string());
    let key = claim["claim"]["key"].as_str().unwrap();
    let object = place.s3().get_object().bucket(&place.bucket).key(key).send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), line.as_bytes());

    // The same event again is the same object, and for a reader the same event.
    store(&sink, &chain.segment(3..=3)).await;
    let objects = place.s3().list_objects_v2().bucket(&place.bucket).send().await.unwrap();
    assert_eq!(objects.contents().len(), 1);
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_message_of_the_largest_size_is_sent_as_it_is_and_a_byte_more_goes_by_reference() {
    const MOST: usize = 1 << 20;
    let place = Place::create(emulator()).await;
    let sink = Sink::connect(place.config_of_largest()).await.unwrap();
    let mut chain = TestChain::new();
    store(&sink, &chain.extend(1)).await;
    // The lengths of the content's size and of the sequence are the same for all of these.
    with_content(&mut chain, 1_000_000);
    let record = &chain.records()[1];
    let overhead = Place::overhead(chain.chain(), record);
    let fits = 1_000_000 + MOST - record.to_json_line().unwrap().len() - overhead;
    store(&sink, &chain.segment(1..=1)).await;
    store(&sink, &with_content(&mut chain, fits)).await;
    store(&sink, &with_content(&mut chain, fits + 1)).await;
    let texts = place.texts().await;
    let longest = texts.iter().map(String::len).max().unwrap();
    assert_eq!(longest + overhead, MOST);
    assert_eq!(texts.iter().filter(|text| text.starts_with(CLAIM)).count(), 1);
    assert_eq!(in_order(place.arrived().await), chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn without_a_bucket_a_large_event_is_refused_and_never_truncated() {
    let place = Place::create(emulator()).await;
    let mut config = place.config();
    config.claims = None;
    let sink = Sink::connect(config).await.unwrap();
    let (mut large, mut sound) = (TestChain::new(), TestChain::new());
    large.extend(2);
    with_content(&mut large, 2 << 20);
    let outcomes = append(&sink, &[&large.segment(0..=2), &sound.extend(3)]).await;
    let good =
        matches!(outcomes[..], [SegmentOutcome::Prefix { through: 1 }, SegmentOutcome::Accepted]);
    assert!(good, "{outcomes:?}");
    let error = failure(&sink, &large.segment(2..=2)).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(error.to_string().contains("set a bucket for large events"), "{error}");
    assert!(place.texts().await.iter().all(|text| text.len() < 10_000));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn trouble_with_the_objects_holds_up_no_chain_without_them_and_is_worth_a_retry() {
    let place = Place::create(emulator()).await;
    let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
    for claims in [
        ClaimConfig::new("no-such-bucket").with_endpoint(format!("http://{}", place.at)),
        ClaimConfig::new(&place.bucket).with_endpoint(format!("http://{nobody}")),
    ] {
        let sink = Sink::connect(place.config().with_claims(claims)).await.unwrap();
        let (mut large, mut also, mut sound) =
            (TestChain::new(), TestChain::new(), TestChain::new());
        let (one, two) = (with_content(&mut large, 2 << 20), with_content(&mut also, 2 << 20));
        let outcomes = append(&sink, &[&one, &sound.extend(3), &two]).await;
        let [
            SegmentOutcome::Failed { error },
            SegmentOutcome::Accepted,
            SegmentOutcome::Failed { error: second },
        ] = &outcomes[..]
        else {
            panic!("{outcomes:?}");
        };
        for error in [error, second] {
            assert!(error.is_retryable() && !error.maybe_applied(), "{error}");
            assert!(error.to_string().contains("large event"), "{error}");
        }
        store(&place.sink().await, &one).await;
        let arrived = place.arrived().await;
        let of_chain = arrived.into_iter().filter(|r| r.chain == *large.chain());
        assert_eq!(in_order(of_chain), large.records());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn an_object_that_was_changed_or_is_gone_is_found_out_and_the_rest_goes_on() {
    let place = Place::create(emulator()).await;
    let sink = place.sink().await;
    let mut chain = TestChain::new();
    store(&sink, &with_content(&mut chain, 2 << 20)).await;
    store(&sink, &chain.extend(1)).await;
    let objects = place.s3().list_objects_v2().bucket(&place.bucket).send().await.unwrap();
    let key = objects.contents()[0].key().unwrap();
    let line = chain.records()[0].to_json_line().unwrap();
    let same_length = line.replacen('x', "y", 1);
    for (body, says) in [
        (Some(same_length), "not what the claim says"),
        (Some("short".to_owned()), "not what the claim says"),
        (None, "is gone"),
    ] {
        let s3 = place.s3();
        match body {
            Some(body) => {
                let put = s3.put_object().bucket(&place.bucket).key(key);
                put.body(body.into_bytes().into()).send().await.unwrap();
            }
            None => {
                s3.delete_object().bucket(&place.bucket).key(key).send().await.unwrap();
            }
        }
        let received = place.look(2).await;
        let error = received[0].as_ref().unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Corrupt);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(received[1].as_ref().unwrap().record, chain.records()[1]);
    }
}
