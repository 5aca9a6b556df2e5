//! How far an export, or its verification, has come.

/// How far an export, or the verification of one, has come.
///
/// ```
/// use agent_audit_query::export::Progress;
/// assert_eq!(Progress::default().events, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Progress {
    /// How many events were read for their hashes, so that others can be proved.
    pub hashed: u64,
    /// How many events were written, or verified.
    pub events: u64,
    /// How many bytes were written, or verified.
    pub bytes: u64,
    /// How many bytes there are to verify.
    pub total_bytes: Option<u64>,
}

/// Counts, and tells whoever wants to know.
pub(super) struct Ticker<'a> {
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    now: Progress,
}

impl<'a> Ticker<'a> {
    pub(super) fn new(progress: Option<&'a (dyn Fn(Progress) + Sync)>) -> Self {
        Self { progress, now: Progress::default() }
    }

    pub(super) fn hashed(&mut self, events: usize) {
        self.now.hashed += u64::try_from(events).unwrap_or(u64::MAX);
        self.tell();
    }

    pub(super) fn reached(&mut self, events: u64, bytes: u64) {
        (self.now.events, self.now.bytes) = (events, bytes);
        self.tell();
    }

    pub(super) fn total(&mut self, bytes: u64) {
        self.now.total_bytes = Some(bytes);
        self.tell();
    }

    fn tell(&self) {
        if let Some(progress) = self.progress {
            progress(self.now);
        }
    }
}
