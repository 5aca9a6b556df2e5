//! What the tests of the sinks that send messages have alike.
//!
//! A sink's tests include this folder by its path, and have a module `place` beside it, in which
//! `Place` is a stream or queue of one test's own and `Inbox` is what reads it.

mod access;
mod conformance;
mod faults;
mod large;
mod outages;

use std::{net::SocketAddr, time::Duration};

use agent_audit_core::{id::ChainId, record::Record};
use agent_audit_test_support::servers::required;
use aws_sdk_s3::{
    config::{BehaviorVersion, Credentials, Region, SharedHttpClient},
    types::CreateBucketConfiguration,
};

use crate::place::{
    Arrival, Arrivals, AwsConfig, ClaimConfig, Config, Inbox, Place, Received, Sink,
};

pub(crate) use faults::answers_are_errors_of_their_kind;

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const SECRET: &str = "secret-6d1f0c";
/// What the emulator numbers its only account with.
pub(crate) const ACCOUNT: &str = "000000000000";

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

/// A name that nothing else has.
pub(crate) fn fresh_name() -> String {
    format!("audit-{}", ChainId::random().as_str().to_lowercase())
}

pub(crate) fn credentials() -> Credentials {
    Credentials::new("test", SECRET, None, None, "tests")
}

pub(crate) fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().build_http()
}

/// A way to a service that listens at an address.
pub(crate) fn aws_at(at: SocketAddr) -> AwsConfig {
    AwsConfig::default()
        .with_region(REGION)
        .with_endpoint(format!("http://{at}"))
        .with_credentials("test", SECRET)
}

impl Place {
    /// The S3 of the emulator as anybody talks to it.
    pub(crate) fn s3(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .force_path_style(true)
            .credentials_provider(credentials())
            .http_client(http());
        aws_sdk_s3::Client::from_conf(config.build())
    }

    /// Creates its bucket, which needs a name of few letters.
    pub(crate) async fn create_bucket(&self) {
        let place = CreateBucketConfiguration::builder().location_constraint(REGION.into());
        let create = self.s3().create_bucket().bucket(&self.bucket);
        create.create_bucket_configuration(place.build()).send().await.unwrap();
    }

    /// Where its large events go, past whatever stands before the service.
    pub(crate) fn claims(&self) -> ClaimConfig {
        ClaimConfig::new(&self.bucket).with_endpoint(format!("http://{}", self.at))
    }

    pub(crate) fn config(&self) -> Config {
        self.config_through(self.at)
    }

    pub(crate) async fn sink(&self) -> Sink {
        Sink::connect(self.config()).await.unwrap()
    }

    /// All that arrived and was not read yet, as it came.
    pub(crate) async fn arrived(&self) -> Vec<Received> {
        Inbox::of(self.config()).await.rest().await.unwrap()
    }
}

/// Timeouts as short as a test can wait for.
pub(crate) fn impatient(mut config: Config) -> Config {
    let aws = config.aws.with_connect_timeout(Duration::from_millis(500));
    config.aws = aws.with_request_timeout(Duration::from_secs(1));
    config
}

/// What a reader makes of what arrived: each event once, in order.
pub(crate) fn in_order(arrived: impl IntoIterator<Item = Received>) -> Vec<Record> {
    let mut arrivals = Arrivals::new();
    let mut records = Vec::new();
    for received in arrived {
        if let Arrival::Next(next) = arrivals.take(received) {
            records.extend(next.into_iter().map(|received| received.record));
        }
    }
    assert_eq!(arrivals.waiting(), 0, "nothing waits for what was not delivered");
    records
}
