//! The copy: a database for each tenant, and what it was made of.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use agent_audit_core::{
    id::{ChainId, TenantId},
    sink::{Batch, ChainRef, Segment, SegmentOutcome, Sink},
};
use agent_audit_query::{Filter, Predicate, QueryError, QueryErrorKind};
use agent_audit_sqlite::{SqliteConfig, SqliteEvents, SqliteSink, file_of_tenant};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{query_kind, sink};
use crate::archive::{Mark, S3Archive, Unread};

/// The file that says which archive a directory holds the copy of.
const OF: &str = "archive.json";

/// How many objects are in memory at a time.
const OBJECTS: usize = 4;
/// After how many objects it is noted how far the copy is.
const OBJECTS_BETWEEN_NOTES: usize = 64;

#[derive(Debug)]
pub(super) struct Copy {
    directory: PathBuf,
    sink: SqliteSink,
    events: SqliteEvents,
    /// What is known of each tenant. Its copy is made further by one question at a time.
    tenants: Mutex<HashMap<TenantId, Arc<tokio::sync::Mutex<Option<Tenant>>>>>,
    /// How old the copy of a tenant may be.
    pub(super) max_age: Duration,
}

/// What is known of a tenant.
#[derive(Debug)]
struct Tenant {
    known: Known,
    /// When the copy was seen to be complete.
    complete: Option<Instant>,
}

/// How far the chains of a tenant are in the copy.
type Known = BTreeMap<ChainId, Mark>;

/// What [`OF`] holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    version: u32,
    archive: String,
}

/// What of a tenant's archive a question can be about.
struct Wanted {
    /// These chains alone.
    chains: Option<Vec<ChainId>>,
    /// The positions before this one alone.
    end: Option<u64>,
}

impl Wanted {
    fn of(filter: &Filter) -> Self {
        let chains = filter.values_of("chain_id");
        // What can be the name of no chain names none.
        let ids = chains.iter().filter_map(|id| ChainId::new(*id).ok()).collect();
        let end = filter.predicates().find_map(|predicate| match predicate {
            Predicate::Below { column: "sequence", value } => u64::try_from(value).ok(),
            _ => None,
        });
        Self { chains: (!chains.is_empty()).then_some(ids), end }
    }

    fn is_everything(&self) -> bool {
        self.chains.is_none() && self.end.is_none()
    }
}

