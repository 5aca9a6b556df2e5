//! Any records as a store: every question reads all of a tenant's records.
//!
//! The simplest store there is, which the others are held against; fit for a memory sink, a journal
//! and whatever else is small.

use std::{collections::BTreeMap, fmt};

use agent_audit_core::{
    id::{AgentId, ChainId, SessionId, TenantId},
    memory::MemorySink,
    record::Record,
};
use async_trait::async_trait;

use crate::{EventStore, Filter, Found, QueryError, Select, SessionSummary};

/// Where records can be read one after the other.
///
/// ```
/// use agent_audit_core::{id::TenantId, memory::MemorySink};
/// use agent_audit_query::scan::Records;
/// assert!(MemorySink::new().tenants()?.is_empty());
/// # Ok::<(), agent_audit_query::QueryError>(())
/// ```
pub trait Records: Send + Sync + fmt::Debug {
    /// The tenants, in any order.
    ///
    /// # Errors
    /// [`QueryError`].
    fn tenants(&self) -> Result<Vec<TenantId>, QueryError>;

    /// Hands over every record of a tenant once, in any order, until told that it is enough.
    ///
    /// # Errors
    /// [`QueryError`], those of `each` among them.
    fn read(
        &self,
        tenant: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), QueryError>,
    ) -> Result<(), QueryError>;
}

impl Records for MemorySink {
    fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        Ok(self.chains().into_iter().map(|chain| chain.tenant_id).collect())
    }

    fn read(
        &self,
        tenant: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        for chain in self.chains().into_iter().filter(|chain| chain.tenant_id == *tenant) {
            self.records(&chain).into_iter().try_for_each(&mut *each)?;
        }
        Ok(())
    }
}

/// [`Records`] as a store that answers questions.
///
/// ```
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{EventStore, scan::Scanned};
/// assert_eq!(Scanned::new("memory", MemorySink::new()).name(), "memory");
/// ```
#[derive(Debug)]
pub struct Scanned<R> {
    name: String,
    records: R,
}

impl<R: Records> Scanned<R> {
    /// Answers from these records, under a name for errors and findings.
    pub fn new(name: impl Into<String>, records: R) -> Self {
        Self { name: name.into(), records }
    }

    fn each(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        mut work: impl FnMut(Found),
    ) -> Result<(), QueryError> {
        self.records.read(tenant, &mut |record| {
            let found = Found::new(record)?;
            if found.is_of(tenant)
                && found.with_columns(|columns, values| filter.matches(columns, values))
            {
                work(found);
            }
            Ok(())
        })
    }
}

#[async_trait]
impl<R: Records> EventStore for Scanned<R> {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        let mut tenants = self.records.tenants()?;
        tenants.sort_unstable();
        tenants.dedup();
        Ok(tenants)
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let mut chains = std::collections::BTreeSet::new();
        self.each(tenant, &Filter::new(), |found| {
            chains.extend(ChainId::new(found.chain_id()));
        })?;
        Ok(chains.into_iter().collect())
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        let cmp = |a: &crate::Cursor, b: &crate::Cursor| {
            let order = a.cmp_in(b, select.order);
            if select.descending { order.reverse() } else { order }
        };
        let mut kept: Vec<Found> = Vec::new();
        self.each(tenant, &select.filter, |found| {
            if select.after.as_ref().is_some_and(|after| cmp(found.place(), after).is_le()) {
                return;
            }
            kept.push(found);
            // Bounded by what is asked for: the rest is cut off from time to time.
            if kept.len() >= select.limit.saturating_mul(2).max(1_024) {
                kept.sort_by(|a, b| cmp(a.place(), b.place()));
                kept.truncate(select.limit);
            }
        })?;
        kept.sort_by(|a, b| cmp(a.place(), b.place()));
        kept.truncate(select.limit);
        if select.content {
            return Ok(kept);
        }
        let bare = |found: Found| {
            Found::new(Record::new(found.record().event_bytes().to_vec(), Vec::new()))
        };
        kept.into_iter().map(bare).collect()
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        let mut sessions: BTreeMap<SessionId, SessionSummary> = BTreeMap::new();
        self.each(tenant, filter, |found| {
            let session: SessionId =
                found.session_id().parse().expect("an event has a session's id");
            let agent: AgentId = found.agent_id().parse().expect("an event has an agent's id");
            let at = found.timestamp();
            if after.is_some_and(|after| session <= *after) {
                return;
            }
            let new = SessionSummary::new(session.clone(), agent.clone(), 0, at, at);
            let known = sessions.entry(session).or_insert(new);
            known.events += 1;
            known.first = known.first.min(at);
            known.last = known.last.max(at);
            known.agent_id = known.agent_id.clone().min(agent);
        })?;
        Ok(sessions.into_values().take(limit).collect())
    }
}
