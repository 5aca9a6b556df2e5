//! The commit thread: the only one that writes to a journal that is open.
//!
//! One round is: take what is pending, write it with one call, sync it with one call, publish, wake
//! those who wait for it. Appends go on into the other buffer meanwhile.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use super::error::JournalError;
use super::format::{
    RECORD, Record, RecordKind, SEGMENT_HEADER, SegmentHeader, as_offset, segment_name,
};
use super::gathering::Gathering;
use super::io::write_all_at;
use super::segment::{ActiveFile, Spare, first_frame, fitting_prefix, write_seal};
use super::state::{Active, Segment, Shared, State, wake_all};

/// A buffer that grew beyond this is given back after use.
const KEPT_BUFFER: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Committer {
    shared: Arc<Shared>,
    active: Option<ActiveFile>,
    spare: Option<Spare>,
    spares_made: u64,
    /// The other of the two buffers; holds room for a record while it is here.
    buffer: Vec<u8>,
    /// Everything durable in the active segment is said to be so by a record behind it.
    marked: bool,
    gathering: Gathering,
    /// The last attempt to preallocate ahead of need failed; the next one waits for need.
    ahead_failed: bool,
    /// Released when the thread ends, however it ends.
    _lock: File,
}

enum Job {
    Commit { first: u64, entries: u32, cost: u64 },
    Prepare { cost: u64 },
    Rotate,
    Mark,
    Recover,
    Close,
}

