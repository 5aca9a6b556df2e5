//! Indexes that checkpoints were signed with: those that lie, and what is no lie.

use super::*;
use crate::{
    id::SessionId,
    index::{IndexBuilder, IndexRoot},
    verify::CheckpointSource,
};

/// The index of some records of a ledger, of which one may have been put into another session.
fn index(ledger: &Ledger, from: usize, size: usize, moved: Option<usize>) -> IndexRoot {
    let mut builder = IndexBuilder::new(from as u64);
    for at in from..size {
        let mut event = ledger.record(at).event().unwrap();
        if moved == Some(at) {
            event.session_id = SessionId::new("another").unwrap();
        }
        let bytes = event.canonical_bytes().unwrap();
        builder.push(&crate::canonical::scan(&bytes).unwrap()).unwrap();
    }
    builder.build().root()
}

/// A checkpoint of a ledger with these extension lines.
fn note(ledger: &Ledger, size: usize, lines: &[String]) -> String {
    let leaves = (0..size).map(|at| leaf(ledger.record(at).event_bytes()));
    let root = leaves.collect::<CompactRange>().root();
    let mut checkpoint = Checkpoint::new(chain_origin("chain-1"), size as u64, root);
    checkpoint.extensions = lines.to_vec();
    checkpoint.sign(&ledger.key).unwrap().to_string()
}

fn line(index: IndexRoot) -> String {
    index.to_string()
}

#[test]
fn an_index_that_hides_an_event() {
    for (note_at, from, size, hidden) in
        [(0, 0, 5, 3), (1, 5, 10, 5), (2, 10, 15, 14), (4, 20, 21, 20)]
    {
        let mut attacked = ledger();
        let lie = index(&attacked, from, size, Some(hidden));
        attacked.notes[note_at] = note(&attacked, size, &[line(lie)]);
        found(&attacked, &[(FindingKind::IndexMismatch, from as u64, size as u64 - 1)]);
    }
}

#[test]
fn an_index_of_other_records() {
    let mut attacked = ledger();
    let other = index(&attacked, 5, 10, None);
    let stretched = IndexRoot { from: 4, ..other };
    let counted = IndexRoot { entries: other.entries + 1, ..other };
    for lie in [stretched, counted, IndexRoot { root: Hash::ZERO, ..other }] {
        attacked.notes[1] = note(&attacked, 10, &[line(lie)]);
        found(&attacked, &[(FindingKind::IndexMismatch, lie.from, 9)]);
    }
}

/// One fault is one finding: what was changed is named, and not the index that is right.
#[test]
fn a_record_that_was_moved_to_another_session() {
    for at in [1, 4, 5, 9, 12] {
        let mut attacked = ledger();
        attacked.edit(at, |text| {
            let (before, after) = text.split_once("\"session_id\":\"").unwrap();
            format!("{before}\"session_id\":\"x{after}")
        });
        found(&attacked, &[(FindingKind::Tampered, at as u64, at as u64)]);
    }
}

#[test]
fn checkpoints_without_an_index_are_those_of_older_logs() {
    let mut older = Ledger::new("acme", "chain-1", 5);
    older.index = None;
    while older.size() < 20 {
        older.work();
    }
    older.append(ChainClosed::new("shutdown"), []);
    older.checkpoint();
    let report = older.verify();
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", sentences(&report));
    assert_eq!((report.checkpoints_checked, report.indexes_checked), (5, 0));
    let report = ledger().verify();
    assert_eq!((report.checkpoints_checked, report.indexes_checked), (5, 5));
}

#[test]
fn intervals_may_overlap_and_leave_holes() {
    let mut ledger = ledger();
    let lines = |pieces: &[(usize, usize)]| -> Vec<String> {
        pieces.iter().map(|(from, size)| line(index(&ledger, *from, *size, None))).collect()
    };
    let pieces: [&[(usize, usize)]; 5] =
        [&[(2, 5)], &[(1, 4), (4, 10)], &[(12, 15)], &[(0, 20)], &[(3, 9), (9, 10), (10, 21)]];
    let notes: Vec<_> = [5, 10, 15, 20, 21]
        .into_iter()
        .zip(pieces)
        .map(|(size, pieces)| note(&ledger, size, &lines(pieces)))
        .collect();
    ledger.notes = notes;
    let report = ledger.verify();
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", sentences(&report));
    assert_eq!(report.indexes_checked, 8);
}

#[test]
fn lines_that_are_no_index() {
    let mut attacked = ledger();
    let good = line(index(&attacked, 5, 10, None));
    for lines in [vec!["agent-audit-index/1 5 10".to_owned()], vec![good.clone(), good]] {
        attacked.notes[1] = note(&attacked, 10, &lines);
        let report = attacked.verify();
        assert_eq!(faults(&report), [(FindingKind::BadCheckpoint, u64::MAX, u64::MAX)]);
        assert_eq!(report.verdict(), Verdict::Unsure);
    }
    // Another kind of line is for somebody else.
    attacked.notes[1] = note(&attacked, 10, &["example.com/extension 1".to_owned()]);
    assert_eq!(attacked.verify().verdict(), Verdict::Intact);
}

/// Memory stays bounded, and what was not recomputed is not passed over in silence.
#[test]
fn more_intervals_than_anybody_needs() {
    let mut attacked = ledger();
    let whole = line(index(&attacked, 0, 20, None));
    let notes = (0..17).map(|at| {
        let padding = format!("example.com/extension {at}");
        note(&attacked, 20, &[whole.clone(), padding])
    });
    // The same index under the same root counts once.
    attacked.notes = notes.collect();
    assert_eq!(attacked.verify().indexes_checked, 1);
    let lines = (0..20).map(|from| line(index(&attacked, from, 20, None)));
    attacked.notes = lines.map(|line| note(&attacked, 20, &[line])).collect();
    let report = attacked.verify();
    assert_eq!(report.verdict(), Verdict::Unsure, "{:#?}", sentences(&report));
    let expected: Vec<_> = (16..20).map(|from| (FindingKind::BadCheckpoint, from, 19)).collect();
    assert_eq!(faults(&report), expected);
    assert_eq!(report.indexes_checked, 16);
}

#[test]
fn a_resumed_verification_checks_the_intervals_that_begin_behind_it() {
    let ledger = ledger();
    let mut first = ChainVerifier::new(ledger.chain.clone(), ledger.checkpoints());
    ledger.records[..7].iter().for_each(|record| first.push(record));
    let state = first.state().unwrap();
    let mut checkpoints = ledger.checkpoints();
    let lie = index(&ledger, 10, 15, Some(11));
    checkpoints.add(&note(&ledger, 15, &[line(lie)]), CheckpointSource::Own);
    let mut rest = ChainVerifier::resume(ledger.chain.clone(), checkpoints, state);
    ledger.records[7..].iter().for_each(|record| rest.push(record));
    let report = rest.finish();
    assert_eq!(report.indexes_checked, 4, "three honest ones, and the lie");
    let faults: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(faults, [FindingKind::IndexMismatch]);
}
