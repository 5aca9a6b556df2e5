//! A topic, a database and a bucket of one test's own, and the relay between them.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseStore};
use agent_audit_core::{
    chain::ChainRef, id::ChainId, key::SigningKey, verify::directory::RecordStore,
};
use agent_audit_kafka::KafkaConfig;
use agent_audit_s3::{S3Archive, S3Config, S3Store};
use agent_audit_test_support::servers::required;
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Builder, Credentials, Region},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use crate::Ledger;

pub(crate) struct Place {
    /// Of the topic, the database, the bucket and the consumer group.
    name: String,
    tenants: Vec<String>,
}

/// The seed of the key that signs manifests, in base64: 32 times seven.
const SEED: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

impl Place {
    pub(crate) async fn new() -> Self {
        let name = format!("pipeline-{}", ChainId::random());
        let tenants = (0..crate::TENANTS).map(|at| format!("tenant-{at}")).collect();
        let place = Self { name, tenants };
        place.bucket().await;
        place.topic().await;
        place.clickhouse().migrate().await.unwrap();
        place
    }

    async fn bucket(&self) {
        let (key, secret) =
            (required("AUDIT_TEST_S3_ACCESS_KEY"), required("AUDIT_TEST_S3_SECRET_KEY"));
        let config = Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(required("AUDIT_TEST_S3"))
            .force_path_style(true)
            .credentials_provider(Credentials::new(key, secret, None, None, "tests"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        let create = Client::from_conf(config.build()).create_bucket().bucket(&self.name);
        create.object_lock_enabled_for_bucket(true).send().await.unwrap();
    }

    async fn topic(&self) {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", required("AUDIT_TEST_KAFKA"))
            .create()
            .unwrap();
        let topic = NewTopic::new(&self.name, 4, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
        admin.create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
    }

    fn database(&self) -> String {
        self.name.replace('-', "_")
    }

    pub(crate) fn kafka(&self) -> KafkaConfig {
        KafkaConfig::new(required("AUDIT_TEST_KAFKA")).with_topic(&self.name)
    }

    fn clickhouse(&self) -> ClickHouseStore {
        let config = ClickHouseConfig::new(required("AUDIT_TEST_CLICKHOUSE"));
        ClickHouseStore::new(config.with_database(self.database())).unwrap()
    }

    fn s3(&self) -> S3Config {
        let (key, secret) =
            (required("AUDIT_TEST_S3_ACCESS_KEY"), required("AUDIT_TEST_S3_SECRET_KEY"));
        S3Config::new(&self.name)
            .with_endpoint(required("AUDIT_TEST_S3"))
            .with_credentials(key, secret)
            .with_trusted_key(SigningKey::from_seed(&[7; 32]).verifying_key())
    }

    /// The command, as an operator runs it.
    pub(crate) fn relay(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_agent-audit"))
            .args(["relay", "--topic", &self.name, "--group", &self.name])
            .args(["--to", "clickhouse", "--to", "s3"])
            .env("AGENT_AUDIT_KAFKA_BROKERS", required("AUDIT_TEST_KAFKA"))
            .env("AGENT_AUDIT_CLICKHOUSE_URL", required("AUDIT_TEST_CLICKHOUSE"))
            .env("AGENT_AUDIT_CLICKHOUSE_DATABASE", self.database())
            // Small, so that there is a middle.
            .env("AGENT_AUDIT_CLICKHOUSE_MAX_BATCH_EVENTS", "50")
            .env("AGENT_AUDIT_S3_MAX_BATCH_EVENTS", "50")
            .env("AGENT_AUDIT_S3_BUCKET", &self.name)
            .env("AGENT_AUDIT_S3_ENDPOINT", required("AUDIT_TEST_S3"))
            .env("AGENT_AUDIT_S3_ACCESS_KEY_ID", required("AUDIT_TEST_S3_ACCESS_KEY"))
            .env("AGENT_AUDIT_S3_SECRET_ACCESS_KEY", required("AUDIT_TEST_S3_SECRET_KEY"))
            .env("AGENT_AUDIT_S3_LOCK_MODE", "governance")
            .env("AGENT_AUDIT_S3_RETENTION_DAYS", "1")
            .env("AGENT_AUDIT_S3_MANIFEST_KEY", SEED)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// How many events ClickHouse has.
    pub(crate) async fn rows(&self) -> usize {
        crate::count(&self.stored().await)
    }

    pub(crate) async fn stored(&self) -> Ledger {
        let store = self.clickhouse();
        let mut ledger = Ledger::new();
        for chain in self.chains(&store).await {
            let mut records = store.records(&chain, 0).await.unwrap();
            while let Some(item) = records.next().await {
                ledger.entry(chain.clone()).or_default().push(item.unwrap().1);
            }
        }
        ledger
    }

    async fn chains(&self, store: &ClickHouseStore) -> Vec<ChainRef> {
        let mut chains = Vec::new();
        for tenant in &self.tenants {
            chains.extend(store.chains(&tenant.parse().unwrap()).await.unwrap());
        }
        chains
    }

    pub(crate) async fn archived(&self) -> Ledger {
        let archive = S3Archive::open(self.s3()).await.unwrap();
        let mut ledger = Ledger::new();
        for tenant in archive.tenants().await.unwrap() {
            for chain in archive.chains(&tenant).await.unwrap() {
                let mut records = archive.records(&chain, 0);
                while let Some(item) = records.next().await {
                    ledger.entry(chain.clone()).or_default().push(item.unwrap().1);
                }
            }
        }
        ledger
    }

    /// Both stores, as the verifier reads them.
    pub(crate) async fn record_stores(&self) -> Vec<Box<dyn RecordStore>> {
        let mut stores = self.clickhouse().record_stores().await.unwrap();
        stores.push(Box::new(S3Store::new(self.s3())));
        stores
    }
}
