//! The tables as they are asked: by a reader's login, as one tenant at a time.

mod question;
mod sql;

use std::sync::Arc;

use agent_audit_core::{
    columns::Columns,
    content::PartBody,
    id::{AgentId, ChainId, SessionId, TenantId},
    record::Record,
    sink::SinkErrorKind,
};
use agent_audit_query::{
    EventStore, Filter, Found, Order, QueryError, QueryErrorKind, Select, SessionSummary,
};
use tokio::time::timeout;
use tokio_postgres::{Error, Row, types::ToSql};

use self::{
    question::Question,
    sql::{Sql, Way},
};
use crate::{
    config::PostgresConfig,
    error::Fault,
    pool::{Lease, Pool},
    store::{CHAINS, CONTENT, read_part, schema, text},
};

/// The tables of a database, to be asked and never changed.
///
/// The login MUST be a member of `audit_reader` with a row in `audit_access` for the tenant. Row-level
/// security shows it that tenant's rows and no other's, and each statement names the tenant as well. A
/// login that row-level security does not hold for, as a superuser, is refused, and so is a tenant
/// that the login may not read; a tenant that it may read and that has no events is empty.
///
/// - A statement is given up after [`statement_timeout_ms`](PostgresConfig::statement_timeout_ms).
/// - Months are ranges of event ids. What is asked by id is looked up in its month; by anything else,
///   in the index of each month that is attached.
/// - A filter that no index knows, such as `status` alone, and names of more than 1,000 bytes, are
///   looked for in the events in order until there are enough: name a time, a session, a type, a tool,
///   a model or an agent with it.
///
/// ```no_run
/// use std::sync::Arc;
/// use agent_audit_postgres::{PostgresConfig, PostgresEvents};
/// use agent_audit_query::{Filter, Ledger, Request};
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let events = PostgresEvents::new(PostgresConfig::new("postgres://acme_auditor@db/ledger"))?;
/// let ledger = Ledger::new(Arc::new(events), "acme".parse()?);
/// let page = ledger.events(&Filter::new().tool("refund"), &Request::last(50)).await?;
/// assert!(page.events.len() <= 50);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresEvents {
    pool: Arc<Pool>,
}

impl PostgresEvents {
    /// Names the database. Connects when it is first asked.
    ///
    /// # Errors
    /// [`QueryError`] where the URL or the certificates cannot be read.
    ///
    /// ```
    /// use agent_audit_postgres::{PostgresConfig, PostgresEvents};
    /// use agent_audit_query::EventStore;
    /// let config = PostgresConfig::new("postgres://acme_auditor:secret@db/ledger");
    /// let events = PostgresEvents::new(config.with_name("hot"))?;
    /// assert_eq!(events.name(), "hot");
    /// assert!(!format!("{events:?}").contains("secret"));
    /// assert!(PostgresEvents::new(PostgresConfig::new("ledger")).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(config: PostgresConfig) -> Result<Self, QueryError> {
        Ok(Self { pool: Arc::new(Pool::for_asking(&config).map_err(answer)?) })
    }

    /// A connection that sees the rows of this tenant.
    async fn lease(&self, tenant: &TenantId) -> Result<Lease, QueryError> {
        // The setting is made before the tables are asked what it lets through.
        const NAME: &str = "
            WITH named AS MATERIALIZED (SELECT set_config('audit.tenant_id', $1, false) AS tenant)
            SELECT (SELECT coalesce(max(version), 0) FROM agent_audit.audit_migrations),
                row_security_active('agent_audit.audit_events'),
                agent_audit.audit_tenant() IS NOT DISTINCT FROM named.tenant,
                session_user::text
            FROM named";
        let doing = format!("read as tenant {tenant}");
        let (lease, rows) = self.begin(&doing, NAME, &[&tenant.as_str()]).await?;
        let Some(row) = rows.first() else { return Err(unnamed("the tenant")) };
        check_version(row.get(0))?;
        let (secured, allowed, login): (bool, bool, &str) = (row.get(1), row.get(2), row.get(3));
        let refused = |text: String| {
            Err(QueryError::new(QueryErrorKind::PermissionDenied, format!("{doing}: {text}")))
        };
        if !secured {
            return refused(format!(
                "row-level security does not hold for login {login}: use one that is a member of \
                 audit_reader and nothing more"
            ));
        }
        if !allowed {
            return refused(format!(
                "login {login} may not read this tenant: add a row (login, tenant) to \
                 agent_audit.audit_access"
            ));
        }
        Ok(lease)
    }

    /// A connection, with the answer to the first statement on it.
    async fn begin(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<(Lease, Vec<Row>), QueryError> {
        let mut again = true;
        loop {
            let mut lease = self.pool.lease().await.map_err(answer)?;
            match rows(&mut lease, doing, sql, parameters).await {
                Ok(rows) => return Ok((lease, rows)),
                // A connection that was at rest may have ended there: a new one tells.
                Err(fault) if again && fault.kind == SinkErrorKind::Unavailable => {
                    again = false;
                    self.pool.close();
                }
                Err(fault) => return Err(answer(fault)),
            }
        }
    }
}

