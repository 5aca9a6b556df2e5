//! Reading is recorded too.

use agent_audit_core::{
    content::Part,
    context::AuditContext,
    event::access::{AccessExported, AccessQueried},
    hash::Hash,
    log::{Draft, Receipt},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{Found, Ledger, QueryError, QueryErrorKind};

/// Who asks, and where that is recorded: on the ledger of the tenant who is asked about.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::sync::Arc;
/// use agent_audit_core::{log::AuditLog, memory::MemorySink};
/// use agent_audit_query::{Access, Filter, Ledger, Request, scan::Scanned};
///
/// let sink = MemorySink::new();
/// let log = AuditLog::builder(dir.path()).with_sink(sink.clone()).open()?;
/// let asking = log.session("acme", "audit-7", "auditor")?;
/// let access = Access::new(asking, "alice@auditors.example").with_purpose("yearly audit");
///
/// # pollster::block_on(async {
/// let store = Arc::new(Scanned::new("memory", sink.clone()));
/// let ledger = Ledger::new(store, "acme".parse()?);
/// let page = ledger.events(&Filter::new(), &Request::first(10)).await?;
/// access.queried(&ledger, "events", &Filter::new(), Access::digest(&page.events)).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// log.close_blocking(std::time::Duration::from_secs(5))?;
/// sink.events().of_type(agent_audit_core::event::EventType::AccessQueried).only();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Access {
    context: AuditContext,
    actor: String,
    purpose: Option<String>,
}

/// What an answer was: how many rows, and a digest of them.
///
/// ```
/// use agent_audit_query::Access;
/// let answer = Access::digest(&[]);
/// assert_eq!(answer.rows, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// How many rows: events, or lines of a table.
    pub rows: u64,
    /// SHA-256 over the event hashes, one after the other, or over the JSON of the table.
    pub digest: Hash,
}

impl Answer {
    /// An answer of so many rows with this digest.
    #[must_use]
    pub fn new(rows: u64, digest: Hash) -> Self {
        Self { rows, digest }
    }
}

#[derive(Serialize)]
struct Question<'a, Q> {
    ask: &'a str,
    store: &'a str,
    with: &'a Q,
}

impl Access {
    /// Reads of a person or program are recorded in this context.
    #[must_use]
    pub fn new(context: AuditContext, actor: impl Into<String>) -> Self {
        Self { context, actor: actor.into(), purpose: None }
    }

    /// Where it is recorded.
    #[must_use]
    pub fn context(&self) -> &AuditContext {
        &self.context
    }

    /// Says what for.
    #[must_use]
    pub fn with_purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = Some(purpose.into());
        self
    }

    /// The digest of an answer that is made of events.
    #[must_use]
    pub fn digest<'a>(events: impl IntoIterator<Item = &'a Found>) -> Answer {
        let mut hashes = Vec::new();
        for found in events {
            hashes.extend_from_slice(found.hash().as_bytes());
        }
        let rows = u64::try_from(hashes.len() / 32).unwrap_or(u64::MAX);
        Answer { rows, digest: sha256(&hashes) }
    }

    /// The digest of an answer that is a table.
    ///
    /// # Errors
    /// Where the table has no JSON form.
    pub fn digest_of_table<T: Serialize>(table: &[T]) -> Result<Answer, QueryError> {
        let text = serde_json::to_vec(table).map_err(no_json)?;
        let rows = u64::try_from(table.len()).unwrap_or(u64::MAX);
        Ok(Answer { rows, digest: sha256(&text) })
    }

    /// Records that a question was asked. Call it before the answer is shown: an answer whose reading
    /// cannot be recorded is to be withheld.
    ///
    /// # Errors
    /// [`Invalid`](QueryErrorKind::Invalid) where the context is another tenant's,
    /// [`Unavailable`](QueryErrorKind::Unavailable) where the log cannot be written.
    pub async fn queried(
        &self,
        ledger: &Ledger,
        ask: &str,
        question: &(impl Serialize + Sync),
        answer: Answer,
    ) -> Result<Receipt, QueryError> {
        let text = self.question(ledger, ask, question)?;
        let mut queried = AccessQueried::new(&*self.actor, ask);
        queried.rows = Some(answer.rows);
        queried.digest = Some(answer.digest);
        queried.purpose.clone_from(&self.purpose);
        self.record(Draft::new(queried), text).await
    }

    /// Records that events were exported in a format, in so many files.
    ///
    /// # Errors
    /// As [`queried`](Self::queried).
    pub async fn exported(
        &self,
        ledger: &Ledger,
        question: &(impl Serialize + Sync),
        format: &str,
        files: u64,
        answer: Answer,
    ) -> Result<Receipt, QueryError> {
        let text = self.question(ledger, "export", question)?;
        let mut exported = AccessExported::new(&*self.actor, "export", format);
        exported.rows = Some(answer.rows);
        exported.files = Some(files);
        exported.digest = Some(answer.digest);
        exported.purpose.clone_from(&self.purpose);
        self.record(Draft::new(exported), text).await
    }

    /// The question with its filters is content: it can name a person.
    fn question(
        &self,
        ledger: &Ledger,
        ask: &str,
        with: &impl Serialize,
    ) -> Result<Vec<u8>, QueryError> {
        if self.context.tenant_id() != ledger.tenant() {
            return Err(QueryError::invalid(format!(
                "the question is about tenant {}, and would be recorded for tenant {}: give a \
                 context of the tenant who is asked about",
                ledger.tenant(),
                self.context.tenant_id()
            )));
        }
        serde_json::to_vec(&Question { ask, store: ledger.store_name(), with }).map_err(no_json)
    }

    async fn record(&self, draft: Draft, question: Vec<u8>) -> Result<Receipt, QueryError> {
        let draft = draft.with_part(Part::new("query", "application/json", question));
        self.context.record(draft).await.map_err(|error| {
            QueryError::new(
                QueryErrorKind::Unavailable,
                "the answer is withheld, because that it was asked for could not be recorded",
            )
            .with_source(error)
        })
    }
}

fn no_json(error: serde_json::Error) -> QueryError {
    QueryError::new(QueryErrorKind::Other, "the question has no JSON form").with_source(error)
}

fn sha256(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}
