//! Processes that are killed, disks that fill up, directories that are not what they should be: what
//! was acknowledged is there afterwards, once, and the verifier says so.
//!
//! `AUDIT_CRASH_ROUNDS` sets how often a process is killed, `AUDIT_CRASH_SEED` repeats the choices of
//! a run (though not the moments at which the system took them up).

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod child;
mod edges;
mod full;
mod killed;
mod ledger;
mod owners;

use std::{
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use agent_audit::{AuditError, AuditErrorKind, AuditLog, AuditLogBuilder};

/// The process that the tests start, and often kill.
#[test]
fn child_process() {
    child::run();
}

/// Opens a log of this process.
///
/// A process that another thread of the tests starts has the lock of a log that this one just closed
/// for a moment longer: between its fork and its exec.
fn open(builder: impl Fn() -> AuditLogBuilder) -> Result<AuditLog, AuditError> {
    let since = Instant::now();
    loop {
        match builder().open() {
            Err(error)
                if error.kind() == AuditErrorKind::Locked
                    && since.elapsed() < Duration::from_secs(10) =>
            {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

/// An error with everything underneath it, as a program prints it.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Says something that is seen although the test passes.
fn remark(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn copy_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_all(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

/// Choices that a seed repeats (splitmix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn from_environment() -> (Self, u64) {
        let seed = match std::env::var("AUDIT_CRASH_SEED") {
            Ok(seed) => seed.parse().expect("AUDIT_CRASH_SEED is a number"),
            Err(_) => agent_audit::timestamp::Timestamp::now().as_nanos(),
        };
        (Self(seed), seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn micros(&mut self, below: u64) -> Duration {
        Duration::from_micros(self.below(below))
    }
}
