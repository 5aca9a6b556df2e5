//! A journal that fills because a sink is down: callers wait or are refused, and nothing is lost.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    delivery::{DeliveryOptions, Role},
    error::AuditErrorKind,
    journal::{JournalOptions, WhenFull},
    memory::{Fault, MemorySink},
    sink::SinkErrorKind,
};

const DEADLINE: Duration = Duration::from_secs(60);

/// Much more than the journal holds.
const NOTES: usize = 200;

fn bounded(when_full: WhenFull) -> JournalOptions {
    JournalOptions::default().with_max_bytes(64 << 10).with_when_full(when_full)
}

fn quick_retries() -> DeliveryOptions {
    DeliveryOptions::default()
        .with_retries(Duration::from_millis(1), Duration::from_millis(5))
        .with_cursor_interval(Duration::ZERO)
}

fn down(sink: &MemorySink, hangs: bool) {
    let outage = match hangs {
        true => Fault::hang_before(),
        false => Fault::before(SinkErrorKind::Unavailable),
    };
    let _ = sink.faults().inject(outage.always());
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether somebody who wants to write now has to wait.
fn is_full(log: &AuditLog) -> bool {
    let mut admission = std::pin::pin!(log.core().journal.admit(2_000));
    let waits = admission.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
    // Somebody may also wait for a moment while the next segment is made.
    waits && log.journal_stats().bytes > 56 << 10
}

#[test]
fn callers_wait_while_a_dead_sink_fills_the_journal_and_go_on_when_it_is_mended() {
    for hangs in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let sink = MemorySink::new();
        down(&sink, hangs);
        let delivery = quick_retries().with_append_timeout(Duration::from_millis(50));
        let log = quick(dir.path())
            .with_journal(bounded(WhenFull::Block))
            .with_delivery(delivery)
            .with_sink(sink.clone())
            .open()
            .unwrap();
        let recorded = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = ["acme", "beta"]
            .map(|tenant| {
                let session = log.session(tenant, "s", "a").unwrap();
                let recorded = Arc::clone(&recorded);
                std::thread::spawn(move || {
                    for _ in 0..NOTES / 2 {
                        session.record_blocking(note(&"x".repeat(900))).unwrap();
                        recorded.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .into();
        until("the journal is full", || is_full(&log));
        let taken = recorded.load(Ordering::SeqCst);
        assert!(taken < NOTES, "nobody was held back");
        let health = log.health().remove(0);
        assert!(health.events_waiting > 0 && health.bytes_waiting > 16 << 10, "{health:?}");
        until("it is known to be down", || log.health()[0].last_error.is_some());

        sink.faults().clear();
        for caller in callers {
            caller.join().unwrap();
        }
        assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
        assert_eq!(sink.len(), NOTES + 4, "with what opens and closes two chains");
        sink.assert_chain_valid();
    }
}

#[test]
fn callers_are_refused_while_a_dead_sink_fills_the_journal_and_the_gap_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let sink = MemorySink::new();
    down(&sink, false);
    let log = quick(dir.path())
        .with_journal(bounded(WhenFull::Refuse))
        .with_delivery(quick_retries())
        .with_sink(sink.clone())
        .open()
        .unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    let mut recorded = 0;
    let refused = loop {
        match session.record_blocking(note(&"x".repeat(900))) {
            Ok(_) => recorded += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), AuditErrorKind::Full);
    assert!(refused.is_unavailable());

    sink.faults().clear();
    until("there is room again", || session.record_blocking(note("back")).is_ok());
    assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
    sink.assert_chain_valid();
    let events: Vec<_> = sink.chains().iter().flat_map(|chain| sink.records(chain)).collect();
    let events: Vec<_> = events.iter().map(|record| record.event().unwrap()).collect();
    let count = |wanted: &str| types(&events).iter().filter(|kind| *kind == wanted).count();
    assert_eq!(count("custom.note"), recorded + 1, "what was acknowledged, and nothing else");
    assert!(count("chain.gap") >= 1, "that some were refused is in the chain");
}

#[test]
fn a_dead_optional_sink_holds_nobody_back() {
    for hangs in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (sink, late) = (MemorySink::new(), MemorySink::named("late"));
        down(&late, hangs);
        let delivery = quick_retries().with_append_timeout(Duration::from_millis(50));
        let log = quick(dir.path())
            .with_journal(bounded(WhenFull::Block))
            .with_delivery(delivery)
            .with_sink(sink.clone())
            .with_optional_sink(late.clone())
            .open()
            .unwrap();
        let session = log.session("acme", "s", "a").unwrap();
        // Each of these would wait for ever if the dead sink held the journal.
        for _ in 0..NOTES {
            session.record_blocking(note(&"x".repeat(900))).unwrap();
        }
        let health = log.health().remove(1);
        assert_eq!(health.role, Role::Optional);
        assert!(!health.missing.is_empty() && !health.halted.is_empty(), "{health:?}");
        late.faults().clear();
        assert!(log.close_blocking(DEADLINE).unwrap().is_complete());
        assert_eq!(sink.len(), NOTES + 2);
        sink.assert_chain_valid();
        // It was never sent a hole: what it has is the beginning, which is nothing here.
        assert_eq!(late.len(), 0);
    }
}
