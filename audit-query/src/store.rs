//! What a store must be able to do, so that every question can be asked of it.

use std::fmt;

use agent_audit_core::id::{AgentId, ChainId, SessionId, TenantId};
use async_trait::async_trait;
use serde::Serialize;

use crate::{Cursor, Filter, Found, Order, QueryError};

/// One selection of events: what every question is made of.
///
/// ```
/// use agent_audit_query::{Filter, Order, Select};
/// let select = Select::new(Filter::new(), Order::Time, 10).descending();
/// assert!(select.descending && !select.content);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Select {
    /// Which events.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// From the last to the first.
    pub descending: bool,
    /// Only events that come after this place, in the direction of the order.
    pub after: Option<Cursor>,
    /// How many at most.
    pub limit: usize,
    /// With the bodies of content; without, a record has no parts.
    pub content: bool,
}

impl Select {
    /// The first events of an order.
    #[must_use]
    pub fn new(filter: Filter, order: Order, limit: usize) -> Self {
        Self { filter, order, descending: false, after: None, limit, content: false }
    }

    /// From the last to the first.
    #[must_use]
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// Only what comes after a place.
    #[must_use]
    pub fn after(mut self, place: Option<Cursor>) -> Self {
        self.after = place;
        self
    }

    /// With the bodies of content.
    #[must_use]
    pub fn content(mut self) -> Self {
        self.content = true;
        self
    }
}

/// A session in a list.
///
/// ```
/// use agent_audit_query::SessionSummary;
/// let session = SessionSummary::new("s-1".parse()?, "support".parse()?, 5, 100, 200);
/// assert_eq!(session.events, 5);
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SessionSummary {
    /// The session.
    pub session_id: SessionId,
    /// The least of the ids of the agents that acted in it; usually there is one.
    pub agent_id: AgentId,
    /// How many events match.
    pub events: u64,
    /// When the first of them was recorded, in nanoseconds since 1970.
    pub first: i64,
    /// When the last of them was recorded.
    pub last: i64,
}

impl SessionSummary {
    /// A session with so many events, the first and last of them at these nanoseconds since 1970.
    #[must_use]
    pub fn new(
        session_id: SessionId,
        agent_id: AgentId,
        events: u64,
        first: i64,
        last: i64,
    ) -> Self {
        Self { session_id, agent_id, events, first, last }
    }
}

/// A store of events that can be asked: the few selections that every question is made of.
///
/// Users ask through a [`Ledger`](crate::Ledger). Who implements this for a store keeps to:
///
/// - Only rows of the tenant MUST be looked at, by the store's own means (a database of its own,
///   row-level security, a row policy, a prefix), not by trust in the caller.
/// - Text compares byte by byte, whatever the collation of the store.
/// - Canonical bytes and bodies come back as they were stored; [`Found::new`] reads them.
/// - Nothing is ever changed.
/// - A tenant or chain that is not there is an empty answer, not an error.
///
/// `agent_audit_query::conformance` asks every store the same questions.
///
/// ```
/// use agent_audit_core::memory::MemorySink;
/// use agent_audit_query::{EventStore, scan::Scanned};
/// let store: Box<dyn EventStore> = Box::new(Scanned::new("memory", MemorySink::new()));
/// assert_eq!(store.name(), "memory");
/// ```
#[async_trait]
pub trait EventStore: Send + Sync + fmt::Debug {
    /// The name of the store in findings and errors, without a credential.
    fn name(&self) -> &str;

    /// The tenants that this reader can see, sorted byte by byte.
    ///
    /// # Errors
    /// [`QueryError`]; also where the store does not let a reader list them.
    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError>;

    /// The chains of a tenant, sorted byte by byte.
    ///
    /// # Errors
    /// [`QueryError`].
    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError>;

    /// The events of a tenant that match, in order, at most [`Select::limit`] of them.
    ///
    /// # Errors
    /// [`QueryError`].
    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError>;

    /// The sessions that events which match belong to, sorted by session id byte by byte, those
    /// behind one where it is named, at most so many.
    ///
    /// # Errors
    /// [`QueryError`].
    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError>;
}
