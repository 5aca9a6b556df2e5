//! Every operation on files made to fail, persisted and not persisted, followed by a crash at that
//! moment, or by a recovery.

use std::path::Path;
use std::sync::Arc;

use super::basics::{read_from, scan};
use crate::journal::faulty::{Fault, FaultyIo};
use crate::journal::{Journal, JournalError, JournalErrorKind, JournalOptions, ScanEnd};

fn options(io: &FaultyIo) -> JournalOptions {
    JournalOptions::default().with_segment_bytes(4096).with_io(Arc::new(io.clone()))
}

fn body(n: u16) -> Vec<u8> {
    let mut body = vec![0x42; 1 + usize::from(n) * 53 % 1300];
    body.extend_from_slice(&n.to_le_bytes());
    body
}

/// Records one entry and says what became of it.
fn try_record(journal: &Journal, entry: &[u8]) -> Result<u64, JournalError> {
    let permit = journal.admit_blocking(entry.len())?;
    let ticket = journal.append(permit, &[entry])?;
    journal.durable(ticket).wait()?;
    Ok(ticket.index())
}

/// What a crash must leave: the acknowledged entries, and at most `maybe` behind them.
fn check_crash(io: &FaultyIo, acknowledged: &[Vec<u8>], maybe: Option<&[u8]>) {
    let mut random = 1_u32;
    let mut survivors: [Box<dyn FnMut() -> bool>; 3] = [
        Box::new(|| false),
        Box::new(|| true),
        Box::new(move || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 31 == 0
        }),
    ];
    for survives in &mut survivors {
        let dir = tempfile::tempdir().unwrap();
        io.crash_into(dir.path(), survives).unwrap();
        let disk = FaultyIo::holding(dir.path()).unwrap();
        let (journal, recovered) = Journal::open(dir.path(), options(&disk)).unwrap();
        check_entries(&journal, acknowledged, maybe);
        let next = recovered.next_index;
        assert_eq!(try_record(&journal, b"after").unwrap(), next);
        drop(journal);
        let (entries, end) = scan(dir.path());
        assert_eq!(end, ScanEnd::Clean { next_index: next + 1 });
        assert_eq!(entries.len() as u64, next + 1);
    }
}

fn check_entries(journal: &Journal, acknowledged: &[Vec<u8>], maybe: Option<&[u8]>) {
    let found = read_from(journal, 0);
    let known = found.len().min(acknowledged.len());
    assert_eq!(known, acknowledged.len(), "an acknowledged entry is lost");
    for (at, (index, entry)) in found.iter().enumerate() {
        assert_eq!(*index, at as u64);
        match acknowledged.get(at) {
            Some(expected) => assert_eq!(entry, expected),
            None => assert_eq!(Some(&entry[..]), maybe, "an entry that nobody wrote last"),
        }
    }
    assert!(found.len() <= acknowledged.len() + 1);
}

fn fault_at_every_call(fault: Fault, check: impl Fn(&Path, &FaultyIo, u64) -> bool) {
    let mut call = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let io = FaultyIo::new();
        io.fail(fault, call, 1);
        if !check(dir.path(), &io, call) {
            break;
        }
        call += 1;
    }
    assert!(call > 100, "only {call} operations were made to fail");
}

/// Records until the end, recovering whenever something fails; whether anything was left to fail.
fn record_all(dir: &Path, io: &FaultyIo, call: u64) -> bool {
    let (journal, _) = Journal::open(dir, options(io)).unwrap();
    let mut acknowledged: Vec<Vec<u8>> = Vec::new();
    for n in 0..30 {
        let entry = body(n);
        let mut tries = 0;
        while let Err(error) = try_record(&journal, &entry) {
            tries += 1;
            assert!(tries < 3, "{error}");
            let written = error.may_have_been_written().then_some(&entry[..]);
            check_crash(io, &acknowledged, written);
            if error.kind() == JournalErrorKind::Failed {
                let refused = journal.admit_blocking(1).unwrap_err();
                assert_eq!(refused.kind(), JournalErrorKind::Failed);
                assert!(refused.is_retryable() && !refused.may_have_been_written());
                let state = journal.recover().unwrap();
                assert_eq!(state.next_index, acknowledged.len() as u64);
                check_crash(io, &acknowledged, None);
            }
            check_entries(&journal, &acknowledged, None);
        }
        acknowledged.push(entry);
        if n == 20 {
            // A failed deletion is reported and harms nothing.
            if journal.trim(0).is_err() {
                journal.trim(0).unwrap();
            }
        }
    }
    check_crash(io, &acknowledged, None);
    check_entries(&journal, &acknowledged, None);
    drop(journal);
    check_crash(io, &acknowledged, None);
    let (journal, recovered) = Journal::open(dir, options(io)).unwrap();
    assert_eq!((recovered.torn, recovered.next_index), (None, 30));
    check_entries(&journal, &acknowledged, None);
    drop(journal);
    io.calls() > call
}

