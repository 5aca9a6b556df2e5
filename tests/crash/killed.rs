//! SIGKILL at any moment.

use std::{path::Path, thread::sleep, time::Duration};

use agent_audit::{journal::Scan, log::Layout};

use crate::{
    Random,
    child::{Child, End, Orders, Work, builder},
    ledger::{self, Ack, Attempts, check},
    open, remark,
};

/// How many processes die in one directory, so that reading all of it after each stays quick.
const PER_DIRECTORY: u64 = 25;

fn rounds(default: u64) -> u64 {
    match std::env::var("AUDIT_CRASH_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("AUDIT_CRASH_ROUNDS is a number"),
        Err(_) => default,
    }
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// So long after it was started: it may not even have begun.
    Started(Duration),
    /// So long after it began to open the log.
    Opening(Duration),
    /// So long after the log was open.
    Opened(Duration),
    /// After so many events were acknowledged.
    Acknowledged(u64),
    /// So long after it began to close the log.
    Closing(Duration),
}

/// A log directory and everything that was ever acknowledged there.
struct Victim {
    dir: tempfile::TempDir,
    acks: Vec<Ack>,
    round: u64,
    /// The oldest entry of the journal when it was last looked at, and how often it had moved on
    /// while a process was killed.
    oldest: u64,
    trimmed: u64,
}

impl Victim {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, acks: Vec::new(), round: 0, oldest: 0, trimmed: 0 }
    }

    /// Starts a process, kills it and looks at what is left. How far it had come.
    fn round(&mut self, work: Work, moment: Moment, random: &mut Random) -> &'static str {
        self.round += 1;
        let sqlite = random.below(2) == 0;
        let dir = self.dir.path().to_owned();
        let child = Child::start(&Orders { dir, work, sqlite, seed: random.next() });
        let mut lines = Vec::new();
        let mut wait_for = |beginning| lines.extend(child.lines_until(beginning).0);
        match moment {
            Moment::Started(after) => sleep(after),
            Moment::Opening(after) => {
                wait_for("ready");
                sleep(after);
            }
            Moment::Opened(after) => {
                wait_for("opened");
                sleep(after);
            }
            Moment::Acknowledged(count) => (0..count).for_each(|_| wait_for("ack ")),
            Moment::Closing(after) => {
                wait_for("closing");
                sleep(after);
            }
        }
        let (rest, end) = child.kill();
        lines.extend(rest);
        let said = |what: &str| lines.iter().any(|line| line == what);
        let reached = match end {
            End::ByItself => "after the end",
            End::Killed if said("closing") => "closing",
            End::Killed if said("opened") => "at work",
            End::Killed => "opening",
        };
        self.acks.extend(lines.iter().filter_map(|line| Ack::read(self.round, line)));
        self.look(Attempts::MayBeOpen);
        let oldest = self.oldest();
        self.trimmed += u64::from(oldest > self.oldest);
        self.oldest = oldest;
        reached
    }

    fn look(&self, attempts: Attempts) {
        // Until something was recorded, there need not be a log.
        if !self.acks.is_empty() || has_events(self.dir.path()) {
            check(self.dir.path(), &self.acks, attempts);
        }
    }

    fn oldest(&self) -> u64 {
        let journal = Layout::new(self.dir.path()).journal();
        if journal.exists() { Scan::open(journal).unwrap().first_index().unwrap_or(0) } else { 0 }
    }

    /// Opens the log in this process and closes it: nothing is in flight after that.
    fn settle(&mut self, sqlite: bool) {
        self.round += 1;
        let log = open(|| builder(self.dir.path(), sqlite)).unwrap();
        let report = log.close_blocking(Duration::from_secs(60)).unwrap();
        assert!(report.is_complete(), "{report:?}");
        self.look(Attempts::AreClosed);
        self.oldest = self.oldest();
    }

    /// In the end the databases hold every event exactly once.
    fn finish(&mut self) {
        self.settle(true);
        let (stored, whole) = (ledger::sqlite(self.dir.path()), ledger::whole(self.dir.path()));
        assert_eq!(stored.len(), whole.len());
        for (chain, places) in whole {
            assert!(stored[&chain] == places, "{chain:?}: sqlite holds something else");
        }
    }
}

fn has_events(dir: &Path) -> bool {
    dir.join("log.json").exists() && !ledger::whole(dir).is_empty()
}

/// Runs rounds in one directory after another, and says how it went.
fn kill_often(name: &str, rounds: u64, mut choose: impl FnMut(&mut Random) -> (Work, Moment)) {
    let (mut random, seed) = Random::from_environment();
    remark(&format!("{name}: AUDIT_CRASH_SEED={seed}"));
    let mut reached = std::collections::BTreeMap::<&str, u64>::new();
    let (mut done, mut acknowledged, mut trimmed) = (0, 0, 0);
    while done < rounds {
        let mut victim = Victim::new();
        for _ in 0..PER_DIRECTORY.min(rounds - done) {
            let (work, moment) = choose(&mut random);
            *reached.entry(victim.round(work, moment, &mut random)).or_default() += 1;
            if random.below(6) == 0 {
                victim.settle(random.below(2) == 0);
            }
            done += 1;
        }
        victim.finish();
        acknowledged += victim.acks.len();
        trimmed += victim.trimmed;
    }
    remark(&format!(
        "{name}: {done} processes killed ({reached:?}), {trimmed} of them after they had trimmed \
         the journal; {acknowledged} events acknowledged, all there"
    ));
    // Otherwise this has shown less than it says.
    assert!(rounds < 100 || (acknowledged > 0 && trimmed > 0));
}

#[test]
fn killed_at_random_points() {
    kill_often("killed_at_random_points", rounds(300), |random| {
        let moment = match random.below(8) {
            0 => Moment::Started(random.micros(30_000)),
            1..=3 => Moment::Opened(random.micros(20_000)),
            _ => Moment::Acknowledged(random.below(100) + 1),
        };
        (Work::Record, moment)
    });
}

#[test]
fn killed_while_opening_and_closing() {
    kill_often("killed_while_opening_and_closing", rounds(120), |random| {
        let moment = match random.below(2) {
            0 => Moment::Opening(random.micros(30_000)),
            _ => Moment::Closing(random.micros(20_000)),
        };
        (Work::RecordAndClose(random.below(16) + 1), moment)
    });
}
