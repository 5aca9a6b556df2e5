//! The tables as the verifier reads them, which knows no runtime.

use std::sync::Arc;

use agent_audit_core::{
    columns::{StoredRow, check_columns},
    id::TenantId,
    record::Record,
    sink::{ChainRef, SinkError, SinkErrorKind},
    verify::directory::{RecordStore, StoreError, StoredRecord},
};
use tokio::{runtime::Runtime, sync::mpsc, task::JoinHandle};

use super::PostgresStore;
use crate::{config::PostgresConfig, error::Fault};

/// How many records wait for the verifier.
const AHEAD: usize = 16;

pub(super) fn record_stores(config: &PostgresConfig) -> Result<Vec<Box<dyn RecordStore>>, Fault> {
    let bridge = Arc::new(Bridge::new()?);
    // Connections live on the runtime that made them: these are the bridge's own.
    let store = PostgresStore::new(config.clone()).map_err(|error| other(&error))?;
    let listed = store.clone();
    let tenants =
        bridge.wait(async move { listed.tenants().await })?.map_err(|error| other(&error))?;
    let store = |tenant: TenantId| -> Box<dyn RecordStore> {
        let name = format!("postgres/{tenant}");
        Box::new(TenantStore { bridge: Arc::clone(&bridge), store: store.clone(), tenant, name })
    };
    Ok(tenants.into_iter().map(store).collect())
}

fn other(error: &SinkError) -> Fault {
    let text = error.to_string();
    let text = text.split_once(": ").map_or(text.as_str(), |(_, context)| context);
    Fault::new(error.kind(), text)
}

/// A runtime of its own, for callers that have none or must not block theirs.
#[derive(Debug)]
struct Bridge {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Bridge {
    fn new() -> Result<Self, Fault> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("audit-postgres")
            .enable_all()
            .build()
            .map_err(|error| {
                Fault::new(SinkErrorKind::Other, format!("start a thread to read with: {error}"))
            })?;
        Ok(Self { runtime: Some(runtime) })
    }

    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<JoinHandle<T>> {
        self.runtime.as_ref().map(|runtime| runtime.spawn(work))
    }

    /// Waits on the calling thread, whether it belongs to a runtime or not.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Fault> {
        let stopped = || Fault::new(SinkErrorKind::Other, "the thread to read with has stopped");
        let task = self.spawn(work).ok_or_else(stopped)?;
        block_on(task).map_err(|_| stopped())
    }
}

/// Waits on this thread, also where it is one of a runtime: that one's budget of polls would run out
/// here, and only be filled up again once this returns.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(tokio::task::unconstrained(future))
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for it would block a runtime that this is dropped on.
            runtime.shutdown_background();
        }
    }
}

/// One tenant's rows.
#[derive(Debug)]
struct TenantStore {
    bridge: Arc<Bridge>,
    store: PostgresStore,
    tenant: TenantId,
    name: String,
}

/// A record, or why there is none, and whether that is the end.
type Found = Result<(StoredRow, Record), (SinkError, bool)>;

impl RecordStore for TenantStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        let (store, tenant) = (self.store.clone(), self.tenant.clone());
        let listed = self.bridge.wait(async move { store.chains(&tenant).await });
        Ok(listed.map_err(SinkError::from)??)
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        let (send, mut receive) = mpsc::channel::<Found>(AHEAD);
        let (store, chain) = (self.store.clone(), chain.clone());
        let reading = self.bridge.spawn(async move {
            let mut records = match store.records(&chain, from).await {
                Ok(records) => records,
                Err(error) => {
                    // Nobody listening means nobody wants to know.
                    let _ = send.send(Err((error, true))).await;
                    return;
                }
            };
            while let Some(found) = records.next().await {
                let found = found.map_err(|error| (error, records.is_over()));
                if send.send(found).await.is_err() {
                    return;
                }
            }
        });
        while let Some(found) = block_on(receive.recv()) {
            match found {
                Ok((row, record)) => {
                    let bytes = record.to_bytes();
                    let stored = StoredRecord::new(&bytes);
                    each(match check_columns(&row, record.event_bytes()) {
                        None => stored,
                        Some(column) => stored.with_column_mismatch(column),
                    });
                }
                // What takes the place of a record and is none must not hide the records after it.
                Err((_, false)) => each(StoredRecord::new(&[])),
                Err((error, true)) => return Err(error.into()),
            }
        }
        match reading.map(block_on) {
            Some(Ok(())) => Ok(()),
            // An end that came of itself is no end of the records.
            _ => Err("the thread to read with has stopped".into()),
        }
    }
}
