//! Random histories against a model: what was acknowledged is there once, in order, whatever
//! happens in between; what was not may be there, but only behind it and without holes.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::basics::{read_from, scan};
use crate::journal::faulty::{Fault, FaultyIo};
use crate::journal::{Journal, JournalErrorKind, JournalOptions, ScanEnd, Ticket};

#[derive(Debug, Clone)]
enum Action {
    /// Appends entries without waiting.
    Append(Vec<u16>),
    /// Waits for everything appended.
    Wait,
    /// Trims this many 256ths of what is durable.
    Trim(u8),
    /// Closes and opens again.
    Reopen,
    /// The machine dies; the seed decides which unsynced sectors survive.
    Crash(u64),
    /// Operations fail, after some that succeed.
    Fail(bool, u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => prop::collection::vec(0_u16..1500, 1..8).prop_map(Action::Append),
        4 => Just(Action::Wait),
        1 => any::<u8>().prop_map(Action::Trim),
        1 => Just(Action::Reopen),
        2 => any::<u64>().prop_map(Action::Crash),
        2 => (any::<bool>(), 0_u8..12).prop_map(|(persisted, skip)| Action::Fail(persisted, skip)),
    ]
}

struct World {
    dir: tempfile::TempDir,
    io: FaultyIo,
    journal: Option<Journal>,
    /// Known to be durable: by acknowledgement, or found after a crash.
    durable: Vec<Vec<u8>>,
    /// Appended behind that, in order.
    waiting: Vec<(Ticket, Vec<u8>)>,
    /// Nothing behind this has ever been allowed to go.
    asked: u64,
    count: u32,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let io = FaultyIo::new();
        let journal = Some(start(dir.path(), &io));
        let (durable, waiting) = (Vec::new(), Vec::new());
        Self { dir, io, journal, durable, waiting, asked: 0, count: 0 }
    }

    fn journal(&self) -> &Journal {
        self.journal.as_ref().unwrap()
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(sizes) => sizes.iter().for_each(|size| self.append(*size)),
            Action::Wait => self.wait(),
            Action::Trim(share) => {
                let keep = self.durable.len() as u64 * u64::from(*share) / 256;
                self.asked = self.asked.max(keep);
                // A deletion that fails, persisted or not, harms nothing.
                let _ = self.journal().trim(keep);
                assert!(self.journal().first_index() <= self.asked);
            }
            Action::Reopen => {
                self.wait();
                self.io.heal();
                self.journal = None;
                self.journal = Some(start(self.dir.path(), &self.io));
                self.check(0);
            }
            Action::Crash(seed) => self.crash(*seed),
            Action::Fail(persisted, skip) => {
                let fault = if *persisted { Fault::Persisted } else { Fault::NotPersisted };
                self.io.fail(fault, u64::from(*skip), 1);
            }
        }
    }

    fn append(&mut self, size: u16) {
        self.count += 1;
        let mut entry = self.count.to_le_bytes().to_vec();
        entry.resize(4 + usize::from(size), 0x33);
        let permit = match self.journal().admit_blocking(entry.len()) {
            Ok(permit) => permit,
            Err(error) if error.kind() == JournalErrorKind::Failed => return self.wait(),
            // An operation that failed before anything was promised.
            Err(_) => return,
        };
        match self.journal().append(permit, &[&entry]) {
            Ok(ticket) => self.waiting.push((ticket, entry)),
            Err(error) => {
                assert_eq!(error.kind(), JournalErrorKind::Failed);
                self.wait();
            }
        }
    }

    /// Learns what became of everything appended, and recovers if some of it failed.
    fn wait(&mut self) {
        let mut failed = false;
        for (ticket, entry) in std::mem::take(&mut self.waiting) {
            match self.journal().durable(ticket).wait() {
                Ok(()) => {
                    assert!(!failed, "an entry behind a failed one was acknowledged");
                    assert_eq!(ticket.index(), self.durable.len() as u64);
                    self.durable.push(entry);
                }
                Err(error) => {
                    assert_eq!(error.kind(), JournalErrorKind::Failed);
                    failed = true;
                }
            }
        }
        if failed || self.journal().stats().failed {
            while self.journal().recover().is_err() {
                self.io.heal();
            }
            assert_eq!(self.journal().next_index(), self.durable.len() as u64);
        }
    }

    fn crash(&mut self, seed: u64) {
        // The commit thread may be anywhere; what it acknowledged before the crash must be there.
        let before = self.journal().durable_index();
        while self.durable.len() < usize::try_from(before).unwrap() {
            let (_, entry) = self.waiting.remove(0);
            self.durable.push(entry);
        }
        let dir = tempfile::tempdir().unwrap();
        let mut random = seed | 1;
        self.io
            .crash_into(dir.path(), || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.count_ones().is_multiple_of(2)
            })
            .unwrap();
        self.journal = None;
        self.io = FaultyIo::holding(dir.path()).unwrap();
        self.dir = dir;
        self.journal = Some(start(self.dir.path(), &self.io));
        let waiting = std::mem::take(&mut self.waiting);
        let found = self.check_against(&waiting);
        self.durable.extend(waiting.into_iter().take(found).map(|(_, entry)| entry));
    }

    /// How many of the entries that were waiting are there.
    fn check_against(&self, waiting: &[(Ticket, Vec<u8>)]) -> usize {
        let next = usize::try_from(self.journal().next_index()).unwrap();
        let found = next.checked_sub(self.durable.len()).expect("an acknowledged entry is lost");
        assert!(found <= waiting.len());
        let first = self.journal().first_index();
        assert!(first <= self.asked, "more was trimmed than was allowed to go");
        let expected = self.durable.iter().chain(waiting.iter().map(|(_, entry)| entry));
        let expected: Vec<_> = expected
            .take(next)
            .enumerate()
            .map(|(index, entry)| (index as u64, entry.clone()))
            .skip(usize::try_from(first).unwrap())
            .collect();
        assert_eq!(read_from(self.journal(), first), expected);
        found
    }

    fn check(&self, found: usize) {
        assert_eq!(self.check_against(&[]), found);
    }

    fn finish(mut self) {
        self.wait();
        self.io.heal();
        let first = self.journal().first_index();
        self.check(0);
        self.journal = None;
        let (entries, end) = scan(self.dir.path());
        assert_eq!(end, ScanEnd::Clean { next_index: self.durable.len() as u64 });
        assert_eq!(entries.len() as u64, self.durable.len() as u64 - first);
    }
}

fn start(dir: &Path, io: &FaultyIo) -> Journal {
    let options = JournalOptions::default().with_segment_bytes(4096);
    Journal::open(dir, options.with_io(Arc::new(io.clone()))).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost(actions in prop::collection::vec(action(), 1..40)) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
        }
        world.finish();
    }
}
