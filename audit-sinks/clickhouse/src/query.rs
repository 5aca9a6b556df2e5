//! The tables as they are asked: every question is of one tenant, and its values are parameters.

mod question;
mod select;
mod sessions;

use std::sync::OnceLock;

use agent_audit_core::{
    id::{ChainId, SessionId, TenantId},
    sink::SinkErrorKind,
};
use agent_audit_query::{
    EventStore, Filter, Found, QueryError, QueryErrorKind, Select, SessionSummary,
};

use self::question::Question;
use crate::{
    config::ClickHouseConfig,
    error::Fault,
    store::{
        Client, Malformed, Params, Reader, VERSION, is_identifier, literal, malformed, version,
    },
};

/// The ledgers of a server, to be asked and never changed.
///
/// Every statement names its tenant, and values reach the server as parameters alone. Give it a user
/// that sees one tenant alone ([`TENANT_READER`](crate::TENANT_READER)), or, where one process asks
/// for many tenants, the role `audit_asker` of [`PERMISSIONS`](crate::PERMISSIONS) and the
/// [setting](Self::with_tenant_setting) that its row policy goes by: the server then holds each
/// question to its tenant as well.
///
/// - Of rows at one position the one that came first is read, however often it came. One that a second
///   writer put behind it was never acknowledged and answers no question; the verifier names it.
/// - A filter that no index knows, such as `status` alone, reads that column of the tenant's events:
///   name a time with it.
/// - Without [`migrate`](crate::ClickHouseStore::migrate) to the present version nothing is answered.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseEvents};
/// use agent_audit_query::{EventStore, Filter, Ledger, Request};
/// # async fn show() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ClickHouseConfig::new("https://clickhouse.example:8443")
///     .with_user("audit_reader_acme", "secret");
/// let ledger = Ledger::new(Arc::new(ClickHouseEvents::new(config)?), "acme".parse()?);
/// let page = ledger.events(&Filter::new().tool("refund"), &Request::last(50)).await?;
/// # Ok(())
/// # }
/// let events = ClickHouseEvents::new(ClickHouseConfig::new("http://localhost:8123"))?;
/// assert_eq!(events.name(), "clickhouse");
/// # Ok::<(), agent_audit_query::QueryError>(())
/// ```
#[derive(Debug)]
pub struct ClickHouseEvents {
    name: String,
    asker: Asker,
}

impl ClickHouseEvents {
    /// Names the server to ask. It is not asked for anything yet.
    ///
    /// # Errors
    /// [`QueryError`] where the configuration cannot be used.
    pub fn new(config: ClickHouseConfig) -> Result<Self, QueryError> {
        let client = Client::new(&config)
            .map_err(|error| QueryError::new(QueryErrorKind::Invalid, error.to_string()))?;
        let asker = Asker { client, tenant_setting: None, is_present: OnceLock::new() };
        Ok(Self { name: config.name, asker })
    }

    /// Names the tenant of each question in a setting of one's own, for row policies that go by it:
    /// `SQL_audit_tenant` for the role `audit_asker`. The server must know its prefix
    /// (`custom_settings_prefixes`), as it knows `SQL_` where it is used as shipped.
    ///
    /// # Errors
    /// [`QueryError`] where it can be the name of no setting.
    ///
    /// ```
    /// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseEvents};
    /// let events = || ClickHouseEvents::new(ClickHouseConfig::new("http://localhost:8123"));
    /// assert!(events()?.with_tenant_setting("SQL_audit_tenant").is_ok());
    /// assert!(events()?.with_tenant_setting("a = 1, b").is_err());
    /// # Ok::<(), agent_audit_query::QueryError>(())
    /// ```
    pub fn with_tenant_setting(mut self, name: &str) -> Result<Self, QueryError> {
        if !is_identifier(name) {
            let text = format!("setting {name:?} is no name: use letters, digits and `_`");
            return Err(QueryError::new(QueryErrorKind::Invalid, text));
        }
        self.asker.tenant_setting = Some(name.to_owned());
        Ok(self)
    }
}

