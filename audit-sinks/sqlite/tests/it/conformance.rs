//! The contract of sinks, on real files.

use std::sync::{Arc, Mutex};

use agent_audit_core::{
    conformance::{Fault, Harness, lose_answers},
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_sqlite::{SqliteConfig, SqliteSink};
use rusqlite::Connection;
use tempfile::TempDir;

struct Files {
    dir: TempDir,
    lock: Mutex<Option<Connection>>,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), lock: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Harness for Files {
    async fn sink(&self) -> Arc<dyn Sink> {
        let config = SqliteConfig::new(self.dir.path()).with_max_open(3);
        Arc::new(SqliteSink::with_config(config).unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        super::records(self.dir.path(), chain)
    }

    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        let sink = self.sink().await;
        if fault == Fault::AfterCommit {
            return Some(lose_answers(sink));
        }
        let conn = super::raw(self.dir.path(), &chain.tenant_id);
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        *self.lock.lock().unwrap() = Some(conn);
        Some(sink)
    }

    async fn mend(&self) {
        self.lock.lock().unwrap().take();
    }
}

agent_audit_core::sink_conformance!(Files::new());