#[async_trait::async_trait]
impl EventStore for PostgresEvents {
    fn name(&self) -> &str {
        &self.pool.config().name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        const VERSION: &str = "SELECT coalesce(max(version), 0) FROM agent_audit.audit_migrations";
        const TENANTS: &str = "SELECT * FROM agent_audit.audit_tenants()";
        let doing = "list tenants";
        let (mut lease, version) = self.begin(doing, VERSION, &[]).await?;
        check_version(version.first().map_or(0, |row| row.get(0)))?;
        let rows = rows(&mut lease, doing, TENANTS, &[]).await.map_err(answer)?;
        lease.give_back();
        let tenant = |row: &Row| {
            TenantId::new(column::<&str>(row, 0)?)
                .map_err(|error| unnamed("a tenant").with_source(error))
        };
        rows.iter().map(tenant).collect()
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let mut lease = self.lease(tenant).await?;
        let doing = format!("list chains of {tenant}");
        let rows = rows(&mut lease, &doing, CHAINS, &[&tenant.as_str()]).await.map_err(answer)?;
        lease.give_back();
        let chain = |row: &Row| {
            ChainId::new(column::<&str>(row, 0)?)
                .map_err(|error| unnamed("a chain").with_source(error))
        };
        rows.iter().map(chain).collect()
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        let question = Question::of(&select.filter).and_then(|question| match &select.after {
            Some(place) => question.after(place, select.order, select.descending),
            None => Some(question),
        });
        let mut lease = self.lease(tenant).await?;
        let Some(question) = question else {
            lease.give_back();
            return Ok(Vec::new());
        };
        let doing = format!("select events of {tenant}");
        let order = select.order;
        let mut way = Way::to_events(&question, None, order);
        if let Some(family) = way.needs_types(&question, order) {
            let types = sql::types(tenant.as_str(), family);
            let types = answered(&mut lease, &doing, &types, true).await.map_err(answer)?;
            let types = types.iter().map(|row| column(row, 0)).collect::<Result<_, _>>()?;
            way = Way::to_events(&question, Some(types), order);
        }
        let limit = i64::try_from(select.limit).unwrap_or(i64::MAX);
        let sql = sql::events(tenant.as_str(), &question, &way, order, select.descending, limit);
        let keep = way.is_certain(&question, order);
        let rows = answered(&mut lease, &doing, &sql, keep).await.map_err(answer)?;
        let mut content = Vec::new();
        if select.content {
            content = contents(&mut lease, tenant, &rows).await?;
        }
        lease.give_back();
        let mut content = content.into_iter();
        let found = |row: &Row| {
            let parts = content.next().unwrap_or_default();
            Found::new(Record::new(column(row, 0)?, parts))
        };
        rows.iter().map(found).collect()
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        let mut lease = self.lease(tenant).await?;
        let Some(question) = Question::of(filter) else {
            lease.give_back();
            return Ok(Vec::new());
        };
        let doing = format!("list sessions of {tenant}");
        let way = Way::to_few(&question).unwrap_or(Way::Plan);
        let after = after.map(|after| text::encode(after.as_str()));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let sql = sql::sessions(tenant.as_str(), &question, &way, after.as_deref(), limit);
        let keep = way.is_certain(&question, Order::Time);
        let rows = answered(&mut lease, &doing, &sql, keep).await.map_err(answer)?;
        lease.give_back();
        let session = |row: &Row| {
            let session = SessionId::new(&*text::decode(column(row, 0)?))
                .map_err(|error| unnamed("a session").with_source(error))?;
            let agent = AgentId::new(&*text::decode(column(row, 1)?))
                .map_err(|error| unnamed("an agent").with_source(error))?;
            let events = u64::try_from(column::<i64>(row, 2)?).unwrap_or_default();
            Ok(SessionSummary::new(session, agent, events, column(row, 3)?, column(row, 4)?))
        };
        rows.iter().map(session).collect()
    }
}