impl Copy {
    pub(super) fn open(directory: PathBuf, archive: String) -> Result<Self, QueryError> {
        let config = SqliteConfig::new(&directory).with_busy_timeout(Duration::from_secs(5));
        let shown = directory.display().to_string();
        let other = |what: &str| {
            let text = format!("directory {shown} {what}: name an empty one for the copy");
            QueryError::new(QueryErrorKind::Invalid, text)
        };
        let wanted = Origin { version: 1, archive };
        // Created, for its owner alone, where it is missing.
        let sink_of_copy = SqliteSink::with_config(config.clone()).map_err(sink)?;
        let file = directory.join(OF);
        let found = match fs::read(&file) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable(&file, error)),
        };
        match found.map(|found| serde_json::from_slice::<Origin>(&found)) {
            Some(Ok(found)) if found == wanted => {}
            Some(Ok(found)) if found.version > wanted.version => {
                let text = format!("directory {shown} holds the copy of a later release: use that");
                return Err(QueryError::new(QueryErrorKind::UnknownVersion, text));
            }
            Some(Ok(_)) => return Err(other("holds the copy of another archive")),
            Some(Err(_)) => return Err(other("holds a copy that cannot be read")),
            None => {
                let mut entries =
                    fs::read_dir(&directory).map_err(|e| unreadable(&directory, e))?;
                if entries.next().is_some() {
                    return Err(other("holds something else"));
                }
                write(&file, &wanted)?;
            }
        }
        Ok(Self {
            sink: sink_of_copy,
            events: SqliteEvents::with_config(config)?,
            tenants: Mutex::default(),
            max_age: Duration::ZERO,
            directory,
        })
    }

    /// What is in the copy.
    pub(super) fn events(&self) -> &SqliteEvents {
        &self.events
    }

    /// Brings what a question may be about, and is not here, into the copy.
    pub(super) async fn bring(
        &self,
        archive: &S3Archive,
        tenant: &TenantId,
        filter: &Filter,
    ) -> Result<(), QueryError> {
        let known = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(tenants.entry(tenant.clone()).or_default())
        };
        let mut known = known.lock().await;
        let mut of = match known.take() {
            Some(of) => of,
            None => Tenant { known: self.known(tenant).await?, complete: None },
        };
        let wanted = Wanted::of(filter);
        let is_young = of.complete.is_some_and(|at| at.elapsed() < self.max_age);
        let brought = if is_young {
            Ok(())
        } else {
            self.bring_to(archive, tenant, &wanted, &mut of.known).await
        };
        if !is_young {
            of.complete = (brought.is_ok() && wanted.is_everything()).then(Instant::now);
        }
        // What was brought before something went wrong is here all the same.
        *known = Some(of);
        brought
    }

    async fn bring_to(
        &self,
        archive: &S3Archive,
        tenant: &TenantId,
        wanted: &Wanted,
        marks: &mut Known,
    ) -> Result<(), QueryError> {
        let unread = archive.unread(tenant, wanted.chains.as_deref(), marks).await?;
        let unread = unread.into_iter().map(|unread| match wanted.end {
            Some(end) => unread.before(end, archive),
            None => unread,
        });
        let unread: Vec<_> = unread.filter(|unread| !unread.is_empty()).collect();
        if unread.is_empty() {
            return Ok(());
        }
        let side_by_side = unread.len().min(OBJECTS);
        let archive = archive.clone().reading(OBJECTS / side_by_side);
        let progress = Mutex::new((std::mem::take(marks), 0));
        let brought = stream::iter(unread)
            .map(|unread| self.bring_chain(&archive, unread, &progress))
            .buffer_unordered(side_by_side)
            .try_collect::<()>()
            .await;
        *marks = progress.into_inner().unwrap_or_else(PoisonError::into_inner).0;
        write(&self.file(tenant), marks)?;
        brought
    }

    async fn bring_chain(
        &self,
        archive: &S3Archive,
        unread: Unread,
        progress: &Mutex<(Known, usize)>,
    ) -> Result<(), QueryError> {
        let chain = unread.chain.clone();
        let mut arriving = archive.arriving(unread);
        while let Some(arrived) = arriving.next().await? {
            let key = arrived.key;
            let wrong = |what: String| {
                QueryError::new(QueryErrorKind::Corrupt, format!("{chain}: {key:?} {what}"))
            };
            let segment = Segment::new(chain.clone(), arrived.records)
                .map_err(|broken| wrong(format!("holds events that do not follow: {broken}")))?;
            let ack = self.sink.append(&Batch::new(vec![segment])).await.map_err(sink)?;
            match ack.outcomes.into_iter().next() {
                Some(SegmentOutcome::Accepted) => {}
                Some(SegmentOutcome::Failed { error }) => {
                    let text = format!("copy {key:?} to {}: {error}", self.directory.display());
                    return Err(QueryError::new(query_kind(error.kind()), text));
                }
                _ => {
                    return Err(wrong(format!(
                        "holds other events than the copy in {}: verify the archive, and remove \
                         the copy",
                        self.directory.display()
                    )));
                }
            }
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let (marks, objects) = &mut *progress;
            marks.insert(chain.chain_id.clone(), arrived.mark);
            *objects += 1;
            // A question that is given up, or a process that ends, does not begin anew.
            if *objects % OBJECTS_BETWEEN_NOTES == 0 {
                write(&self.file(&chain.tenant_id), marks)?;
            }
        }
        Ok(())
    }

    /// What the copy holds of a tenant, as it says and as it is.
    async fn known(&self, tenant: &TenantId) -> Result<Known, QueryError> {
        let file = self.file(tenant);
        let said: Known = match fs::read(&file) {
            // What cannot be read is fetched again, which changes nothing that is here.
            Ok(said) => serde_json::from_slice(&said).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::new(),
            Err(error) => return Err(unreadable(&file, error)),
        };
        let mut known = Known::new();
        for (id, mark) in said {
            let chain = ChainRef::new(tenant.clone(), id);
            let head = self.sink.head(&chain).await.map_err(sink)?;
            let is_here = head.is_some_and(|head| match (head.sequence + 1).cmp(&mark.next) {
                Ordering::Less => false,
                Ordering::Equal => head.event_hash == mark.head,
                // Another process has brought more.
                Ordering::Greater => true,
            });
            if is_here {
                known.insert(chain.chain_id, mark);
            }
        }
        Ok(known)
    }

    fn file(&self, tenant: &TenantId) -> PathBuf {
        self.directory.join(format!("{}.copied.json", file_of_tenant(tenant)))
    }
}

fn unreadable(path: &Path, error: io::Error) -> QueryError {
    let text = format!("{} cannot be read: {}", path.display(), error.kind());
    QueryError::new(QueryErrorKind::Other, text).with_source(error)
}

/// Writes a file whole or not at all. What is lost with the power is fetched again.
fn write(file: &Path, what: &impl Serialize) -> Result<(), QueryError> {
    let failed = |error: io::Error| {
        let text = format!("{} cannot be written: {}", file.display(), error.kind());
        QueryError::new(QueryErrorKind::Other, text).with_source(error)
    };
    let bytes = serde_json::to_vec(what).map_err(|error| failed(error.into()))?;
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, file)).map_err(failed)
}
