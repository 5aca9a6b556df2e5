//! Reading for verification and display, and creating the tables.

use std::{future::Future, sync::Arc};

use agent_audit_core::{
    id::{ChainId, TenantId},
    sink::{ChainRef, SinkError, SinkErrorKind},
    verify::directory::RecordStore,
};

use super::{
    bridge,
    records::{Records, for_tenant},
    schema,
};
use crate::{
    config::PostgresConfig,
    error::Fault,
    pool::{Lease, Pool},
};

/// The tables of a database: made by one login, read by another.
///
/// Reading needs a login that is a member of `audit_reader` and has a row in `audit_access` for the
/// tenant; it sees that tenant's rows and no other's.
///
/// ```no_run
/// use agent_audit_core::{columns::check_columns, id::TenantId};
/// use agent_audit_postgres::{PostgresConfig, PostgresStore};
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::new(PostgresConfig::new("postgres://acme_auditor@db/ledger"))?;
/// for chain in store.chains(&TenantId::new("acme")?).await? {
///     let mut records = store.records(&chain, 0).await?;
///     while let Some(found) = records.next().await {
///         let (row, record) = found?;
///         assert_eq!(check_columns(&row, record.event_bytes()), None);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresStore {
    pool: Arc<Pool>,
}

impl PostgresStore {
    /// Names the database. Connects when it is first used.
    ///
    /// # Errors
    /// [`SinkError`] where the URL or the certificates cannot be read.
    ///
    /// ```
    /// use agent_audit_postgres::{PostgresConfig, PostgresStore};
    /// assert!(PostgresStore::new(PostgresConfig::new("postgres://localhost/ledger")).is_ok());
    /// let error = PostgresStore::new(PostgresConfig::new("ledger")).unwrap_err();
    /// assert!(error.to_string().contains("postgres://USER:PASSWORD@HOST:PORT/DATABASE"));
    /// ```
    pub fn new(config: PostgresConfig) -> Result<Self, SinkError> {
        Ok(Self { pool: Arc::new(Pool::for_reading(&config)?) })
    }

    /// Brings the tables to the version of this release, puts [`GRANTS`](crate::GRANTS) into force, and
    /// says how many steps that took: 0 where there was nothing to do.
    ///
    /// All in one transaction; a second process that does the same waits, and finds it done. The login
    /// must be a member of `audit_owner`, and [`ROLES`](crate::ROLES) must have been run.
    ///
    /// # Errors
    /// [`SinkError`] that says what is missing; nothing was changed then.
    pub async fn migrate(&self) -> Result<usize, SinkError> {
        let mut lease = self.pool.lease().await?;
        let done = schema::migrate(lease.client_mut()).await?;
        lease.give_back();
        Ok(done)
    }

    /// The tenants that this login may read and that have a chain, sorted.
    ///
    /// # Errors
    /// [`SinkError`] where the database cannot be read.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, SinkError> {
        let doing = "list tenants";
        let lease = self.pool.lease().await?;
        let names = patiently(&lease, doing, async {
            schema::check_version(lease.client()).await?;
            let sql = "SELECT * FROM agent_audit.audit_tenants()";
            let rows = lease.client().query(sql, &[]).await;
            rows.map_err(|error| Fault::postgres(&error, doing))
        })
        .await?;
        lease.give_back();
        let tenant = |row: &tokio_postgres::Row| {
            TenantId::new(row.get::<_, &str>(0))
                .map_err(|error| Fault::new(SinkErrorKind::Corrupt, format!("{doing}: {error}")))
        };
        Ok(names.iter().map(tenant).collect::<Result<_, _>>()?)
    }

    /// The chains of a tenant, sorted; none where this login may not read the tenant.
    ///
    /// # Errors
    /// [`SinkError`] where the database cannot be read.
    pub async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainRef>, SinkError> {
        let doing = format!("list chains of {tenant}");
        let lease = self.pool.lease().await?;
        let rows = patiently(&lease, &doing, async {
            for_tenant(&lease, tenant).await?;
            let rows = lease.client().query(CHAINS, &[&tenant.as_str()]).await;
            rows.map_err(|error| Fault::postgres(&error, &doing))
        })
        .await?;
        lease.give_back();
        let chain = |row: &tokio_postgres::Row| {
            let id = ChainId::new(row.get::<_, &str>(0))
                .map_err(|error| Fault::new(SinkErrorKind::Corrupt, format!("{doing}: {error}")))?;
            Ok::<_, Fault>(ChainRef::new(tenant.clone(), id))
        };
        Ok(rows.iter().map(chain).collect::<Result<_, _>>()?)
    }

    /// The records of a chain from a position on, in order, in bounded memory; none where this login may
    /// not read the tenant.
    ///
    /// An error of one record does not end them; one of the database does.
    ///
    /// # Errors
    /// [`SinkError`] where the database cannot be read.
    pub async fn records(
        &self,
        chain: &ChainRef,
        from_sequence: u64,
    ) -> Result<Records, SinkError> {
        let lease = self.pool.lease().await?;
        let doing = format!("read chain {chain}");
        patiently(&lease, &doing, for_tenant(&lease, &chain.tenant_id)).await?;
        Ok(Records::new(chain.clone(), lease, from_sequence))
    }

    /// The tenants that this login may read as the verifier reads them, one store for each, so that one
    /// which cannot be read keeps nothing of the others from it. Columns are held against the records.
    ///
    /// They read on a thread of their own, also where there is no runtime. This call waits for one
    /// answer of the database.
    ///
    /// # Errors
    /// [`SinkError`] where the tenants cannot be listed.
    pub fn record_stores(&self) -> Result<Vec<Box<dyn RecordStore>>, SinkError> {
        Ok(bridge::record_stores(self.pool.config())?)
    }
}

/// The chains of a tenant, sorted: one step through the indexes for each, however many events there are.
/// A chain whose events are gone still has its head, and one whose head is gone its events.
pub(crate) const CHAINS: &str = "
    WITH RECURSIVE chain (id) AS (
        SELECT min(chain_id) FROM agent_audit.audit_events WHERE tenant_id = $1
        UNION ALL
        SELECT (SELECT min(chain_id) FROM agent_audit.audit_events
                WHERE tenant_id = $1 AND chain_id > chain.id)
        FROM chain WHERE chain.id IS NOT NULL
    )
    SELECT id FROM chain WHERE id IS NOT NULL
    UNION
    SELECT chain_id FROM agent_audit.audit_heads WHERE tenant_id = $1
    ORDER BY 1";

/// Gives up what the server should have given up before.
async fn patiently<T>(
    lease: &Lease,
    doing: &str,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let done = tokio::time::timeout(lease.patience(), work).await;
    done.unwrap_or_else(|_| Err(Fault::timeout(doing)))
}
