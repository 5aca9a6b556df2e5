//! The databases as they are asked: each question goes through an index of the tenant's own database.

mod question;
mod readers;
mod sql;
#[cfg(test)]
mod tests;
mod way;

use std::{path::PathBuf, sync::Arc};

use agent_audit_core::{
    columns::Columns,
    content::PartBody,
    id::{ChainId, SessionId, TenantId},
    record::Record,
    sink::SinkErrorKind,
};
use agent_audit_query::{
    EventStore, Filter, Found, QueryError, QueryErrorKind, Select, SessionSummary,
};
use rusqlite::{Connection, Row, params_from_iter};
use tokio::{sync::Semaphore, task::spawn_blocking};

use self::{
    question::Question,
    readers::{Readers, answer, missing},
    way::Way,
};
use crate::{
    config::SqliteConfig,
    error::Fault,
    store::{chain_names, read_parts, tenants_in},
};

/// The databases of a directory, to be asked and never changed.
///
/// Each tenant's database is opened read only, beside a live writer or without one. Databases are
/// read on blocking threads of the tokio runtime that calls; a call that is cancelled reads on there
/// and is not heard.
///
/// - A tenant without a database has no events. One whose database was there and is not any more is
///   unavailable.
/// - Memory and file handles are bounded by [`SqliteConfig::max_open`], not by the number of tenants.
/// - A filter that no index knows, such as `status` alone, reads the events in order until there are
///   enough: name a time, a session, a type, a tool, a model or an agent with it.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_query::{Filter, Ledger, Request};
/// use agent_audit_sqlite::{SqliteEvents, SqliteSink};
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let dir = tempfile::tempdir()?;
/// let sink = SqliteSink::open(dir.path())?;
/// let ledger = Ledger::new(Arc::new(SqliteEvents::open(dir.path())?), "acme".parse()?);
/// let page = ledger.events(&Filter::new().tool("refund"), &Request::first(10)).await?;
/// assert!(page.events.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteEvents {
    config: SqliteConfig,
    readers: Arc<Readers>,
    /// How many may be open in a question at a time.
    permits: Arc<Semaphore>,
}

impl SqliteEvents {
    /// The databases in a directory.
    ///
    /// # Errors
    /// [`QueryError`] where it is not a directory that can be listed.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, QueryError> {
        Self::with_config(SqliteConfig::new(directory))
    }

    /// The databases as configured: directory, name and [`max_open`](SqliteConfig::max_open) count.
    ///
    /// # Errors
    /// [`QueryError`] where the directory cannot be listed.
    ///
    /// ```
    /// use agent_audit_query::{EventStore, QueryErrorKind};
    /// use agent_audit_sqlite::{SqliteConfig, SqliteEvents};
    /// let dir = tempfile::tempdir()?;
    /// let events = SqliteEvents::with_config(SqliteConfig::new(dir.path()).with_name("hot"))?;
    /// assert_eq!(events.name(), "hot");
    /// let error = SqliteEvents::open(dir.path().join("missing")).unwrap_err();
    /// assert_eq!(error.kind(), QueryErrorKind::Unavailable);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_config(config: SqliteConfig) -> Result<Self, QueryError> {
        tenants_in(&config.directory).map_err(missing)?;
        // Half of the handles for what is at rest, the other for what is in use.
        let half = (config.max_open / 2).max(1);
        Ok(Self {
            readers: Arc::new(Readers::new(config.directory.clone(), half)),
            permits: Arc::new(Semaphore::new(half)),
            config,
        })
    }

    async fn ask<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        doing: &'static str,
        work: impl Fn(&Connection) -> rusqlite::Result<Result<T, Fault>> + Send + 'static,
    ) -> Result<Option<T>, QueryError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| stopped())?;
        let (readers, tenant) = (Arc::clone(&self.readers), tenant.clone());
        let asked = spawn_blocking(move || {
            let _permit = permit;
            readers.ask(&tenant, doing, work)
        });
        asked.await.map_err(|_| stopped())?
    }
}

