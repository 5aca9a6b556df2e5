//! How a job is put together.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_audit_core::{
    id::{SessionId, TenantId},
    key::{SigningKey, VerifyingKey},
    log::{AuditLog, Clock, SystemClock},
};

use super::{Alert, Watch, WatchError, disk, known::Places, outcome::Latest, record::Recorder};
use crate::EventStore;

/// Puts an integrity job together.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use std::{sync::Arc, time::Duration};
/// use agent_audit_core::{log::AuditLog, memory::MemorySink};
/// use agent_audit_query::{integrity::Watch, scan::Scanned};
///
/// let hot = Arc::new(Scanned::new("hot", MemorySink::new()));
/// let cold = Arc::new(Scanned::new("cold", MemorySink::new()));
/// // Where the runs are recorded: a log of its own, whose events go to another store.
/// let record = AuditLog::open(dir.path().join("record"))?;
///
/// let watch = Watch::builder(dir.path().join("integrity"))
///     .with_store(hot)
///     .with_store(cold)
///     .with_grace(Duration::from_secs(600))
///     .with_record(record, "integrity".parse()?)
///     .open()?;
/// assert_eq!(watch.name(), "integrity");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until `open`"]
pub struct WatchBuilder {
    dir: PathBuf,
    name: String,
    stores: Vec<Arc<dyn EventStore>>,
    tenants: Vec<TenantId>,
    checkpoint_dir: Option<PathBuf>,
    key: Option<SigningKey>,
    earlier_keys: Vec<VerifyingKey>,
    writers: Vec<PathBuf>,
    writer_keys: Vec<VerifyingKey>,
    grace: Duration,
    whole_every: NonZeroU32,
    share: NonZeroU32,
    record: Option<(AuditLog, TenantId)>,
    record_store: Option<Arc<dyn EventStore>>,
    alerts: Vec<Arc<dyn Alert>>,
    clock: Arc<dyn Clock>,
}

