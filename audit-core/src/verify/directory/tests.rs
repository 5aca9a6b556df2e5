//! What a directory can be: no log at all, trimmed, unreadable in part, held against other keys.

use std::{cell::Cell, fs, path::Path};

use super::*;
use crate::{
    key::SigningKey,
    verify::{
        Basis, Severity, Verdict,
        testing::{Ledger, Shelf, append, write_files, write_journal},
    },
};

fn log(ledgers: &[&Ledger]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), ledgers);
    let records: Vec<&[Vec<u8>]> = ledgers.iter().map(|l| l.records.as_slice()).collect();
    write_journal(dir.path(), &records).close();
    dir
}

fn verify(dir: &Path, options: VerifyOptions<'_>) -> Report {
    verify_directory(dir, options).unwrap()
}

fn kinds(report: &Report) -> Vec<FindingKind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn what_is_no_log_is_an_error_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let kind = |path: &Path| {
        let error = verify_directory(path, VerifyOptions::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        error.kind()
    };
    assert_eq!(kind(&dir.path().join("none")), VerifyErrorKind::NotFound);
    assert_eq!(kind(dir.path()), VerifyErrorKind::NotALog);
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(kind(&file), VerifyErrorKind::NotALog);
    fs::write(dir.path().join("log.json"), "{").unwrap();
    assert_eq!(kind(dir.path()), VerifyErrorKind::NotALog);
    fs::write(dir.path().join("log.json"), r#"{"format":9}"#).unwrap();
    assert_eq!(kind(dir.path()), VerifyErrorKind::UnknownFormat);
    // A checkpoint file that was asked for and is not there must not be passed over.
    let options = VerifyOptions::default().with_checkpoint_file(dir.path().join("gone.ndjson"));
    let log = log(&[&Ledger::of("acme", "c-1", 5, 5)]);
    let error = verify_directory(log.path(), options).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::NotFound);
}

#[test]
fn nothing_is_not_intact() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[]);
    write_journal(dir.path(), &[]).close();
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!(kinds(&report), [FindingKind::NothingToVerify]);
    assert_eq!((report.verdict(), report.exit_code()), (Verdict::Unsure, 2));
    // Nor is a log without its journal.
    fs::remove_dir_all(dir.path().join("journal")).unwrap();
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(report.findings[0].kind, FindingKind::JournalDamaged);
}

#[test]
fn the_basis_says_where_key_and_checkpoint_come_from() {
    let ledger = Ledger::of("acme", "c-1", 12, 5);
    let dir = log(&[&ledger]);
    let trusted = || VerifyOptions::default().with_trusted_keys([ledger.key.verifying_key()]);
    assert_eq!(verify(dir.path(), VerifyOptions::default()).basis, Basis::OwnKey);
    assert_eq!(verify(dir.path(), trusted()).basis, Basis::OwnCheckpoint);
    let kept = dir.path().join("kept-apart.ndjson");
    fs::copy(dir.path().join("checkpoints/1.ndjson"), &kept).unwrap();
    let report = verify(dir.path(), trusted().with_checkpoint_file(&kept));
    assert_eq!(report.basis, Basis::SeparateCheckpoint);
    // One chain without a checkpoint, and the whole rests on chains alone: nobody vouches for it.
    let bare = Ledger::of("globex", "c-2", 4, 100);
    let dir = log(&[&ledger, &Ledger { notes: Vec::new(), ..bare }]);
    let report = verify(dir.path(), trusted());
    assert_eq!((report.verdict(), report.basis), (Verdict::Unsure, Basis::ChainOnly));
    assert_eq!(kinds(&report), [FindingKind::NotVouched]);
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!((report.verdict(), report.basis), (Verdict::Intact, Basis::ChainOnly));
    assert_eq!((report.covered, report.events), (12, 16));
    // A key that nobody trusts proves nothing.
    let stranger = SigningKey::from_seed(&[9; 32]).verifying_key();
    let report = verify(dir.path(), VerifyOptions::default().with_trusted_keys([stranger]));
    assert_eq!(report.verdict(), Verdict::Unsure);
    let expected = [FindingKind::UnknownKey, FindingKind::NotVouched];
    assert!(kinds(&report).iter().all(|kind| expected.contains(kind)), "{:?}", kinds(&report));
}