/// A failure, and the entries before which may have been written.
type CommitFailure = (JournalError, u64);

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, lock: File) -> Self {
        Self {
            shared,
            active: None,
            spare: None,
            spares_made: 0,
            buffer: vec![0; RECORD],
            marked: true,
            gathering: Gathering::default(),
            ahead_failed: false,
            _lock: lock,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            match self.next_job() {
                Job::Commit { first, entries, cost } => self.commit(first, entries, cost),
                Job::Prepare { cost } => self.prepare(cost),
                Job::Rotate => self.rotate(),
                Job::Mark => self.mark(),
                Job::Recover => self.recover(),
                Job::Close => return self.close(),
            }
        }
    }

    fn next_job(&mut self) -> Job {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if std::mem::take(&mut state.recover_asked) {
                return Job::Recover;
            }
            if state.failed {
                if state.closing {
                    return Job::Close;
                }
            } else if let Some(time) = self.gathering.patience(&state) {
                state.idle = true;
                state.awaited = self.gathering.enough;
                let woken = shared.work.wait_timeout(state, time);
                (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
                state.idle = false;
                state.awaited = 0;
                continue;
            } else if state.pending_entries > 0 {
                return self.take_pending(&mut state);
            } else if let Some(cost) = state.want_spare.take() {
                return Job::Prepare { cost };
            } else if state.want_space && state.newest_is_spent() {
                return Job::Rotate;
            } else if !self.marked {
                return Job::Mark;
            } else if state.closing {
                return Job::Close;
            } else if self.should_prepare_ahead() {
                return Job::Prepare { cost: 0 };
            }
            state.idle = true;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle = false;
        }
    }

    fn should_prepare_ahead(&self) -> bool {
        let half_full = |active: &ActiveFile| active.offset > active.capacity / 2;
        self.spare.is_none() && !self.ahead_failed && self.active.as_ref().is_some_and(half_full)
    }

    fn take_pending(&mut self, state: &mut State) -> Job {
        std::mem::swap(&mut state.pending, &mut self.buffer);
        let entries = std::mem::take(&mut state.pending_entries);
        let cost = std::mem::take(&mut state.pending_cost);
        state.in_flight_cost = cost;
        let batch = state.current.batch;
        std::mem::swap(&mut state.in_flight, &mut state.current);
        state.current.batch = batch + 1;
        Job::Commit { first: state.next_index - u64::from(entries), entries, cost }
    }

    fn commit(&mut self, first: u64, entries: u32, cost: u64) {
        let mut bytes = std::mem::take(&mut self.buffer);
        let start = Instant::now();
        let result = self.write_batch(&mut bytes, first, entries, cost);
        if bytes.capacity() > KEPT_BUFFER {
            bytes = Vec::new();
        }
        bytes.clear();
        bytes.resize(RECORD, 0);
        self.buffer = bytes;
        self.gathering.begin(start);
        if let Err((error, written_end)) = result {
            self.fail(&error, written_end);
        }
    }

    /// Writes a batch, in several parts if it does not fit into one segment.
    fn write_batch(
        &mut self,
        bytes: &mut [u8],
        mut first: u64,
        mut entries: u32,
        cost: u64,
    ) -> Result<(), CommitFailure> {
        // The record of a part goes in front of its frames: into the room left there for the
        // first, over frames already written for the others.
        let mut at = RECORD;
        while entries > 0 {
            let frames = &bytes[at..];
            let active = self.activated(first, frames).map_err(|error| (error, first))?;
            let taken = active.offset + as_offset(2 * RECORD);
            let room = active.capacity.saturating_sub(taken);
            let (length, count) = fitting_prefix(frames, entries, room);
            if count == 0 {
                self.seal(first).map_err(|error| (error, first))?;
                continue;
            }
            let record = Record {
                kind: RecordKind::Batch,
                offset: active.offset,
                durable: active.durable,
                next: first,
                payload: as_offset(length),
                entries: count,
            };
            let start = at - RECORD;
            bytes[start..at].copy_from_slice(&record.encode(active.salt));
            at += length;
            let written_end = first + u64::from(count);
            let end = active.offset + as_offset(at - start);
            write_all_at(active.file.as_ref(), &bytes[start..at], active.offset)
                .and_then(|()| active.zero_ahead(end))
                .and_then(|()| active.file.sync_data())
                .map_err(|error| JournalError::io("write journal segment", &active.path, error))
                .map_err(|error| (error, written_end))?;
            active.offset += as_offset(RECORD + length);
            active.durable = active.offset;
            first = written_end;
            entries -= count;
            self.marked = false;
            self.publish(first, (entries == 0).then_some(cost));
        }
        Ok(())
    }

    fn publish(&mut self, durable_index: u64, finished: Option<u64>) {
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        self.shared.publish_durable(&mut state, durable_index);
        if let Some(active) = &self.active {
            // Room for the mark that may follow is not given away.
            let room = active.capacity.saturating_sub(active.offset + as_offset(2 * RECORD));
            state.active = Some(Active { room });
            grow_newest(&mut state, active.durable, durable_index);
        }
        state.batches += 1;
        if let Some(cost) = finished {
            state.outstanding -= cost;
            state.in_flight_cost = 0;
            state.in_flight.take(&mut wakers);
            (self.gathering.pending, self.gathering.woken) = (state.pending_entries, wakers.len());
        }
        state.take_followers(&mut wakers);
        wakers.append(&mut self.shared.grant(&mut state));
        drop(state);
        wake_all(wakers);
    }

    fn fail(&mut self, error: &JournalError, written_end: u64) {
        tracing::error!(
            dir = %self.shared.dir.display(),
            error = &*error.failed(false).to_string(),
            "the journal failed"
        );
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        state.fail(error, written_end);
        state.active = None;
        state.in_flight.take(&mut wakers);
        state.current.take(&mut wakers);
        wakers.append(&mut self.shared.grant(&mut state));
        drop(state);
        wake_all(wakers);
    }

    /// The active segment, or a new one that begins with entry `first` and takes its frame.
    fn activated(&mut self, first: u64, frames: &[u8]) -> Result<&mut ActiveFile, JournalError> {
        if self.active.is_none() {
            let cost = as_offset(first_frame(frames) + 2 * RECORD);
            if self.spare.as_ref().is_none_or(|spare| spare.room() < cost) {
                self.make_spare(cost)?;
            }
            self.activate(first)?;
        }
        Ok(self.active.as_mut().expect("a segment has just been activated"))
    }

    /// Turns the spare file into the newest segment, durable before anything is written to it.
    fn activate(&mut self, first: u64) -> Result<(), JournalError> {
        let Some(spare) = self.spare.take() else { return Ok(()) };
        self.shared.lock().spare_room = None;
        let salt = RandomState::new().build_hasher().finish();
        let allocated = if spare.allocated { spare.capacity } else { 0 };
        let header = SegmentHeader { first, allocated, salt };
        let path = self.shared.dir.join(segment_name(first));
        let io = &self.shared.options.io;
        write_all_at(spare.file.as_ref(), &header.encode(), 0)
            .and_then(|()| spare.file.sync_all())
            .and_then(|()| io.rename(&spare.path, &path))
            .and_then(|()| io.sync_dir(&self.shared.dir))
            .map_err(|error| JournalError::io("create journal segment", &path, error))?;
        let start = as_offset(SEGMENT_HEADER);
        self.active = Some(ActiveFile {
            file: spare.file,
            path,
            salt,
            offset: start,
            durable: start,
            capacity: spare.capacity,
            zeroed: if spare.allocated { start } else { spare.capacity },
        });
        self.marked = true;
        self.ahead_failed = false;
        let mut state = self.shared.lock();
        if state.segments.back().is_some_and(|newest| newest.first == first) {
            // It never got an entry; the rename has replaced its file.
            let replaced = state.segments.pop_back();
            state.bytes -= replaced.map_or(0, |segment| segment.bytes);
        }
        state.segments.push_back(Segment { first, end: first, bytes: start });
        state.bytes += start;
        let room = spare.capacity.saturating_sub(start + as_offset(RECORD));
        state.active = Some(Active { room });
        Ok(())
    }

    /// Ends the active segment; `next` is the entry that comes after it.
    fn seal(&mut self, next: u64) -> Result<(), JournalError> {
        let Some(active) = &self.active else { return Ok(()) };
        let end =
            write_seal(active.file.as_ref(), active.salt, active.offset, active.durable, next)
                .map_err(|error| JournalError::io("seal journal segment", &active.path, error))?;
        if let Err(error) = active.file.truncate(end) {
            tracing::warn!(path = %active.path.display(), %error, "cannot cut sealed segment");
        }
        self.sealed(end);
        Ok(())
    }

    fn sealed(&mut self, end: u64) {
        self.active = None;
        self.marked = true;
        let mut state = self.shared.lock();
        state.active = None;
        let durable_index = state.durable_index;
        grow_newest(&mut state, end, durable_index);
    }

    /// Preallocates the next segment, so that admissions can promise room in it.
    fn prepare(&mut self, cost: u64) {
        let made = match &self.spare {
            Some(spare) if spare.room() >= cost => Ok(()),
            _ => self.make_spare(cost),
        };
        let mut state = self.shared.lock();
        let wakers = match made {
            Ok(()) => self.shared.grant(&mut state),
            Err(error) => {
                self.ahead_failed = true;
                self.shared.refuse_waiting(&mut state, &error)
            }
        };
        drop(state);
        wake_all(wakers);
    }

    fn make_spare(&mut self, cost: u64) -> Result<(), JournalError> {
        let least = cost + as_offset(SEGMENT_HEADER + RECORD);
        let capacity = self.shared.options.segment_bytes.max(least);
        // A new name each time: the spare at hand stays good until there is a better one.
        self.spares_made += 1;
        let path = self.shared.dir.join(format!("spare-{}.new", self.spares_made));
        let io = &self.shared.options.io;
        let made = io.create(&path).and_then(|file| {
            let allocated = file.allocate(capacity)?;
            Ok(Spare { file, path: path.clone(), capacity, allocated })
        });
        match made {
            Ok(spare) => {
                self.shared.lock().spare_room = Some(spare.room());
                if let Some(old) = self.spare.replace(spare) {
                    self.discard(&old);
                }
                Ok(())
            }
            Err(error) => {
                let _ = io.remove(&path);
                Err(JournalError::io("preallocate journal segment", &path, error))
            }
        }
    }

    fn discard(&self, spare: &Spare) {
        // Left behind it is deleted at the next open.
        let _ = self.shared.options.io.remove(&spare.path);
    }

    /// Starts a new segment although the newest has room, so that the newest can be trimmed.
    fn rotate(&mut self) {
        let next = {
            let mut state = self.shared.lock();
            state.want_space = false;
            state.next_index - u64::from(state.pending_entries)
        };
        if self.spare.is_none()
            && let Err(error) = self.make_spare(0)
        {
            let mut state = self.shared.lock();
            let wakers = self.shared.refuse_waiting(&mut state, &error);
            drop(state);
            return wake_all(wakers);
        }
        if let Err(error) = self.seal(next).and_then(|()| self.activate(next)) {
            return self.fail(&error, next);
        }
        if let Err(error) = self.shared.trim() {
            tracing::warn!(error = %error, "cannot trim the journal");
        }
    }

    /// Says in the file how far it is durable, for the case that no batch will.
    fn mark(&mut self) {
        self.marked = true;
        let next = self.shared.durable_index();
        let Some(active) = &mut self.active else { return };
        let end = active.offset + as_offset(RECORD);
        if end + as_offset(RECORD) > active.capacity {
            return;
        }
        let record = Record {
            kind: RecordKind::Mark,
            offset: active.offset,
            durable: active.durable,
            next,
            payload: 0,
            entries: 0,
        };
        // Not synced: it costs the next batch nothing and survives the death of the process.
        match write_all_at(active.file.as_ref(), &record.encode(active.salt), active.offset) {
            Ok(()) => active.offset = end,
            // The next record is written over it, and fails if the file is past use.
            Err(error) => tracing::debug!(%error, "cannot mark the journal"),
        }
    }

    /// Cuts what has failed and makes the journal ready for a new segment.
    fn recover(&mut self) {
        let result = self.cut_failed();
        let mut state = self.shared.lock();
        if result.is_ok() {
            state.failed = false;
            state.next_index = state.durable_index;
            self.shared.publish_generation(&mut state);
        }
        state.recover_answer = Some(result);
        self.shared.answered.notify_all();
    }

    fn cut_failed(&mut self) -> Result<(), JournalError> {
        let Some(active) = &self.active else { return Ok(()) };
        let next = self.shared.durable_index();
        let failed = |error| JournalError::io("cut journal segment", &active.path, error);
        // By name and not through the old handle: an error may have been reported to that one and
        // be forgotten since.
        let file = self.shared.options.io.open(&active.path).map_err(failed)?;
        let end = write_seal(file.as_ref(), active.salt, active.durable, active.durable, next)
            .map_err(failed)?;
        file.truncate(end).and_then(|()| file.sync_all()).map_err(failed)?;
        self.sealed(end);
        Ok(())
    }

    fn close(&mut self) {
        let failed = self.shared.lock().failed;
        if !failed {
            let next = self.shared.durable_index();
            if let Err(error) = self.seal(next) {
                tracing::warn!(%error, "cannot seal the journal, the next open will");
            }
        }
        if let Some(spare) = self.spare.take() {
            self.discard(&spare);
        }
    }
}

impl Drop for Committer {
    /// However the thread ends, nobody waits for it in vain.
    fn drop(&mut self) {
        let mut wakers = Vec::new();
        let mut state = self.shared.lock();
        state.closed = true;
        state.in_flight.take(&mut wakers);
        state.current.take(&mut wakers);
        state.take_followers(&mut wakers);
        wakers.append(&mut self.shared.grant(&mut state));
        self.shared.answered.notify_all();
        drop(state);
        wake_all(wakers);
    }
}

fn grow_newest(state: &mut State, bytes: u64, end: u64) {
    let Some(newest) = state.segments.back_mut() else { return };
    let before = std::mem::replace(&mut newest.bytes, bytes);
    newest.end = end;
    state.bytes = state.bytes + bytes - before;
}
