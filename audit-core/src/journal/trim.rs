//! Letting go of segments that nobody needs any more.

use std::sync::PoisonError;

use super::error::JournalError;
use super::format::segment_name;
use super::state::{Shared, wake_all};

impl Shared {
    /// Deletes the segments that may go.
    pub(super) fn trim(&self) -> Result<(), JournalError> {
        let mut unsynced = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let segment = {
                let mut state = self.lock();
                match state.segments.front() {
                    Some(oldest) if state.segments.len() > 1 && oldest.end <= state.trim_to => {
                        state.segments.pop_front()
                    }
                    _ => None,
                }
            };
            let Some(segment) = segment else { return Ok(()) };
            let path = self.dir.join(segment_name(segment.first));
            // Each deletion is durable before the next, or a crash could leave a gap.
            let io = &self.options.io;
            let synced = if *unsynced { io.sync_dir(&self.dir) } else { Ok(()) };
            let removed = synced.and_then(|()| {
                *unsynced = true;
                io.remove(&path)?;
                io.sync_dir(&self.dir)?;
                *unsynced = false;
                Ok(())
            });
            let gone = removed.is_ok() || !path.exists();
            let mut state = self.lock();
            if !gone {
                state.segments.push_front(segment);
            }
            let removed =
                removed.map_err(|error| JournalError::io("trim journal segment", &path, error));
            if !gone {
                return removed;
            }
            state.bytes -= segment.bytes;
            let wakers = self.grant(&mut state);
            drop(state);
            wake_all(wakers);
            removed?;
        }
    }
}
