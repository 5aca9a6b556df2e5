//! The outages that every sink goes through.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_postgres::{PostgresConfig, PostgresSink};
use agent_audit_test_support::{
    outages::{OutageHarness, inherited},
    servers::Instance,
};

use super::{
    database::{Database, PASSWORD, Server},
    records,
};

struct Postgres {
    database: Database,
    own: Option<Instance>,
}

impl Postgres {
    /// In a process that a test started, the database of that test.
    async fn start() -> Self {
        let database = match inherited() {
            Some(handed_down) => {
                let (url, name) = handed_down.split_once(' ').unwrap();
                Database { server: Server::at(url), name: name.to_owned() }
            }
            None => Database::own().await,
        };
        Self { database, own: None }
    }

    fn config(&self, through: SocketAddr, password: &str) -> PostgresConfig {
        let name = &self.database.name;
        let url = format!("postgres://audit_test_writer@{through}/{name}?sslmode=disable");
        PostgresConfig::new(url)
            .with_password(password)
            .with_connect_timeout(Duration::from_secs(1))
            .with_statement_timeout(Duration::from_secs(1))
    }
}

#[async_trait::async_trait]
impl OutageHarness for Postgres {
    fn upstream(&self) -> SocketAddr {
        let Server { host, port, .. } = &self.database.server;
        std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port)).unwrap().next().unwrap()
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(PostgresSink::new(self.config(through, PASSWORD)).unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        records(&self.database.reader(), chain).await
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(PostgresSink::new(self.config(through, "not the password")).unwrap()))
    }

    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let instance = Instance::start("postgres");
        let server = Server::at(instance.variable("AUDIT_TEST_POSTGRES"));
        let database = Database::create(server, "ledger".to_owned()).await;
        Some(Box::new(Self { database, own: Some(instance) }))
    }

    fn server(&self) -> Option<&Instance> {
        self.own.as_ref()
    }

    fn handed_down(&self) -> String {
        format!("{} {}", self.database.server.admin_url(), self.database.name)
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
    Postgres::start().await
);
