//! One tenant's records in one store, to be asked.

use std::sync::Arc;

use agent_audit_core::id::{ChainId, EventId, SessionId, TenantId};

use crate::{
    Cursor, EventStore, Filter, Found, Order, Page, QueryError, QueryErrorKind, Request, Select,
    SessionSummary,
};

/// How many events are fetched at a time where all of them are needed.
pub(crate) const CHUNK: usize = 1_000;

/// One tenant's records in one store. Every question is a method of it, so that none can be put
/// without a tenant.
///
/// What a store answers is checked before anybody sees it: an event of another tenant, an event that
/// does not match by its own canonical bytes, one out of order, and content that is not what the event
/// committed to are errors.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_core::{id::TenantId, memory::MemorySink};
/// use agent_audit_query::{Filter, Ledger, Request, scan::Scanned};
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
/// let ledger = Ledger::new(store, TenantId::new("acme")?);
/// assert!(ledger.events(&Filter::new(), &Request::first(10)).await?.events.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn EventStore>,
    tenant: TenantId,
}

impl Ledger {
    /// The records of a tenant in a store.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, tenant: TenantId) -> Self {
        Self { store, tenant }
    }

    /// The tenant.
    #[must_use]
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The name of the store.
    #[must_use]
    pub fn store_name(&self) -> &str {
        self.store.name()
    }

    /// The events that match, a page at a time.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn events(&self, filter: &Filter, request: &Request) -> Result<Page, QueryError> {
        let mut select = Select::new(filter.clone(), request.order, request.limit + 1)
            .after(request.from.clone());
        select.descending = request.backwards;
        select.content = request.content;
        let mut events = self.select(&select).await?;
        let more = events.len() > request.limit;
        events.truncate(request.limit);
        if request.backwards {
            events.reverse();
        }
        // There is more on the side that was come from, as far as the caller has seen.
        let (before, behind) = match request.backwards {
            false => (request.from.is_some(), more),
            true => (more, request.from.is_some()),
        };
        let place = |found: Option<&Found>| found.map(|found| found.place().clone());
        let next = if behind { place(events.last()) } else { None };
        let previous = if before { place(events.first()) } else { None };
        Ok(Page { events, next, previous })
    }

    /// One event.
    ///
    /// # Errors
    /// [`NotFound`](QueryErrorKind::NotFound) where the tenant has none of this identity.
    pub async fn event(&self, id: EventId, content: bool) -> Result<Found, QueryError> {
        let mut select = Select::new(Filter::new().event(id), Order::Time, 2);
        select.content = content;
        let mut found = self.select(&select).await?;
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(QueryError::new(
                QueryErrorKind::NotFound,
                format!("tenant {} has no event {id} in {}", self.tenant, self.store.name()),
            )),
            _ => Err(QueryError::corrupt(format!(
                "{} holds more than one event {id}: run `agent-audit verify`",
                self.store.name()
            ))),
        }
    }

    /// Hands over every event that matches, in order, in bounded memory, until told to stop.
    ///
    /// # Errors
    /// [`QueryError`], those of `each` among them.
    pub async fn each(
        &self,
        filter: &Filter,
        order: Order,
        content: bool,
        mut each: impl FnMut(Found) -> Result<bool, QueryError>,
    ) -> Result<(), QueryError> {
        let mut after: Option<Cursor> = None;
        loop {
            let mut select = Select::new(filter.clone(), order, CHUNK).after(after.take());
            select.content = content;
            let events = self.select(&select).await?;
            let whole = events.len() == CHUNK;
            after = events.last().map(|found| found.place().clone());
            for found in events {
                if !each(found)? {
                    return Ok(());
                }
            }
            if !whole {
                return Ok(());
            }
        }
    }

    /// All events that match, in order; an error where there are more than so many.
    pub(crate) async fn all(
        &self,
        filter: &Filter,
        order: Order,
        content: bool,
        most: usize,
    ) -> Result<Vec<Found>, QueryError> {
        let mut all = Vec::new();
        self.each(filter, order, content, |found| {
            if all.len() == most {
                return Err(QueryError::invalid(format!(
                    "more than {most} events belong to the answer: narrow the question down"
                )));
            }
            all.push(found);
            Ok(true)
        })
        .await?;
        Ok(all)
    }

    /// The chains of the tenant, sorted.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn chains(&self) -> Result<Vec<ChainId>, QueryError> {
        self.store.chains(&self.tenant).await
    }

    /// The sessions that events which match belong to, sorted by session id, those behind one where
    /// it is named, at most so many.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn sessions(
        &self,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        filter.check()?;
        self.store.sessions(&self.tenant, filter, after, limit).await
    }

    /// The one way to a store's events.
    pub(crate) async fn select(&self, select: &Select) -> Result<Vec<Found>, QueryError> {
        select.filter.check()?;
        let found = self.store.select(&self.tenant, select).await?;
        let mut before: Option<&Cursor> = select.after.as_ref();
        for event in &found {
            let wrong = |what: String| {
                QueryError::corrupt(format!(
                    "{}: {what}: run `agent-audit verify`",
                    self.store.name()
                ))
            };
            if !event.is_of(&self.tenant) {
                return Err(wrong(format!(
                    "event {} that was found for tenant {} belongs to another one",
                    event.event_id(),
                    self.tenant
                )));
            }
            if !event.with_columns(|columns, values| select.filter.matches(columns, values)) {
                return Err(wrong(format!(
                    "event {} was found by a column that does not agree with its record",
                    event.event_id()
                )));
            }
            if let Some(before) = before {
                let order = before.cmp_in(event.place(), select.order);
                if if select.descending { order.is_le() } else { order.is_ge() } {
                    return Err(wrong(format!(
                        "event {} was found out of order, or twice",
                        event.event_id()
                    )));
                }
            }
            event.check_content()?;
            before = Some(event.place());
        }
        Ok(found)
    }
}
