//! Faults in company, checkpoints that cannot be believed, and what is no fault.

use super::*;
use crate::event::review::{ReviewDecided, ReviewDecision, ReviewProposed, Reviewer, ReviewerKind};

#[test]
fn several_faults_are_all_found() {
    let mut attacked = ledger();
    attacked.edit(3, |text| text.replace("support-agent", "support-agend"));
    attacked.edit(11, |text| text.replace("support-agent", "support-agend"));
    attacked.edit(12, |text| text.replace("support-agent", "support-agend"));
    attacked.records.remove(17);
    attacked.records.swap(6, 7);
    found(
        &attacked,
        &[
            (FindingKind::Tampered, 3, 3),
            (FindingKind::Reordered, 6, 6),
            (FindingKind::Tampered, 11, 11),
            (FindingKind::Tampered, 12, 12),
            (FindingKind::Missing, 17, 17),
        ],
    );
}

#[test]
fn two_checkpoints_of_one_size() {
    let mut forked = ledger();
    let other = Checkpoint::new(chain_origin("chain-1"), 10, leaf(b"another history"));
    forked.notes.push(other.sign(&forked.key).unwrap().to_string());
    found(&forked, &[(FindingKind::Forked, 9, 9)]);
    // One of another size that no record supports, while later ones fit.
    let mut lone = ledger();
    let other = Checkpoint::new(chain_origin("chain-1"), 12, leaf(b"another history"));
    lone.notes.push(other.sign(&lone.key).unwrap().to_string());
    found(&lone, &[(FindingKind::Forked, 11, 11)]);
}

#[test]
fn checkpoints_that_cannot_be_believed() {
    let honest = ledger();
    let at = |notes: Vec<String>| {
        let ledger = Ledger { notes, ..honest.clone() };
        faults(&ledger.verify())
    };
    let none = u64::MAX;
    let spoiled = honest.notes[1].replacen("\n10\n", "\n11\n", 1);
    assert_eq!(at(vec![spoiled]), [(FindingKind::BadSignature, none, none)]);
    assert_eq!(at(vec!["no note".to_owned()]), [(FindingKind::BadCheckpoint, none, none)]);
    let other = Ledger::of("acme", "chain-2", 5, 5);
    assert_eq!(at(other.notes), [(FindingKind::Foreign, none, none)]);
}

#[test]
fn states_and_warnings_leave_a_log_intact() {
    let mut ledger = Ledger::new("acme", "chain-1", 100);
    let attempt = ledger.append(ToolAttempted::new("refund"), []);
    ledger.append(ChainGap::new(GapReason::JournalFull, 3u64), []);
    ledger.append_with(ChainOpened::new(WriterId::random(), "k", "test"), [], |event| {
        event.timestamp_utc = Timestamp::from_nanos(5);
    });
    ledger.checkpoint();
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.verdict(), Verdict::Intact, "{place}");
        let found: Vec<_> =
            report.findings.iter().map(|f| (f.kind, f.severity, f.sequence)).collect();
        assert_eq!(
            found,
            [
                (FindingKind::UnresolvedAttempt, Severity::Warning, Some(1)),
                (FindingKind::Gap, Severity::Warning, Some(2)),
                (FindingKind::ClockRegression, Severity::Warning, Some(3)),
                (FindingKind::Unclosed, Severity::State, None),
            ]
        );
        assert_eq!(report.findings[0].event_id, Some(attempt));
        assert!(report.findings[1].detail.contains('3'));
    }
}

#[test]
fn an_unknown_schema_is_not_judged() {
    let mut ledger = Ledger::new("acme", "chain-1", 100);
    for version in ["1.x", "2.0"] {
        ledger.append_with(ChainClosed::new("shutdown"), [], |event| {
            event.schema_version = version.to_owned();
        });
    }
    ledger.checkpoint();
    for (place, report) in everywhere(&ledger) {
        assert_eq!(faults(&report), [(FindingKind::UnknownSchema, 1, 1)], "{place}");
        assert_eq!(report.exit_code(), 2, "{place}");
    }
}

#[test]
fn a_review_without_a_decision_is_listed_until_it_is_decided() {
    let mut ledger = Ledger::new("acme", "chain-1", 100);
    let reviewer = || Reviewer::new("reviewer-7", ReviewerKind::Human);
    let decide = |review: &str, decision| ReviewDecided::new(review, decision, reviewer());
    // The action holds what looks like the field.
    let asked = ledger.append(ReviewProposed::new("r-1", "a \"review_id\":\"r-9\" b"), []);
    ledger.append(ReviewProposed::new("r-2", "refund"), []);
    ledger.append(decide("r-2", ReviewDecision::Approve), []);
    ledger.append(ReviewProposed::new("r-3", "refund"), []);
    ledger.append(decide("r-3", ReviewDecision::Escalate), []);
    ledger.checkpoint();
    let open = |ledger: &Ledger| {
        everywhere(ledger).map(|(place, report)| {
            assert_eq!(report.verdict(), Verdict::Intact, "{place}");
            let reviews = report.findings.iter().filter(|f| f.kind == FindingKind::OpenReview);
            reviews.map(|f| (f.severity, f.sequence, f.event_id)).collect::<Vec<_>>()
        })
    };
    for found in open(&ledger) {
        assert_eq!(found[0], (Severity::State, Some(1), Some(asked)));
        assert_eq!(found.iter().map(|found| found.1).collect::<Vec<_>>(), [Some(1), Some(4)]);
    }
    for review in ["r-1", "r-3"] {
        ledger.append(decide(review, ReviewDecision::Reject), []);
    }
    ledger.checkpoint();
    assert_eq!(open(&ledger), [const { Vec::new() }; 4]);
}
