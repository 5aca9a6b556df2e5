//! Several stores as one.

use std::{collections::BTreeMap, sync::Arc};

use agent_audit_core::id::{ChainId, SessionId, TenantId};
use async_trait::async_trait;

use crate::{EventStore, Filter, Found, QueryError, Select, SessionSummary};

/// Stores that hold different events of the same tenants, asked as one: a store and the journal that
/// has what is not delivered yet, or the ledgers of several programs.
///
/// No event may be in two of them; an answer that shows one twice is refused by the
/// [`Ledger`](crate::Ledger).
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{EventStore, Joined, scan::Scanned};
/// let one = Arc::new(Scanned::new("one", MemorySink::new()));
/// let two = Arc::new(Scanned::new("two", MemorySink::new()));
/// assert_eq!(Joined::new(vec![one, two]).name(), "one + two");
/// ```
#[derive(Debug)]
pub struct Joined {
    name: String,
    stores: Vec<Arc<dyn EventStore>>,
}

impl Joined {
    /// Asks these stores as one.
    #[must_use]
    pub fn new(stores: Vec<Arc<dyn EventStore>>) -> Self {
        let names: Vec<&str> = stores.iter().map(|store| store.name()).collect();
        Self { name: names.join(" + "), stores }
    }
}

#[async_trait]
impl EventStore for Joined {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        let mut all = Vec::new();
        for store in &self.stores {
            all.extend(store.tenants().await?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let mut all = Vec::new();
        for store in &self.stores {
            all.extend(store.chains(tenant).await?);
        }
        all.sort_unstable();
        all.dedup();
        Ok(all)
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        let mut all = Vec::new();
        for store in &self.stores {
            all.extend(store.select(tenant, select).await?);
        }
        all.sort_by(|a: &Found, b| {
            let order = a.place().cmp_in(b.place(), select.order);
            if select.descending { order.reverse() } else { order }
        });
        all.truncate(select.limit);
        Ok(all)
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        let mut all: BTreeMap<SessionId, SessionSummary> = BTreeMap::new();
        // Each store gives the first of its sessions, so that the first of all are among them. One
        // that is in several stores, and behind the end of what one of them gave, is cut off below.
        for store in &self.stores {
            for found in store.sessions(tenant, filter, after, limit).await? {
                match all.get_mut(&found.session_id) {
                    None => {
                        all.insert(found.session_id.clone(), found);
                    }
                    Some(known) => {
                        known.events += found.events;
                        known.first = known.first.min(found.first);
                        known.last = known.last.max(found.last);
                        known.agent_id = known.agent_id.clone().min(found.agent_id);
                    }
                }
            }
        }
        Ok(all.into_values().take(limit).collect())
    }
}
