//! What checkpoints say of where events are found: true after anything, and without a hole.

use std::time::Duration;

use sha2::Digest as _;

use super::{faults::copy_all, *};
use crate::{
    checkpoint::SignedCheckpoint,
    event::review::{ReviewDecided, ReviewDecision, Reviewer, ReviewerKind},
    hash,
    id::{ChainId, SubjectId, TenantId},
    index::{Field, IndexBuilder, IndexRoot},
    journal::{
        JournalOptions,
        faulty::{Fault, FaultyIo},
    },
    log::{
        chains::{Chain, ChainState, Chains},
        layout::Layout,
        snapshot::Snapshot,
    },
    sink::ChainRef,
};

const DEADLINE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3_600);

/// A log that signs after so many events, and not because time passes.
fn open(dir: &Path, events: u64) -> AuditLog {
    quick(dir).with_checkpoint_every(events, HOUR).open().unwrap()
}

fn work(log: &AuditLog, from: usize, to: usize) {
    for at in from..to {
        let session = log.session("acme", &format!("s-{}", at / 3), "a").unwrap();
        match at % 4 {
            0 => {
                let reviewer = Reviewer::new(format!("r-{}", at % 3), ReviewerKind::Human);
                let decided = ReviewDecided::new("review-1", ReviewDecision::Approve, reviewer);
                session.record_blocking(decided).unwrap();
            }
            1 => {
                let mut draft = note("about a person");
                draft.subject_id = Some(SubjectId::new(format!("p-{}", at % 5)).unwrap());
                session.record_blocking(draft).unwrap();
            }
            _ => drop(session.record_blocking(note("x")).unwrap()),
        }
    }
}

/// The indexes that the checkpoints of a log were signed with, by chain and in order.
fn signed(dir: &Path) -> Vec<IndexRoot> {
    let mut signed = Vec::new();
    for line in std::fs::read_to_string(dir.join("checkpoints/000001.ndjson")).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let note: SignedCheckpoint = line["note"].as_str().unwrap().parse().unwrap();
        signed.extend(IndexRoot::all_of(note.unverified()).unwrap());
    }
    signed
}

/// Every position of the only chain is in a signed index, and each of these is right.
#[track_caller]
fn assert_whole(dir: &Path) {
    let report = assert_intact(dir);
    let signed = signed(dir);
    let mut reached = 0;
    for root in &signed {
        assert!(root.from <= reached, "a hole before {} in {signed:?}", root.from);
        reached = reached.max(root.size);
    }
    assert_eq!(reached, report.events);
    assert_eq!(report.indexes_checked, signed.len() as u64);
}

#[test]
fn successive_indexes_join_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let log = open(dir.path(), 3 + round as u64);
        work(&log, 10 * round, 10 * round + 10);
        log.close_blocking(DEADLINE).unwrap();
        if round == 1 {
            std::fs::remove_file(dir.path().join("chains.json")).unwrap();
        }
        assert_whole(dir.path());
    }
    let signed = signed(dir.path());
    assert!(signed.windows(2).all(|pair| pair[0].size == pair[1].from), "{signed:?}");
}

#[test]
fn an_index_says_where_the_events_of_a_session_a_reviewer_and_a_person_are() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 1_000);
    work(&log, 0, 30);
    log.close_blocking(DEADLINE).unwrap();
    let mut builder = IndexBuilder::new(0);
    for record in records(dir.path()) {
        builder.push(&record.view().unwrap()).unwrap();
    }
    let index = builder.build();
    assert_eq!(signed(dir.path()), [index.root()]);
    let at = |field: Field, value: &str| index.positions(&field.key(value)).unwrap_or_default();
    let events = &events(dir.path())["acme"];
    let expected = |wanted: &dyn Fn(&Event) -> bool| -> Vec<u64> {
        events.iter().filter(|event| wanted(event)).map(|event| event.sequence).collect()
    };
    assert_eq!(at(Field::Session, "s-4"), expected(&|event| event.session_id.as_str() == "s-4"));
    let about = |event: &Event| event.subject_id.as_ref().is_some_and(|id| id.as_str() == "p-1");
    assert_eq!(at(Field::Subject, "p-1"), expected(&about));
    let decided = at(Field::EventType, "review.decided");
    assert_eq!(decided, expected(&|event| event.event_type().as_str() == "review.decided"));
    let by: Vec<u64> =
        (0..3).flat_map(|n| at(Field::Reviewer, &format!("r-{n}")).iter().copied()).collect();
    assert_eq!(by.len(), decided.len());
}

