//! Every outage between a log and the server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_s3::{S3Archive, S3Config, S3Sink};
use agent_audit_test_support::{
    outages::{OutageHarness, WhenFull, inherited},
    servers::{Instance, required},
};

use super::place::{Place, User, client, key};

struct Server {
    url: String,
    keys: (String, String),
    bucket: String,
    own: Option<Instance>,
}

impl Server {
    async fn new() -> Self {
        let (url, keys) = (required("AUDIT_TEST_S3"), User::Admin.keys());
        let bucket = match inherited() {
            Some(bucket) => bucket,
            None => Place::at(&url, keys.clone(), true).await.bucket,
        };
        Self { url, keys, bucket, own: None }
    }

    fn config(&self, through: Option<SocketAddr>) -> S3Config {
        let url = through.map_or(self.url.clone(), |through| format!("http://{through}"));
        S3Config::new(&self.bucket)
            .with_endpoint(url)
            .with_credentials(&self.keys.0, &self.keys.1)
            .with_manifest_key(&key())
            .with_timeouts(Duration::from_secs(1), Duration::from_millis(1_500))
    }
}

#[async_trait::async_trait]
impl OutageHarness for Server {
    fn upstream(&self) -> SocketAddr {
        self.url.strip_prefix("http://").unwrap().parse().unwrap()
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(S3Sink::open(self.config(Some(through))).await.unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let patient =
            self.config(None).with_timeouts(Duration::from_secs(10), Duration::from_secs(60));
        super::records(&S3Archive::open(patient).await.unwrap(), chain, 0).await
    }

    /// After a fault an append asks three or four questions, of about 1 KiB each, before it writes an
    /// object or, where that was written already, the manifest, which is the commit.
    fn handshake_bytes(&self) -> u64 {
        5 << 10
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        let config = self.config(Some(through)).with_credentials(&self.keys.0, "wrong");
        Some(Arc::new(S3Sink::open(config).await.unwrap()))
    }

    /// By a policy of the bucket, which goes before what a user is permitted.
    async fn set_rights(&self, granted: bool) -> bool {
        let client = client(&self.url, self.keys.clone());
        if granted {
            client.delete_bucket_policy().bucket(&self.bucket).send().await.unwrap();
        } else {
            let policy = serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [{
                    "Sid": "NobodyWrites",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": ["s3:PutObject", "s3:ListBucketVersions"],
                    "Resource": [
                        format!("arn:aws:s3:::{}", self.bucket),
                        format!("arn:aws:s3:::{}/*", self.bucket),
                    ],
                }],
            });
            let put = client.put_bucket_policy().bucket(&self.bucket).policy(policy.to_string());
            put.send().await.unwrap();
        }
        true
    }

    /// More than the 64 MiB that the server keeps free. Its index of names, once it could not write its
    /// journal, says so until it is opened again.
    fn when_full(&self) -> WhenFull {
        WhenFull::Disk { spare: 256 << 20, restart: true }
    }

    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let own = tokio::task::block_in_place(|| Instance::start("s3"));
        let of = |name: &str| own.variable(name).to_owned();
        let keys = (of("AUDIT_TEST_S3_ACCESS_KEY"), of("AUDIT_TEST_S3_SECRET_KEY"));
        let url = of("AUDIT_TEST_S3");
        let bucket = Place::at(&url, keys.clone(), true).await.bucket;
        Some(Box::new(Self { url, keys, bucket, own: Some(own) }))
    }

    fn server(&self) -> Option<&Instance> {
        self.own.as_ref()
    }

    fn handed_down(&self) -> String {
        self.bucket.clone()
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
    Server::new().await
);
