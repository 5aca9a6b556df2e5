//! The archive as it is asked: through a copy that is verified as it is made.

mod copy;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use agent_audit_core::{
    id::{ChainId, SessionId, TenantId},
    sink::{SinkError, SinkErrorKind},
};
use agent_audit_query::{
    EventStore, Filter, Found, QueryError, QueryErrorKind, Select, SessionSummary,
};
use tempfile::TempDir;

use self::copy::Copy;
use crate::{archive::S3Archive, config::S3Config, error::Fault};

/// An archive, to be asked and never changed.
///
/// Objects cannot be asked, so their events are copied: the first question about a tenant fetches
/// all of its objects, and a later one those that have come since, into an SQLite database of that
/// tenant in a directory here, which then answers.
///
/// - Nothing is copied that is not verified: the signature, place and predecessor of each manifest, the
///   version and SHA-256 of each object, and the links from event to event. What is not as it should
///   be is an error that names it, and an answer without it is not given.
/// - What was copied stays copied. When the newest manifest that was read of a chain is gone or is
///   another one, that is an error. Whether older ones are still there, and the locks, is for
///   [`S3Archive::verify`].
/// - A question that names its chains, or positions to end before, fetches only those. Times leave
///   nothing out: a clock that was set back puts an event of a time into an object of another day.
/// - Memory is bounded by four objects. The copy takes about 2 KB of disk for each event, and as much
///   as its content; whoever can change it can change answers, so it belongs where nobody else writes.
///   It holds content in the clear that is so in the archive.
///
/// ```no_run
/// use std::sync::Arc;
/// use agent_audit_query::{Filter, Ledger, Request};
/// use agent_audit_s3::{S3Config, S3Events};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".parse()?;
/// let config = S3Config::new("ledger").with_trusted_key(key);
/// let events = S3Events::open(config, "/var/lib/auditor/ledger").await?;
/// let ledger = Ledger::new(Arc::new(events), "acme".parse()?);
/// let page = ledger.events(&Filter::new().tool("refund"), &Request::last(50)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct S3Events {
    name: String,
    archive: S3Archive,
    copy: Copy,
    /// Removed when it is dropped.
    _temporary: Option<TempDir>,
}

impl S3Events {
    /// An archive, with its copy in a directory, which is created where it is missing and can be
    /// used again. It is for one archive alone. The bucket is not asked anything yet.
    ///
    /// # Errors
    /// [`QueryError`] where the configuration cannot be used, or the directory holds something else.
    pub async fn open(config: S3Config, directory: impl Into<PathBuf>) -> Result<Self, QueryError> {
        let copy = Copy::open(directory.into(), identity(&config))?;
        let name = config.name.clone();
        let archive = S3Archive::open(config).await.map_err(sink)?;
        Ok(Self { name, archive, copy, _temporary: None })
    }

    /// An archive, with its copy in a directory for temporary files, which is removed with this.
    ///
    /// # Errors
    /// [`QueryError`] where the configuration cannot be used, or the directory cannot be created.
    ///
    /// ```no_run
    /// use agent_audit_query::EventStore;
    /// use agent_audit_s3::{S3Config, S3Events};
    /// # async fn example() -> Result<(), agent_audit_query::QueryError> {
    /// let events = S3Events::temporary(S3Config::new("ledger").with_name("cold")).await?;
    /// assert_eq!(events.name(), "cold");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn temporary(config: S3Config) -> Result<Self, QueryError> {
        let directory = tempfile::Builder::new().prefix("agent-audit-archive-").tempdir();
        let directory = directory.map_err(|error| {
            let text = "a directory for temporary files cannot be created: name one for the copy";
            QueryError::new(QueryErrorKind::Other, text).with_source(error)
        })?;
        let mut events = Self::open(config, directory.path().join("copy")).await?;
        events._temporary = Some(directory);
        Ok(events)
    }

    /// Says how old an answer may be: within this time after a tenant's copy was complete the bucket
    /// is not asked again. Without it every question lists what has come.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use agent_audit_s3::{S3Config, S3Events};
    /// # async fn example() -> Result<(), agent_audit_query::QueryError> {
    /// let events = S3Events::temporary(S3Config::new("ledger")).await?;
    /// let for_a_screen = events.with_max_age(Duration::from_secs(60));
    /// # let _ = for_a_screen;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_max_age(mut self, age: Duration) -> Self {
        self.copy.max_age = age;
        self
    }
}

#[async_trait::async_trait]
impl EventStore for S3Events {
    fn name(&self) -> &str {
        &self.name
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        self.archive.tenants().await.map_err(sink)
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        let unread = self.archive.unread(tenant, None, &BTreeMap::new()).await?;
        Ok(unread.into_iter().map(|unread| unread.chain.chain_id).collect())
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        self.copy.bring(&self.archive, tenant, &select.filter).await?;
        self.copy.events().select(tenant, select).await
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        self.copy.bring(&self.archive, tenant, filter).await?;
        self.copy.events().sessions(tenant, filter, after, limit).await
    }
}

/// What tells one archive from another.
fn identity(config: &S3Config) -> String {
    let endpoint = config.endpoint.as_deref().unwrap_or("s3").trim_end_matches('/');
    format!("{endpoint}/{}/{}", config.bucket, config.prefix.trim_matches('/'))
}

fn query_kind(kind: SinkErrorKind) -> QueryErrorKind {
    match kind {
        SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Exhausted => {
            QueryErrorKind::Unavailable
        }
        SinkErrorKind::Unauthenticated | SinkErrorKind::PermissionDenied => {
            QueryErrorKind::PermissionDenied
        }
        SinkErrorKind::Corrupt => QueryErrorKind::Corrupt,
        _ => QueryErrorKind::Other,
    }
}

fn sink(error: SinkError) -> QueryError {
    QueryError::new(query_kind(error.kind()), error.to_string())
}

impl From<Fault> for QueryError {
    fn from(fault: Fault) -> Self {
        sink(fault.into())
    }
}