/// The directory as a crash at this moment leaves it, with and without its snapshot.
#[test]
fn an_interval_is_whole_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 5);
    work(&log, 0, 3);
    drop(log);
    let log = open(dir.path(), 5);
    for at in 3..20 {
        work(&log, at, at + 1);
        for snapshot in [true, false] {
            let crashed = tempfile::tempdir().unwrap();
            copy_all(dir.path(), crashed.path());
            let chains = crashed.path().join("chains.json");
            if !snapshot {
                let bytes = std::fs::read(&chains).unwrap();
                std::fs::write(&chains, &bytes[..bytes.len() / 2]).unwrap();
            }
            let again = open(crashed.path(), 4);
            work(&again, 100, 107);
            again.close_blocking(DEADLINE).unwrap();
            assert_whole(crashed.path());
        }
    }
    log.close_blocking(DEADLINE).unwrap();
    assert_whole(dir.path());
}

#[test]
fn events_that_are_taken_back_are_in_no_index() {
    for fault in [Fault::NotPersisted, Fault::Persisted, Fault::Short] {
        for skip in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let io = FaultyIo::new();
            let journal = JournalOptions::default().with_io(Arc::new(io.clone()));
            let log = quick(dir.path())
                .with_journal(journal)
                .with_checkpoint_every(3, HOUR)
                .open()
                .unwrap();
            work(&log, 0, 4);
            io.fail(fault, skip, 1);
            let session = log.session("acme", "unlucky", "a").unwrap();
            for _ in 0..12 {
                let _ = session.record_blocking(note("maybe"));
            }
            io.heal();
            work(&log, 4, 6);
            log.close_blocking(DEADLINE).unwrap();
            assert_whole(dir.path());
        }
    }
}

/// A snapshot of a release that kept no index says nothing of what came before it.
#[test]
fn where_the_beginning_is_not_known_the_index_begins_later() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 1_000);
    work(&log, 0, 8);
    log.close_blocking(DEADLINE).unwrap();
    let mut state = ChainState::empty();
    let records = records(dir.path());
    for (entry, record) in (0..).zip(&records) {
        state.replay(&record.view().unwrap(), hash::leaf(record.event_bytes()), entry).unwrap();
    }
    let written = |strip: bool| {
        let layout = Layout::new(tempfile::tempdir().unwrap().keep());
        std::fs::create_dir_all(layout.root()).unwrap();
        let chain = ChainRef::new(TenantId::new("acme").unwrap(), ChainId::random());
        let mut chains = Chains::default();
        chains.insert(Chain::new(chain, state.clone()));
        Snapshot::of(&chains, records.len() as u64).write(&layout).unwrap();
        if strip {
            let text = std::fs::read_to_string(layout.chains()).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let mut line: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
            line["state"].as_object_mut().unwrap().remove("index").unwrap();
            lines[1] = line.to_string();
            let body = format!("{}\n{}\n", lines[0], lines[1]);
            let sum = sha2::Sha256::digest(body.as_bytes());
            let sum = hash::Hash::from_bytes(sum.into());
            std::fs::write(layout.chains(), format!("{body}{{\"sha256\":\"{sum}\"}}\n")).unwrap();
        }
        let mut read = Snapshot::read(&layout).unwrap().unwrap();
        std::fs::remove_dir_all(layout.root()).unwrap();
        read.chains.remove(0).1
    };
    let whole = written(false);
    assert_eq!(whole, ChainState { last_ticket: None, ..state.clone() });
    assert_eq!((whole.index.start(), whole.index.next()), (0, whole.next()));
    let older = written(true);
    assert_eq!((older.index.start(), older.index.next()), (older.next(), older.next()));
    assert_eq!(older.tree, whole.tree);
}
