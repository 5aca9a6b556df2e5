//! Every outage between a log and the server.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink, ClickHouseStore};
use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_test_support::{
    outages::{OutageHarness, inherited},
    servers::{Instance, required},
};

use super::database::Database;

struct Server {
    /// Goes with the test that made it; a process that one starts finds it.
    database: Option<Database>,
    url: String,
    name: String,
    /// Behind the database, which goes first.
    own: Option<Instance>,
}

impl Server {
    async fn new() -> Self {
        let url = required("AUDIT_TEST_CLICKHOUSE");
        match inherited() {
            Some(name) => Self { database: None, url, name, own: None },
            None => Self::with(Database::new().await, url, None),
        }
    }

    fn with(database: Database, url: String, own: Option<Instance>) -> Self {
        let name = database.name().to_owned();
        Self { database: Some(database), url, name, own }
    }

    fn config(&self, user: Option<&str>, through: SocketAddr) -> ClickHouseConfig {
        let (credentials, _) = self.url.rsplit_once('@').unwrap();
        let url = format!("{}@{through}", user.unwrap_or(credentials));
        ClickHouseConfig::new(url)
            .with_database(&self.name)
            .with_connect_timeout(Duration::from_secs(1))
            .with_timeout(Duration::from_millis(1_500))
    }
}

#[async_trait::async_trait]
impl OutageHarness for Server {
    fn upstream(&self) -> SocketAddr {
        self.url.rsplit_once('@').unwrap().1.parse().unwrap()
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(ClickHouseSink::with_config(self.config(None, through)).unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let config = ClickHouseConfig::new(&self.url).with_database(&self.name);
        let store = ClickHouseStore::new(config).unwrap();
        let mut records = store.records(chain, 0).await.unwrap();
        let mut found = Vec::new();
        while let Some(item) = records.next().await {
            found.push(item.unwrap().1);
        }
        found
    }

    /// An append is up to four requests on one connection: a look, content, events, a look.
    fn handshake_bytes(&self) -> u64 {
        32 << 10
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        let config = self.config(Some("http://admin:wrong"), through);
        Some(Arc::new(ClickHouseSink::with_config(config).unwrap()))
    }

    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let own = tokio::task::block_in_place(|| Instance::start("clickhouse"));
        let url = own.variable("AUDIT_TEST_CLICKHOUSE").to_owned();
        let database = Database::at(url.clone());
        database.store().migrate().await.unwrap();
        Some(Box::new(Self::with(database, url, Some(own))))
    }

    fn server(&self) -> Option<&Instance> {
        self.own.as_ref()
    }

    fn handed_down(&self) -> String {
        self.name.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.database.take());
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
    Server::new().await
);
