//! A bucket of one test's own, and what its owner can do with it.

use std::time::Duration;

use agent_audit_core::{id::ChainId, key::SigningKey};
use agent_audit_s3::{Lock, S3Archive, S3Config, S3Sink};
use agent_audit_test_support::servers::required;
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
    primitives::ByteStream,
};

pub(crate) struct Place {
    pub(crate) url: String,
    pub(crate) bucket: String,
    pub(crate) client: Client,
    locked: bool,
}

/// One of the users that the server has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum User {
    Admin,
    Writer,
    Reader,
}

impl User {
    pub(crate) fn keys(self) -> (String, String) {
        let name = match self {
            Self::Admin => "",
            Self::Writer => "WRITER_",
            Self::Reader => "READER_",
        };
        let of = |what: &str| required(&format!("AUDIT_TEST_S3_{name}{what}"));
        (of("ACCESS_KEY"), of("SECRET_KEY"))
    }
}

/// The key that signs the manifests of these tests.
pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

pub(crate) fn client(url: &str, (id, secret): (String, String)) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = Builder::new()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(url)
        .force_path_style(true)
        .credentials_provider(Credentials::new(id, secret, None, None, "tests"))
        .http_client(http);
    Client::from_conf(config.build())
}

impl Place {
    /// A bucket with Object Lock.
    pub(crate) async fn new() -> Self {
        Self::at(&required("AUDIT_TEST_S3"), User::Admin.keys(), true).await
    }

    /// A bucket without Object Lock and without versions.
    pub(crate) async fn plain() -> Self {
        Self::at(&required("AUDIT_TEST_S3"), User::Admin.keys(), false).await
    }

    pub(crate) async fn at(url: &str, keys: (String, String), locked: bool) -> Self {
        let client = client(url, keys);
        let bucket = format!("ledger-{}", ChainId::random());
        let create = client.create_bucket().bucket(&bucket);
        create.object_lock_enabled_for_bucket(locked).send().await.unwrap();
        Self { url: url.to_owned(), bucket, client, locked }
    }

    /// A configuration without credentials.
    pub(crate) fn anonymous(&self) -> S3Config {
        let config = S3Config::new(&self.bucket)
            .with_endpoint(&self.url)
            .with_prefix("audit")
            .with_timeouts(Duration::from_secs(10), Duration::from_secs(60))
            .with_manifest_key(&key());
        if self.locked {
            config.with_lock(Lock::governance(Duration::from_secs(3_600)))
        } else {
            config
        }
    }

    pub(crate) fn config_of(&self, user: User) -> S3Config {
        let (id, secret) = user.keys();
        self.anonymous().with_credentials(id, secret)
    }

    pub(crate) fn config(&self) -> S3Config {
        self.config_of(User::Admin)
    }

    pub(crate) async fn sink(&self) -> S3Sink {
        S3Sink::open(self.config()).await.unwrap()
    }

    pub(crate) async fn archive(&self) -> S3Archive {
        S3Archive::open(self.config()).await.unwrap()
    }

    /// Every key with its versions, newest first.
    pub(crate) async fn versions(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let (mut key, mut version) = (None, None);
        loop {
            let list = self.client.list_object_versions().bucket(&self.bucket);
            let list = list.set_key_marker(key).set_version_id_marker(version);
            let page = list.send().await.unwrap();
            for version in page.versions() {
                let id = version.version_id().unwrap_or_default().to_owned();
                found.push((version.key().unwrap().to_owned(), id));
            }
            if page.is_truncated() != Some(true) {
                break;
            }
            key = page.next_key_marker().map(str::to_owned);
            version = page.next_version_id_marker().map(str::to_owned);
        }
        found
    }

    /// The keys that end so, each once.
    pub(crate) async fn keys(&self, end: &str) -> Vec<String> {
        let versions = self.versions().await.into_iter().map(|(key, _)| key);
        let mut keys: Vec<String> = versions.filter(|key| key.ends_with(end)).collect();
        keys.dedup();
        keys
    }

    pub(crate) async fn read(&self, key: &str) -> Vec<u8> {
        let object = self.client.get_object().bucket(&self.bucket).key(key).send().await.unwrap();
        object.body.collect().await.unwrap().to_vec()
    }

    /// Writes as somebody does who may write and does not care.
    pub(crate) async fn write(&self, key: &str, body: Vec<u8>) {
        let put = self.client.put_object().bucket(&self.bucket).key(key);
        put.body(ByteStream::from(body)).send().await.unwrap();
    }

    /// Deletes the object, or hides it where there are versions.
    pub(crate) async fn delete(&self, key: &str) {
        self.client.delete_object().bucket(&self.bucket).key(key).send().await.unwrap();
    }
}
