//! Places in a chain: contiguous, linked, resumed, never forked.

use std::{collections::HashSet, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    canonical,
    content::Part,
    error::AuditErrorKind,
    event::{Payload, Value},
    hash::Hash,
    id::{AgentId, ChainId, EventId, SessionId, SpanId, SubjectId, TenantId, TraceId, WriterId},
    log::{
        Durability,
        prepare::{Place, Prepared, Scope},
    },
    verify::FindingKind,
};

const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn a_chain_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let log = AuditLog::open(dir.path()).unwrap();
        let session = log.session("acme", "s-1", "agent").unwrap();
        session.record_blocking(note(&format!("run {run}"))).unwrap();
        log.close_blocking(DEADLINE).unwrap();
    }
    let events = events(dir.path()).remove("acme").unwrap();
    let run = ["custom.note", "chain.closed"];
    let expected: Vec<_> = ["chain.opened"]
        .into_iter()
        .chain(run)
        .chain(["chain.resumed"].into_iter().chain(run))
        .chain(["chain.resumed"].into_iter().chain(run))
        .collect();
    assert_eq!(types(&events), expected);
    let chains: HashSet<_> = events.iter().map(|event| event.chain_id.clone()).collect();
    assert_eq!(chains.len(), 1);
    let report = assert_intact(dir.path());
    assert_eq!((report.events, report.chains, report.tenants), (9, 1, 1));
}

#[test]
fn a_log_dropped_without_close_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let receipt =
        pollster::block_on(session.record_with(note("weak"), Durability::Buffered)).unwrap();
    drop((log, session));
    let events = events(dir.path()).remove("acme").unwrap();
    assert_eq!(events[1].event_id, receipt.event_id);
    assert_eq!(events[1].hash().unwrap(), receipt.event_hash);
    assert_intact(dir.path());
}

#[test]
fn many_callers_of_many_tenants_never_fork_a_chain() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build().unwrap();
    let receipts = runtime.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let session = log.session(&format!("tenant-{}", task % 5), "s-1", "agent").unwrap();
                tokio::spawn(async move {
                    let mut receipts = Vec::new();
                    for at in 0..25 {
                        receipts.push(session.record(note(&format!("{task}/{at}"))).await.unwrap());
                    }
                    receipts
                })
            })
            .collect();
        let mut receipts = Vec::new();
        for task in tasks {
            receipts.extend(task.await.unwrap());
        }
        receipts
    });
    log.close_blocking(DEADLINE).unwrap();
    let places: HashSet<_> =
        receipts.iter().map(|receipt| (receipt.chain.clone(), receipt.sequence)).collect();
    assert_eq!(places.len(), 64 * 25, "every acknowledged event has a place of its own");
    let events = events(dir.path());
    for receipt in &receipts {
        let at = usize::try_from(receipt.sequence).unwrap();
        let event = &events[receipt.chain.tenant_id.as_str()][at];
        assert_eq!((event.event_id, event.hash().unwrap()), (receipt.event_id, receipt.event_hash));
    }
    let report = assert_intact(dir.path());
    assert_eq!(report.events, 64 * 25 + 2 * 5);
}

#[test]
fn a_second_handle_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let error = AuditLog::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::Locked);
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    let session = log.session("acme", "s-1", "agent").unwrap();
    session.record_blocking(note("first")).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    assert_intact(dir.path());
}

#[test]
fn a_closed_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    log.close_blocking(DEADLINE).unwrap();
    let error = session.record_blocking(note("late")).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::Closed);
    assert_eq!(log.close_blocking(DEADLINE).unwrap_err().kind(), AuditErrorKind::Closed);
}

#[test]
fn a_clock_that_goes_back_is_recorded_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SetClock::at(2_000_000_000);
    let log = quick(dir.path()).with_clock(clock.clone()).open().unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    session.record_blocking(note("before")).unwrap();
    clock.set(1_000_000_000);
    session.record_blocking(note("after")).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    let report = assert_intact(dir.path());
    let regressions: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::ClockRegression)
        .collect();
    assert_eq!(regressions.len(), 1);
    assert!(regressions[0].is_at(2), "{regressions:?}");
}

