//! How a log is opened.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{AuditLog, Durability};
use crate::{
    delivery::{DeliveryOptions, Role},
    error::AuditError,
    journal::JournalOptions,
    key::SigningKey,
    sink::Sink,
    timestamp::Timestamp,
};

/// Opens a log with other than the default choices.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::{log::{AuditLog, Durability}, memory::MemorySink};
/// let log = AuditLog::builder(dir.path())
///     .with_sink(MemorySink::new())
///     .with_durability(Durability::Delivered)
///     .open()?;
/// assert_eq!(log.health().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until `open`"]
pub struct AuditLogBuilder {
    pub(super) dir: PathBuf,
    pub(super) sinks: Vec<(Role, Arc<dyn Sink>)>,
    pub(super) durability: Durability,
    pub(super) journal: JournalOptions,
    pub(super) delivery: DeliveryOptions,
    pub(super) signing_key: Option<SigningKey>,
    pub(super) checkpoint_dir: Option<PathBuf>,
    pub(super) checkpoint_events: u64,
    pub(super) checkpoint_interval: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

/// Where the time of an event comes from.
///
/// ```
/// use agent_audit_core::{log::Clock, timestamp::Timestamp};
/// #[derive(Debug)]
/// struct Fixed;
/// impl Clock for Fixed {
///     fn now(&self) -> Timestamp {
///         Timestamp::from_nanos(0)
///     }
/// }
/// assert_eq!(Fixed.now().as_nanos(), 0);
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// The present time, in UTC. It may go back; the record then shows that it did.
    fn now(&self) -> Timestamp;
}

/// The clock of the operating system.
///
/// ```
/// use agent_audit_core::log::{Clock, SystemClock};
/// assert!(SystemClock.now().as_nanos() > 0);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

impl AuditLogBuilder {
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            sinks: Vec::new(),
            durability: Durability::default(),
            journal: JournalOptions::default(),
            delivery: DeliveryOptions::default(),
            signing_key: None,
            checkpoint_dir: None,
            checkpoint_events: 1_024,
            checkpoint_interval: Duration::from_secs(60),
            clock: Arc::new(SystemClock),
        }
    }

    /// Adds a required sink: every event is brought to it, and the journal keeps what it has not
    /// acknowledged. Without a required sink the journal itself is the store and keeps everything.
    pub fn with_sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push((Role::Required, Arc::new(sink)));
        self
    }

    /// Adds an optional sink: every event is brought to it, but nobody waits for it, and the journal
    /// keeps what it has not acknowledged [within
    /// bounds](crate::delivery::DeliveryOptions::optional_max_bytes) only. What it misses by that is
    /// declared: see [`delivery`](crate::delivery#optional-sinks).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::{delivery::Role, log::AuditLog, memory::MemorySink};
    /// let log = AuditLog::builder(dir.path())
    ///     .with_sink(MemorySink::new())
    ///     .with_optional_sink(MemorySink::named("observed"))
    ///     .open()?;
    /// assert_eq!(log.health()[1].role, Role::Optional);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_optional_sink(mut self, sink: impl Sink + 'static) -> Self {
        self.sinks.push((Role::Optional, Arc::new(sink)));
        self
    }

    /// Says how far an event has come when `record` returns, unless a call says otherwise.
    pub fn with_durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets the size and the bounds of the journal.
    pub fn with_journal(mut self, options: JournalOptions) -> Self {
        self.journal = options;
        self
    }

    /// Sets timeouts and retries of delivery.
    pub fn with_delivery(mut self, options: DeliveryOptions) -> Self {
        self.delivery = options;
        self
    }

    /// Signs checkpoints with this key, instead of that of the environment variable
    /// `AGENT_AUDIT_SIGNING_KEY` or of the file `keys/signing.key`.
    pub fn with_signing_key(mut self, key: SigningKey) -> Self {
        self.signing_key = Some(key);
        self
    }

    /// Keeps checkpoints in another directory, best on another machine's disk: who can rewrite the
    /// log can then not rewrite them. Several logs can share it: each has a directory there, named
    /// by its writer id.
    pub fn with_checkpoint_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.checkpoint_dir = Some(dir.into());
        self
    }

    /// Signs a checkpoint of a chain after so many events, or so much time if there was any event;
    /// 1,024 events and 60 seconds without this call.
    pub fn with_checkpoint_every(mut self, events: u64, interval: Duration) -> Self {
        self.checkpoint_events = events.max(1);
        self.checkpoint_interval = interval;
        self
    }

    /// Takes the time from another clock.
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Opens the log, creating the directory if there is none.
    ///
    /// What a process that died left behind is put in order first: a torn write that nobody was
    /// promised is cut, and attempts without an outcome are closed as `unknown`. Reads and writes
    /// files, so an async caller may want `spawn_blocking`.
    ///
    /// # Errors
    /// - [`Locked`](crate::error::AuditErrorKind::Locked) where the log is open elsewhere;
    /// - [`Damaged`](crate::error::AuditErrorKind::Damaged) where acknowledged records are changed
    ///   or gone: nothing is written then;
    /// - [`PermissionDenied`](crate::error::AuditErrorKind::PermissionDenied),
    ///   [`Unavailable`](crate::error::AuditErrorKind::Unavailable) on a full disk,
    ///   [`UnknownVersion`](crate::error::AuditErrorKind::UnknownVersion).
    pub fn open(self) -> Result<AuditLog, AuditError> {
        AuditLog::open_with(self)
    }
}

impl fmt::Debug for AuditLogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLogBuilder")
            .field("dir", &self.dir)
            .field("sinks", &self.sinks)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
