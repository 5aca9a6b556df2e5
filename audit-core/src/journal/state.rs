//! What the handles and the commit thread share: the order of entries, what is pending, who waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::error::{JournalError, JournalErrorKind};
use super::format::{FRAME_HEADER, MAX_ENTRY_BYTES, RECORD, SEGMENT_HEADER, as_offset};
use super::{JournalOptions, Ticket, WhenFull};

/// What an entry takes beside its bytes: its frame, and a record in front of and behind its batch
/// if it is the only one in it.
pub(super) const ENTRY_OVERHEAD: u64 = as_offset_const(FRAME_HEADER + 2 * RECORD);

const fn as_offset_const(length: usize) -> u64 {
    length as u64
}

/// Shared by everything that belongs to one open journal.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) options: JournalOptions,
    pub(super) state: Mutex<State>,
    /// Tells the commit thread that there is something to do.
    pub(super) work: Condvar,
    /// Tells who asked for a recovery that it is over.
    pub(super) answered: Condvar,
    /// Serialises deletions, which must happen oldest first; true while one may not be durable.
    pub(super) trimming: Mutex<bool>,
    durable: AtomicU64,
    generation: AtomicU64,
}

/// Everything under the one lock; it is never held during input or output.
#[derive(Debug)]
pub(super) struct State {
    /// Room for a record, then the frames that wait for the next batch.
    pub(super) pending: Vec<u8>,
    pub(super) pending_entries: u32,
    pub(super) pending_cost: u64,
    pub(super) next_index: u64,
    pub(super) durable_index: u64,
    /// Counts recoveries, so that a ticket of before is not taken for one of after.
    pub(super) generation: u64,
    /// Bytes that permits, pending entries and the batch in flight may take in a segment.
    pub(super) outstanding: u64,
    pub(super) in_flight_cost: u64,
    /// Bytes of all segments.
    pub(super) bytes: u64,
    /// Oldest first; the last is the newest and may be active.
    pub(super) segments: VecDeque<Segment>,
    pub(super) active: Option<Active>,
    /// Bytes that fit into the preallocated next segment.
    pub(super) spare_room: Option<u64>,
    pub(super) want_spare: Option<u64>,
    /// Somebody was told that the journal is full.
    pub(super) want_space: bool,
    pub(super) trim_to: u64,
    waiting: BTreeMap<u64, Waiting>,
    admitted: BTreeMap<u64, Result<u64, JournalError>>,
    next_waiter: u64,
    pub(super) current: BatchWaiters,
    pub(super) in_flight: BatchWaiters,
    followers: BTreeMap<u64, Waker>,
    pub(super) failed: bool,
    failures: VecDeque<Failure>,
    pub(super) recover_asked: bool,
    pub(super) recover_answer: Option<Result<(), JournalError>>,
    pub(super) closing: bool,
    pub(super) closed: bool,
    /// The commit thread sleeps and has to be woken.
    pub(super) idle: bool,
    /// Fewer pending entries than these are no reason to wake it.
    pub(super) awaited: u32,
    pub(super) batches: u64,
}

/// A segment file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) first: u64,
    /// Index after its last durable entry.
    pub(super) end: u64,
    /// Offset up to which it is durable and of use.
    pub(super) bytes: u64,
}

/// What appenders must know of the segment being written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Active {
    pub(super) room: u64,
}

/// Tasks that wait for one batch.
#[derive(Debug, Default)]
pub(super) struct BatchWaiters {
    pub(super) batch: u64,
    pub(super) wakers: Vec<Option<Waker>>,
}

#[derive(Debug)]
struct Waiting {
    cost: u64,
    waker: Waker,
}

/// How a generation ended.
#[derive(Debug)]
struct Failure {
    generation: u64,
    /// Entries before this one are durable.
    durable_end: u64,
    /// Entries before this one may be on disk.
    written_end: u64,
    error: JournalError,
}

/// How many ended generations are remembered, for tickets that somebody still holds.
const REMEMBERED_FAILURES: usize = 256;

