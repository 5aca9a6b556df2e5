//! Appending through the sink, side by side with the client putting the same records.
//!
//! `servers/with aws -- cargo bench -p agent-audit-kinesis --bench append` prints events per second of
//! each and how much of the other's throughput the sink has, against the emulator and against a
//! service that answers at once. `encode, put` makes the texts from the records first, as the sink
//! does; `put` has them ready. All have four calls of 500 records under way.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::Instant;

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    sink::{Batch, SegmentOutcome, Sink},
};
use agent_audit_kinesis::{AwsConfig, KinesisConfig, KinesisSink};
use agent_audit_test_support::{
    race::Race,
    servers::required,
    service::{Answer, Response, Service},
};
use aws_sdk_kinesis::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    primitives::Blob,
    types::PutRecordsRequestEntry,
};
use futures_util::{StreamExt, stream};

const CHAINS: usize = 80;
const EVENTS: usize = 25;
const CALL: usize = 500;
const AT_A_TIME: usize = 4;
const REPEATS: usize = 10;
const ROUNDS: usize = 7;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut chains: Vec<TestChain> = (0..CHAINS).map(|_| TestChain::new()).collect();
    let batch = Batch::new(chains.iter_mut().map(|chain| chain.extend(EVENTS)).collect());
    let messages = encode(&batch);
    let bytes: usize = messages.iter().map(|(_, data)| data.len()).sum();
    println!(
        "events of {} bytes as a line, {CHAINS} chains, {CALL} records a call, {AT_A_TIME} calls at a time",
        bytes / messages.len()
    );
    let instant = Service::start(|request| {
        let records = request.body.windows(14).filter(|w| *w == br#""PartitionKey""#).count();
        let one = r#"{"SequenceNumber":"49590338271490256608559692538361571095921575989136588898","ShardId":"shardId-000000000000"}"#;
        let records = vec![one; records].join(",");
        let body = format!(r#"{{"FailedRecordCount":0,"Records":[{records}]}}"#).into_bytes();
        Answer::Send(Response { status: 200, headers: Vec::new(), body })
    });
    runtime.block_on(measure("answers at once", &instant.url(), &batch, &messages));
    runtime.block_on(measure("emulator", &required("AUDIT_TEST_AWS"), &batch, &messages));
}

/// The partition key and the text of each event.
type Message = (String, Vec<u8>);

fn encode(batch: &Batch) -> Vec<Message> {
    let mut messages = Vec::new();
    for segment in batch.segments() {
        let key = segment.chain().to_string();
        let lines = segment.iter().map(|(_, hash, record)| record.to_json_line_with(hash));
        messages.extend(lines.map(|line| (key.clone(), line)));
    }
    messages
}

async fn measure(name: &str, endpoint: &str, batch: &Batch, messages: &[Message]) {
    let client = client(endpoint);
    let mut race = Race::new(["the sink", "encode, put", "put"]);
    for _ in 0..ROUNDS {
        let stream = format!("bench-{}", ChainId::random());
        client.create_stream().stream_name(&stream).shard_count(2).send().await.unwrap();
        let aws = AwsConfig::default()
            .with_region("eu-central-1")
            .with_endpoint(endpoint)
            .with_credentials("test", "test");
        let config = KinesisConfig::new(&stream).with_parallelism(AT_A_TIME).with_aws(aws);
        let sink = KinesisSink::connect(config).await.unwrap();
        // Connections and credentials are there before the first of both.
        through_sink(&sink, batch).await;
        directly(&client, &stream, messages).await;
        let mut times = [0.0; 3];
        let order = race.round();
        for _ in 0..REPEATS {
            for way in order {
                let start = Instant::now();
                match way {
                    0 => through_sink(&sink, batch).await,
                    1 => directly(&client, &stream, &encode(batch)).await,
                    _ => directly(&client, &stream, messages).await,
                }
                times[way] += start.elapsed().as_secs_f64();
            }
        }
        client.delete_stream().stream_name(&stream).send().await.unwrap();
        for (way, time) in times.into_iter().enumerate() {
            race.took(way, time);
        }
    }
    println!("{name} (median of {ROUNDS} rounds; at least 0.8 is the aim)");
    print!("{}", race.report(u32::try_from(messages.len() * REPEATS).unwrap()));
}

async fn through_sink(sink: &KinesisSink, batch: &Batch) {
    let ack = sink.append(batch).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
}

async fn directly(client: &Client, stream: &str, messages: &[Message]) {
    let calls = messages.chunks(CALL).map(|messages| async move {
        let records = messages.iter().map(|(key, data)| {
            let record = PutRecordsRequestEntry::builder().partition_key(key);
            record.data(Blob::new(data.as_slice())).build().unwrap()
        });
        let put = client.put_records().stream_name(stream).set_records(Some(records.collect()));
        let answer = put.send().await.unwrap();
        assert!(answer.records().iter().all(|record| record.sequence_number().is_some()));
    });
    stream::iter(calls).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}
