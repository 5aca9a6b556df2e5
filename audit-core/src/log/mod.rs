//! The log handle: from `open` to a durable, chained, signed record per tenant.
//!
//! # What is promised
//!
//! - When [`record`](crate::context::AuditContext::record) returns, the event MUST be on disk, or
//!   further, as its [`Durability`] says.
//! - Kill the process at any instant: nothing acknowledged is missing, nothing is recorded twice,
//!   and attempts in flight are closed as `unknown` when the log is opened again.
//! - Each tenant has a chain of its own. Forks cannot happen: one process owns a directory, and an
//!   event takes its place while its chain is locked.
//! - A checkpoint is signed only of events that are durable.
//!
//! # What is not
//!
//! - Who owns the disk and the signing key can write another history. Keep the checkpoints
//!   elsewhere ([`AuditLogBuilder::with_checkpoint_dir`]), or the key.
//! - An event whose `record` failed or was dropped may be found in the log after a crash: its
//!   outcome is unknown, as with every write.
//! - How many events were refused while the disk failed is kept in memory until the `chain.gap`
//!   that tells of them is durable; if the process dies before that, the count is lost.

mod chains;
mod checkpoints;
mod close;
mod core;
mod draft;
pub mod entry;
mod layout;
mod maintenance;
mod options;
mod prepare;
mod receipt;
mod replay;
mod snapshot;

use std::{
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use close::CloseReport;
pub(crate) use core::{Core, DrawnUp, Enqueued};
pub use draft::Draft;
pub use layout::Layout;
pub(crate) use layout::{create_dir, replace, sync_dir};
pub use options::{AuditLogBuilder, Clock, SystemClock};
pub(crate) use prepare::Scope;
pub use receipt::{Durability, Receipt};

use self::{
    checkpoints::CheckpointFile,
    core::{Wake, Who},
    maintenance::Maintenance,
};
use crate::{
    context::AuditContext,
    delivery::{Delivery, SinkHealth},
    error::{AuditError, AuditErrorKind},
    id::{AgentId, InvalidId, SessionId, TenantId, WriterId},
    journal::{Journal, JournalStats},
    key::{SigningKey, VerifyingKey},
    sink::ChainRef,
};

/// An open audit log. Clones share it.
///
/// Call [`close`](Self::close) at the end: it delivers, and closes the chains. When the last clone
/// goes without it, what was taken is still written and covered by a signed checkpoint, but the
/// chains go on at the next open as after a crash, and so does delivery.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{content::Part, event::Other, log::{AuditLog, Draft}};
///
/// let log = AuditLog::open(dir.path())?;
/// let session = log.session("acme", "session-1", "support-agent")?;
/// let note = Draft::new(Other::custom("note")?).with_part(Part::text("note", "hello"));
/// let receipt = session.record_blocking(note)?; // or .record(note).await
/// assert_eq!(receipt.chain.tenant_id.as_str(), "acme");
///
/// let report = log.close_blocking(std::time::Duration::from_secs(5))?;
/// assert!(report.is_complete());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct AuditLog {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    core: Arc<Core>,
    maintenance: Mutex<Option<JoinHandle<Maintenance>>>,
}

