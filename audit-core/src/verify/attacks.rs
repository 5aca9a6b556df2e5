//! One test for each attack of the list that the verifier is held against: the fault is named, and
//! so is the record; each is tried on the stream, in a store and in the journal.

mod any_change;
mod bytes;
mod chain;
mod content;
mod index;
mod seams;
mod states;

use std::path::Path;

use super::{
    Basis, ChainVerifier, Checkpoints, FindingKind, Report, Severity, Verdict,
    directory::{VerifyOptions, verify_directory},
    testing::{Ledger, Shelf, append, write_files, write_journal},
};
use crate::{
    checkpoint::{Checkpoint, chain_origin},
    content::{AbsentReason, Part, PartBody, Salt, Sealed, commitment},
    event::{
        chain::{ChainClosed, ChainGap, ChainOpened, GapReason},
        content::ContentPurged,
        key::{KeyDestroyed, KeyScope},
        tool::ToolAttempted,
    },
    hash::{Hash, leaf, node},
    id::{EventId, WriterId},
    key::SigningKey,
    record::Record,
    timestamp::Timestamp,
    tree::CompactRange,
};

/// Twenty-one records, with checkpoints of size 5, 10, 15, 20 and 21.
fn ledger() -> Ledger {
    Ledger::of("acme", "chain-1", 21, 5)
}

/// Verifies a log of this chain and an honest other one, wherever its records may be kept.
fn everywhere(ledger: &Ledger) -> [(&'static str, Report); 4] {
    let other = Ledger::of("globex", "chain-2", 30, 7);
    let trusted = || VerifyOptions::default().with_trusted_keys([ledger.key.verifying_key()]);
    let in_directory = |journal: &[&[Vec<u8>]], options: VerifyOptions<'_>| {
        let dir = tempfile::tempdir().unwrap();
        write_files(dir.path(), &[ledger, &other]);
        write_journal(dir.path(), journal).close();
        verify_directory(dir.path(), options).unwrap()
    };
    let shelf = Shelf::holding(ledger, &ledger.records);
    let one = std::num::NonZeroUsize::MIN;
    let two = one.saturating_add(1);
    [
        ("stream", ledger.verify()),
        ("store", in_directory(&[&other.records], trusted().with_store(shelf))),
        ("journal", in_directory(&[&ledger.records, &other.records], trusted().with_threads(one))),
        ("threads", in_directory(&[&other.records, &ledger.records], trusted().with_threads(two))),
    ]
}

/// The faults of a report: kind, first and last position.
fn faults(report: &Report) -> Vec<(FindingKind, u64, u64)> {
    let faults = report.findings.iter().filter(|finding| finding.severity <= Severity::Unsure);
    faults
        .map(|f| {
            let first = f.sequence.unwrap_or(u64::MAX);
            (f.kind, first, f.last_sequence.unwrap_or(first))
        })
        .collect()
}

/// The attack is found everywhere, as exactly these faults.
#[track_caller]
fn found(attacked: &Ledger, expected: &[(FindingKind, u64, u64)]) {
    for (place, report) in everywhere(attacked) {
        assert_eq!(faults(&report), expected, "{place}: {:#?}", sentences(&report));
        assert_eq!(report.exit_code(), 1, "{place}");
        let named = report.findings.iter().filter(|f| f.severity == Severity::Tampering);
        for finding in named {
            assert_eq!(finding.chain.as_ref(), Some(&attacked.chain), "{place}");
        }
    }
}

fn sentences(report: &Report) -> Vec<String> {
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn untouched_is_intact() {
    let ledger = ledger();
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.verdict(), Verdict::Intact, "{place}: {:#?}", sentences(&report));
        assert_eq!(report.findings, [], "{place}");
        assert_eq!(report.basis, Basis::OwnCheckpoint, "{place}");
        assert_eq!(report.covered, report.events, "{place}");
        let expected = if place == "stream" { (1, 1, 21, 5) } else { (2, 2, 51, 10) };
        let counts = (report.tenants, report.chains, report.events, report.checkpoints_checked);
        assert_eq!(counts, expected, "{place}");
    }
}
