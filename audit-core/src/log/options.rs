//! How a log is opened.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{AuditLog, Durability};
use crate::variables::{self, Variables};
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
    /// A log as the environment says, without sinks.
    ///
    /// | variable | says | as |
    /// |---|---|---|
    /// | `AGENT_AUDIT_DIR` | where the log is; must be set | a directory |
    /// | `AGENT_AUDIT_DURABILITY` | [`with_durability`](Self::with_durability) | `journaled`, `delivered`, `buffered` |
    /// | `AGENT_AUDIT_CHECKPOINT_DIR` | [`with_checkpoint_dir`](Self::with_checkpoint_dir) | a directory |
    /// | `AGENT_AUDIT_CHECKPOINT_EVENTS`, `AGENT_AUDIT_CHECKPOINT_INTERVAL` | [`with_checkpoint_every`](Self::with_checkpoint_every) | `1024`, `60s` |
    ///
    /// and those of [`JournalOptions::from_env`] and [`DeliveryOptions::from_env`]. The signing key
    /// is read when the log is opened: see [`with_signing_key`](Self::with_signing_key).
    ///
    /// ```
    /// use agent_audit_core::log::AuditLogBuilder;
    /// // The directory is not named here.
    /// let error = AuditLogBuilder::from_env().unwrap_err();
    /// assert!(error.to_string().contains("AGENT_AUDIT_DIR"));
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where no directory is named, or a variable
    /// does not say what it should.
    pub fn from_env() -> Result<Self, AuditError> {
        Variables::with_process(Self::from_variables)
    }

    pub(crate) fn from_variables(variables: Variables<'_>) -> Result<Self, AuditError> {
        use variables::{duration, number, one_of};
        let path = |text: &str| Ok(PathBuf::from(text));
        let dir = variables.read("AGENT_AUDIT_DIR", path)?.ok_or_else(|| {
            AuditError::invalid(
                "the environment variable AGENT_AUDIT_DIR is not set: name the directory of the \
                 log in it",
            )
        })?;
        let levels = [
            ("journaled", Durability::Journaled),
            ("delivered", Durability::Delivered),
            ("buffered", Durability::Buffered),
        ];
        let mut builder = Self::new(&dir);
        let Self { durability, checkpoint_events, checkpoint_interval, .. } = &mut builder;
        variables.set(durability, "AGENT_AUDIT_DURABILITY", |text| one_of(&levels, text))?;
        let events = |text: &str| number(text).map(|events| events.max(1));
        variables.set(checkpoint_events, "AGENT_AUDIT_CHECKPOINT_EVENTS", events)?;
        variables.set(checkpoint_interval, "AGENT_AUDIT_CHECKPOINT_INTERVAL", duration)?;
        builder.checkpoint_dir = variables.read("AGENT_AUDIT_CHECKPOINT_DIR", path)?;
        builder.journal = JournalOptions::from_variables(variables)?;
        builder.delivery = DeliveryOptions::from_variables(variables)?;
        Ok(builder)
    }

    /// The directory of the log.
    ///
    /// ```
    /// use agent_audit_core::log::AuditLog;
    /// let builder = AuditLog::builder("audit");
    /// assert_eq!(builder.dir(), std::path::Path::new("audit"));
    /// ```
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::journal::WhenFull;

    #[test]
    fn the_environment_says_how_a_log_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let lookup = |name: &str| match name {
            "AGENT_AUDIT_DIR" => Some(dir.path().join("log").into_os_string()),
            "AGENT_AUDIT_DURABILITY" => Some(OsString::from("delivered")),
            "AGENT_AUDIT_CHECKPOINT_DIR" => Some(dir.path().join("checkpoints").into_os_string()),
            "AGENT_AUDIT_CHECKPOINT_EVENTS" => Some(OsString::from("7")),
            "AGENT_AUDIT_CHECKPOINT_INTERVAL" => Some(OsString::from("5m")),
            "AGENT_AUDIT_JOURNAL_WHEN_FULL" => Some(OsString::from("refuse")),
            "AGENT_AUDIT_APPEND_TIMEOUT" => Some(OsString::from("5s")),
            _ => None,
        };
        let builder = AuditLogBuilder::from_variables(Variables::new(&lookup)).unwrap();
        assert_eq!(builder.durability, Durability::Delivered);
        assert_eq!(builder.checkpoint_events, 7);
        assert_eq!(builder.checkpoint_interval, Duration::from_secs(300));
        assert_eq!(builder.journal.when_full, WhenFull::Refuse);
        assert_eq!(builder.delivery.append_timeout, Duration::from_secs(5));
        let log = builder.open().unwrap();
        assert!(log.close_blocking(Duration::from_secs(60)).unwrap().is_complete());
        assert!(
            dir.path().join("log/log.json").exists() && dir.path().join("checkpoints").exists()
        );
    }

    #[test]
    fn every_variable_that_is_wrong_is_named_with_its_value() {
        for name in [
            "AGENT_AUDIT_DURABILITY",
            "AGENT_AUDIT_CHECKPOINT_EVENTS",
            "AGENT_AUDIT_CHECKPOINT_INTERVAL",
            "AGENT_AUDIT_JOURNAL_MAX_BYTES",
            "AGENT_AUDIT_LONGEST_RETRY",
        ] {
            let lookup = |asked: &str| match asked {
                "AGENT_AUDIT_DIR" => Some(OsString::from("audit")),
                _ => (asked == name).then(|| OsString::from("plenty")),
            };
            let error = AuditLogBuilder::from_variables(Variables::new(&lookup)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("plenty"), "{text}");
        }
    }
}
