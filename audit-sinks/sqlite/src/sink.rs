//! The sink: batches sorted by tenant, each tenant's segments in one transaction.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use agent_audit_core::{
    id::TenantId,
    sink::{
        Batch, BatchAck, ChainRef, Head, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind,
        SinkInfo,
    },
};
use tokio::task::{JoinSet, spawn_blocking};

use crate::{
    config::SqliteConfig,
    error::Fault,
    store::{Missing, Pool, ensure_directory, probe},
};

/// Keeps each tenant's events in a database of its own.
///
/// Databases are written on blocking threads of the tokio runtime that calls. A call that is
/// cancelled may still be carried out; the same segment again is accepted once.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_sqlite::SqliteSink;
/// let dir = tempfile::tempdir()?;
/// let sink = SqliteSink::open(dir.path().join("ledger"))?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("sqlite", "sqlite"));
/// assert!(sink.info().readable_heads);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SqliteSink {
    info: SinkInfo,
    pool: Arc<Pool>,
}

impl SqliteSink {
    /// A sink with its databases in a directory, which is created where it is missing.
    ///
    /// # Errors
    /// [`SinkError`] where the directory cannot be created.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, SinkError> {
        Self::with_config(SqliteConfig::new(directory))
    }

    /// A sink as configured.
    ///
    /// # Errors
    /// [`SinkError`] where the directory cannot be created.
    ///
    /// ```
    /// use agent_audit_core::sink::Sink;
    /// use agent_audit_sqlite::{SqliteConfig, SqliteSink};
    /// let dir = tempfile::tempdir()?;
    /// let sink = SqliteSink::with_config(SqliteConfig::new(dir.path()).with_name("hot"))?;
    /// assert_eq!(sink.info().name, "hot");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_config(config: SqliteConfig) -> Result<Self, SinkError> {
        ensure_directory(&config.directory)?;
        let info = SinkInfo::new(config.name.clone(), "sqlite").with_readable_heads();
        Ok(Self { info, pool: Arc::new(Pool::new(config)) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Pool) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, SinkError> {
        let pool = Arc::clone(&self.pool);
        match spawn_blocking(move || work(&pool)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(stopped()),
        }
    }
}

#[async_trait::async_trait]
impl Sink for SqliteSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let groups = Arc::new(Mutex::new(by_tenant(batch.segments())));
        let tenants = groups.lock().unwrap_or_else(PoisonError::into_inner).len();
        let mut workers = JoinSet::new();
        for _ in 0..self.pool.config().parallelism.clamp(1, tenants.max(1)) {
            let (pool, groups) = (Arc::clone(&self.pool), Arc::clone(&groups));
            workers.spawn_blocking(move || {
                let mut done = Vec::new();
                loop {
                    let group = groups.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(group) = group else { return done };
                    done.extend(append_group(&pool, &group));
                }
            });
        }
        let mut outcomes: Vec<Option<SegmentOutcome>> = Vec::new();
        outcomes.resize_with(batch.segments().len(), || None);
        while let Some(worker) = workers.join_next().await {
            for (at, outcome) in worker.unwrap_or_default() {
                outcomes[at] = Some(outcome);
            }
        }
        let unknown = || SegmentOutcome::Failed { error: stopped().with_maybe_applied() };
        Ok(BatchAck::new(outcomes.into_iter().map(|o| o.unwrap_or_else(unknown)).collect()))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        let chain = chain.clone();
        let head = self.blocking(move |pool| {
            pool.with(&chain.tenant_id, Missing::Skip, |database| database.head(&chain.chain_id))
        });
        Ok(head.await?.flatten())
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.blocking(|pool| {
            let directory = &pool.config().directory;
            ensure_directory(directory)?;
            probe(directory)
        })
        .await
    }

    /// Closes the databases. A later call opens them again.
    async fn close(&self) -> Result<(), SinkError> {
        self.blocking(|pool| {
            pool.close();
            Ok(())
        })
        .await
    }
}

/// The runtime shut down, or the work panicked.
fn stopped() -> SinkError {
    SinkError::new(SinkErrorKind::Other, "the work on the database was stopped")
}

/// The segments of one tenant, each with its place in the batch.
struct Group {
    tenant: TenantId,
    segments: Vec<(usize, Segment)>,
}

fn by_tenant(segments: &[Segment]) -> VecDeque<Group> {
    let mut groups: VecDeque<Group> = VecDeque::new();
    let mut places: HashMap<&TenantId, usize> = HashMap::new();
    for (at, segment) in segments.iter().enumerate() {
        let tenant = &segment.chain().tenant_id;
        let place = *places.entry(tenant).or_insert_with(|| {
            groups.push_back(Group { tenant: tenant.clone(), segments: Vec::new() });
            groups.len() - 1
        });
        // A segment shares its records, so that a copy costs nothing.
        groups[place].segments.push((at, segment.clone()));
    }
    groups
}

fn append_group(pool: &Pool, group: &Group) -> Vec<(usize, SegmentOutcome)> {
    let places = group.segments.iter().map(|(at, _)| *at);
    let segments: Vec<&Segment> = group.segments.iter().map(|(_, segment)| segment).collect();
    let done = pool.with(&group.tenant, Missing::Create, |database| database.append(&segments));
    match done {
        Ok(outcomes) => places.zip(outcomes.unwrap_or_default()).collect(),
        Err(fault) => {
            places.map(|at| (at, SegmentOutcome::Failed { error: fault.clone().into() })).collect()
        }
    }
}