#[async_trait::async_trait]
impl EventStore for SqliteEvents {
    fn name(&self) -> &str {
        &self.config.name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        let directory = self.config.directory.clone();
        let listed = spawn_blocking(move || tenants_in(&directory)).await;
        listed.map_err(|_| stopped())?.map_err(missing)
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let names = self.ask(tenant, "list chains", |conn| Ok(Ok(chain_names(conn)?))).await?;
        let chain = |name| {
            ChainId::new(name).map_err(|error| {
                let text = format!("a chain of tenant {tenant} has no name: verify it");
                QueryError::new(QueryErrorKind::Corrupt, text).with_source(error)
            })
        };
        names.unwrap_or_default().into_iter().map(chain).collect()
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        let select = select.clone();
        let found = self.ask(tenant, "select events", move |conn| {
            let records = read_events(conn, &select)?;
            Ok(records.map(|records| records.into_iter().map(Found::new).collect()))
        });
        found.await?.unwrap_or_else(|| Ok(Vec::new()))
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        let (filter, after) = (filter.clone(), after.cloned());
        let found = self.ask(tenant, "list sessions", move |conn| {
            read_sessions(conn, &filter, after.as_ref().map(SessionId::as_str), limit)
        });
        Ok(found.await?.unwrap_or_default())
    }
}

/// The runtime shut down, or the work panicked.
fn stopped() -> QueryError {
    answer(Fault::new(SinkErrorKind::Other, "the work on the database was stopped"))
}

fn read_events(conn: &Connection, select: &Select) -> rusqlite::Result<Result<Vec<Record>, Fault>> {
    let question = Question::of(&select.filter).and_then(|question| match &select.after {
        Some(place) => question.after(place, select.order, select.descending),
        None => Some(question),
    });
    let Some(question) = question else { return Ok(Ok(Vec::new())) };
    let way = way::to_events(conn, &question, select.order)?;
    if matches!(&way, Way::Merge(_, _, values) if values.is_empty()) {
        return Ok(Ok(Vec::new()));
    }
    let limit = i64::try_from(select.limit).unwrap_or(i64::MAX);
    let (text, values) = sql::events(&question, &way, select.order, select.descending, limit);
    let mut statement = conn.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        let event: Vec<u8> = row.get(1)?;
        let parts = if select.content {
            match read_content(conn, row, &event)? {
                Ok(parts) => parts,
                Err(fault) => return Ok(Err(fault)),
            }
        } else {
            Vec::new()
        };
        records.push(Record::new(event, parts));
    }
    Ok(Ok(records))
}

/// The content of an event: as many parts as it names, each in its place.
fn read_content(
    conn: &Connection,
    row: &Row<'_>,
    event: &[u8],
) -> rusqlite::Result<Result<Vec<PartBody>, Fault>> {
    let mut places = Vec::new();
    let parts = read_parts(conn, row.get(0)?, |place, _, _| places.push(place))?;
    let named = Columns::of(event).map_or(0, |columns| columns.parts().len());
    if places.into_iter().eq((0..).take(named)) {
        return Ok(Ok(parts));
    }
    let (chain, sequence): (String, i64) = (row.get(3)?, row.get(4)?);
    Ok(Err(Fault::new(
        SinkErrorKind::Corrupt,
        format!("event {sequence} of chain {chain} lacks content that it names: verify the chain"),
    )))
}

fn read_sessions(
    conn: &Connection,
    filter: &Filter,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Result<Vec<SessionSummary>, Fault>> {
    let Some(question) = Question::of(filter) else { return Ok(Ok(Vec::new())) };
    let way = way::to_sessions(conn, &question)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (text, values) = sql::sessions(&question, &way, after, limit);
    let mut statement = conn.prepare_cached(&text)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let (session, agent): (String, String) = (row.get(0)?, row.get(1)?);
        let (Ok(session), Ok(agent)) = (session.parse(), agent.parse()) else {
            let text = "a session or its agent has no valid name: verify the ledger";
            return Ok(Err(Fault::new(SinkErrorKind::Corrupt, text)));
        };
        let summary = SessionSummary::new(session, agent, row.get(2)?, row.get(3)?, row.get(4)?);
        sessions.push(summary);
    }
    Ok(Ok(sessions))
}
