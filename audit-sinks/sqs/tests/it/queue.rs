//! A queue and a bucket of one test alone, on the emulator.

use std::{net::SocketAddr, time::Duration};

use agent_audit_core::id::ChainId;
use agent_audit_sqs::{AwsConfig, ClaimConfig, Received, SqsConfig, SqsReader, SqsSink};
use agent_audit_test_support::servers::required;
use aws_sdk_s3::types::CreateBucketConfiguration;
use aws_sdk_sqs::{
    config::{BehaviorVersion, Credentials, Region},
    types::QueueAttributeName,
};

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

pub(crate) struct Queue {
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) at: SocketAddr,
}

impl Queue {
    /// A FIFO queue, and a bucket.
    pub(crate) async fn create(at: SocketAddr) -> Self {
        let name = format!("audit-{}", ChainId::random().as_str().to_lowercase());
        let bucket = format!("b{}", &name[..40]);
        let queue = Self { name: format!("{name}.fifo"), bucket, at };
        let create = queue.client().create_queue().queue_name(&queue.name);
        create.attributes(QueueAttributeName::FifoQueue, "true").send().await.unwrap();
        let place = CreateBucketConfiguration::builder().location_constraint(REGION.into());
        let create = queue.s3().create_bucket().bucket(&queue.bucket);
        create.create_bucket_configuration(place.build()).send().await.unwrap();
        queue
    }

    /// One that was created before.
    pub(crate) fn known(name: &str, bucket: &str, at: SocketAddr) -> Self {
        Self { name: name.to_owned(), bucket: bucket.to_owned(), at }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/000000000000/{}", self.at, self.name)
    }

    /// The service as anybody talks to it.
    pub(crate) fn client(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .credentials_provider(Credentials::new("test", SECRET, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .force_path_style(true)
            .credentials_provider(Credentials::new("test", SECRET, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// A sink's way to the queue past `at`; objects go straight to the emulator.
    pub(crate) fn config_through(&self, at: SocketAddr) -> SqsConfig {
        let aws = AwsConfig::default()
            .with_region(REGION)
            .with_endpoint(format!("http://{at}"))
            .with_credentials("test", SECRET);
        let claims = ClaimConfig::new(&self.bucket).with_endpoint(format!("http://{}", self.at));
        SqsConfig::new(self.url()).with_aws(aws).with_claims(claims)
    }

    pub(crate) fn config(&self) -> SqsConfig {
        self.config_through(self.at)
    }

    pub(crate) async fn sink(&self) -> SqsSink {
        SqsSink::connect(self.config()).await.unwrap()
    }

    pub(crate) async fn reader(&self) -> SqsReader {
        SqsReader::connect(self.config()).await.unwrap().with_wait(Duration::ZERO)
    }

    /// The text of the first messages, which stay in the queue.
    pub(crate) async fn texts(&self) -> Vec<String> {
        let client = self.client();
        let receive = client.receive_message().queue_url(self.url()).max_number_of_messages(10);
        let messages = receive.send().await.unwrap().messages.unwrap_or_default();
        for message in &messages {
            let change = client.change_message_visibility().queue_url(self.url());
            let change =
                change.visibility_timeout(0).set_receipt_handle(message.receipt_handle.clone());
            change.send().await.unwrap();
        }
        messages.into_iter().filter_map(|message| message.body).collect()
    }

    /// Takes out all that the queue holds, in its order.
    pub(crate) async fn drain(&self) -> Vec<Received> {
        let reader = self.reader().await;
        let mut all = Vec::new();
        loop {
            let messages = reader.receive().await.unwrap();
            if messages.is_empty() {
                return all;
            }
            reader.delete(&messages).await.unwrap();
            all.extend(messages.into_iter().map(|message| message.received.unwrap()));
        }
    }
}

/// Timeouts as short as a test can wait for.
pub(crate) fn impatient(config: SqsConfig) -> SqsConfig {
    let aws = config.aws.clone();
    let aws = aws.with_connect_timeout(Duration::from_millis(500));
    config.with_aws(aws.with_request_timeout(Duration::from_secs(1)))
}