impl WatchBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            dir: dir.to_owned(),
            name: "integrity".to_owned(),
            stores: Vec::new(),
            tenants: Vec::new(),
            checkpoint_dir: None,
            key: None,
            earlier_keys: Vec::new(),
            writers: Vec::new(),
            writer_keys: Vec::new(),
            grace: Duration::from_secs(900),
            whole_every: number(168),
            share: number(24),
            record: None,
            record_store: None,
            alerts: Vec::new(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Names the job; `integrity` unless said. Two jobs that record into one tenant need two names.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Watches a store. Several are compared with each other; their names must differ.
    pub fn with_store(mut self, store: Arc<dyn EventStore>) -> Self {
        self.stores.push(store);
        self
    }

    /// Also watches these tenants, where a store does not say which it has.
    pub fn with_tenants(mut self, tenants: impl IntoIterator<Item = TenantId>) -> Self {
        self.tenants.extend(tenants);
        self
    }

    /// Keeps the tenants' checkpoints in another directory than the job's state, best on another
    /// machine's disk.
    pub fn with_checkpoint_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.checkpoint_dir = Some(dir.into());
        self
    }

    /// Signs with this key; without one, with that of `keys/signing.key` in the job's directory,
    /// which is made where it is missing.
    pub fn with_signing_key(mut self, key: SigningKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Also believes what this key signed: one that the job had before.
    pub fn with_earlier_key(mut self, key: VerifyingKey) -> Self {
        self.earlier_keys.push(key);
        self
    }

    /// Holds the chains against the writers' signed checkpoints, in a file of lines or a directory
    /// of such files, believed where one of these keys signed them. A chain that none of them covers
    /// is then [not vouched for](agent_audit_core::verify::FindingKind::NotVouched).
    pub fn with_writer_checkpoints(
        mut self,
        path: impl Into<PathBuf>,
        keys: impl IntoIterator<Item = VerifyingKey>,
    ) -> Self {
        self.writers.push(path.into());
        self.writer_keys.extend(keys);
        self
    }

    /// How long a store may lag behind before what it lacks is missing; 15 minutes unless said.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Reads everything from the beginning in every so many runs; 168 unless said, a week of hourly
    /// runs. 1 is every run.
    pub fn with_whole_every(mut self, runs: NonZeroU32) -> Self {
        self.whole_every = runs;
        self
    }

    /// Reads each chain from the beginning once in so many runs, and in each run about as large a
    /// share of them; 24 unless said, each chain once a day of hourly runs.
    pub fn with_share(mut self, runs: NonZeroU32) -> Self {
        self.share = runs;
        self
    }

    /// Records each run in a log, as this tenant. Its events should go to another store than those
    /// that are watched.
    pub fn with_record(mut self, log: AuditLog, tenant: TenantId) -> Self {
        self.record = Some((log, tenant));
        self
    }

    /// Where the recorded runs can be read: they are then verified, too, and tell whether the job's
    /// own state was put back or taken away.
    pub fn with_record_store(mut self, store: Arc<dyn EventStore>) -> Self {
        self.record_store = Some(store);
        self
    }

    /// Tells somebody where a run does not find everything intact.
    pub fn with_alert(mut self, alert: impl Alert + 'static) -> Self {
        self.alerts.push(Arc::new(alert));
        self
    }

    /// Takes the time from another clock.
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Makes the job's directory this process's own.
    ///
    /// # Errors
    /// [`WatchError`]: something is missing or named twice, another process has the directory, or it
    /// cannot be used.
    pub fn open(self) -> Result<Watch, WatchError> {
        let name = SessionId::new(&self.name)
            .map_err(|error| WatchError::invalid(format!("the name of the job: {error}")))?;
        if self.stores.is_empty() {
            return Err(WatchError::invalid(
                "there is no store to watch: name one by `with_store`",
            ));
        }
        let mut names: Vec<_> = self.stores.iter().map(|store| store.name()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(WatchError::invalid(format!(
                "two stores have the name {:?}: give each its own, findings name them by it",
                twice[0]
            )));
        }
        if self.record_store.is_some() && self.record.is_none() {
            return Err(WatchError::invalid(
                "a store of recorded runs is given and no log to record them: add `with_record`",
            ));
        }
        if !self.writers.is_empty() && self.writer_keys.is_empty() {
            return Err(WatchError::invalid(
                "checkpoints of writers are given and no key that they are signed with: name the \
                 keys, those that `agent-audit keys` shows",
            ));
        }
        disk::create_dir(&self.dir)?;
        let lock = disk::lock(&self.dir)?;
        let key = match self.key {
            Some(key) => key,
            None => own_key(&self.dir)?,
        };
        let mut keys = vec![key.verifying_key()];
        keys.extend(self.earlier_keys);
        let checkpoints = self.checkpoint_dir.unwrap_or_else(|| self.dir.join("checkpoints"));
        let places = Places { state: self.dir, checkpoints };
        disk::create_dir(&places.checkpoints)?;
        disk::create_dir(&places.memories())?;
        let store = self.record_store;
        let recorder = self.record.map(|(log, tenant)| Recorder { log, tenant, store });
        Ok(Watch {
            name,
            stores: self.stores,
            tenants: self.tenants,
            places,
            key,
            keys,
            writers: self.writers,
            writer_keys: self.writer_keys,
            grace: u64::try_from(self.grace.as_nanos()).unwrap_or(u64::MAX),
            whole_every: u64::from(self.whole_every.get()),
            share: u64::from(self.share.get()),
            recorder,
            alerts: self.alerts,
            clock: self.clock,
            latest: Arc::new(Mutex::new(Latest::default())),
            lock,
        })
    }
}

fn own_key(dir: &Path) -> Result<SigningKey, WatchError> {
    let keys = dir.join("keys");
    disk::create_dir(&keys)?;
    SigningKey::load_or_create(keys.join("signing.key")).map_err(|error| {
        WatchError::damaged(format!("the job has no key to sign with: {error}")).with_source(error)
    })
}
