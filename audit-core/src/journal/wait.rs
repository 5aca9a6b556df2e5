//! The futures of a journal, which need no particular runtime.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use super::Ticket;
use super::error::JournalError;
use super::state::Shared;

/// The right to append an entry, given by [`Journal::admit`](super::Journal::admit).
///
/// Room in the journal and on the device is set aside for it until it is used or dropped.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let permit = journal.admit_blocking(5)?;
/// assert_eq!(journal.append(permit, &[b"hello"])?.index(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a permit that is dropped gives its room back"]
pub struct Permit {
    pub(super) shared: Arc<Shared>,
    pub(super) cost: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.cost > 0 {
            self.shared.release(self.cost);
        }
    }
}

/// Resolves to a [`Permit`] when there is room.
///
/// # Cancel safety
///
/// Dropping it gives up the place in the queue and nothing else.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let permit = journal.admit(5).wait()?;
/// drop(permit); // gives its room back
/// assert_eq!(journal.stats().next_index, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Admit {
    pub(super) shared: Arc<Shared>,
    pub(super) bytes: usize,
    pub(super) place: Option<u64>,
}

impl Admit {
    /// Waits on this thread.
    ///
    /// # Errors
    ///
    /// As [`Journal::admit`](super::Journal::admit).
    pub fn wait(self) -> Result<Permit, JournalError> {
        block_on(self)
    }
}

impl Future for Admit {
    type Output = Result<Permit, JournalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = match self.place {
            Some(id) => match self.shared.answer(id, cx.waker()) {
                Some(answer) => {
                    self.place = None;
                    answer
                }
                None => return Poll::Pending,
            },
            None => {
                let cost = self.shared.cost(self.bytes);
                match cost.and_then(|cost| self.shared.ask(cost, cx.waker())) {
                    Ok(Ok(cost)) => Ok(cost),
                    Ok(Err(id)) => {
                        self.place = Some(id);
                        return Poll::Pending;
                    }
                    Err(error) => Err(error),
                }
            }
        };
        Poll::Ready(answer.map(|cost| Permit { shared: Arc::clone(&self.shared), cost }))
    }
}

impl Drop for Admit {
    fn drop(&mut self) {
        if let Some(id) = self.place.take() {
            self.shared.withdraw(id);
        }
    }
}

/// Resolves when an entry is durable, or will never be.
///
/// # Cancel safety
///
/// Dropping it changes nothing about the entry; another one can be had for the same ticket.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// let ticket = journal.append(journal.admit_blocking(5)?, &[b"hello"])?;
/// journal.durable(ticket).wait()?;
/// assert_eq!(journal.stats().durable_index, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Durable {
    pub(super) shared: Arc<Shared>,
    pub(super) ticket: Ticket,
    pub(super) place: Option<(u64, usize)>,
}

impl Durable {
    /// Waits on this thread.
    ///
    /// # Errors
    ///
    /// As [`Journal::durable`](super::Journal::durable).
    pub fn wait(self) -> Result<(), JournalError> {
        block_on(self)
    }
}

impl Future for Durable {
    type Output = Result<(), JournalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.shared.is_durable(this.ticket) {
            this.place = None;
            return Poll::Ready(Ok(()));
        }
        let mut state = this.shared.lock();
        if let Some(outcome) = state.outcome(this.ticket) {
            this.place = None;
            return Poll::Ready(outcome);
        }
        this.place = Some(state.register(this.ticket, cx.waker(), this.place));
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            self.shared.lock().unregister(place);
        }
    }
}

/// Resolves to the durable index when it is past a given index.
///
/// # Cancel safety
///
/// Dropping it has no effect.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use agent_audit_core::journal::{Journal, JournalOptions};
/// let (journal, _) = Journal::open(dir.path(), JournalOptions::default())?;
/// journal.append(journal.admit_blocking(5)?, &[b"hello"])?;
/// assert_eq!(journal.wait_past(0).wait()?, 1, "entries before 1 are durable");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct WaitPast {
    pub(super) shared: Arc<Shared>,
    pub(super) index: u64,
    pub(super) place: Option<u64>,
}

impl WaitPast {
    /// Waits on this thread.
    ///
    /// # Errors
    ///
    /// As [`Journal::wait_past`](super::Journal::wait_past).
    pub fn wait(self) -> Result<u64, JournalError> {
        block_on(self)
    }
}

impl Future for WaitPast {
    type Output = Result<u64, JournalError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.shared.lock();
        if state.durable_index > this.index {
            return Poll::Ready(Ok(state.durable_index));
        }
        if state.closed {
            return Poll::Ready(Err(JournalError::closed()));
        }
        this.place = Some(state.follow(this.place, cx.waker()));
        Poll::Pending
    }
}

impl Drop for WaitPast {
    fn drop(&mut self) {
        if let Some(id) = self.place.take() {
            self.shared.lock().unfollow(id);
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            // Another unpark of this thread only costs one more look.
            Poll::Pending => std::thread::park(),
        }
    }
}
