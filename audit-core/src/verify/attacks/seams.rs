//! Where one file or process ends and the next begins.

use super::*;

#[test]
fn attack_22_checkpoint_seams() {
    // The record in front of a checkpoint and the one behind it, changed and taken away.
    for at in [4, 5, 9, 10, 14, 15, 19] {
        let position = u64::try_from(at).unwrap();
        let mut changed = ledger();
        changed.edit(at, |text| text.replace("support-agent", "support-agend"));
        found(&changed, &[(FindingKind::Tampered, position, position)]);
        let mut relinked = ledger();
        relinked
            .edit(at, |text| text.replace("previous_event_hash\":\"", "previous_event_hash\":\"0"));
        found(&relinked, &[(FindingKind::Tampered, position, position)]);
        let mut dropped = ledger();
        dropped.records.remove(at);
        found(&dropped, &[(FindingKind::Missing, position, position)]);
    }
}

#[test]
fn attack_22_resume_seam() {
    let honest = ledger();
    for seam in [1, 4, 5, 6, 20] {
        let verifier = |records: &[Vec<u8>]| {
            let mut verifier = ChainVerifier::new(honest.chain.clone(), honest.checkpoints());
            records.iter().for_each(|record| verifier.push(record));
            verifier
        };
        let state = verifier(&honest.records[..seam]).state().unwrap();
        assert_eq!(state.size(), u64::try_from(seam).unwrap());
        let resume = |records: &[Vec<u8>]| {
            let json = serde_json::to_string(&state).unwrap();
            let state = serde_json::from_str(&json).unwrap();
            let checkpoints = honest.checkpoints();
            let mut verifier = ChainVerifier::resume(honest.chain.clone(), checkpoints, state);
            records.iter().for_each(|record| verifier.push(record));
            Report::from_chains([verifier.finish()])
        };
        let at = u64::try_from(seam).unwrap();
        let report = resume(&honest.records[seam..]);
        assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", sentences(&report));
        if seam < 20 {
            let report = resume(&honest.records[seam + 1..]);
            assert_eq!(faults(&report), [(FindingKind::Missing, at, at)], "seam {seam}");
        }
        let mut forked = honest.clone();
        forked.edit(seam - 1, |text| text.replace("support-agent", "support-agend"));
        forked.relink(seam);
        let report = resume(&forked.records[seam..]);
        assert_eq!(faults(&report)[0], (FindingKind::Tampered, at, at), "seam {seam}");
    }
}

/// A log whose journal begins at a position and whose store ends at one.
pub(super) fn seam(honest: &Ledger, journal: &[Vec<u8>], store: &[Vec<u8>]) -> Report {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[honest]);
    write_journal(dir.path(), &[journal]).close();
    let options = VerifyOptions::default()
        .with_trusted_keys([honest.key.verifying_key()])
        .with_store(Shelf::holding(honest, store));
    verify_directory(dir.path(), options).unwrap()
}

#[test]
fn attack_22_trim_seam() {
    let honest = ledger();
    for (from, to) in [(0, 21), (0, 7), (7, 7), (6, 14), (5, 10), (10, 21), (20, 20), (20, 21)] {
        let report = seam(&honest, &honest.records[from..], &honest.records[..to]);
        assert_eq!(report.findings, [], "{from} {to}: {:#?}", sentences(&report));
        assert_eq!((report.events, report.covered), (21, 21), "{from} {to}");
        let stream = honest.verify();
        assert_eq!((report.parts, report.basis), (stream.parts, stream.basis), "{from} {to}");
    }
    // A hole between the store's end and the journal's beginning.
    let report = seam(&honest, &honest.records[9..], &honest.records[..7]);
    assert_eq!(faults(&report), [(FindingKind::Missing, 7, 8)]);
    // The journal cut although the store goes on.
    let report = seam(&honest, &honest.records[5..12], &honest.records);
    assert_eq!(faults(&report), [(FindingKind::Truncated, 12, 20)], "{:#?}", sentences(&report));
}

#[test]
fn attack_22_store_and_journal_disagree() {
    let honest = ledger();
    // Changed in one copy: that copy is named.
    let mut changed = honest.clone();
    changed.edit(9, |text| text.replace("support-agent", "support-agend"));
    let report = seam(&honest, &honest.records[6..], &changed.records[..14]);
    assert_eq!(faults(&report), [(FindingKind::Tampered, 9, 9)], "{:#?}", sentences(&report));
    assert_eq!(report.findings[0].place.as_deref(), Some("shelf"));
    let report = seam(&honest, &changed.records[6..], &honest.records[..14]);
    assert_eq!(faults(&report), [(FindingKind::Tampered, 9, 9)], "{:#?}", sentences(&report));
    assert_eq!(report.findings[0].place.as_deref(), Some("journal"));
    // Two whole histories, neither of them covered by a checkpoint.
    let mut first = Ledger::new("acme", "chain-1", 100);
    while first.size() < 8 {
        first.work();
    }
    let mut second = first.clone();
    first.work();
    second.work();
    first.work();
    second.work();
    let report = seam(&first, &first.records[5..], &second.records);
    assert_eq!(faults(&report), [(FindingKind::Forked, 8, 9)], "{:#?}", sentences(&report));
}

#[test]
fn attack_23_torn_tail_is_readable() {
    let honest = Ledger::of("acme", "chain-1", 12, 100);
    let dir = tempfile::tempdir().unwrap();
    let live = dir.path().join("live");
    write_files(&live, &[&Ledger { notes: Vec::new(), ..honest.clone() }]);
    let journal = write_journal(&live, &[&honest.records[..11]]);
    let torn = append(&journal, &[&[1], &honest.records[11]]);
    journal.durable(torn).wait().unwrap();
    // The machine stops: only half of the last write reaches the disk.
    let dead = dir.path().join("dead");
    copy(&live, &dead);
    let segment = dead.join("journal");
    let segment = std::fs::read_dir(segment)
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = memchr::memmem::find(&bytes, &honest.records[11]).unwrap();
    bytes[at + 40..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    let report = verify_directory(&dead, VerifyOptions::default()).unwrap();
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", sentences(&report));
    assert_eq!(report.events, 11);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert!(kinds.contains(&FindingKind::TornTail), "{kinds:?}");
    assert!(kinds.contains(&FindingKind::Unclosed), "{kinds:?}");
    assert_eq!(report.basis, Basis::ChainOnly);

    // Damage in the middle is another thing: durable bytes were changed.
    let whole = dir.path().join("whole");
    journal.close();
    copy(&live, &whole);
    let name = segment.file_name().unwrap();
    let segment = whole.join("journal").join(name);
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = memchr::memmem::find(&bytes, &honest.records[4]).unwrap();
    bytes[at + 40] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let report = verify_directory(&whole, VerifyOptions::default()).unwrap();
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(report.findings[0].kind, FindingKind::JournalDamaged);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}