#[test]
fn every_call_failing_unpersisted_loses_nothing() {
    fault_at_every_call(Fault::NotPersisted, record_all);
}

#[test]
fn every_call_failing_persisted_loses_nothing() {
    fault_at_every_call(Fault::Persisted, record_all);
}

#[test]
fn every_write_may_be_short() {
    fault_at_every_call(Fault::Short, record_all);
}

#[test]
fn no_space_at_any_call_loses_nothing() {
    fault_at_every_call(Fault::NoSpace, record_all);
}

#[test]
fn no_space_for_a_segment_is_a_refusal_that_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    let (journal, _) = Journal::open(dir.path(), options(&io)).unwrap();
    io.fail(Fault::NoSpace, 0, u64::MAX);
    let error = journal.admit_blocking(100).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::NoSpace);
    assert!(error.is_retryable());
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    assert!(!journal.stats().failed);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "only the lock is left");
    io.heal();
    assert_eq!(try_record(&journal, b"fine").unwrap(), 0);
}

#[test]
fn a_failure_is_told_to_all_that_wait_and_their_indices_are_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    let (journal, _) = Journal::open(dir.path(), options(&io)).unwrap();
    let kept = journal.append(journal.admit_blocking(4).unwrap(), &[b"kept"]).unwrap();
    journal.durable(kept).wait().unwrap();
    let permit = journal.admit_blocking(4).unwrap();
    let second = journal.admit_blocking(4).unwrap();
    let late = journal.admit_blocking(4).unwrap();
    io.fail(Fault::NotPersisted, 0, u64::MAX);
    // Both may be in one batch, or the second may find the journal failed already.
    let lost = journal.append(permit, &[b"lost"]).unwrap();
    let queued = journal.append(second, &[b"also"]);
    let error = journal.durable(lost).wait().unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Failed);
    assert!(error.may_have_been_written());
    assert!(error.to_string().contains("made by a test"), "{error}");
    match queued {
        Ok(ticket) => {
            let error = journal.durable(ticket).wait().unwrap_err();
            assert_eq!(error.kind(), JournalErrorKind::Failed);
        }
        Err(error) => assert!(!error.may_have_been_written()),
    }
    let error = journal.append(late, &[b"late"]).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Failed);
    assert!(!error.may_have_been_written());
    // Recovery that fails can be tried again, and the journal stays failed until it succeeds.
    assert!(journal.recover().is_err());
    assert!(journal.stats().failed);
    io.heal();
    assert_eq!(journal.recover().unwrap().next_index, 1);
    assert_eq!(try_record(&journal, b"new").unwrap(), lost.index());
    // The old ticket of the same index is not taken for the new entry, then or later.
    assert_eq!(journal.durable(lost).wait().unwrap_err().kind(), JournalErrorKind::Failed);
    journal.durable(kept).wait().unwrap();
    assert_eq!(read_from(&journal, 0), [(0, b"kept".to_vec()), (1, b"new".to_vec())]);
    assert_eq!(journal.stats().pending_bytes, 0);
}

#[test]
fn closing_a_failed_journal_leaves_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    let (journal, _) = Journal::open(dir.path(), options(&io)).unwrap();
    try_record(&journal, b"kept").unwrap();
    let permit = journal.admit_blocking(4).unwrap();
    io.fail(Fault::Persisted, 0, 1);
    let lost = journal.append(permit, &[b"lost"]).unwrap();
    assert!(journal.durable(lost).wait().is_err());
    journal.close();
    assert!(journal.durable(lost).wait().unwrap_err().may_have_been_written());
    let (journal, _) = Journal::open(dir.path(), options(&io)).unwrap();
    check_entries(&journal, &[b"kept".to_vec()], Some(b"lost"));
}

#[test]
fn any_sectors_of_an_unsynced_batch_may_be_missing() {
    // One batch over several sectors, then every subset of them.
    for written in 0..128_u32 {
        let dir = tempfile::tempdir().unwrap();
        let io = FaultyIo::new();
        let (journal, _) = Journal::open(dir.path(), options(&io)).unwrap();
        try_record(&journal, &[1; 300]).unwrap();
        let permit = journal.admit_blocking(2900).unwrap();
        let entry = [2; 2900];
        io.fail(Fault::Unsynced, 0, u64::MAX);
        let ticket = journal.append(permit, &[&entry]).unwrap();
        let outcome = journal.durable(ticket).wait();
        assert!(outcome.is_err());
        let crashed = tempfile::tempdir().unwrap();
        let mut sectors = (0..32).map(|bit| written >> bit & 1 == 1);
        io.crash_into(crashed.path(), || sectors.next().unwrap_or(true)).unwrap();
        let disk = FaultyIo::holding(crashed.path()).unwrap();
        let (journal, _) = Journal::open(crashed.path(), options(&disk)).unwrap();
        check_entries(&journal, &[vec![1; 300]], Some(&entry));
    }
}
