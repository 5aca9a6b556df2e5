//! A disk that fails: every fault persisted and not persisted, and the whole log verified after.

use std::{sync::Arc, time::Duration};

use super::*;
use crate::{
    error::AuditErrorKind,
    event::{Payload, chain::ChainGap},
    journal::{
        JournalOptions, WhenFull,
        faulty::{Fault, FaultyIo},
    },
    log::Durability,
    memory::MemorySink,
};

const DEADLINE: Duration = Duration::from_secs(10);

fn gaps(events: &[Event]) -> Vec<ChainGap> {
    events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ChainGap(gap) => Some(gap.clone()),
            _ => None,
        })
        .collect()
}

/// Every call of the disk fails once, in each of the ways, and work goes on behind it.
#[test]
fn after_any_single_fault_the_log_goes_on_and_says_what_is_missing() {
    for fault in [Fault::NotPersisted, Fault::Persisted, Fault::Short, Fault::NoSpace] {
        for skip in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let io = FaultyIo::new();
            let journal =
                JournalOptions::default().with_segment_bytes(8192).with_io(Arc::new(io.clone()));
            let log = quick(dir.path()).with_journal(journal).open().unwrap();
            let session = log.session("acme", "s", "a").unwrap();
            let other = log.session("globex", "s", "a").unwrap();
            session.record_blocking(note("before")).unwrap();
            other.record_blocking(note("before")).unwrap();
            io.fail(fault, skip, 1);
            let (mut acknowledged, mut refused) = (Vec::new(), 0);
            for at in 0..12 {
                match session.record_blocking(note(&format!("during {at}"))) {
                    Ok(receipt) => acknowledged.push(receipt),
                    Err(error) => {
                        assert!(error.is_unavailable(), "{error}");
                        refused += 1;
                    }
                }
            }
            io.heal();
            acknowledged.push(session.record_blocking(note("after")).unwrap());
            acknowledged.push(other.record_blocking(note("after")).unwrap());
            log.close_blocking(DEADLINE).unwrap();

            let case = format!("{fault:?} after {skip} calls");
            let events = events(dir.path());
            for receipt in &acknowledged {
                let at = usize::try_from(receipt.sequence).unwrap();
                let event = &events[receipt.chain.tenant_id.as_str()][at];
                assert_eq!(event.hash().unwrap(), receipt.event_hash, "{case}");
            }
            let told: u64 = gaps(&events["acme"]).iter().map(|gap| gap.lost_events).sum();
            assert_eq!(told, refused, "{case}: every refusal is told, none invented");
            assert!(gaps(&events["globex"]).is_empty(), "{case}: a tenant hears of its own only");
            assert_intact(dir.path());
            drop(AuditLog::open(dir.path()).unwrap());
        }
    }
}

#[test]
fn buffered_events_that_are_lost_are_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    let journal = JournalOptions::default().with_io(Arc::new(io.clone()));
    let log = quick(dir.path()).with_journal(journal).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    session.record_blocking(note("before")).unwrap();
    io.fail(Fault::NotPersisted, 0, 1);
    let weak = pollster::block_on(session.record_with(note("weak"), Durability::Buffered));
    assert!(weak.is_ok(), "it was promised nothing");
    // The first to wait for the disk learns of the failure.
    let mut lost = 1;
    while session.record_blocking(note("after")).is_err() {
        lost += 1;
        assert!(lost < 5, "the disk failed once");
    }
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    let told: u64 = gaps(&events).iter().map(|gap| gap.lost_events).sum();
    assert!(told >= 1 && told <= lost, "{told} of {lost}");
    assert_intact(dir.path());
}

#[test]
fn a_full_journal_refuses_with_a_clear_error_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        JournalOptions::default().with_max_bytes(64 << 10).with_when_full(WhenFull::Refuse);
    let log = quick(dir.path()).with_journal(journal).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    let mut recorded = 0u64;
    let error = loop {
        match session.record_blocking(note(&"x".repeat(1_000))) {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
        assert!(recorded < 1_000, "the journal has 64 KiB");
    };
    assert_eq!(error.kind(), AuditErrorKind::Full);
    assert!(recorded > 10);
    drop((log, session));
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(events.len() as u64, recorded + 1);
    assert_intact(dir.path());
}

/// A sink that never answers, and a journal that is full because of it.
#[test]
fn a_close_ends_at_its_deadline_and_says_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let journal =
        JournalOptions::default().with_max_bytes(64 << 10).with_when_full(WhenFull::Refuse);
    let sink = MemorySink::new();
    let stuck = sink.faults().inject(crate::memory::Fault::hang_before().always());
    let log =
        quick(dir.path()).with_journal(journal.clone()).with_sink(sink.clone()).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    while session.record_blocking(note(&"x".repeat(2_000))).is_ok() {}
    let filled = log.journal_stats().next_index;
    let report = log.close_blocking(Duration::from_millis(50)).unwrap();
    assert!(!report.is_complete());
    assert!(report.undelivered[0].events >= filled, "{report:?}");
    drop((session, log));
    stuck.release();
    sink.faults().clear();
    let journal = journal.with_when_full(WhenFull::Block);
    let log = quick(dir.path()).with_journal(journal).with_sink(sink.clone()).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    pollster::block_on(session.record_with(note("after"), Durability::Delivered)).unwrap();
    assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
    sink.assert_chain_valid();
    assert!(sink.len() as u64 >= filled + 3, "the rest was delivered after the next open");
}