#[test]
fn parts_of_every_size_are_kept_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s-1", "agent").unwrap();
    let large = vec![0xa5; 9 << 20];
    let draft = Draft::new(Other::custom("sizes").unwrap())
        .with_part(Part::new("empty", "text/plain", Vec::new()))
        .with_part(Part::new("large", "application/octet-stream", large.clone()));
    session.record_blocking(draft).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    let record = records(dir.path()).remove(1);
    assert_eq!(record.content("empty"), Some(&b""[..]));
    assert!(record.content("large") == Some(&large[..]));
    assert_intact(dir.path());
}

#[test]
fn what_cannot_be_recorded_is_refused_by_name_and_leaves_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    assert_eq!(log.session("", "s", "a").unwrap_err().kind(), AuditErrorKind::Invalid);
    assert!(log.session("a/b", "s", "a").unwrap_err().to_string().contains("a/b"));
    assert!(log.session("acme", "a\nb", "a").is_err());
    let session = log.session("acme", "s-1", "agent").unwrap();
    let refused = [
        note("x").with_part(Part::text("note", "again")),
        note("x").with_part(Part::text("", "no name")),
        note("x").with_part(Part::text("a b", "a space")),
        note("x").with_part(Part::new("y", "text/\"", "a quotation mark")),
        Draft::new(Other::custom("deep").unwrap().with_field("n", i64::MAX)),
        Draft::new(Other::custom("key").unwrap().with_field("é", "x")),
        Draft::new(Other::custom("big").unwrap().with_field("text", "x".repeat(17 << 20))),
    ];
    for draft in refused {
        let error = session.record_blocking(draft.clone()).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Invalid, "{error}");
        assert!(error.to_string().starts_with("custom."), "{error}");
        assert!(!error.is_unavailable());
    }
    let receipt = session.record_blocking(note("fine")).unwrap();
    assert_eq!(receipt.sequence, 1);
    log.close_blocking(DEADLINE).unwrap();
    assert_intact(dir.path());
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    let error = AuditLog::open(file.join("log")).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
}

#[test]
fn a_later_format_and_a_missing_identity_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    log.session("acme", "s", "a").unwrap().record_blocking(note("x")).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    let path = dir.path().join("log.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"format\":1", "\"format\":2")).unwrap();
    assert_eq!(AuditLog::open(dir.path()).unwrap_err().kind(), AuditErrorKind::UnknownVersion);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(AuditLog::open(dir.path()).unwrap_err().kind(), AuditErrorKind::Damaged);
    std::fs::write(&path, text).unwrap();
    AuditLog::open(dir.path()).unwrap();
}

#[test]
fn a_log_cut_behind_a_checkpoint_does_not_open() {
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    session.record_blocking(note("x")).unwrap();
    log.close_blocking(DEADLINE).unwrap();
    // The whole journal and its snapshot, replaced by those of an empty log.
    std::fs::remove_dir_all(dir.path().join("journal")).unwrap();
    std::fs::remove_file(dir.path().join("chains.json")).unwrap();
    let error = AuditLog::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::Damaged);
    assert!(error.to_string().contains("acme/"), "{error}");
}

#[test]
fn a_damaged_snapshot_costs_only_time() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["one", "two"] {
        let log = AuditLog::open(dir.path()).unwrap();
        log.session("acme", "s", "a").unwrap().record_blocking(note(text)).unwrap();
        log.close_blocking(DEADLINE).unwrap();
        let path = dir.path().join("chains.json");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    assert_eq!(assert_intact(dir.path()).events, 6);
}

