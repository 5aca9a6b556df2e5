//! A stream and a bucket of one test alone, on the emulator.

use std::{net::SocketAddr, time::Duration};

use agent_audit_core::id::ChainId;
use agent_audit_kinesis::{
    AwsConfig, ClaimConfig, KinesisConfig, KinesisReader, KinesisSink, Received,
};
use agent_audit_test_support::servers::required;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::CreateBucketConfiguration;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const SECRET: &str = "secret-6d1f0c";

/// The emulator that takes any credentials.
pub(crate) fn emulator() -> SocketAddr {
    address(&required("AUDIT_TEST_AWS"))
}

/// The emulator that checks policies.
pub(crate) fn guarded_emulator() -> SocketAddr {
    address(&required("AUDIT_TEST_AWS_IAM"))
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/').parse().unwrap()
}

pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) at: SocketAddr,
}

impl Stream {
    /// A stream of two shards, and a bucket.
    pub(crate) async fn create(at: SocketAddr) -> Self {
        let name = format!("audit-{}", ChainId::random().as_str().to_lowercase());
        let stream = Self { bucket: format!("b{}", &name[..40.min(name.len())]), name, at };
        stream
            .client()
            .create_stream()
            .stream_name(&stream.name)
            .shard_count(2)
            .send()
            .await
            .unwrap();
        let place = CreateBucketConfiguration::builder().location_constraint(REGION.into());
        let create = stream.s3().create_bucket().bucket(&stream.bucket);
        create.create_bucket_configuration(place.build()).send().await.unwrap();
        stream
    }

    /// One that was created before.
    pub(crate) fn known(name: &str, bucket: &str, at: SocketAddr) -> Self {
        Self { name: name.to_owned(), bucket: bucket.to_owned(), at }
    }

    /// The service as anybody talks to it.
    pub(crate) fn client(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .credentials_provider(Credentials::new("test", SECRET, None, None, "tests"))
            .http_client(http());
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .force_path_style(true)
            .credentials_provider(Credentials::new("test", SECRET, None, None, "tests"))
            .http_client(http());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// A sink's way to the stream past `at`; objects go straight to the emulator.
    pub(crate) fn config_through(&self, at: SocketAddr) -> KinesisConfig {
        let aws = AwsConfig::default()
            .with_region(REGION)
            .with_endpoint(format!("http://{at}"))
            .with_credentials("test", SECRET);
        let claims = ClaimConfig::new(&self.bucket).with_endpoint(format!("http://{}", self.at));
        KinesisConfig::new(&self.name).with_aws(aws).with_claims(claims)
    }

    pub(crate) fn config(&self) -> KinesisConfig {
        self.config_through(self.at)
    }

    pub(crate) async fn sink(&self) -> KinesisSink {
        KinesisSink::connect(self.config()).await.unwrap()
    }

    pub(crate) async fn reader(&self) -> KinesisReader {
        KinesisReader::connect(self.config()).await.unwrap()
    }

    /// All that the stream holds, as it holds it.
    pub(crate) async fn everything(&self) -> Vec<Received> {
        rest(&mut self.reader().await).await
    }

    /// The text of every record.
    pub(crate) async fn texts(&self) -> Vec<String> {
        let client = self.client();
        let mut texts = Vec::new();
        for shard in client.list_shards().stream_name(&self.name).send().await.unwrap().shards() {
            let iterator = client.get_shard_iterator().stream_name(&self.name);
            let iterator =
                iterator.shard_id(shard.shard_id()).shard_iterator_type("TRIM_HORIZON".into());
            let iterator = iterator.send().await.unwrap().shard_iterator.unwrap();
            let answer = client.get_records().shard_iterator(iterator).send().await.unwrap();
            let text = |r: &aws_sdk_kinesis::types::Record| {
                String::from_utf8(r.data().as_ref().to_vec()).unwrap()
            };
            texts.extend(answer.records().iter().map(text));
        }
        texts
    }
}

/// What a reader has not read yet.
pub(crate) async fn rest(reader: &mut KinesisReader) -> Vec<Received> {
    let mut all = Vec::new();
    loop {
        let records = reader.receive().await.unwrap();
        let nothing = records.is_empty();
        all.extend(records.into_iter().map(|record| record.received.unwrap()));
        if nothing && reader.is_caught_up() {
            return all;
        }
    }
}

/// Timeouts as short as a test can wait for.
pub(crate) fn impatient(config: KinesisConfig) -> KinesisConfig {
    let aws = config.aws.clone();
    let aws = aws.with_connect_timeout(Duration::from_millis(500));
    config.with_aws(aws.with_request_timeout(Duration::from_secs(1)))
}

fn http() -> aws_sdk_kinesis::config::SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}
