//! The embedded store of a log, as the verifier reads it.

use agent_audit_core::{
    chain::ChainRef,
    content::PartBody,
    id::TenantId,
    log::Layout,
    record::Record,
    verify::directory::{RecordStore, StoreError, StoredRecord},
};
use agent_audit_sqlite::{SqliteStore, check_columns, file_of_tenant};

use crate::failure::Failure;

/// The embedded store of a log, where it has one.
pub(crate) fn embedded(layout: &Layout) -> Result<Option<SqliteStore>, Failure> {
    let dir = layout.sqlite();
    if !dir.is_dir() {
        return Ok(None);
    }
    Ok(Some(SqliteStore::open_read_only(dir)?))
}

/// One tenant's database. Each is a store of its own, so that one that cannot be read leaves the
/// others to be verified.
#[derive(Debug)]
pub(crate) struct TenantDatabase {
    store: SqliteStore,
    tenant: TenantId,
    name: String,
}

impl TenantDatabase {
    pub(crate) fn all(store: &SqliteStore) -> Result<Vec<Self>, Failure> {
        let database = |tenant| {
            let name = format!("sqlite/{}", file_of_tenant(&tenant));
            Self { store: store.clone(), tenant, name }
        };
        Ok(store.tenants()?.into_iter().map(database).collect())
    }
}

impl RecordStore for TenantDatabase {
    fn name(&self) -> &str {
        &self.name
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        Ok(self.store.chains(&self.tenant)?)
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        let mut failed = None;
        for item in self.store.records(chain, from)? {
            if failed.take().is_some() {
                // The database read on behind it: it was the record alone that could not be read.
                each(StoredRecord::new(b""));
            }
            match item {
                Ok((row, record)) if fits(&record) => {
                    let bytes = record.to_bytes();
                    let stored = StoredRecord::new(&bytes);
                    each(match check_columns(&row, record.event_bytes()) {
                        Some(column) => stored.with_column_mismatch(column),
                        None => stored,
                    });
                }
                Ok(_) => each(StoredRecord::new(b"")),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Whether the record has a binary form: a database can hold what no writer could have written.
fn fits(record: &Record) -> bool {
    let body_fits = |body: &PartBody| match body {
        PartBody::Sealed(sealed) => {
            u16::try_from(sealed.key_id.len()).is_ok() && u8::try_from(sealed.nonce.len()).is_ok()
        }
        _ => true,
    };
    u32::try_from(record.event_bytes().len()).is_ok()
        && u16::try_from(record.parts().len()).is_ok()
        && record.parts().iter().all(body_fits)
}