/// A file of the checkpoints of a ledger that state at most this size.
fn kept_apart(dir: &Path, ledger: &Ledger, largest: u64) -> PathBuf {
    let mut old = ledger.clone();
    old.notes.retain(|note| note.lines().nth(1).unwrap().parse::<u64>().unwrap() <= largest);
    let kept = dir.join("kept");
    write_files(&kept, &[&old]);
    kept.join("checkpoints/1.ndjson")
}

#[test]
fn a_checkpoint_kept_apart_covers_no_more_than_it_states() {
    // The tail is written by somebody who has the disk, with a key of his own beside the log.
    let forged = Ledger::of("acme", "c-1", 12, 5);
    let dir = log(&[&forged]);
    let kept = kept_apart(dir.path(), &forged, 5);
    let report = verify(dir.path(), VerifyOptions::default().with_checkpoint_file(&kept));
    assert_eq!((report.basis, report.covered, report.events), (Basis::SeparateCheckpoint, 5, 12));
    assert_eq!((report.coverage.own_key, report.coverage.own_checkpoint), (12, 5));
    assert_eq!(report.coverage.separate_checkpoint, 5);
    assert_eq!(kinds(&report), [FindingKind::UncoveredTail]);
    let tail = &report.findings[0];
    assert_eq!((tail.sequence, tail.last_sequence), (Some(5), Some(11)));
    assert_eq!((tail.severity, report.exit_code()), (Severity::Warning, 0));
    // Nor is it said of the tail that nobody can have rewritten it.
    let told = report.explanation();
    assert!(told.contains("the 7 records that they do not cover"), "{told}");
    assert!(told.contains("nobody can have rewritten what they cover"), "{told}");
    // The same where the records are in a store and the journal goes on.
    let shelf = Shelf::holding(&forged, &forged.records[..8]);
    let options = VerifyOptions::default().with_checkpoint_file(&kept).with_store(shelf);
    let report = verify(dir.path(), options);
    assert_eq!((report.basis, report.covered), (Basis::SeparateCheckpoint, 5));
    assert_eq!(kinds(&report), [FindingKind::UncoveredTail]);
}

#[test]
fn a_report_counts_as_covered_what_its_weakest_basis_covers() {
    let (both, own) = (Ledger::of("acme", "c-1", 12, 5), Ledger::of("acme", "c-2", 9, 4));
    let dir = log(&[&both, &own]);
    let kept = kept_apart(dir.path(), &both, 5);
    let options = || VerifyOptions::default().with_trusted_keys([both.key.verifying_key()]);
    let report = verify(dir.path(), options());
    assert_eq!((report.basis, report.covered, report.exit_code()), (Basis::OwnCheckpoint, 21, 0));
    let report = verify(dir.path(), options().with_checkpoint_file(kept));
    assert_eq!((report.basis, report.covered, report.events), (Basis::OwnCheckpoint, 21, 21));
    assert_eq!(report.coverage.separate_checkpoint, 5);
    assert_eq!(kinds(&report), [FindingKind::NotVouched, FindingKind::UncoveredTail]);
    assert_eq!(report.findings[0].chain.as_ref(), Some(&own.chain));
    assert!(report.findings[0].detail.contains("reach to record 8"), "{}", report.findings[0]);
    assert_eq!(report.exit_code(), 2);
}

