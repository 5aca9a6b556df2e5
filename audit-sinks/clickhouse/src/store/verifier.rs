//! A tenant's ledger as the verifier reads it: without a runtime, record by record.

use std::{io, sync::mpsc};

use agent_audit_core::{
    columns::check_columns,
    id::TenantId,
    sink::ChainRef,
    verify::directory::{RecordStore, StoreError, StoredRecord},
};

use super::read::ClickHouseStore;
use crate::config::ClickHouseConfig;

/// One store for each tenant.
pub(super) fn stores(
    config: &ClickHouseConfig,
    tenants: Vec<TenantId>,
) -> Vec<Box<dyn RecordStore>> {
    let store = |tenant: TenantId| -> Box<dyn RecordStore> {
        let name = format!("clickhouse/{}/{tenant}", config.database);
        Box::new(TenantStore { config: config.clone(), tenant, name })
    };
    tenants.into_iter().map(store).collect()
}

#[derive(Debug)]
struct TenantStore {
    config: ClickHouseConfig,
    tenant: TenantId,
    name: String,
}

impl TenantStore {
    /// Does work on a thread with a runtime of its own: the caller's thread may have one already,
    /// in which it must not wait, or none. What the work gives goes to `each`, a few at a time.
    fn run<T: Send>(
        &self,
        work: impl AsyncFnOnce(ClickHouseStore, mpsc::SyncSender<T>) -> Result<(), StoreError> + Send,
        mut each: impl FnMut(T),
    ) -> Result<(), StoreError> {
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::sync_channel(64);
            let worker = scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(async {
                    let store = ClickHouseStore::new(self.config.clone())?;
                    work(store, sender).await
                })
            });
            receiver.iter().for_each(&mut each);
            worker.join().unwrap_or_else(|_| Err(io::Error::other("the reading stopped").into()))
        })
    }
}

impl RecordStore for TenantStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        let mut chains = Vec::new();
        self.run(
            async |store, found| {
                for chain in store.chains(&self.tenant).await? {
                    // Whoever listens does so to the end.
                    let _ = found.send(chain);
                }
                Ok(())
            },
            |chain| chains.push(chain),
        )?;
        Ok(chains)
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        self.run(
            async |store, found| {
                let mut records = store.records(chain, from).await?;
                while let Some(item) = records.next().await {
                    let record = match item {
                        Ok((row, record)) => {
                            (record.to_bytes(), check_columns(&row, record.event_bytes()))
                        }
                        // What takes the place of a record and is none must not hide the records
                        // after it.
                        Err(_) if !records.is_broken() => (Vec::new(), None),
                        Err(error) => return Err(error.into()),
                    };
                    let _ = found.send(record);
                }
                Ok(())
            },
            |(bytes, mismatch): (Vec<u8>, Option<&'static str>)| {
                let stored = StoredRecord::new(&bytes);
                each(match mismatch {
                    None => stored,
                    Some(column) => stored.with_column_mismatch(column),
                });
            },
        )
    }
}
