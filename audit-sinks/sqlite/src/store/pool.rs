//! Which databases are open: as many as allowed, the latest used, one user at a time.

use std::{
    collections::{HashMap, HashSet},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use agent_audit_core::id::TenantId;

use super::{Database, files};
use crate::{config::SqliteConfig, error::Fault};

/// The open databases of one sink.
#[derive(Debug)]
pub(crate) struct Pool {
    config: SqliteConfig,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: HashMap<TenantId, (u64, Database)>,
    busy: HashSet<TenantId>,
    /// Counts uses, to tell which idle database was used longest ago.
    clock: u64,
}

/// What to do for a tenant without a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Skip,
}

impl Pool {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        Self { config, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(crate) fn config(&self) -> &SqliteConfig {
        &self.config
    }

    /// Uses a tenant's database; waits while it, or every database allowed, is in use.
    ///
    /// `None` is a tenant without one. After a fault the database is closed, so that the next use
    /// finds out for itself what is there.
    pub(crate) fn with<T>(
        &self,
        tenant: &TenantId,
        missing: Missing,
        work: impl FnOnce(&mut Database) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let path = self.config.directory.join(files::file_of_tenant(tenant));
        // The lease is declared first and so dropped last: nobody opens what is still being closed.
        let mut lease = self.lease(tenant);
        let kept = lease.database.take().filter(Database::is_in_place);
        let mut database = match kept {
            Some(database) => database,
            None if missing == Missing::Skip && !path.exists() => return Ok(None),
            None => Database::open(&path, tenant, &self.config)?,
        };
        let done = work(&mut database)?;
        lease.database = Some(database);
        Ok(Some(done))
    }

    /// Closes every database, after its present use.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        loop {
            let idle = std::mem::take(&mut state.idle);
            if idle.is_empty() && state.busy.is_empty() {
                return;
            }
            if idle.is_empty() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            drop(idle);
            state = self.lock();
        }
    }

    fn lease(&self, tenant: &TenantId) -> Lease<'_> {
        let limit = self.config.max_open.max(1);
        let mut state = self.lock();
        loop {
            if !state.busy.contains(tenant) {
                if let Some((_, database)) = state.idle.remove(tenant) {
                    state.busy.insert(tenant.clone());
                    return self.leased(tenant, Some(database));
                }
                let full = state.idle.len() + state.busy.len() >= limit;
                let oldest = state
                    .idle
                    .iter()
                    .min_by_key(|(_, (used, _))| *used)
                    .map(|(tenant, _)| tenant.clone());
                match oldest {
                    Some(oldest) if full => {
                        let evicted = state.idle.remove(&oldest);
                        // Busy while it closes, which copies its write-ahead log: it still counts,
                        // and nobody opens it meanwhile.
                        state.busy.insert(oldest.clone());
                        drop(state);
                        let lease = self.leased(&oldest, None);
                        drop(evicted);
                        drop(lease);
                        state = self.lock();
                        continue;
                    }
                    _ if !full => {
                        state.busy.insert(tenant.clone());
                        return self.leased(tenant, None);
                    }
                    _ => {}
                }
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn leased(&self, tenant: &TenantId, database: Option<Database>) -> Lease<'_> {
        Lease { pool: self, tenant: tenant.clone(), database }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to use one tenant's database; it goes back into the pool with it.
struct Lease<'a> {
    pool: &'a Pool,
    tenant: TenantId,
    database: Option<Database>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.busy.remove(&self.tenant);
        if let Some(database) = self.database.take() {
            state.clock += 1;
            let used = state.clock;
            state.idle.insert(self.tenant.clone(), (used, database));
        }
        drop(state);
        self.pool.changed.notify_all();
    }
}