/// Whether an admission can be answered now.
enum Fit {
    Yes,
    Later,
    Full,
}

impl Shared {
    pub(super) fn new(
        dir: &Path,
        options: JournalOptions,
        segments: VecDeque<Segment>,
        next_index: u64,
    ) -> Self {
        let state = State {
            pending: vec![0; RECORD],
            pending_entries: 0,
            pending_cost: 0,
            next_index,
            durable_index: next_index,
            generation: 0,
            outstanding: 0,
            in_flight_cost: 0,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            segments,
            active: None,
            spare_room: None,
            want_spare: None,
            want_space: false,
            trim_to: 0,
            waiting: BTreeMap::new(),
            admitted: BTreeMap::new(),
            next_waiter: 0,
            current: BatchWaiters { batch: 1, wakers: Vec::new() },
            in_flight: BatchWaiters::default(),
            followers: BTreeMap::new(),
            failed: false,
            failures: VecDeque::new(),
            recover_asked: false,
            recover_answer: None,
            closing: false,
            closed: false,
            idle: false,
            awaited: 0,
            batches: 0,
        };
        Self {
            dir: dir.to_path_buf(),
            options,
            state: Mutex::new(state),
            work: Condvar::new(),
            answered: Condvar::new(),
            trimming: Mutex::new(false),
            durable: AtomicU64::new(next_index),
            generation: AtomicU64::new(0),
        }
    }

    /// Nothing in a critical section can panic half-way, so a poisoned lock is as good as any.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn durable_index(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Whether an entry is known to be durable, without the lock.
    ///
    /// The order of the loads matters: a durable index seen before the ticket's own generation was
    /// published no later than that generation, so it cannot speak of a reused index.
    pub(super) fn is_durable(&self, ticket: Ticket) -> bool {
        self.durable.load(Ordering::Acquire) > ticket.index
            && self.generation.load(Ordering::Acquire) == ticket.generation
    }

    pub(super) fn publish_durable(&self, state: &mut State, index: u64) {
        state.durable_index = index;
        self.durable.store(index, Ordering::Release);
    }

    pub(super) fn publish_generation(&self, state: &mut State) {
        state.generation += 1;
        self.generation.store(state.generation, Ordering::Release);
    }

    /// What `bytes` of entry take, or why they can never be taken.
    pub(super) fn cost(&self, bytes: usize) -> Result<u64, JournalError> {
        let too_large = |limit: u64, name: &str| {
            JournalError::new(
                JournalErrorKind::TooLarge,
                format!("an entry of {bytes} bytes is above {name} of {limit} bytes, split it"),
            )
        };
        if bytes > MAX_ENTRY_BYTES {
            return Err(too_large(as_offset(MAX_ENTRY_BYTES), "the largest entry size"));
        }
        let cost = as_offset(bytes) + ENTRY_OVERHEAD;
        if let Some(max) = self.options.max_bytes
            && cost + as_offset(SEGMENT_HEADER) > max
        {
            return Err(too_large(max, "what the journal may hold"));
        }
        Ok(cost)
    }

    /// Asks for admission: the cost if it is granted at once, else the place in the queue.
    pub(super) fn ask(&self, cost: u64, waker: &Waker) -> Result<Result<u64, u64>, JournalError> {
        let mut state = self.lock();
        state.check_open()?;
        if state.waiting.is_empty() {
            match state.fits(cost, &self.options) {
                Fit::Yes => {
                    state.outstanding += cost;
                    return Ok(Ok(cost));
                }
                Fit::Full if self.options.when_full == WhenFull::Refuse => {
                    self.wake_committer(&mut state);
                    return Err(self.full());
                }
                Fit::Full | Fit::Later => {}
            }
        }
        let id = state.next_waiter;
        state.next_waiter += 1;
        state.waiting.insert(id, Waiting { cost, waker: waker.clone() });
        self.wake_committer(&mut state);
        Ok(Err(id))
    }