#[test]
fn with_a_key_given_a_log_without_checkpoints_is_not_vouched_for() {
    let ledger = Ledger::of("acme", "c-1", 12, 5);
    let dir = log(&[&ledger]);
    let options = || VerifyOptions::default().with_trusted_keys([ledger.key.verifying_key()]);
    assert_eq!(verify(dir.path(), options()).exit_code(), 0);
    // An empty file of checkpoints kept apart covers nothing.
    let empty = dir.path().join("empty.ndjson");
    fs::write(&empty, "").unwrap();
    for options in [options(), VerifyOptions::default()] {
        let report = verify(dir.path(), options.with_checkpoint_file(&empty));
        assert_eq!(kinds(&report), [FindingKind::NotVouched]);
        assert_eq!(report.exit_code(), 2);
    }
    // Nor do those beside the log, once they have been removed.
    fs::remove_file(dir.path().join("checkpoints/1.ndjson")).unwrap();
    let report = verify(dir.path(), options());
    assert_eq!(kinds(&report), [FindingKind::NotVouched]);
    assert_eq!(report.findings[0].chain.as_ref(), Some(&ledger.chain));
    assert!(report.findings[0].detail.contains("anybody with the disk"));
    assert_eq!(report.exit_code(), 2);
    assert_eq!(verify(dir.path(), VerifyOptions::default()).exit_code(), 0, "nothing was given");
}

#[test]
fn with_a_key_given_what_was_inserted_whole_is_not_vouched_for() {
    let honest = Ledger::of("acme", "c-1", 12, 5);
    let options = || VerifyOptions::default().with_trusted_keys([honest.key.verifying_key()]);
    for (tenant, id) in [("acme", "c-2"), ("globex", "c-3")] {
        let inserted = Ledger::of(tenant, id, 7, 100);
        let inserted = Ledger { notes: Vec::new(), ..inserted };
        let expected = |report: &Report| {
            assert_eq!(kinds(report), [FindingKind::NotVouched]);
            assert_eq!(report.findings[0].chain.as_ref(), Some(&inserted.chain));
            assert_eq!(report.exit_code(), 2);
        };
        // As a chain of the journal.
        expected(&verify(log(&[&honest, &inserted]).path(), options()));
        // As a store, or a part of one, that the journal knows nothing of.
        let shelf = Shelf::holding(&inserted, &inserted.records);
        expected(&verify(log(&[&honest]).path(), options().with_store(shelf)));
    }
}

#[test]
fn a_replaced_log_is_caught_by_a_checkpoint_kept_apart() {
    let honest = Ledger::of("acme", "c-1", 12, 5);
    let kept = log(&[&honest]);
    let kept = kept.path().join("checkpoints/1.ndjson");
    // Whoever owns the disk and the key writes everything anew.
    let dir = log(&[&Ledger::of("acme", "c-1", 12, 5)]);
    assert_eq!(verify(dir.path(), VerifyOptions::default()).verdict(), Verdict::Intact);
    let report = verify(dir.path(), VerifyOptions::default().with_checkpoint_file(kept));
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(report.findings[0].kind, FindingKind::Forked);
    assert_eq!(report.findings[0].sequence, Some(4));
}

#[test]
fn a_chain_that_is_gone_is_missing_and_a_trimmed_one_is_in_its_store() {
    let (gone, here) = (Ledger::of("acme", "c-1", 6, 5), Ledger::of("acme", "c-2", 60, 5));
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[&gone, &here]);
    let options = crate::journal::JournalOptions::default().with_segment_bytes(4_096);
    let (journal, _) = crate::journal::Journal::open(dir.path().join("journal"), options).unwrap();
    for record in &here.records {
        let ticket = append(&journal, &[&[1], record]);
        journal.durable(ticket).wait().unwrap();
    }
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!(kinds(&report), [FindingKind::ChainMissing]);
    assert_eq!(report.findings[0].chain.as_ref(), Some(&gone.chain));
    assert_eq!(report.exit_code(), 1);

    // What has been acknowledged is trimmed away: without the store nobody can tell.
    journal.trim(40).unwrap();
    let first = journal.first_index();
    assert!((1..=40).contains(&first), "{first}");
    journal.close();
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!(kinds(&report), [FindingKind::ChainMissing, FindingKind::HeadMissing]);
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Unsure));
    assert!(report.findings[1].detail.contains("name the store"));
    assert_eq!((report.exit_code(), report.findings[1].last_sequence), (2, Some(first - 1)));

    // With it everybody can.
    let mut shelf = Shelf::holding(&here, &here.records[..45]);
    shelf.chains.push((gone.chain.clone(), gone.records.clone()));
    let report = verify(dir.path(), VerifyOptions::default().with_store(shelf.clone()));
    assert_eq!(report.findings, []);
    assert_eq!((report.events, report.covered, report.chains), (66, 66, 2));
    // And a store that lacks the chain is no excuse for it.
    shelf.chains.pop();
    let report = verify(dir.path(), VerifyOptions::default().with_store(shelf.clone()));
    assert_eq!(kinds(&report), [FindingKind::ChainMissing]);
    assert_eq!(report.exit_code(), 1);
    // A store that breaks off says nothing about what it did not show.
    shelf.fails_at = Some(3);
    let report = verify(dir.path(), VerifyOptions::default().with_store(shelf));
    assert!(kinds(&report).contains(&FindingKind::StoreUnreadable), "{:?}", kinds(&report));
}

