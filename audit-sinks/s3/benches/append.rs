//! Appending through the sink, side by side with the client putting the same objects.
//!
//! `servers/with s3 -- cargo bench -p agent-audit-s3 --bench append` prints events per second of each,
//! and how much of the other's throughput the sink has. All write the same event objects with the same
//! lock and checksum, so many at a time:
//!
//! - the sink, which also keeps the tree and writes a signed manifest behind each object;
//! - `encode, put both`: a client that makes the bytes of the event object from the records, as the
//!   sink does, puts it, and then puts a manifest that it was given, as the contract has it;
//! - `encode, put one`: the same without the manifest, which the contract does not allow;
//! - `put one`: the same with the bytes ready.
//!
//! Each of them goes first in its turn, so that none has the emptier server for itself.
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
use agent_audit_test_support::race::Race;
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

/// One of those that are measured.
#[derive(Debug, Clone, Copy)]
enum Way {
    Sink,
    EncodePutBoth,
    EncodePutOne,
    PutOne,
}

const WAYS: [Way; 4] = [Way::Sink, Way::EncodePutBoth, Way::EncodePutOne, Way::PutOne];

async fn measure(url: &str, chains: usize, events: usize) {
    let raw = Raw { client: client(url), bucket: String::new() };
    let mut race = Race::new(["the sink", "encode, put both", "encode, put one", "put one"]);
    let mut bytes = 0;
    for _ in 0..ROUNDS {
        let raw = Raw { bucket: format!("bench-{}", ChainId::random()), ..raw.clone() };
        let create = raw.client.create_bucket().bucket(&raw.bucket);
        create.object_lock_enabled_for_bucket(true).send().await.unwrap();
        let config = S3Config::new(&raw.bucket)
            .with_endpoint(url)
            .with_credentials(variable("ACCESS_KEY"), variable("SECRET_KEY"))
            .with_manifest_key(&SigningKey::from_seed(&[1; 32]))
            .with_max_object_bytes(usize::MAX)
            .with_parallelism(PARALLELISM)
            .with_lock(Lock::governance(Duration::from_secs(3_600)));
        let sink = S3Sink::open(config.clone()).await.unwrap();
        let mut chains: Vec<TestChain> = (0..chains).map(|_| TestChain::new()).collect();
        let mut next = || Batch::new(chains.iter_mut().map(|chain| chain.extend(events)).collect());
        // What the client puts is what the sink made of a first batch; after it each chain is known
        // to the sink, as it is to one at work.
        let first = next();
        accepted(&sink, &first).await;
        let archive = S3Archive::open(config).await.unwrap();
        let mut objects = Vec::new();
        for segment in first.segments() {
            let object = archive.objects(segment.chain()).await.unwrap().remove(0);
            let get = raw.client.get_object().bucket(&raw.bucket).key(&object.key);
            let body = get.send().await.unwrap().body.collect().await.unwrap().into_bytes();
            bytes = body.len();
            let manifest = Bytes::from(object.manifest);
            objects.push(Object { segment: segment.clone(), body, manifest });
        }
        for at in race.round() {
            let second = if matches!(WAYS[at], Way::Sink) { next() } else { Batch::default() };
            let start = Instant::now();
            match WAYS[at] {
                Way::Sink => accepted(&sink, &second).await,
                way => raw.put_all(way, &objects).await,
            }
            race.took(at, start.elapsed().as_secs_f64());
        }
    }
    println!("{chains:>4} x {events:>6} ({} KiB compressed)", bytes >> 10);
    print!("{}", race.report(u32::try_from(chains * events).unwrap()));
}

/// What one chain gets.
struct Object {
    segment: Segment,
    body: Bytes,
    manifest: Bytes,
}

/// The client alone.
#[derive(Clone)]
struct Raw {
    client: Client,
    bucket: String,
}

impl Raw {
    async fn put_all(&self, way: Way, objects: &[Object]) {
        let puts = objects.iter().enumerate().map(async |(at, object)| {
            let Object { segment, body, manifest } = object;
            let (sha256, body) = match way {
                Way::PutOne => (checksum(body), body.clone()),
                _ => {
                    let segment = segment.clone();
                    tokio::task::spawn_blocking(move || encode(&segment)).await.unwrap()
                }
            };
            self.put(format!("{way:?}/{at}"), "application/zstd", sha256, body).await;
            if matches!(way, Way::EncodePutBoth) {
                let key = format!("{way:?}/{at}.manifest");
                self.put(key, "text/plain", checksum(manifest), manifest.clone()).await;
            }
        });
        stream::iter(puts).buffer_unordered(PARALLELISM).collect::<Vec<()>>().await;
    }

    async fn put(&self, key: String, media_type: &str, checksum: String, body: Bytes) {
        let until = DateTime::from(std::time::SystemTime::now()).secs() + 3_600;
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(media_type)
            .checksum_sha256(checksum)
            .if_none_match("*")
            .object_lock_mode(ObjectLockMode::Governance)
            .object_lock_retain_until_date(DateTime::from_secs(until))
            .body(ByteStream::from(body))
            .send()
            .await
            .unwrap();
    }
}

fn checksum(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

async fn accepted(sink: &S3Sink, batch: &Batch) {
    let ack = sink.append(batch).await.unwrap();
    assert!(ack.outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
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
    (checksum(&bytes), bytes)
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
