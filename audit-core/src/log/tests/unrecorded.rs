//! Actions while the log cannot be written: under `deny` they do not happen, under `proceed` they do
//! and the gap that follows counts them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    error::AuditUnavailable,
    event::Payload,
    instrument::{Call, Inputs, Policy, Probe, ProbePlain as _, Tool, run_async, run_blocking},
    journal::{
        JournalOptions,
        faulty::{Fault, FaultyIo},
    },
};

const DEADLINE: Duration = Duration::from_secs(10);

type Denied = Result<u64, AuditUnavailable>;

#[test]
fn a_gap_counts_the_actions_that_went_ahead_without_a_record() {
    for fault in [Fault::NotPersisted, Fault::Persisted, Fault::NoSpace] {
        let dir = tempfile::tempdir().unwrap();
        let io = FaultyIo::new();
        let journal = JournalOptions::default().with_io(Arc::new(io.clone()));
        let log = quick(dir.path()).with_journal(journal).open().unwrap();
        let session = log.session("acme", "s", "a").unwrap();
        let acted = AtomicU64::new(0);
        let act = || acted.fetch_add(1, Ordering::SeqCst);
        let call = || Call::new("act", Inputs::new());
        session.record_blocking(note("before")).unwrap();

        io.fail(fault, 0, u64::MAX);
        session
            .run(|| run_blocking(Tool, Policy::proceed(), call(), act, |n| Probe::new(n).tool()));
        let body = async { act() };
        let future = run_async(Tool, Policy::proceed(), call(), body, |n| Probe::new(n).tool());
        pollster::block_on(session.scope(future));
        assert_eq!(acted.load(Ordering::SeqCst), 2, "{fault:?}: under `proceed` it happens");

        let body = || Ok(act());
        let denied: Denied = session
            .run(|| run_blocking(Tool, Policy::deny(), call(), body, |it| Probe::new(it).tool()));
        assert!(!denied.unwrap_err().after_action(), "{fault:?}");
        let body = async { Ok(act()) };
        let future = run_async(Tool, Policy::deny(), call(), body, |it| Probe::new(it).tool());
        let denied: Denied = pollster::block_on(session.scope(future));
        assert!(!denied.unwrap_err().after_action(), "{fault:?}");
        assert_eq!(acted.load(Ordering::SeqCst), 2, "{fault:?}: under `deny` it does not");

        io.heal();
        session.record_blocking(note("after")).unwrap();
        log.close_blocking(DEADLINE).unwrap();
        let events = events(dir.path()).remove("acme").unwrap();
        let (mut lost, mut unrecorded) = (0, 0);
        for event in &events {
            if let Payload::ChainGap(gap) = &event.payload {
                lost += gap.lost_events;
                unrecorded += gap.unrecorded_actions.unwrap_or_default();
            }
        }
        assert_eq!((lost, unrecorded), (4, 2), "{fault:?}: four intents, two of them acted on");
        assert!(types(&events).iter().all(|it| !it.starts_with("tool.")), "{fault:?}");
        assert_intact(dir.path());
    }
}

/// What is at fault there is the call, not the log.
#[test]
fn an_action_whose_call_is_not_valid_is_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let log = quick(dir.path()).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    let call = Call::new("act", Inputs::new().record_apart("twice", &1).record_apart("twice", &2));
    let answer =
        session.run(|| run_blocking(Tool, Policy::proceed(), call, || 7, |n| Probe::new(n).tool()));
    assert_eq!(answer, 7);
    session.record_blocking(note("after")).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    let events = events(dir.path()).remove("acme").unwrap();
    let types = types(&events);
    let unrecorded = ["tool.attempted", "chain.gap"];
    assert!(!types.iter().any(|it| unrecorded.contains(&it.as_str())), "{types:?}");
}