#[test]
fn two_stores_are_both_verified() {
    let ledger = Ledger::of("acme", "c-1", 20, 5);
    let dir = log(&[&ledger]);
    let good = Shelf::holding(&ledger, &ledger.records[..12]);
    let report = verify(
        dir.path(),
        VerifyOptions::default().with_store(good.clone()).with_store(good.clone()),
    );
    assert_eq!(report.findings, []);
    assert_eq!(report.events, 20);
    let mut changed = ledger.clone();
    changed.edit(3, |text| text.replace("support-agent", "support-agend"));
    let bad = Shelf::holding(&ledger, &changed.records[..9]);
    let report = verify(dir.path(), VerifyOptions::default().with_store(good).with_store(bad));
    assert_eq!(kinds(&report), [FindingKind::Tampered]);
    assert!(report.findings[0].is_at(3));
}

#[test]
fn entries_and_checkpoints_that_are_not_known() {
    let ledger = Ledger::of("acme", "c-1", 5, 5);
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[&ledger]);
    let journal = write_journal(dir.path(), &[&ledger.records]);
    append(&journal, &[&[9, 1, 2]]);
    append(&journal, &[&[9]]);
    journal.durable(append(&journal, &[&[1], b"garbage"])).wait().unwrap();
    journal.close();
    let path = dir.path().join("checkpoints/1.ndjson");
    let mut lines = fs::read_to_string(&path).unwrap();
    lines.insert_str(0, "garbage\n");
    lines.push_str("{\"chain_id\":\"c-1\",");
    fs::write(&path, lines).unwrap();
    let report = verify(dir.path(), VerifyOptions::default());
    assert_eq!(
        kinds(&report),
        [
            FindingKind::Tampered,
            FindingKind::BadCheckpoint,
            FindingKind::UnknownEntry,
            FindingKind::TornTail,
        ]
    );
    assert!(report.findings[2].detail.starts_with("2 journal entries"));
}

#[test]
fn progress_comes_to_its_end() {
    let ledger = Ledger::of("acme", "c-1", 50, 20);
    let dir = log(&[&ledger]);
    let last = Cell::new(Progress::default());
    let progress = |now: Progress| {
        assert!(now.events >= last.get().events);
        last.set(now);
    };
    let options = VerifyOptions::default()
        .with_progress(&progress)
        .with_store(Shelf::holding(&ledger, &ledger.records[..20]));
    let report = verify(dir.path(), options);
    assert_eq!(report.events, 50);
    assert_eq!(last.get().events, 70, "twenty of them twice");
    assert_eq!(last.get().total_bytes, Some(last.get().bytes));
}

#[test]
fn a_report_is_stable_json() {
    let mut ledger = Ledger::of("acme", "c-1", 6, 5);
    ledger.records.truncate(4);
    let dir = log(&[&ledger]);
    let report = verify(dir.path(), VerifyOptions::default());
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["basis"], "chain_only");
    assert_eq!(json["events"], 4);
    let finding = &json["findings"][0];
    assert_eq!(finding["kind"], "truncated");
    assert_eq!(finding["severity"], "tampering");
    assert_eq!(finding["chain"]["tenant_id"], "acme");
    assert_eq!((&finding["sequence"], &finding["last_sequence"]), (&4.into(), &5.into()));
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}
