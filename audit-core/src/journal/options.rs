//! How a journal is set up.

use std::sync::Arc;

use super::format::{RECORD, SEGMENT_HEADER, as_offset};
use super::io::{JournalIo, SystemIo};
use super::state::ENTRY_OVERHEAD;

/// Smallest segment size; smaller settings are raised to it.
const MIN_SEGMENT_BYTES: u64 = 4096;

/// How a journal behaves; start from [`JournalOptions::default`].
///
/// ```
/// use agent_audit_core::journal::{JournalOptions, WhenFull};
///
/// let options = JournalOptions::default().with_max_bytes(1 << 30).with_when_full(WhenFull::Refuse);
/// assert_eq!(options.segment_bytes, 64 << 20);
/// assert_eq!(options.max_bytes, Some(1 << 30));
/// ```
#[derive(Debug, Clone)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
