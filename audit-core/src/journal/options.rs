//! How a journal is set up.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::format::{RECORD, SEGMENT_HEADER, as_offset};
use super::io::{JournalIo, SystemIo};
use super::state::ENTRY_OVERHEAD;
use crate::error::AuditError;
use crate::variables::{self, Variables};

/// Smallest segment size; smaller settings are raised to it.
const MIN_SEGMENT_BYTES: u64 = 4096;

/// How a journal behaves; start from [`JournalOptions::default`].
///
/// In a file of settings what is left out has its default.
///
/// ```
/// use agent_audit_core::journal::{JournalOptions, WhenFull};
///
/// let options = JournalOptions::default().with_max_bytes(1 << 30).with_when_full(WhenFull::Refuse);
/// assert_eq!(options.segment_bytes, 64 << 20);
/// assert_eq!(options.max_bytes, Some(1 << 30));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JournalOptions {
    /// Size of a segment file, 64 MiB; an entry that is larger gets a larger segment of its own.
    ///
    /// Held between 4 KiB and a quarter of `max_bytes`.
    pub segment_bytes: u64,
    /// How many bytes of entries not yet trimmed the journal holds; unbounded by default.
    ///
    /// Preallocation takes up to two segments more on the device.
    pub max_bytes: Option<u64>,
    /// What happens when `max_bytes` is reached.
    pub when_full: WhenFull,
    /// How many bytes may be in memory and not yet durable, 64 MiB; who asks for more waits.
    ///
    /// One entry that is larger is admitted alone.
    pub max_pending_bytes: usize,
    /// How much is read before a journal opens.
    pub check_on_open: CheckOnOpen,
    #[doc(hidden)]
    #[serde(skip)]
    pub io: Arc<dyn JournalIo>,
}

/// What a full journal does with those who ask for admission.
///
/// It never drops an entry.
///
/// ```
/// use agent_audit_core::journal::WhenFull;
/// assert_eq!(WhenFull::default(), WhenFull::Block);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// They wait, in the order in which they came.
    #[default]
    Block,
    /// They get [`JournalErrorKind::Full`](super::JournalErrorKind::Full) at once.
    Refuse,
}

/// How much of a journal is checked when it is opened.
///
/// ```
/// use agent_audit_core::journal::CheckOnOpen;
/// assert_eq!(CheckOnOpen::default(), CheckOnOpen::Newest);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckOnOpen {
    /// Every byte of the newest segment; of the others, that they are there, begin and end as they
    /// should. Damage inside those is found by who reads them.
    #[default]
    Newest,
    /// Every byte.
    All,
}

impl JournalOptions {
    /// The defaults, but for what the environment says.
    ///
    /// | variable | sets | as |
    /// |---|---|---|
    /// | `AGENT_AUDIT_JOURNAL_SEGMENT_BYTES` | `segment_bytes` | `64MiB` |
    /// | `AGENT_AUDIT_JOURNAL_MAX_BYTES` | `max_bytes` | `2GiB` |
    /// | `AGENT_AUDIT_JOURNAL_WHEN_FULL` | `when_full` | `block`, `refuse` |
    /// | `AGENT_AUDIT_JOURNAL_MAX_PENDING_BYTES` | `max_pending_bytes` | `64MiB` |
    /// | `AGENT_AUDIT_JOURNAL_CHECK_ON_OPEN` | `check_on_open` | `newest`, `all` |
    ///
    /// ```
    /// use agent_audit_core::journal::JournalOptions;
    /// // No such variable is set here.
    /// assert_eq!(JournalOptions::from_env()?.max_bytes, None);
    /// # Ok::<(), agent_audit_core::error::AuditError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::AuditErrorKind::Invalid) where a variable does not say what it
    /// should.
    pub fn from_env() -> Result<Self, AuditError> {
        Variables::with_process(Self::from_variables)
    }

