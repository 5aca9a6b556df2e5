//! The reader: where it goes on, what it passes on, and streams whose shards change.

use std::sync::{Arc, Mutex};

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    sink::{ChainRef, SinkErrorKind},
};
use agent_audit_kinesis::{KinesisReader, Positions};
use agent_audit_test_support::{
    service::{Answer, Response, Service},
    sinks::store,
};
use aws_sdk_kinesis::primitives::Blob;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    place::{Place, rest},
    shared::{emulator, in_order},
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_reader_goes_on_from_the_positions_that_were_kept() {
    let place = Place::create(emulator()).await;
    let sink = place.sink().await;
    let mut chains: Vec<TestChain> = (0..6).map(|_| TestChain::new()).collect();
    for chain in &mut chains {
        store(&sink, &chain.extend(3)).await;
    }
    let mut first = place.reader().await;
    assert_eq!(rest(&mut first).await.unwrap().len(), 18);
    let kept = serde_json::to_string(first.positions()).unwrap();
    drop(first);

    for chain in &mut chains {
        store(&sink, &chain.extend(2)).await;
    }
    let positions: Positions = serde_json::from_str(&kept).unwrap();
    let mut second = place.reader().await.resume(positions);
    let new = rest(&mut second).await.unwrap();
    assert_eq!(new.len(), 12);
    assert!(new.iter().all(|received| received.sequence >= 3));
    assert!(rest(&mut second).await.unwrap().is_empty());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
async fn a_strangers_record_is_reported_and_passed_over() {
    let place = Place::create(emulator()).await;
    let mut chain = TestChain::new();
    let sink = place.sink().await;
    store(&sink, &chain.extend(1)).await;
    let key = chain.chain().to_string();
    let line = chain.records()[0].to_json_line().unwrap();
    let strange = [
        (key.as_str(), b"\xff\xfe".to_vec(), "not text"),
        (&key, b"hello".to_vec(), "not a record"),
        (&key, br#"{"claim":{"bucket":"payroll"}}"#.to_vec(), "without its fields"),
        // An event under the key of another chain.
        ("globex/c-1", line.into_bytes(), "its chain's key"),
    ];
    for (key, data, _) in &strange {
        let put = place.client().put_record().stream_name(&place.name);
        put.partition_key(*key).data(Blob::new(data.clone())).send().await.unwrap();
    }
    store(&sink, &chain.extend(1)).await;
    let mut reader = place.reader().await;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    while good.len() + bad.len() < 6 {
        for record in reader.receive().await.unwrap() {
            match record.received {
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
    let names = ["a".repeat(128), "b".repeat(128)];
    let chain = names[1].parse().unwrap();
    let mut chain = TestChain::at(ChainRef::new(TenantId::new(&names[0]).unwrap(), chain));
    store(&place.sink().await, &chain.extend(4)).await;
    assert_eq!(in_order(place.arrived().await), chain.records());
}

/// A stream that was split: one shard that is closed, and one that took over.
struct Split {
    service: Service,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Split {
    fn start(parent: Vec<Value>, child: Vec<Value>) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let service = Service::start({
            let asked = Arc::clone(&asked);
            move |request| {
                let action = request.header("x-amz-target").unwrap_or_default().to_owned();
                let body = request.json();
                let range = json!({ "StartingSequenceNumber": "1" });
                let keys = json!({ "StartingHashKey": "0", "EndingHashKey": "1" });
                let answer = match action.rsplit_once('.').unwrap().1 {
                    "ListShards" => json!({ "Shards": [
                        { "ShardId": "shardId-1", "ParentShardId": "shardId-0",
                          "HashKeyRange": keys, "SequenceNumberRange": range },
                        { "ShardId": "shardId-0",
                          "HashKeyRange": keys, "SequenceNumberRange": range },
                    ]}),
                    "GetShardIterator" => {
                        let after = body["StartingSequenceNumber"].as_str().unwrap_or("0");
                        let shard = body["ShardId"].as_str().unwrap();
                        json!({ "ShardIterator": format!("{shard} {after}") })
                    }
                    _ => {
                        let iterator = body["ShardIterator"].as_str().unwrap();
                        asked.lock().unwrap().push(iterator.to_owned());
                        let (shard, after) = iterator.split_once(' ').unwrap();
                        let records = if shard == "shardId-0" { &parent } else { &child };
                        // Two at a time.
                        let from: usize = after.parse().unwrap();
                        let page: Vec<&Value> = records.iter().skip(from).take(2).collect();
                        let next = from + page.len();
                        let more = shard == "shardId-1" || next < records.len();
                        json!({
                            "Records": page, "MillisBehindLatest": 0,
                            "NextShardIterator": more.then(|| format!("{shard} {next}")),
                        })
                    }
                };
                Answer::Send(Response::json(200, &answer))
            }
        });
        Self { service, asked }
    }
}

#[tokio::test]
async fn the_child_of_a_shard_is_read_after_its_parent() {
    let mut chain = TestChain::new();
    chain.extend(8);
    let record = |(at, record): (usize, &agent_audit_core::record::Record)| {
        json!({
            "SequenceNumber": (at + 1).to_string(),
            "PartitionKey": chain.chain().to_string(),
            "Data": STANDARD.encode(record.to_json_line().unwrap()),
        })
    };
    let parent = chain.records()[..5].iter().enumerate().map(record).collect();
    let child = chain.records()[5..].iter().enumerate().map(record).collect();
    let split = Split::start(parent, child);
    let place = Place::known("audit", "large", split.service.address());
    let mut reader = place.reader().await;
    let arrived = rest(&mut reader).await.unwrap();
    assert_eq!(arrived.iter().map(|r| r.sequence).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
    let asked = split.asked.lock().unwrap().clone();
    let first_of_child = asked.iter().position(|i| i.starts_with("shardId-1")).unwrap();
    assert!(asked[first_of_child..].iter().all(|i| i.starts_with("shardId-1")), "{asked:?}");

    // A reader that goes on from the end of the parent finds that it ended.
    let positions = reader.positions().clone();
    assert_eq!(positions.in_shard("shardId-0"), Some("5"));
    assert_eq!(positions.in_shard("shardId-1"), Some("3"));
    let reader = KinesisReader::connect(place.config()).await.unwrap();
    assert!(rest(&mut reader.resume(positions)).await.unwrap().is_empty());
}