    /// The answer to an admission asked for earlier.
    pub(super) fn answer(&self, id: u64, waker: &Waker) -> Option<Result<u64, JournalError>> {
        let mut state = self.lock();
        if let Some(answer) = state.admitted.remove(&id) {
            return Some(answer);
        }
        match state.waiting.get_mut(&id) {
            Some(waiting) => {
                waiting.waker.clone_from(waker);
                None
            }
            None => Some(Err(JournalError::closed())),
        }
    }

    /// Gives up a place in the queue.
    pub(super) fn withdraw(&self, id: u64) {
        let mut state = self.lock();
        let answer = state.admitted.remove(&id);
        let waited = state.waiting.remove(&id).is_some();
        if let Some(Ok(cost)) = answer {
            state.outstanding -= cost;
        }
        if waited || answer_was_granted(&answer) {
            let wakers = self.grant(&mut state);
            drop(state);
            wake_all(wakers);
        }
    }

    /// Gives back what a permit held.
    pub(super) fn release(&self, cost: u64) {
        let mut state = self.lock();
        state.outstanding -= cost;
        let wakers = self.grant(&mut state);
        drop(state);
        wake_all(wakers);
    }

    /// Answers those who wait for admission, in their order, as far as there is room.
    pub(super) fn grant(&self, state: &mut State) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some((&id, waiting)) = state.waiting.first_key_value() {
            let cost = waiting.cost;
            let answer = match state.check_open() {
                Err(error) => Err(error),
                Ok(()) => match state.fits(cost, &self.options) {
                    Fit::Yes => Ok(cost),
                    Fit::Full if self.options.when_full == WhenFull::Refuse => Err(self.full()),
                    Fit::Full | Fit::Later => {
                        self.wake_committer(state);
                        break;
                    }
                },
            };
            if answer.is_ok() {
                state.outstanding += cost;
            }
            if let Some(waiting) = state.waiting.remove(&id) {
                state.admitted.insert(id, answer);
                wakers.push(waiting.waker);
            }
        }
        wakers
    }

    /// Tells everybody who waits for admission that there is no room on the device.
    pub(super) fn refuse_waiting(&self, state: &mut State, error: &JournalError) -> Vec<Waker> {
        let waiting = std::mem::take(&mut state.waiting);
        let mut wakers = Vec::with_capacity(waiting.len());
        for (id, waiting) in waiting {
            state.admitted.insert(id, Err(error.clone()));
            wakers.push(waiting.waker);
        }
        wakers
    }

    pub(super) fn wake_committer(&self, state: &mut State) {
        if state.idle {
            state.idle = false;
            self.work.notify_one();
        }
    }

    fn full(&self) -> JournalError {
        let max = self.options.max_bytes.unwrap_or(u64::MAX);
        JournalError::new(
            JournalErrorKind::Full,
            format!(
                "the journal in `{}` holds its {max} bytes of entries not yet delivered, try \
                 again when they are or allow it more",
                self.dir.display()
            ),
        )
    }
}

fn answer_was_granted(answer: &Option<Result<u64, JournalError>>) -> bool {
    matches!(answer, Some(Ok(_)))
}

impl State {
    pub(super) fn first_index(&self) -> u64 {
        self.segments.front().map_or(self.durable_index, |segment| segment.first)
    }

