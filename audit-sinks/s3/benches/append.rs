//! Appending through the sink, side by side with the client putting the same bytes.
//!
//! `servers/with s3 -- cargo bench -p agent-audit-s3 --bench append` prints objects and events per
//! second and ratios of times. All write the same event objects with the same lock and checksum, so
//! many at a time: `put_object` has their bytes ready; `encode, put` makes them from the records first,
//! as the sink does; the sink also builds the tree and writes a signed manifest of each object, and
//! waits for that.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{
    io::Write,
    time::{Duration, Instant},
};

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    key::SigningKey,
    sink::{Batch, Segment, SegmentOutcome, Sink},
};
use agent_audit_s3::{Lock, S3Archive, S3Config, S3Sink};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
    primitives::{ByteStream, DateTime},
    types::ObjectLockMode,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

const PARALLELISM: usize = 16;
const ROUNDS: usize = 5;

fn main() {
    let url = std::env::var("AUDIT_TEST_S3").expect("servers/with s3 -- cargo bench");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("chains x events an object; {PARALLELISM} at a time; median of {ROUNDS} rounds");
    for (chains, events) in [(64, 100), (64, 1_000), (16, 10_000)] {
        runtime.block_on(measure(&url, chains, events));
    }
}

async fn measure(url: &str, chains: usize, events: usize) {
    let client = client(url);
    let mut ratios = Vec::new();
    let (mut objects, mut bytes) = (0, 0);
    for _ in 0..ROUNDS {
        let bucket = format!("bench-{}", ChainId::random());
        let create = client.create_bucket().bucket(&bucket).object_lock_enabled_for_bucket(true);
        create.send().await.unwrap();
        let lock = Lock::governance(Duration::from_secs(3_600));
        let config = S3Config::new(&bucket)
            .with_endpoint(url)
            .with_credentials(variable("ACCESS_KEY"), variable("SECRET_KEY"))
            .with_manifest_key(&SigningKey::from_seed(&[1; 32]))
            .with_max_object_bytes(usize::MAX)
            .with_parallelism(PARALLELISM)
            .with_lock(lock);
        let sink = S3Sink::open(config.clone()).await.unwrap();
        let mut chains: Vec<TestChain> = (0..chains).map(|_| TestChain::new()).collect();
        // Each chain is known, as it is to a writer at work.
        let warm = Batch::new(chains.iter_mut().map(|chain| chain.extend(1)).collect());
        accepted(&sink, &warm).await;
        let batch = Batch::new(chains.iter_mut().map(|chain| chain.extend(events)).collect());

        let start = Instant::now();
        accepted(&sink, &batch).await;
        let through_sink = start.elapsed().as_secs_f64();

        let archive = S3Archive::open(config).await.unwrap();
        let mut bodies = Vec::new();
        for chain in &chains {
            let object = archive.objects(chain.chain()).await.unwrap().remove(1);
            let get = client.get_object().bucket(&bucket).key(&object.key).send().await.unwrap();
            bodies.push((object.sha256, get.body.collect().await.unwrap().into_bytes()));
        }
        (objects, bytes) = (bodies.len(), bodies.iter().map(|(_, body)| body.len()).sum());

        let start = Instant::now();
        let puts = bodies.into_iter().enumerate().map(|(at, (sha256, body))| {
            put(&client, &bucket, format!("raw/{at}"), STANDARD.encode(sha256.as_bytes()), body)
        });
        stream::iter(puts).buffer_unordered(PARALLELISM).collect::<Vec<()>>().await;
        let directly = start.elapsed().as_secs_f64();

        let start = Instant::now();
        let segments = batch.segments().iter().cloned().enumerate();
        let puts = segments.map(|(at, segment)| {
            let (client, bucket) = (&client, &bucket);
            async move {
                let encoding = tokio::task::spawn_blocking(move || encode(&segment)).await;
                let (sha256, body) = encoding.unwrap();
                put(client, bucket, format!("encoded/{at}"), sha256, body).await;
            }
        });
        stream::iter(puts).buffer_unordered(PARALLELISM).collect::<Vec<()>>().await;
        let encoded = start.elapsed().as_secs_f64();
        ratios.push((encoded / through_sink, through_sink, directly, encoded));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, through_sink, directly, encoded) = ratios[ROUNDS / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (all, kib) = ((objects * events) as f64, bytes as f64 / 1024.0 / objects as f64);
    println!("{chains:>4} x {events:>6} ({kib:.0} KiB compressed)");
    println!("  sink        {:>9.0} events/s", all / through_sink);
    println!("  encode, put {:>9.0} events/s; the sink has {ratio:.2} of it", all / encoded);
    println!(
        "  put_object  {:>9.0} events/s; the sink has {:.2} of it",
        all / directly,
        directly / through_sink
    );
}

async fn accepted(sink: &S3Sink, batch: &Batch) {
    let ack = sink.append(batch).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
}

async fn put(client: &Client, bucket: &str, key: String, checksum: String, body: Bytes) {
    let until = DateTime::from(std::time::SystemTime::now()).secs() + 3_600;
    client
        .put_object()
        .bucket(bucket)
        .key(key)
        .content_type("application/zstd")
        .checksum_sha256(checksum)
        .if_none_match("*")
        .object_lock_mode(ObjectLockMode::Governance)
        .object_lock_retain_until_date(DateTime::from_secs(until))
        .body(ByteStream::from(body))
        .send()
        .await
        .unwrap();
}

/// The bytes of the object that the sink makes of a segment, and their SHA-256.
fn encode(segment: &Segment) -> (String, Bytes) {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    for (_, hash, record) in segment.iter() {
        encoder.write_all(&record.to_json_line_with(hash)).unwrap();
        encoder.write_all(b"\n").unwrap();
    }
    let bytes = Bytes::from(encoder.finish().unwrap());
    (STANDARD.encode(Sha256::digest(&bytes)), bytes)
}

fn variable(name: &str) -> String {
    std::env::var(format!("AUDIT_TEST_S3_{name}")).unwrap()
}

fn client(url: &str) -> Client {
    let credentials =
        Credentials::new(variable("ACCESS_KEY"), variable("SECRET_KEY"), None, None, "bench");
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    Client::from_conf(config.build())
}
