//! A database of one test alone, and a client as an administrator has one.

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink, ClickHouseStore};
use agent_audit_core::{columns::StoredRow, id::ChainId, record::Record, sink::ChainRef};
use agent_audit_test_support::servers::required;
use clickhouse::{Client, Compression};

/// Goes when it is dropped.
pub(crate) struct Database {
    url: String,
    name: String,
}

impl Database {
    /// A database without tables, at the server that the environment names.
    pub(crate) fn empty() -> Self {
        Self::at(required("AUDIT_TEST_CLICKHOUSE"))
    }

    /// A database without tables, at a server by its URL with user and password.
    pub(crate) fn at(url: String) -> Self {
        let name = format!("test_{}", ChainId::random().to_string().replace('-', ""));
        Self { url, name }
    }

    /// A database with the tables.
    pub(crate) async fn new() -> Self {
        let database = Self::empty();
        database.store().migrate().await.unwrap();
        database
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn config(&self) -> ClickHouseConfig {
        ClickHouseConfig::new(&self.url).with_database(&self.name)
    }

    /// The configuration of another user.
    pub(crate) fn config_of(&self, user: &str, password: &str) -> ClickHouseConfig {
        let (scheme, rest) = self.url.split_once("://").unwrap();
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        ClickHouseConfig::new(format!("{scheme}://{host}"))
            .with_database(&self.name)
            .with_user(user, password)
    }

    /// The configuration for another address that leads to the server.
    pub(crate) fn config_through(&self, address: std::net::SocketAddr) -> ClickHouseConfig {
        let (credentials, _) = self.url.rsplit_once('@').unwrap();
        ClickHouseConfig::new(format!("{credentials}@{address}")).with_database(&self.name)
    }

    /// The address of the server.
    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.url.rsplit_once('@').unwrap().1.parse().unwrap()
    }

    /// User and password of the administrator.
    pub(crate) fn credentials(&self) -> (String, String) {
        let (credentials, _) = self.url.split_once("://").unwrap().1.rsplit_once('@').unwrap();
        let (user, password) = credentials.split_once(':').unwrap();
        (user.to_owned(), password.to_owned())
    }

    pub(crate) fn sink(&self) -> ClickHouseSink {
        ClickHouseSink::with_config(self.config()).unwrap()
    }

    pub(crate) fn store(&self) -> ClickHouseStore {
        ClickHouseStore::new(self.config()).unwrap()
    }

    #[cfg(feature = "query")]
    pub(crate) fn events(&self) -> std::sync::Arc<agent_audit_clickhouse::ClickHouseEvents> {
        let events = agent_audit_clickhouse::ClickHouseEvents::new(self.config());
        std::sync::Arc::new(events.unwrap())
    }

    /// The client of the server's makers, as an administrator or an attacker has one.
    pub(crate) fn raw(&self) -> Client {
        let (user, password) = self.credentials();
        let host = self.address();
        Client::default()
            .with_url(format!("http://{host}"))
            .with_user(user)
            .with_password(password)
            .with_compression(Compression::None)
            .with_database(&self.name)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.raw().query_raw(sql).execute().await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn count(&self, what: &str) -> u64 {
        let query = format!("SELECT toUInt64(count()) FROM {what}");
        self.raw().query_raw(&query).fetch_one().await.unwrap()
    }

    pub(crate) async fn rows(&self, chain: &ChainRef) -> Vec<(StoredRow, Record)> {
        let mut records = self.store().records(chain, 0).await.unwrap();
        let mut rows = Vec::new();
        while let Some(item) = records.next().await {
            rows.push(item.unwrap());
        }
        rows
    }

    pub(crate) async fn records(&self, chain: &ChainRef) -> Vec<Record> {
        self.rows(chain).await.into_iter().map(|(_, record)| record).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let raw = self.raw().with_database("default");
        let statement = format!("DROP DATABASE IF EXISTS {}", self.name);
        // A runtime cannot be waited for within another.
        let work = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                // The server may be gone already.
                let _ = raw.query_raw(&statement).execute().await;
            });
        });
        let _ = work.join();
    }
}
