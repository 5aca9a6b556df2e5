//! Appending through the sink, side by side with the client sending the same messages.
//!
//! `servers/with aws -- cargo bench -p agent-audit-sqs --bench append` prints events per second of each
//! and how much of the other's throughput the sink has, against the emulator and against a service
//! that answers at once. `encode, send` makes the messages from the records first, as the sink does;
//! `send` has them ready. All have eight calls of ten messages under way.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::time::Instant;

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    sink::{Batch, SegmentOutcome, Sink},
};
use agent_audit_sqs::{AwsConfig, SqsConfig, SqsSink};
use agent_audit_test_support::{
    race::Race,
    servers::required,
    service::{Answer, Response, Service},
};
use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry},
};
use futures_util::{StreamExt, stream};

const CHAINS: usize = 50;
const EVENTS: usize = 10;
const CALL: usize = 10;
const AT_A_TIME: usize = 8;
const ROUNDS: usize = 9;
const WAYS: usize = 3;

/// Group, tenant, type, hash and body of a message.
type Message = [String; 5];

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let batches: Vec<Batch> = (0..WAYS * ROUNDS + 1).map(|_| batch()).collect();
    let bytes: usize = messages(&batches[0]).iter().map(|message| message[4].len()).sum();
    println!(
        "events of {} bytes as a line, {CHAINS} chains, {CALL} messages a call, {AT_A_TIME} calls at a time",
        bytes / (CHAINS * EVENTS)
    );
    let instant = Service::start(|request| {
        if request.body.windows(11).any(|w| w == br#""QueueName""#.as_slice()) {
            let url = r#"{"QueueUrl":"http://127.0.0.1/000000000000/bench.fifo"}"#;
            return Answer::Send(Response { status: 200, headers: Vec::new(), body: url.into() });
        }
        let messages = request.body.windows(13).filter(|w| *w == br#""MessageBody""#).count();
        let one = |at: usize| {
            format!(
                r#"{{"Id":"{at}","MessageId":"8f8a3c2e-0000-0000-0000-000000000000","MD5OfMessageBody":"b10a8db164e0754105b7a99be72e3fe5","SequenceNumber":"18849496460467696128"}}"#
            )
        };
        let taken = (0..messages).map(one).collect::<Vec<_>>().join(",");
        let body = format!(r#"{{"Successful":[{taken}],"Failed":[]}}"#).into_bytes();
        Answer::Send(Response { status: 200, headers: Vec::new(), body })
    });
    runtime.block_on(measure("answers at once", &instant.url(), &batches, 20));
    runtime.block_on(measure("emulator", &required("AUDIT_TEST_AWS"), &batches, 1));
}

fn batch() -> Batch {
    let chains = (0..CHAINS).map(|_| TestChain::new().extend(EVENTS));
    Batch::new(chains.collect())
}

fn messages(batch: &Batch) -> Vec<Message> {
    let mut messages = Vec::new();
    for segment in batch.segments() {
        for (_, hash, record) in segment.iter() {
            let event_type = record.view().unwrap().event_type.to_owned();
            let chain = segment.chain();
            let (group, tenant) = (chain.to_string(), chain.tenant_id.to_string());
            let body = String::from_utf8(record.to_json_line_with(hash)).unwrap();
            messages.push([group, tenant, event_type, hash.to_string(), body]);
        }
    }
    messages
}

/// Each way has a batch of its own, and a queue that is longer by what went before. A real queue drops
/// a message that it has: there each batch is sent once.
async fn measure(name: &str, endpoint: &str, batches: &[Batch], repeats: usize) {
    let client = client(endpoint);
    let mut race = Race::new(["the sink", "encode, send", "send"]);
    let (warm, batches) = batches.split_first().unwrap();
    for batches in batches.chunks(WAYS) {
        let create = client.create_queue().queue_name(format!("bench-{}.fifo", ChainId::random()));
        let create = create.attributes(QueueAttributeName::FifoQueue, "true");
        let url = create.send().await.unwrap().queue_url.unwrap();
        let aws = AwsConfig::default()
            .with_region("eu-central-1")
            .with_endpoint(endpoint)
            .with_credentials("test", "test");
        let config = SqsConfig::new(&url).with_parallelism(AT_A_TIME).with_aws(aws);
        let sink = SqsSink::connect(config).await.unwrap();
        // Connections and credentials are there before the first of both.
        through_sink(&sink, warm).await;
        directly(&client, &url, &messages(warm)).await;
        let ready = messages(&batches[2]);
        let mut times = [0.0; WAYS];
        let order = race.round();
        for _ in 0..repeats {
            for way in order {
                let start = Instant::now();
                match way {
                    0 => through_sink(&sink, &batches[0]).await,
                    1 => directly(&client, &url, &messages(&batches[1])).await,
                    _ => directly(&client, &url, &ready).await,
                }
                times[way] += start.elapsed().as_secs_f64();
            }
        }
        for (way, time) in times.into_iter().enumerate() {
            race.took(way, time);
        }
    }
    println!("{name} (median of {ROUNDS} rounds; at least 0.8 is the aim)");
    print!("{}", race.report(u32::try_from(CHAINS * EVENTS * repeats).unwrap()));
}

async fn through_sink(sink: &SqsSink, batch: &Batch) {
    let ack = sink.append(batch).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
}

async fn directly(client: &Client, url: &str, messages: &[Message]) {
    let attribute = |value: &str| {
        let attribute = MessageAttributeValue::builder().data_type("String").string_value(value);
        attribute.build().unwrap()
    };
    let calls = messages.chunks(CALL).map(|messages| async move {
        let entries = messages.iter().enumerate().map(|(at, [group, tenant, kind, hash, body])| {
            SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(body)
                .message_group_id(group)
                .message_deduplication_id(hash)
                .message_attributes("tenant", attribute(tenant))
                .message_attributes("event_type", attribute(kind))
                .message_attributes("event_hash", attribute(hash))
                .build()
                .unwrap()
        });
        let send = client.send_message_batch().queue_url(url).set_entries(Some(entries.collect()));
        let answer = send.send().await.unwrap();
        assert_eq!(answer.successful().len(), messages.len());
    });
    stream::iter(calls).buffer_unordered(AT_A_TIME).collect::<()>().await;
}

fn client(endpoint: &str) -> Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}
