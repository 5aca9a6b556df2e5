//! How long the commit thread waits for callers whom it has just woken, and who may append again.
//!
//! Without it callers fall into groups, each waiting for the others' syncs, and one sync serves few
//! of them. How much patience pays is learned: it lasts at most as long as a sync without a new
//! entry, and less where it has been in vain.

use std::time::{Duration, Instant};

use super::state::State;

/// The longest wait without a new entry.
const LONGEST: Duration = Duration::from_millis(1);
/// A wait as a whole lasts at most so many times as long as the sync before it.
const SYNCS: u32 = 4;

#[derive(Debug, Default)]
pub(super) struct Gathering {
    /// Pending entries that are enough; 0 where nobody is awaited.
    pub(super) enough: u32,
    /// Entries that were pending already when the callers of a batch were woken.
    pub(super) pending: u32,
    /// Callers who were woken.
    pub(super) woken: usize,
    /// Pending entries when they were last counted, and when the wait for more ends.
    seen: u32,
    until: Option<Instant>,
    last: Option<Instant>,
    sync: Duration,
    patience: Duration,
}

impl Gathering {
    /// A batch, begun at `start`, has been acknowledged.
    pub(super) fn begin(&mut self, start: Instant) {
        let now = Instant::now();
        self.sync = now.duration_since(start).min(LONGEST);
        // What was lost in vain comes back slowly: callers change.
        self.patience = (self.patience + self.sync / 16).min(self.sync);
        // One caller alone is never waited for, nor are others made to wait for one.
        let woken = u32::try_from(std::mem::take(&mut self.woken)).unwrap_or(u32::MAX);
        self.enough = if woken > 1 { self.pending.saturating_add(woken) } else { 0 };
        self.seen = self.pending;
        self.until = now.checked_add(self.patience);
        self.last = now.checked_add(self.sync * SYNCS);
    }

    /// How long to wait for more entries; nothing where there are enough, or waiting does not pay.
    pub(super) fn patience(&mut self, state: &State) -> Option<Duration> {
        if self.enough == 0 {
            return None;
        }
        let pending = state.pending_entries;
        if pending >= self.enough {
            self.patience = self.sync;
            self.enough = 0;
            return None;
        }
        // Whoever waits for something else, as for room, does not wait for callers too.
        if state.closing || state.want_space || state.has_queue() {
            self.enough = 0;
            return None;
        }
        let now = Instant::now();
        if pending > self.seen {
            self.seen = pending;
            self.until = now.checked_add(self.patience);
        }
        let until = self.until.min(self.last)?;
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            self.patience /= 2;
            self.enough = 0;
            return None;
        }
        Some(left)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::journal::{JournalOptions, state::Shared};

    fn gathering(woken: usize) -> Gathering {
        let mut gathering = Gathering { pending: 3, woken, ..Gathering::default() };
        gathering.begin(Instant::now().checked_sub(LONGEST).unwrap());
        gathering
    }

    #[test]
    fn nobody_is_kept_waiting_without_a_reason() {
        let dir = std::path::Path::new("unused");
        let shared = Shared::new(dir, JournalOptions::default(), VecDeque::new(), 0);
        let mut state = shared.lock();
        state.pending_entries = 3;
        assert_eq!(gathering(1).patience(&state), None, "one caller");
        let mut vain = gathering(2);
        vain.until = Some(Instant::now());
        let before = vain.patience;
        assert_eq!(vain.patience(&state), None, "nobody came");
        assert_eq!(vain.patience, before / 2);
        state.pending_entries = 5;
        let mut all = gathering(2);
        assert_eq!(all.patience(&state), None, "all have come");
        assert_eq!(all.patience, all.sync);
        state.pending_entries = 4;
        state.closing = true;
        assert_eq!(gathering(2).patience(&state), None, "the journal closes");
    }
}
