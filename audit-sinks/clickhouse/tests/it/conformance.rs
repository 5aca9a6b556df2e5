//! The contract of sinks, against a real server.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agent_audit_core::{
    conformance::{Fault, Harness, lose_answers},
    record::Record,
    sink::{ChainRef, Sink},
};

use super::database::Database;

struct Server {
    database: Database,
    broken: AtomicBool,
}

impl Server {
    async fn new() -> Self {
        Self { database: Database::new().await, broken: AtomicBool::new(false) }
    }
}

#[async_trait::async_trait]
impl Harness for Server {
    async fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(self.database.sink())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.database.records(chain).await
    }

    fn credentials(&self) -> Vec<String> {
        vec![self.database.credentials().1]
    }

    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        if fault == Fault::AfterCommit {
            return Some(lose_answers(self.sink().await));
        }
        // The server throws while it inserts, for rows of this tenant alone.
        let tenant = chain.tenant_id.as_str();
        let check = format!("CHECK throwIf(tenant_id = '{tenant}') = 0");
        self.database
            .execute(&format!("ALTER TABLE audit_events ADD CONSTRAINT broken {check}"))
            .await;
        self.broken.store(true, Ordering::Relaxed);
        Some(self.sink().await)
    }

    async fn mend(&self) {
        if self.broken.swap(false, Ordering::Relaxed) {
            self.database.execute("ALTER TABLE audit_events DROP CONSTRAINT broken").await;
        }
    }
}

agent_audit_core::sink_conformance!(
    #[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
    Server::new().await
);

/// The same contract where the server gathers inserts.
mod gathered {
    use std::sync::Arc;

    use agent_audit_clickhouse::ClickHouseSink;
    use agent_audit_core::{
        conformance::Harness,
        record::Record,
        sink::{ChainRef, Sink},
    };

    use super::super::database::Database;

    struct Gathering(Database);

    #[async_trait::async_trait]
    impl Harness for Gathering {
        async fn sink(&self) -> Arc<dyn Sink> {
            let config = self.0.config().with_async_insert(true);
            Arc::new(ClickHouseSink::with_config(config).unwrap())
        }

        async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
            self.0.records(chain).await
        }
    }

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_CLICKHOUSE: servers/with clickhouse -- cargo test -- --include-ignored"]
        Gathering(Database::new().await)
    );
}