impl AuditLog {
    /// Opens the log in a directory, which is created if it is missing.
    ///
    /// Without a sink the journal is the store; [`builder`](Self::builder) adds sinks.
    ///
    /// # Errors
    /// As [`AuditLogBuilder::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, AuditError> {
        Self::builder(dir).open()
    }

    /// Opens a log with sinks and other choices.
    pub fn builder(dir: impl AsRef<Path>) -> AuditLogBuilder {
        AuditLogBuilder::new(dir.as_ref())
    }

    /// The context of an agent's session, without recording that it started.
    ///
    /// # Errors
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where a name breaks its rules; there is
    /// no default tenant.
    pub fn session<T, S, A>(
        &self,
        tenant: T,
        session: S,
        agent: A,
    ) -> Result<AuditContext, AuditError>
    where
        T: TryInto<TenantId, Error: Into<InvalidName>>,
        S: TryInto<SessionId, Error: Into<InvalidName>>,
        A: TryInto<AgentId, Error: Into<InvalidName>>,
    {
        fn checked<V, I>(value: V) -> Result<I, AuditError>
        where
            V: TryInto<I, Error: Into<InvalidName>>,
        {
            value.try_into().map_err(|error| {
                let InvalidName(error) = error.into();
                AuditError::invalid(error)
            })
        }
        Ok(AuditContext::new(self.clone(), checked(tenant)?, checked(session)?, checked(agent)?))
    }

    /// The state of each sink.
    #[must_use]
    pub fn health(&self) -> Vec<SinkHealth> {
        self.core().health()
    }

    /// Tries a chain once more that is halted at a sink, after a person has mended what halted it.
    ///
    /// Where the journal let go of events before the sink had them, copy them to the sink first. A
    /// sink that can say what it holds is then asked; of another one this call is the word that it
    /// has them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::{log::AuditLog, memory::MemorySink};
    /// let log = AuditLog::builder(dir.path()).with_sink(MemorySink::new()).open()?;
    /// for sink in log.health() {
    ///     for halted in &sink.halted {
    ///         log.retry(&sink.name, &halted.chain)?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where there is no such sink, or the chain
    /// is not halted there; [`Closed`](crate::error::AuditErrorKind::Closed).
    pub fn retry(&self, sink: &str, chain: &ChainRef) -> Result<(), AuditError> {
        self.core().delivery.retry(sink, chain)
    }

    /// Sends an event once more that a sink refused and that is kept
    /// [aside](crate::delivery::SinkHealth::quarantined). When this returns `Ok` the sink has it, and
    /// it is no longer kept.
    ///
    /// ```
    /// # async fn release() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::{log::AuditLog, memory::MemorySink};
    /// let log = AuditLog::builder(dir.path()).with_sink(MemorySink::new()).open()?;
    /// for sink in log.health() {
    ///     for event in &sink.quarantined {
    ///         log.release(&sink.name, &event.chain, event.sequence).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # pollster::block_on(release()).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Undelivered`](crate::error::AuditErrorKind::Undelivered) where the sink does not take it;
    /// it stays in quarantine. [`Invalid`](crate::error::AuditErrorKind::Invalid) where it is not
    /// there, [`Closed`](crate::error::AuditErrorKind::Closed).
    pub async fn release(
        &self,
        sink: &str,
        chain: &ChainRef,
        sequence: u64,
    ) -> Result<(), AuditError> {
        self.core().delivery.release(sink, chain, sequence).await
    }

    /// Counters of the journal: how much is on its way to the disk, and how much it holds.
    #[must_use]
    pub fn journal_stats(&self) -> JournalStats {
        self.core().journal_stats()
    }

    /// The identity of this log directory.
    #[must_use]
    pub fn writer_id(&self) -> &WriterId {
        &self.core().writer_id
    }

    /// The key that checkpoints of this log are verified with. Hand it to auditors by another way
    /// than the log itself.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        self.core().key.verifying_key()
    }

    pub(crate) fn core(&self) -> &Core {
        &self.handle.core
    }

    #[cfg(feature = "opentelemetry")]
    pub(crate) fn shared_core(&self) -> &Arc<Core> {
        &self.handle.core
    }

    fn open_with(builder: AuditLogBuilder) -> Result<Self, AuditError> {
        let layout = Layout::new(&builder.dir);
        layout::create_dir(layout.root())?;
        let journal_max_bytes = builder.journal.max_bytes;
        let (journal, recovered) = Journal::open(layout.journal(), builder.journal)?;
        let journal = Arc::new(journal);
        let identity = layout::identity(&layout, recovered.next_index == 0)?;
        let key = signing_key(&layout, builder.signing_key)?;
        let checkpoint_dir = match builder.checkpoint_dir {
            Some(dir) => dir.join(identity.writer_id.as_str()),
            None => layout.checkpoints(),
        };
        let (checkpoints, latest) = CheckpointFile::open(&checkpoint_dir)?;
        let chains = replay::checked(&layout, &journal, recovered, Some(&latest))?;
        if let Some(torn) = recovered.torn {
            tracing::warn!(
                segment = torn.segment,
                offset = torn.offset,
                bytes = torn.bytes,
                "cut a torn write that was never acknowledged"
            );
        }
        let delivery = Delivery::start(
            Arc::clone(&journal),
            &layout,
            builder.sinks,
            builder.delivery,
            journal_max_bytes,
        )?;
        let core = Arc::new(Core {
            layout,
            writer_id: identity.writer_id,
            key,
            journal,
            chains: RwLock::new(chains),
            delivery,
            clock: builder.clock,
            durability: builder.durability,
            checkpoint_events: builder.checkpoint_events,
            journal_max_bytes,
            first_entry: recovered.next_index,
            torn_bytes: recovered.torn.map(|torn| torn.bytes),
            snapshot_entry: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            wake: (Mutex::new(Wake::default()), Condvar::new()),
        });
        let maintenance =
            Maintenance::new(Arc::clone(&core), checkpoints, builder.checkpoint_interval);
        let thread = std::thread::Builder::new()
            .name("audit-maintenance".to_owned())
            .spawn(move || maintenance.run())
            .map_err(|error| AuditError::io("start a thread for", core.layout.root(), error))?;
        let maintenance = Mutex::new(Some(thread));
        let log = Self { handle: Arc::new(Handle { core, maintenance }) };
        log.close_dead_attempts()?;
        Ok(log)
    }

    /// Closes what the process before left open: nobody will ever know more than that.
    ///
    /// A journal that is full, or a disk that does not answer, does not keep the log from opening:
    /// the outcomes are then written in front of the chain's next event.
    fn close_dead_attempts(&self) -> Result<(), AuditError> {
        let core = self.core();
        let chains: Vec<_> = {
            let chains = core.chains.read().unwrap_or_else(PoisonError::into_inner);
            chains.iter().filter(|chain| !chain.lock().open.is_empty()).cloned().collect()
        };
        for chain in &chains {
            chain.bury_open_attempts();
        }
        for chain in &chains {
            match close::block_on_until(core.settle(Who::Log, chain), Instant::now() + PATIENCE) {
                Some(Ok(())) => {}
                Some(Err(error)) if error.kind() == AuditErrorKind::Damaged => return Err(error),
                Some(Err(_)) | None => {
                    tracing::warn!(
                        "attempts of a dead process are closed when the journal has room"
                    );
                    return Ok(());
                }
            }
        }
        let tickets: Vec<_> = chains.iter().filter_map(|chain| chain.lock().last_ticket).collect();
        core.all_durable(&tickets);
        Ok(())
    }
}