/// The power goes at any moment; whatever sectors reached the disk, what was acknowledged is there.
#[test]
fn a_power_failure_takes_nothing_that_was_acknowledged() {
    for seed in 0..40u64 {
        let dir = tempfile::tempdir().unwrap();
        let io = FaultyIo::new();
        let journal =
            JournalOptions::default().with_segment_bytes(8192).with_io(Arc::new(io.clone()));
        let log = quick(dir.path()).with_journal(journal).open().unwrap();
        let session = log.session("acme", "s", "a").unwrap();
        let mut acknowledged = Vec::new();
        for at in 0..seed % 9 + 1 {
            acknowledged.push(session.record_blocking(note(&format!("{at}"))).unwrap());
        }
        for _ in 0..5 {
            let weak = session.record_with(note("in flight"), Durability::Buffered);
            drop(pollster::block_on(weak));
        }
        let after = tempfile::tempdir().unwrap();
        // The journal's files are what the faulty disk says; the others are quiet.
        for item in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            match item.file_name() == "journal" {
                true => std::fs::create_dir(after.path().join("journal")).unwrap(),
                false => copy_all(&item.path(), &after.path().join(item.file_name())),
            }
        }
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        io.crash_into(&after.path().join("journal"), || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random & 1 == 0
        })
        .unwrap();
        let reopened = AuditLog::open(after.path()).unwrap();
        reopened.session("acme", "s", "a").unwrap().record_blocking(note("after")).unwrap();
        reopened.close_blocking(DEADLINE).unwrap();
        let events = events(after.path()).remove("acme").unwrap();
        for receipt in &acknowledged {
            let at = usize::try_from(receipt.sequence).unwrap();
            assert_eq!(events[at].hash().unwrap(), receipt.event_hash, "seed {seed}");
        }
        assert_intact(after.path());
    }
}

pub(super) fn copy_all(from: &Path, to: &Path) {
    if from.is_file() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        copy_all(&item.path(), &to.join(item.file_name()));
    }
}

/// A process dies with an attempt open and a journal that is full: the log opens all the same, and
/// the outcome is written as soon as there is room.
#[test]
fn a_full_journal_does_not_keep_a_log_from_opening() {
    for when_full in [WhenFull::Refuse, WhenFull::Block] {
        let dir = tempfile::tempdir().unwrap();
        let sink = MemorySink::new();
        let stuck = sink.faults().inject(crate::memory::Fault::hang_before().always());
        let options = JournalOptions::default().with_max_bytes(64 << 10);
        let refusing = options.clone().with_when_full(WhenFull::Refuse);
        let log = quick(dir.path()).with_journal(refusing).with_sink(sink.clone()).open().unwrap();
        let session = log.session("acme", "s", "a").unwrap();
        let attempt =
            session.attempt_tool_blocking(crate::attempt::ToolCall::new("refund")).unwrap();
        let id = attempt.event_id();
        while session.record_blocking(note(&"x".repeat(900))).is_ok() {}
        while session.record_blocking(note("")).is_ok() {}
        // As when the process dies: the guard never records an outcome.
        std::mem::forget(attempt);
        drop(session);
        log.handle.core.closed.store(true, std::sync::atomic::Ordering::Release);
        log.handle.core.delivery.close(Duration::ZERO);
        log.handle.core.journal.close();
        drop(log);

        let journal = options.clone().with_when_full(when_full);
        let opened = quick(dir.path()).with_journal(journal.clone()).with_sink(sink.clone()).open();
        let log = opened.unwrap();
        stuck.release();
        sink.faults().clear();
        pollster::block_on(sink.wait_for(|events| events.len() > 10));
        log.close_blocking(DEADLINE).unwrap();
        let log = quick(dir.path()).with_journal(journal).with_sink(sink.clone()).open().unwrap();
        log.close_blocking(DEADLINE).unwrap();
        let refund = sink.tools().named("refund").only();
        assert_eq!(refund.attempt().id(), id, "{when_full:?}");
        assert_eq!(refund.status(), Some(&crate::event::tool::ToolStatus::Unknown));
        sink.assert_chain_valid();
    }
}

/// Callers race with a close: what is acknowledged stands before the end of its chain.
#[test]
fn nothing_is_recorded_behind_the_end_of_a_chain() {
    for _ in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let log = quick(dir.path()).open().unwrap();
        let racers: Vec<_> = (0..4)
            .map(|racer| {
                let session = log.session(&format!("t{}", racer % 2), "s", "a").unwrap();
                std::thread::spawn(move || while session.record_blocking(note("x")).is_ok() {})
            })
            .collect();
        let first = log.session("t0", "s", "a").unwrap();
        let _ = first.record_blocking(note("one at least"));
        assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
        for racer in racers {
            racer.join().unwrap();
        }
        for (tenant, events) in events(dir.path()) {
            assert_eq!(types(&events).last().unwrap(), "chain.closed", "{tenant}");
        }
        assert_intact(dir.path());
    }
}

/// A tenant whose only events were refused is told so, even if nothing follows.
#[test]
fn a_gap_is_told_at_the_latest_when_the_log_closes() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    let journal = JournalOptions::default().with_io(Arc::new(io.clone()));
    let log = quick(dir.path()).with_journal(journal).open().unwrap();
    io.fail(Fault::NotPersisted, 0, u64::MAX);
    let session = log.session("acme", "s", "a").unwrap();
    assert!(session.record_blocking(note("refused")).is_err());
    io.heal();
    assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(types(&events), ["chain.opened", "chain.gap", "chain.closed"]);
    assert_intact(dir.path());
}
