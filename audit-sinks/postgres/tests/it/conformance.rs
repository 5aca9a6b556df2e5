//! The contract of sinks, against a real server.

use std::sync::Arc;

use agent_audit_core::{
    conformance::{Fault, Harness, lose_answers},
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_postgres::PostgresStore;
use tokio::sync::Mutex;
use tokio_postgres::Client;

use super::{
    database::{Database, PASSWORD},
    records,
};

struct Postgres {
    database: &'static Database,
    reader: PostgresStore,
    lock: Mutex<Option<Client>>,
}

impl Postgres {
    async fn shared() -> Self {
        let database = Database::shared().await;
        Self { database, reader: database.reader(), lock: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Harness for Postgres {
    async fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.database.sink())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        records(&self.reader, chain).await
    }

    fn credentials(&self) -> Vec<String> {
        vec![PASSWORD.to_owned()]
    }

    /// Another transaction holds the chain.
    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        let sink = self.sink().await;
        if fault == Fault::AfterCommit {
            return Some(lose_answers(sink));
        }
        let client = self.database.admin().await;
        client.batch_execute("BEGIN").await.unwrap();
        let hold =
            "SELECT FROM agent_audit.audit_heads WHERE tenant_id = $1 AND chain_id = $2 FOR UPDATE";
        let (tenant, chain) = (chain.tenant_id.as_str(), chain.chain_id.as_str());
        assert_eq!(client.execute(hold, &[&tenant, &chain]).await.unwrap(), 1);
        *self.lock.lock().await = Some(client);
        Some(sink)
    }

    async fn mend(&self) {
        if let Some(client) = self.lock.lock().await.take() {
            client.batch_execute("ROLLBACK").await.unwrap();
        }
    }
}

agent_audit_core::sink_conformance!(
    #[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
    Postgres::shared().await
);