    pub(crate) fn from_variables(variables: Variables<'_>) -> Result<Self, AuditError> {
        use variables::{bytes, one_of};
        let mut options = Self::default();
        let full = [("block", WhenFull::Block), ("refuse", WhenFull::Refuse)];
        let check = [("newest", CheckOnOpen::Newest), ("all", CheckOnOpen::All)];
        let memory =
            |text: &str| bytes(text).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let max_bytes = |text: &str| bytes(text).map(Some);
        let Self { segment_bytes, when_full, max_pending_bytes, check_on_open, .. } = &mut options;
        variables.set(segment_bytes, "AGENT_AUDIT_JOURNAL_SEGMENT_BYTES", bytes)?;
        variables.set(when_full, "AGENT_AUDIT_JOURNAL_WHEN_FULL", |text| one_of(&full, text))?;
        variables.set(max_pending_bytes, "AGENT_AUDIT_JOURNAL_MAX_PENDING_BYTES", memory)?;
        variables
            .set(check_on_open, "AGENT_AUDIT_JOURNAL_CHECK_ON_OPEN", |text| one_of(&check, text))?;
        variables.set(&mut options.max_bytes, "AGENT_AUDIT_JOURNAL_MAX_BYTES", max_bytes)?;
        Ok(options)
    }

    /// Sets [`JournalOptions::segment_bytes`].
    #[must_use]
    pub fn with_segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets [`JournalOptions::max_bytes`].
    #[must_use]
    pub fn with_max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = Some(bytes);
        self
    }

    /// Sets [`JournalOptions::when_full`].
    #[must_use]
    pub fn with_when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Sets [`JournalOptions::max_pending_bytes`].
    #[must_use]
    pub fn with_max_pending_bytes(mut self, bytes: usize) -> Self {
        self.max_pending_bytes = bytes;
        self
    }

    /// Sets [`JournalOptions::check_on_open`].
    #[must_use]
    pub fn with_check_on_open(mut self, check: CheckOnOpen) -> Self {
        self.check_on_open = check;
        self
    }

    /// Replaces the file operations, to make them fail.
    #[doc(hidden)]
    #[must_use]
    pub fn with_io(mut self, io: Arc<dyn JournalIo>) -> Self {
        self.io = io;
        self
    }

    /// The options with sizes that fit together.
    pub(super) fn bounded(mut self) -> Self {
        let quarter = self.max_bytes.map_or(u64::MAX, |max| max / 4);
        let least = MIN_SEGMENT_BYTES.max(as_offset(SEGMENT_HEADER + RECORD) + ENTRY_OVERHEAD);
        self.segment_bytes = self.segment_bytes.min(quarter).max(least);
        self
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            max_bytes: None,
            when_full: WhenFull::Block,
            max_pending_bytes: 64 << 20,
            check_on_open: CheckOnOpen::Newest,
            io: Arc::new(SystemIo),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn the_environment_sets_what_it_names() {
        let lookup = |name: &str| match name {
            "AGENT_AUDIT_JOURNAL_MAX_BYTES" => Some(OsString::from("2GiB")),
            "AGENT_AUDIT_JOURNAL_WHEN_FULL" => Some(OsString::from("refuse")),
            "AGENT_AUDIT_JOURNAL_CHECK_ON_OPEN" => Some(OsString::from("all")),
            _ => None,
        };
        let options = JournalOptions::from_variables(Variables::new(&lookup)).unwrap();
        assert_eq!(options.max_bytes, Some(2 << 30));
        assert_eq!(options.when_full, WhenFull::Refuse);
        assert_eq!(options.check_on_open, CheckOnOpen::All);
        assert_eq!(options.segment_bytes, 64 << 20);
    }

    #[test]
    fn every_variable_that_is_wrong_is_named_with_its_value() {
        for name in [
            "AGENT_AUDIT_JOURNAL_SEGMENT_BYTES",
            "AGENT_AUDIT_JOURNAL_MAX_BYTES",
            "AGENT_AUDIT_JOURNAL_WHEN_FULL",
            "AGENT_AUDIT_JOURNAL_MAX_PENDING_BYTES",
            "AGENT_AUDIT_JOURNAL_CHECK_ON_OPEN",
        ] {
            let lookup = |asked: &str| (asked == name).then(|| OsString::from("plenty"));
            let error = JournalOptions::from_variables(Variables::new(&lookup)).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("plenty"), "{text}");
        }
    }

    #[test]
    fn a_file_of_settings_says_only_what_differs_and_nothing_unknown() {
        let options: JournalOptions =
            serde_json::from_str(r#"{"max_bytes":4096,"when_full":"refuse"}"#).unwrap();
        assert_eq!((options.max_bytes, options.segment_bytes), (Some(4096), 64 << 20));
        let text = serde_json::to_string(&options).unwrap();
        let again: JournalOptions = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        let error = serde_json::from_str::<JournalOptions>(r#"{"max_byts":1}"#).unwrap_err();
        assert!(error.to_string().contains("max_byts"));
    }
}
