//! An event as it was found in a store.

use agent_audit_core::{
    columns::{COLUMNS, Columns, Value},
    event::Event,
    hash::{self, Hash},
    id::{EventId, TenantId},
    record::Record,
};

use crate::{Cursor, QueryError};

/// An event that a store gave: its canonical bytes, and the bodies of its content where asked for.
///
/// Made only from bytes that are the canonical form of an event; hash and columns are computed from
/// these and never taken from the store.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
/// use agent_audit_query::Found;
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let found = Found::new(Record::new(event.canonical_bytes()?, Vec::new()))?;
/// assert_eq!((found.event_type(), found.sequence()), ("chain.closed", 0));
/// assert_eq!(found.event()?, event);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    record: Record,
    hash: Hash,
    event_id: EventId,
    place: Cursor,
    tenant: String,
    event_type: String,
    session: String,
    agent: String,
    parent: Option<EventId>,
}

impl Found {
    /// Takes a record up.
    ///
    /// # Errors
    /// [`Corrupt`](crate::QueryErrorKind::Corrupt) where it is no event in canonical form.
    pub fn new(record: Record) -> Result<Self, QueryError> {
        let unreadable = || {
            QueryError::corrupt(
                "the store holds a record that cannot be read: run `agent-audit verify` to see which",
            )
        };
        let view = record.view().map_err(|error| unreadable().with_source(error))?;
        let columns =
            Columns::of(record.event_bytes()).map_err(|error| unreadable().with_source(error))?;
        let hash = hash::leaf(record.event_bytes());
        let values = columns.values(&hash);
        let text = |at: usize| values[at].as_text().unwrap_or_default().to_owned();
        let id = |text: &str| text.parse().map_err(|_| unreadable());
        let timestamp = values[column("timestamp_utc")].as_integer().ok_or_else(unreadable)?;
        Ok(Self {
            event_id: id(view.event_id)?,
            place: Cursor::new(timestamp, view.chain_id, view.sequence),
            tenant: view.tenant_id.to_owned(),
            event_type: text(column("event_type")),
            session: text(column("session_id")),
            agent: text(column("agent_id")),
            parent: view.parent_event_id.map(id).transpose()?,
            hash,
            record,
        })
    }

    /// The record: canonical bytes and, where they were asked for, bodies.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The record, whole.
    #[must_use]
    pub fn into_record(self) -> Record {
        self.record
    }

    /// The event, typed.
    ///
    /// # Errors
    /// [`Corrupt`](crate::QueryErrorKind::Corrupt) where its payload is not of its type.
    pub fn event(&self) -> Result<Event, QueryError> {
        self.record.event().map_err(|error| {
            QueryError::corrupt(format!(
                "event {} cannot be read: run `agent-audit verify` to see whether it was changed",
                self.event_id
            ))
            .with_source(error)
        })
    }

    /// The event hash.
    #[must_use]
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The identity of the event.
    #[must_use]
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// The type of the event.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The tenant that the event belongs to.
    #[must_use]
    pub fn tenant_id(&self) -> &str {
        &self.tenant
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &str {
        &self.session
    }

    /// The agent.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.agent
    }

    /// The chain.
    #[must_use]
    pub fn chain_id(&self) -> &str {
        self.place.chain()
    }

    /// The position in the chain.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.place.sequence()
    }

    /// When it was recorded, in nanoseconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.place.timestamp()
    }

    /// The event that it happened under, where there is one.
    #[must_use]
    pub fn parent(&self) -> Option<EventId> {
        self.parent
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> &Cursor {
        &self.place
    }

    /// Runs a function on the columns that the canonical bytes give.
    pub(crate) fn with_columns<R>(
        &self,
        work: impl FnOnce(&Columns<'_>, &[Value<'_>; COLUMNS.len()]) -> R,
    ) -> R {
        let columns = Columns::of(self.record.event_bytes()).expect("read when it was found");
        work(&columns, &columns.values(&self.hash))
    }

    /// A column as text, where the event has it.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.with_columns(|_, values| values[column(name)].as_text().map(str::to_owned))
    }

    /// Whether it belongs to this tenant.
    pub(crate) fn is_of(&self, tenant: &TenantId) -> bool {
        self.tenant == tenant.as_str()
    }
}

/// The index of a column that is known to exist.
pub(crate) fn column(name: &str) -> usize {
    COLUMNS.iter().position(|column| *column == name).expect("a column of the core")
}