impl Core {
    pub(crate) fn health(&self) -> Vec<SinkHealth> {
        self.delivery.health()
    }

    pub(crate) fn journal_stats(&self) -> JournalStats {
        self.journal.stats()
    }
}

/// How long opening waits for room in the journal.
const PATIENCE: Duration = Duration::from_millis(200);

fn signing_key(layout: &Layout, given: Option<SigningKey>) -> Result<SigningKey, AuditError> {
    let dir = layout.keys();
    layout::create_dir(&dir)?;
    let key = match given {
        Some(key) => key,
        None => SigningKey::from_env_or_file(dir.join("signing.key")).map_err(|error| {
            let kind = match error.is_exposed() {
                true => AuditErrorKind::PermissionDenied,
                false => AuditErrorKind::Other,
            };
            AuditError::new(kind, error.to_string())
        })?,
    };
    let public = key.verifying_key();
    let path = dir.join(format!("{}.pub", public.id()));
    if !path.exists() {
        layout::replace(&path, format!("{public}\n").as_bytes())?;
    }
    Ok(key)
}

/// Why a name is not one: what [`AuditLog::session`] takes errors of conversion as.
///
/// ```
/// use agent_audit_core::{id::TenantId, log::InvalidName};
/// let name = InvalidName::from(TenantId::new("").unwrap_err());
/// assert!(format!("{name:?}").contains("tenant id"));
/// ```
#[derive(Debug, Clone)]
pub struct InvalidName(String);

impl From<InvalidId> for InvalidName {
    fn from(error: InvalidId) -> Self {
        Self(error.to_string())
    }
}

impl From<std::convert::Infallible> for InvalidName {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::Release);
        // Without a close the chains stay open, but what is durable is covered by a checkpoint.
        if let Some(mut maintenance) = self.stop_maintenance()
            && let Err(error) = maintenance.settle()
        {
            tracing::warn!(%error, "the last checkpoints of the audit log could not be written");
        }
        // The journal commits what it has taken when its last handle goes.
    }
}

impl Handle {
    fn stop_maintenance(&self) -> Option<Maintenance> {
        self.core.ask(|wake| wake.stop = true);
        let mut thread = self.maintenance.lock().unwrap_or_else(PoisonError::into_inner);
        thread.take().and_then(|thread| thread.join().ok())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
