//! Appending through the sink, side by side with the client putting the same records.
//!
//! `servers/with aws -- cargo bench -p agent-audit-kinesis --bench append` prints events per second of
//! both and the ratio of their times, against the emulator and against a service that answers at
//! once. Both have four calls of 500 records under way.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::Instant;

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    sink::{Batch, SegmentOutcome, Sink},
};
use agent_audit_kinesis::{AwsConfig, KinesisConfig, KinesisSink};
use agent_audit_test_support::{
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
    let messages: Vec<(String, Vec<u8>)> = batch
        .segments()
        .iter()
        .flat_map(|segment| segment.records().iter().map(|record| (segment.chain(), record)))
        .map(|(chain, record)| (chain.to_string(), record.to_json_line().unwrap().into_bytes()))
        .collect();
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

async fn measure(name: &str, endpoint: &str, batch: &Batch, messages: &[(String, Vec<u8>)]) {
    let client = client(endpoint);
    let mut ratios = Vec::new();
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
        let (mut sink_time, mut client_time) = (0.0, 0.0);
        for _ in 0..REPEATS {
            let start = Instant::now();
            through_sink(&sink, batch).await;
            sink_time += start.elapsed().as_secs_f64();
            let start = Instant::now();
            directly(&client, &stream, messages).await;
            client_time += start.elapsed().as_secs_f64();
        }
        client.delete_stream().stream_name(&stream).send().await.unwrap();
        ratios.push((client_time / sink_time, sink_time, client_time));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, sink_time, client_time) = ratios[ROUNDS / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let events = (messages.len() * REPEATS) as f64;
    println!("{name}");
    println!("  sink    {:>9.0} events/s", events / sink_time);
    println!("  client  {:>9.0} events/s", events / client_time);
    println!("  ratio   {ratio:>9.2} (median of {ROUNDS}; at least 0.8 is the aim)");
}

async fn through_sink(sink: &KinesisSink, batch: &Batch) {
    let ack = sink.append(batch).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
}

async fn directly(client: &Client, stream: &str, messages: &[(String, Vec<u8>)]) {
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