#[async_trait::async_trait]
impl EventStore for ClickHouseEvents {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        if let Some(setting) = &self.asker.tenant_setting {
            let text = format!(
                "a reader whose row policy goes by the setting {setting} sees one tenant at a time: \
                 list tenants as another user"
            );
            return Err(QueryError::new(QueryErrorKind::Unsupported, text));
        }
        let query = "SELECT tenant_id FROM audit_events GROUP BY tenant_id ORDER BY tenant_id";
        let doing = "list tenants";
        let answer = self.asker.ask(None, query, &Params::default(), doing).await?;
        rows(&answer, doing, |row| name(row, |text| TenantId::new(text).ok()))
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let question = Question::of(tenant);
        let query = format!(
            "SELECT chain_id FROM audit_events WHERE {} GROUP BY chain_id ORDER BY chain_id",
            question.conditions()
        );
        let doing = "list chains";
        let answer = self.asker.ask(Some(tenant), &query, &question.params, doing).await?;
        rows(&answer, doing, |row| name(row, |text| ChainId::new(text).ok()))
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        select::select(&self.asker, tenant, select).await
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        sessions::sessions(&self.asker, tenant, filter, after, limit).await
    }
}

const UNKNOWN_SETTING: u32 = 115;

/// Who asks the server.
#[derive(Debug)]
struct Asker {
    client: Client,
    tenant_setting: Option<String>,
    /// Set once the tables were seen to be of the present version.
    is_present: OnceLock<()>,
}

impl Asker {
    /// What a statement finds, in the format `RowBinary`.
    async fn ask(
        &self,
        tenant: Option<&TenantId>,
        query: &str,
        params: &Params,
        doing: &str,
    ) -> Result<bytes::Bytes, QueryError> {
        self.check_version().await?;
        let setting = match (&self.tenant_setting, tenant) {
            (Some(name), Some(tenant)) => {
                format!("\nSETTINGS {name} = {}", literal(tenant.as_str()))
            }
            _ => String::new(),
        };
        let answer = self.client.ask(&format!("{query}{setting}"), params, doing).await;
        answer.map_err(|fault| match fault.code() {
            Some(UNKNOWN_SETTING) => QueryError::new(
                QueryErrorKind::PermissionDenied,
                format!(
                    "{doing}: the row policy goes by a setting that is not named, or the server does \
                     not know settings of one's own: see `ClickHouseEvents::with_tenant_setting`"
                ),
            ),
            _ => fault.into(),
        })
    }

    async fn check_version(&self) -> Result<(), QueryError> {
        if self.is_present.get().is_some() {
            return Ok(());
        }
        let (kind, advice) = match version(&self.client).await?.unwrap_or(0) {
            VERSION => {
                self.is_present.get_or_init(|| ());
                return Ok(());
            }
            later if later > VERSION => (
                QueryErrorKind::UnknownVersion,
                format!(
                    "schema version {later}, this program knows {VERSION}: use a later release"
                ),
            ),
            0 => (
                QueryErrorKind::Unsupported,
                "no ledger: run `ClickHouseStore::migrate`, or name another database".to_owned(),
            ),
            earlier => (
                QueryErrorKind::Unsupported,
                format!("schema version {earlier}: run `ClickHouseStore::migrate`"),
            ),
        };
        Err(QueryError::new(kind, format!("the database has {advice}")))
    }
}

/// Reads an answer row by row.
fn rows<T>(
    answer: &[u8],
    doing: &str,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Wrong>,
) -> Result<Vec<T>, QueryError> {
    let mut reader = Reader::new(answer);
    let mut rows = Vec::new();
    while !reader.is_empty() {
        rows.push(read(&mut reader).map_err(|wrong| match wrong {
            Wrong::Format => QueryError::from(malformed(doing)),
            Wrong::Name => corrupt(format!("{doing}: a name that is stored is none")),
        })?);
    }
    Ok(rows)
}

/// What is wrong with a row.
enum Wrong {
    Format,
    Name,
}

impl From<Malformed> for Wrong {
    fn from(Malformed: Malformed) -> Self {
        Self::Format
    }
}

fn name<T>(row: &mut Reader<'_>, read: impl FnOnce(&str) -> Option<T>) -> Result<T, Wrong> {
    row.text()?.and_then(read).ok_or(Wrong::Name)
}

fn corrupt(text: String) -> QueryError {
    QueryError::new(QueryErrorKind::Corrupt, format!("{text}: run `agent-audit verify`"))
}

impl From<Fault> for QueryError {
    fn from(fault: Fault) -> Self {
        let kind = match fault.kind {
            SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Exhausted => {
                QueryErrorKind::Unavailable
            }
            SinkErrorKind::Unauthenticated | SinkErrorKind::PermissionDenied => {
                QueryErrorKind::PermissionDenied
            }
            SinkErrorKind::Corrupt => QueryErrorKind::Corrupt,
            _ => QueryErrorKind::Other,
        };
        Self::new(kind, fault.into_context())
    }
}