/// The content of each of these events: as many parts as it names, each in its place.
async fn contents(
    lease: &mut Lease,
    tenant: &TenantId,
    events: &[Row],
) -> Result<Vec<Vec<PartBody>>, QueryError> {
    let ids: Vec<&str> = events.iter().map(|row| column(row, 1)).collect::<Result<_, _>>()?;
    let doing = format!("select content of {tenant}");
    let stored = rows(lease, &doing, CONTENT, &[&tenant.as_str(), &ids]).await.map_err(answer)?;
    let mut stored = stored.iter().peekable();
    let mut contents = Vec::with_capacity(events.len());
    for (number, event) in (1i64..).zip(events) {
        let wrong = || {
            let (chain, at) = (column::<&str>(event, 2)?, column::<i64>(event, 3)?);
            Ok::<_, QueryError>(QueryError::new(
                QueryErrorKind::Corrupt,
                format!(
                    "event {at} of chain {chain} lacks content that it names: verify the chain"
                ),
            ))
        };
        let (mut parts, mut places) = (Vec::new(), Vec::new());
        while let Some(part) =
            stored.next_if(|row| row.try_get(0).is_ok_and(|of: i64| of == number))
        {
            match read_part(part, |place, _, _| places.push(place)) {
                Ok(part) => parts.push(part),
                Err(_) => return Err(wrong()?),
            }
        }
        let named = Columns::of(column(event, 0)?).map_or(0, |columns| columns.parts().len());
        if !places.into_iter().eq((0..).take(named)) {
            return Err(wrong()?);
        }
        contents.push(parts);
    }
    Ok(contents)
}

/// The rows of a statement of ours that is always the same.
async fn rows(
    lease: &mut Lease,
    doing: &str,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Fault> {
    let asked = timeout(lease.patience(), async {
        let statement = lease.prepare(sql).await?;
        lease.client().query(&statement, parameters).await
    });
    in_time(asked.await, doing)
}

/// The rows of a question; its plan is kept for the next one like it, or made for this one alone.
async fn answered(
    lease: &mut Lease,
    doing: &str,
    sql: &Sql,
    keep: bool,
) -> Result<Vec<Row>, Fault> {
    let parameters = sql.parameters();
    if !keep {
        let asked = lease.client().query_typed(&sql.text, &parameters);
        return in_time(timeout(lease.patience(), asked).await, doing);
    }
    let parameters: Vec<_> = parameters.into_iter().map(|(value, _)| value).collect();
    rows(lease, doing, &sql.text, &parameters).await
}

fn in_time<T>(
    asked: Result<Result<T, Error>, tokio::time::error::Elapsed>,
    doing: &str,
) -> Result<T, Fault> {
    match asked {
        Ok(answered) => answered.map_err(|error| Fault::postgres(&error, doing)),
        Err(_) => Err(Fault::timeout(doing)),
    }
}

fn column<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    at: usize,
) -> Result<T, QueryError> {
    row.try_get(at).map_err(|error| answer(Fault::postgres(&error, "read what was selected")))
}

fn unnamed(what: &str) -> QueryError {
    QueryError::new(QueryErrorKind::Corrupt, format!("{what} has no valid name: verify the tables"))
}

fn check_version(version: i32) -> Result<(), QueryError> {
    schema::check(version).map_err(|fault| {
        let mut error = answer(fault.clone());
        if schema::is_of_later_release(version) {
            error = QueryError::new(QueryErrorKind::UnknownVersion, fault.to_string());
        }
        error
    })
}

/// A fault as the answer to a question.
fn answer(fault: Fault) -> QueryError {
    let kind = match fault.kind {
        SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Exhausted => {
            QueryErrorKind::Unavailable
        }
        SinkErrorKind::PermissionDenied | SinkErrorKind::Unauthenticated => {
            QueryErrorKind::PermissionDenied
        }
        SinkErrorKind::Corrupt => QueryErrorKind::Corrupt,
        SinkErrorKind::Rejected => QueryErrorKind::Invalid,
        _ => QueryErrorKind::Other,
    };
    QueryError::new(kind, fault.to_string())
}