    /// Whether somebody waits for admission.
    pub(super) fn has_queue(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The reason why nothing is accepted, if there is one.
    pub(super) fn check_open(&self) -> Result<(), JournalError> {
        if self.closing || self.closed {
            return Err(JournalError::closed());
        }
        match self.failures.back() {
            Some(failure) if self.failed => Err(failure.error.failed(false)),
            _ => Ok(()),
        }
    }

    /// Whether the newest segment holds only entries that may go, so that it stands in the way.
    pub(super) fn newest_is_spent(&self) -> bool {
        self.segments.back().is_some_and(|newest| newest.first < newest.end)
            && self.trim_to >= self.durable_index
    }

    fn fits(&mut self, cost: u64, options: &JournalOptions) -> Fit {
        let taken = self.outstanding + cost;
        if options.max_bytes.is_some_and(|max| self.bytes + taken > max) {
            self.want_space = true;
            return Fit::Full;
        }
        if self.outstanding > 0 && taken > as_offset(options.max_pending_bytes) {
            return Fit::Later;
        }
        let fits = |room: Option<u64>| room.is_some_and(|room| taken <= room);
        if fits(self.active.map(|active| active.room)) || fits(self.spare_room) {
            return Fit::Yes;
        }
        // Everything outstanding has to fit into one segment, so that all of it is sure of room.
        if self.spare_room.is_none_or(|room| cost > room) {
            self.want_spare = Some(self.want_spare.unwrap_or(0).max(cost));
        }
        Fit::Later
    }

    /// How it ended for an entry, if it has.
    pub(super) fn outcome(&self, ticket: Ticket) -> Option<Result<(), JournalError>> {
        if ticket.generation == self.generation {
            if ticket.index < self.durable_index {
                return Some(Ok(()));
            }
            if !self.failed {
                return self.closed.then(|| Err(JournalError::closed()));
            }
        }
        let found = self.failures.iter().rev().find(|end| end.generation == ticket.generation);
        Some(match found {
            Some(end) if ticket.index < end.durable_end => Ok(()),
            Some(end) => Err(end.error.failed(ticket.index < end.written_end)),
            None => Err(JournalError::new(
                JournalErrorKind::Failed,
                "the outcome of the entry is no longer known, the journal has failed since",
            )),
        })
    }

    /// Leaves a waker for the batch that an entry is in; the place in it to give back.
    pub(super) fn register(
        &mut self,
        ticket: Ticket,
        waker: &Waker,
        place: Option<(u64, usize)>,
    ) -> (u64, usize) {
        if let Some((batch, slot)) = place
            && let Some(held) = self.slot(batch, slot)
        {
            match held {
                Some(held) => held.clone_from(waker),
                None => *held = Some(waker.clone()),
            }
            return (batch, slot);
        }
        let pending_first = self.next_index - u64::from(self.pending_entries);
        let waiters =
            if ticket.index < pending_first { &mut self.in_flight } else { &mut self.current };
        waiters.wakers.push(Some(waker.clone()));
        (waiters.batch, waiters.wakers.len() - 1)
    }

    pub(super) fn unregister(&mut self, (batch, slot): (u64, usize)) {
        if let Some(held) = self.slot(batch, slot) {
            *held = None;
        }
    }

    fn slot(&mut self, batch: u64, slot: usize) -> Option<&mut Option<Waker>> {
        let waiters = if self.current.batch == batch {
            &mut self.current
        } else if self.in_flight.batch == batch {
            &mut self.in_flight
        } else {
            return None;
        };
        waiters.wakers.get_mut(slot)
    }

    /// Leaves a waker for the next time that the durable index moves.
    pub(super) fn follow(&mut self, id: Option<u64>, waker: &Waker) -> u64 {
        let id = id.unwrap_or_else(|| {
            self.next_waiter += 1;
            self.next_waiter - 1
        });
        self.followers.insert(id, waker.clone());
        id
    }

    pub(super) fn unfollow(&mut self, id: u64) {
        self.followers.remove(&id);
    }

    pub(super) fn take_followers(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(std::mem::take(&mut self.followers).into_values());
    }

    /// Ends this generation: what is not durable will never be.
    pub(super) fn fail(&mut self, error: &JournalError, written_end: u64) {
        self.failed = true;
        self.failures.push_back(Failure {
            generation: self.generation,
            durable_end: self.durable_index,
            written_end,
            error: error.clone(),
        });
        if self.failures.len() > REMEMBERED_FAILURES {
            self.failures.pop_front();
        }
        self.pending.truncate(RECORD);
        self.pending_entries = 0;
        self.outstanding -= self.pending_cost + self.in_flight_cost;
        self.pending_cost = 0;
        self.in_flight_cost = 0;
    }
}

impl BatchWaiters {
    pub(super) fn take(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.wakers.drain(..).flatten());
    }
}

pub(super) fn wake_all(wakers: Vec<Waker>) {
    for waker in wakers {
        waker.wake();
    }
}