#[test]
fn ten_thousand_tenants_cost_neither_threads_nor_files() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let record = |from: usize, to: usize| {
        for tenant in from..to {
            let session = log.session(&format!("tenant-{tenant}"), "s", "a").unwrap();
            pollster::block_on(session.record_with(note("x"), Durability::Buffered)).unwrap();
        }
    };
    record(0, 10);
    let (threads, files) = (count("task"), count("fd"));
    record(10, 10_000);
    // Other tests run beside this one, so the numbers may move; they do not grow with the tenants.
    assert!(count("task") < threads + 100, "{} threads", count("task"));
    assert!(count("fd") < files + 500, "{} files", count("fd"));
    log.close_blocking(Duration::from_secs(60)).unwrap();
    let report = assert_intact(dir.path());
    assert_eq!((report.tenants, report.events), (10_000, 30_000));
    drop(AuditLog::open(dir.path()).unwrap());
}

fn names() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9][a-zA-Z0-9._-]{0,20}"
}

fn texts() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,20}"
}

proptest! {
    /// The fast path writes what a JCS library writes of the same event.
    #[test]
    fn the_fast_path_is_canonical(
        tenant in names(), chain in names(), session in texts(), agent in texts(),
        field in any::<String>(), number in -9_007_199_254_740_991i64..=9_007_199_254_740_991,
        content in prop::collection::vec(any::<u8>(), 0..60),
        sequence in 0u64..1 << 53, nanos in 0u64..1 << 62,
        subject in prop::option::of(texts()), traced in any::<bool>(), parent in any::<bool>(),
        occurred in prop::option::of(0u64..1 << 62),
    ) {
        let (tenant, chain) = (TenantId::new(tenant).unwrap(), ChainId::new(chain).unwrap());
        let (session, agent) = (SessionId::new(session).unwrap(), AgentId::new(agent).unwrap());
        let subject = subject.map(|subject| SubjectId::new(subject).unwrap());
        let trace = TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").unwrap();
        let span = SpanId::new("00f067aa0ba902b7").unwrap();
        let writer = WriterId::random();
        let scope = Scope {
            tenant: &tenant, session: &session, agent: &agent,
            parent: parent.then(EventId::new),
            subject: subject.as_ref(),
            trace: traced.then_some((&trace, Some(&span))),
        };
        let payload = Other::custom("any").unwrap().with_field("text", field).with_field("n", number);
        let mut draft = Draft::new(payload.clone()).with_part(Part::new("c", "x/y", content));
        draft.occurred_at = occurred.map(Timestamp::from_nanos);
        let event_id = draft.event_id();
        let previous = crate::hash::leaf(b"previous");
        let at = Timestamp::from_nanos(nanos);

        let prepared = Prepared::new(draft, &scope, &chain, &writer).unwrap();
        let reserved = prepared.entry_bytes();
        let placed = prepared.place(Place { sequence, previous, at });
        prop_assert!(placed.head.len() + placed.parts.len() <= reserved);
        let entry = [&placed.head[..], &placed.parts].concat();
        let record = super::super::entry::read(0, &entry).unwrap();
        let event = Event::from_slice(record.event_bytes).unwrap();

        prop_assert_eq!(event.event_id, event_id);
        prop_assert_eq!(&event.payload, &Payload::from(payload));
        prop_assert_eq!((&event.tenant_id, &event.session_id), (&tenant, &session));
        prop_assert_eq!((event.sequence, event.previous_event_hash), (sequence, previous));
        prop_assert_eq!((event.timestamp_utc, event.subject_id.as_ref()), (at, subject.as_ref()));
        prop_assert_eq!(placed.event_hash, event.hash().unwrap());
        prop_assert_eq!(&event.canonical_bytes().unwrap()[..], record.event_bytes);
        let value: serde_json::Value = serde_json::from_slice(record.event_bytes).unwrap();
        prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap()[..], record.event_bytes);
        prop_assert!(canonical::scan(record.event_bytes).is_ok());
        let _ = (Value::Bool(true), Hash::ZERO);
    }
}
