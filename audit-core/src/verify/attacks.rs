//! One test for each attack of the list that the verifier is held against: the fault is named, and
//! so is the record; each is tried on the stream, in a store and in the journal.

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

#[test]
fn attack_01_tail_truncated() {
    let mut cut = ledger();
    cut.records.truncate(17);
    found(&cut, &[(FindingKind::Truncated, 17, 20)]);
    cut.records.truncate(20);
    cut.records.pop();
    found(&cut, &[(FindingKind::Truncated, 16, 20)]);
}

#[test]
fn attack_01_truncated_to_zero() {
    let mut cut = ledger();
    cut.records.clear();
    let [(_, stream), (_, store), (_, journal), _] = everywhere(&cut);
    let truncated = (FindingKind::Truncated, 0, 20);
    let nothing = (FindingKind::NothingToVerify, u64::MAX, u64::MAX);
    assert_eq!(faults(&stream), [truncated, nothing]);
    assert_eq!(faults(&store), [truncated]);
    assert_eq!(faults(&journal), [(FindingKind::ChainMissing, u64::MAX, u64::MAX)]);
    assert_eq!(journal.findings[0].chain.as_ref(), Some(&cut.chain));
}

#[test]
fn attack_03_head_truncated() {
    for keep_from in [1, 2, 5, 20] {
        let mut cut = ledger();
        cut.records.drain(..keep_from);
        let last = u64::try_from(keep_from).unwrap() - 1;
        found(&cut, &[(FindingKind::HeadMissing, 0, last)]);
    }
}

#[test]
fn attack_03_genesis_swapped() {
    let mut swapped = ledger();
    let other = Ledger::new("acme", "chain-1", 100);
    swapped.records[0] = other.records[0].clone();
    found(&swapped, &[(FindingKind::Tampered, 0, 0)]);

    // Another event in the first place, and everything behind it linked anew.
    let mut replaced = ledger();
    replaced.edit(0, |text| text.replace("chain.opened", "chain.closed"));
    found(&replaced, &[(FindingKind::Tampered, 0, 0)]);
}

#[test]
fn attack_04_whole_chain_rewritten_without_the_key() {
    let mut rewritten = ledger();
    let honest = rewritten.notes.clone();
    rewritten.records = Ledger::of("acme", "chain-1", 21, 5).records;
    found(&rewritten, &[(FindingKind::Tampered, 0, 4)]);

    // Signed again with a key of the attacker's: nobody trusts it.
    let mut signed = Ledger::of("acme", "chain-1", 21, 100);
    signed.notes.clear();
    signed.key = SigningKey::from_seed(&[66; 32]);
    signed.checkpoint();
    let mut checkpoints = Checkpoints::trusting(&signed.chain, vec![rewritten.key.verifying_key()]);
    for note in signed.notes.iter().chain(&honest) {
        checkpoints.add(note, super::CheckpointSource::Own);
    }
    let mut verifier = ChainVerifier::new(signed.chain.clone(), checkpoints);
    signed.records.iter().for_each(|record| verifier.push(record));
    let report = Report::from_chains([verifier.finish()]);
    assert_eq!(
        faults(&report),
        [(FindingKind::Tampered, 0, 4), (FindingKind::UnknownKey, u64::MAX, u64::MAX)]
    );
}

#[test]
fn attack_04_a_part_rewritten_to_the_end() {
    let mut rewritten = ledger();
    rewritten.edit(12, |text| text.replace("support-agent", "another-agent"));
    rewritten.relink(13);
    found(&rewritten, &[(FindingKind::Tampered, 10, 14)]);
    // The last record has no successor: only the checkpoint tells.
    let mut last = ledger();
    last.edit(20, |text| text.replace("shutdown", "shutd0wn"));
    found(&last, &[(FindingKind::Tampered, 20, 20)]);
}

#[test]
fn attack_06_two_writers_at_once() {
    // Both resume behind record 9, and write in turn.
    let mut first = Ledger::new("acme", "chain-1", 5);
    while first.size() < 10 {
        first.work();
    }
    let mut second = first.clone();
    for _ in 0..6 {
        first.work();
        second.work();
    }
    let mut both = first.clone();
    both.records.truncate(10);
    for at in 10..16 {
        both.records.push(first.records[at].clone());
        both.records.push(second.records[at].clone());
    }
    found(&both, &[(FindingKind::Forked, 10, 15)]);

    // And one after the other.
    both.records.truncate(10);
    both.records.extend_from_slice(&first.records[10..]);
    both.records.extend_from_slice(&second.records[10..]);
    found(&both, &[(FindingKind::Forked, 10, 15)]);
}

#[test]
fn attack_07_reorder() {
    let mut swapped = ledger();
    swapped.records.swap(7, 8);
    found(&swapped, &[(FindingKind::Reordered, 7, 7)]);

    let mut moved = ledger();
    let late = moved.records.remove(3);
    moved.records.insert(12, late);
    found(&moved, &[(FindingKind::Reordered, 3, 3)]);

    let mut block = ledger();
    block.records[4..10].rotate_left(3);
    found(&block, &[(FindingKind::Reordered, 4, 6)]);

    // The positions written anew to match the new order: the links tell.
    let mut renumbered = ledger();
    renumbered.records.swap(7, 8);
    renumbered.relink(7);
    found(&renumbered, &[(FindingKind::Tampered, 5, 9)]);
}

#[test]
fn attack_08_replay() {
    let mut again = ledger();
    again.records.insert(9, again.records[8].clone());
    found(&again, &[(FindingKind::Duplicated, 8, 8)]);

    let mut later = ledger();
    let block = later.records[3..6].to_vec();
    later.records.splice(15..15, block);
    found(&later, &[(FindingKind::Duplicated, 3, 5)]);
}

#[test]
fn attack_08_same_id_with_other_content() {
    let mut ledger = Ledger::new("acme", "chain-1", 4);
    let id = ledger.append(ToolAttempted::new("refund"), [Part::text("input", "10")]);
    ledger.append_with(ToolAttempted::new("refund"), [Part::text("input", "1000")], |event| {
        event.event_id = id;
    });
    ledger.append(ChainClosed::new("shutdown"), []);
    found(&ledger, &[(FindingKind::Duplicated, 2, 2)]);
}

#[test]
fn attack_09_moved_to_another_tenant() {
    // The record as it is, in another tenant's chain.
    let other = Ledger::of("umbrella", "chain-9", 21, 5);
    let mut moved = ledger();
    moved.records.insert(6, other.records[6].clone());
    for (place, report) in everywhere(&moved) {
        let found = faults(&report);
        if matches!(place, "stream" | "store") {
            assert_eq!(found, [(FindingKind::Foreign, 6, 6)], "{place}: {:#?}", sentences(&report));
        } else {
            // The journal has no shelves: there it is a piece of a chain without a beginning.
            assert_eq!(found, [(FindingKind::HeadMissing, 0, 5)], "{:#?}", sentences(&report));
        }
    }
    // In the place of another one.
    let mut replaced = ledger();
    replaced.records[6] = other.records[6].clone();
    assert_eq!(faults(&replaced.verify()), [(FindingKind::Foreign, 6, 6)]);

    // Made to say that it is of the other tenant.
    let mut relabelled = ledger();
    relabelled.edit(6, |text| text.replace(r#""acme""#, r#""globex""#));
    found(&relabelled, &[(FindingKind::Foreign, 6, 6)]);
}

#[test]
fn attack_16_other_spellings_of_json() {
    let big = format!("\"sequence\":{}", u64::MAX);
    for (from, to) in [
        ("\"sequence\":8", "\"sequence\":8,\"sequence\":8"),
        ("\"sequence\":8", "\"sequence\":8.0"),
        ("\"sequence\":8", "\"sequence\":-0"),
        ("\"sequence\":8", big.as_str()),
        ("\"sequence\":8", "\"sequence\": 8"),
        ("support-agent", "support-\\ud800"),
        ("support-agent", "support\\u002dagent"),
        ("\"agent_id\"", "\"\\u0061gent_id\""),
    ] {
        let mut respelled = ledger();
        respelled.edit(8, |text| text.replacen(from, to, 1));
        found(&respelled, &[(FindingKind::Tampered, 8, 8)]);
    }
}

#[test]
fn attack_17_field_boundaries_shifted() {
    for separator in ["|", "\\u001f", "\\\"", "\\\",\\\"session_id\\\":\\\""] {
        let mut before = Ledger::new("acme", "chain-1", 4);
        let joined = format!("support{separator}agent").replace("\\u001f", " ");
        before.append_with(ChainClosed::new("shutdown"), [], |event| {
            event.agent_id = joined.replace('\\', "").parse().unwrap();
        });
        before.work();
        before.checkpoint();
        assert_eq!(before.verify().verdict(), Verdict::Intact);
        // A character leaves one field and enters the next.
        let mut after = before.clone();
        after.edit(1, |text| {
            text.replacen("\"agent_id\":\"s", "\"agent_id\":\"", 1).replacen(
                "\"session_id\":\"",
                "\"session_id\":\"s",
                1,
            )
        });
        found(&after, &[(FindingKind::Tampered, 1, 1)]);
    }
}

#[test]
fn attack_18_every_field_is_under_the_hash() {
    let honest = ledger();
    let at = 6;
    let event: serde_json::Value = serde_json::from_slice(honest.record(at).event_bytes()).unwrap();
    for (field, value) in event.as_object().unwrap() {
        let changed = match value {
            serde_json::Value::Number(_) => serde_json::json!(3),
            serde_json::Value::String(text) if field == "previous_event_hash" => {
                serde_json::json!(text.chars().rev().collect::<String>())
            }
            serde_json::Value::String(text) if field == "event_id" => {
                serde_json::json!(text.replace('7', "6"))
            }
            serde_json::Value::String(text) if field == "timestamp_utc" => {
                serde_json::json!(text.replace('2', "1"))
            }
            serde_json::Value::String(text) => serde_json::json!(format!("{text}x")),
            serde_json::Value::Array(_) => serde_json::json!([]),
            _ => serde_json::json!({"tool": "other"}),
        };
        let mut edited = event.clone();
        edited[field] = changed;
        let mut attacked = honest.clone();
        attacked
            .edit(at, |_| String::from_utf8(crate::canonical::to_vec(&edited).unwrap()).unwrap());
        let report = attacked.verify();
        assert_eq!(report.verdict(), Verdict::Tampered, "{field}");
        let findings = sentences(&report);
        assert!(faults(&report).iter().all(|f| (f.1, f.2) == (6, 6)), "{field}: {findings:#?}");
    }
    // And one added.
    let mut added = honest.clone();
    added
        .edit(at, |text| text.replacen(",\"tenant_id\"", ",\"session_idx\":\"\",\"tenant_id\"", 1));
    found(&added, &[(FindingKind::Tampered, 6, 6)]);
}

#[test]
fn attack_19_odd_leaf_duplicated_and_leaf_taken_for_a_node() {
    // Trees that pair an odd leaf with itself have one root for three leaves and for four.
    let mut odd = Ledger::of("acme", "chain-1", 3, 100);
    odd.records.push(odd.records[2].clone());
    found(&odd, &[(FindingKind::Duplicated, 2, 2)]);
    let leaves: Vec<Hash> =
        odd.records[..3].iter().map(|r| Record::from_bytes(r).unwrap().event_hash()).collect();
    let three: CompactRange = leaves.iter().copied().collect();
    let four: CompactRange = leaves.iter().copied().chain([leaves[2]]).collect();
    assert_ne!(three.root(), four.root());

    // One record whose bytes are what an inner node hashes does not stand in for two.
    let joined = [&[1], leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
    assert_ne!(leaf(&joined[1..]), node(&leaves[0], &leaves[1]));
    let mut merged = Ledger::of("acme", "chain-1", 3, 100);
    merged.records[1] = Record::new(joined, Vec::new()).to_bytes();
    assert_eq!(faults(&merged.verify()), [(FindingKind::Tampered, 1, 1)]);
}

#[test]
fn attack_21_content_changed_and_hash_intact() {
    let mut changed = ledger();
    let record = changed.record(6);
    let mut parts = record.parts().to_vec();
    let PartBody::Clear { bytes, .. } = &mut parts[0] else { panic!("clear") };
    bytes[0] ^= 1;
    changed.records[6] = Record::new(record.event_bytes().to_vec(), parts.clone()).to_bytes();
    found(&changed, &[(FindingKind::ContentMismatch, 6, 6)]);
    assert!(sentences(&changed.verify())[0].contains("part \"output\" was changed"));

    // Another salt; a part taken away; parts exchanged.
    let bodies = record.parts();
    let PartBody::Clear { bytes, .. } = &bodies[0] else { panic!("clear") };
    let resalted = PartBody::Clear { salt: Salt::random(), bytes: bytes.clone() };
    for parts in [
        vec![resalted, bodies[1].clone()],
        vec![bodies[0].clone()],
        vec![bodies[0].clone(), bodies[1].clone(), bodies[1].clone()],
    ] {
        changed.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        found(&changed, &[(FindingKind::ContentMismatch, 6, 6)]);
    }
}

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
fn seam(honest: &Ledger, journal: &[Vec<u8>], store: &[Vec<u8>]) -> Report {
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

#[test]
fn attack_24_erased_content_cannot_be_guessed() {
    let mut ledger = Ledger::new("acme", "chain-1", 5);
    while ledger.size() < 9 {
        ledger.work();
    }
    let destroyed = ledger.append(destroyed(), []);
    let purged = ledger.append(ContentPurged::new("shelf", "retention", "policy-90d"), []);
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    let secret = b"answer 6 for ann@example.com";
    let record = ledger.record(6);
    let view = record.view().unwrap();
    let named = view.content().next().unwrap();
    assert_eq!(record.content("output"), Some(&secret[..]));
    // The commitment of the same text elsewhere is another one, and no unsalted digest fits.
    assert_ne!(
        Part::text("output", "answer 6 for ann@example.com").commit().0.commitment,
        named.commitment
    );
    assert_ne!(commitment(&Salt::from_bytes([0; 32]), secret), named.commitment);
    assert_ne!(leaf(secret), named.commitment);
    // Erased: salt and text are gone, and everything still verifies.
    let gone = absent(AbsentReason::Erased, Some(destroyed));
    let purged = absent(AbsentReason::Purged, Some(purged));
    let PartBody::Clear { salt, .. } = &record.parts()[0] else { panic!("clear") };
    let erased = Record::new(record.event_bytes().to_vec(), vec![gone, purged]).to_bytes();
    assert!(memchr::memmem::find(&erased, secret).is_none());
    assert!(memchr::memmem::find(&erased, salt.as_bytes()).is_none());
    ledger.records[6] = erased;
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.findings, [], "{place}");
        assert_eq!((report.erased, report.purged), (1, 1), "{place}");
        assert_eq!(report.verdict(), Verdict::Intact, "{place}");
    }
}

fn destroyed() -> KeyDestroyed {
    KeyDestroyed::new("key-1", KeyScope::Subject, "dpo-1", "GDPR Art. 17")
}

fn absent(reason: AbsentReason, evidence: Option<EventId>) -> PartBody {
    PartBody::Absent { reason, at: None, evidence }
}

#[test]
fn attack_24_content_removed_without_a_reason_that_the_chain_gives() {
    let mut honest = Ledger::new("acme", "chain-1", 5);
    while honest.size() < 9 {
        honest.work();
    }
    let evidence = honest.append(destroyed(), []);
    honest.append(ChainClosed::new("shutdown"), []);
    honest.checkpoint();
    let part = |body: PartBody| {
        let mut ledger = honest.clone();
        let record = ledger.record(6);
        let parts = vec![body, record.parts()[1].clone()];
        ledger.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        ledger
    };
    let intact = part(absent(AbsentReason::Erased, Some(evidence)));
    for (place, report) in everywhere(&intact) {
        assert_eq!(faults(&report), [], "{place}");
    }
    for (reason, evidence) in [
        // Nothing, an event that is nowhere, one that says something else, one of another reason.
        (AbsentReason::Purged, None),
        (AbsentReason::Erased, Some(EventId::new())),
        (AbsentReason::Erased, Some(honest.record(3).event().unwrap().event_id)),
        (AbsentReason::Purged, Some(evidence)),
    ] {
        let removed = part(absent(reason, evidence));
        for (place, report) in everywhere(&removed) {
            let expected = [(FindingKind::ContentMissing, 6, 6)];
            assert_eq!(faults(&report), expected, "{place}: {:#?}", sentences(&report));
            assert!(report.findings[0].detail.contains("part \"output\" is gone"), "{place}");
            assert_eq!(report.exit_code(), 2, "{place}");
        }
    }
}

#[test]
fn attack_24_content_removed_in_a_store_and_explained_in_the_journal() {
    let mut ledger = Ledger::new("acme", "chain-1", 5);
    while ledger.size() < 9 {
        ledger.work();
    }
    let evidence = ledger.append(destroyed(), []);
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    let report = |evidence: EventId, journal: &[Vec<u8>]| {
        let mut stored = ledger.records[..9].to_vec();
        let record = ledger.record(6);
        let parts = record.parts().iter();
        let parts = parts.map(|_| absent(AbsentReason::Erased, Some(evidence))).collect();
        stored[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        seam(&ledger, journal, &stored)
    };
    for from in [0, 5, 9] {
        assert_eq!(faults(&report(evidence, &ledger.records[from..])), [], "{from}");
        let faults = faults(&report(EventId::new(), &ledger.records[from..]));
        assert_eq!(faults, [(FindingKind::ContentMissing, 6, 6)], "{from}");
    }
}

#[test]
fn attack_24_sealed_garbage() {
    let honest = ledger();
    let sealed = |algorithm, more: usize| {
        let mut ledger = honest.clone();
        let record = ledger.record(6);
        let len = usize::try_from(record.view().unwrap().content().next().unwrap().bytes).unwrap();
        let body = Sealed::new("k", algorithm, vec![0; 12], vec![7; len + more]);
        let parts = vec![PartBody::Sealed(body), record.parts()[1].clone()];
        ledger.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        ledger
    };
    assert_eq!(faults(&sealed(1, 48).verify()), []);
    found(&sealed(1, 47), &[(FindingKind::ContentMismatch, 6, 6)]);
    found(&sealed(1, 0), &[(FindingKind::ContentMismatch, 6, 6)]);
    for (place, report) in everywhere(&sealed(9, 48)) {
        assert_eq!(faults(&report), [(FindingKind::UnknownSeal, 6, 6)], "{place}");
        assert_eq!(report.exit_code(), 2, "{place}");
    }
}

#[test]
fn attack_27_column_edited_and_bytes_intact() {
    let honest = ledger();
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[&honest]);
    write_journal(dir.path(), &[]).close();
    let mut shelf = Shelf::holding(&honest, &honest.records);
    shelf.column = Some((13, "tool_name"));
    let options = VerifyOptions::default().with_store(shelf);
    let report = verify_directory(dir.path(), options).unwrap();
    assert_eq!(faults(&report), [(FindingKind::ColumnMismatch, 13, 13)]);
    let finding = &report.findings[0];
    assert_eq!(finding.place.as_deref(), Some("shelf"));
    assert!(finding.event_id.is_some());
    assert!(finding.detail.contains("tool_name"));
}

#[test]
fn attack_29_oversized_payload_is_recorded_whole() {
    let mut ledger = Ledger::new("acme", "chain-1", 100);
    let huge: Vec<u8> = (0..8u32 << 20).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
    ledger.append(
        ToolAttempted::new("fill"),
        [Part::new("input", "application/octet-stream", huge.clone()), Part::text("empty", "")],
    );
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    assert_eq!(ledger.record(1).content("input"), Some(&huge[..]));
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.verdict(), Verdict::Intact, "{place}: {:#?}", sentences(&report));
    }
    let end = ledger.records[1].len() - 42;
    ledger.records[1][end] ^= 1;
    found(&ledger, &[(FindingKind::ContentMismatch, 1, 1)]);
}

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

mod any_change {
    use proptest::prelude::*;

    use super::*;

    /// What somebody without the key does to one record of a ledger that a checkpoint covers whole.
    #[derive(Debug, Clone)]
    enum Attack {
        Flip { at: prop::sample::Index, byte: prop::sample::Index, bit: u8 },
        Drop(prop::sample::Index),
        Duplicate { at: prop::sample::Index, to: prop::sample::Index },
        Swap(prop::sample::Index, prop::sample::Index),
    }

    fn attack() -> impl Strategy<Value = Attack> {
        let index = any::<prop::sample::Index>;
        prop_oneof![
            6 => (index(), index(), 0u8..8)
                .prop_map(|(at, byte, bit)| Attack::Flip { at, byte, bit }),
            1 => index().prop_map(Attack::Drop),
            1 => (index(), index()).prop_map(|(at, to)| Attack::Duplicate { at, to }),
            1 => (index(), index()).prop_map(|(a, b)| Attack::Swap(a, b)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn is_never_intact(attack in attack(), every in 1u64..8) {
            let mut ledger = Ledger::of("acme", "chain-1", 9, every);
            let records = &mut ledger.records;
            let place = match attack {
                Attack::Flip { at, byte, bit } => {
                    let at = at.index(records.len());
                    let byte = byte.index(records[at].len());
                    records[at][byte] ^= 1 << bit;
                    at..=at
                }
                Attack::Drop(at) => {
                    let at = at.index(records.len());
                    records.remove(at);
                    at..=at
                }
                Attack::Duplicate { at, to } => {
                    let at = at.index(records.len());
                    let to = to.index(records.len() + 1);
                    let record = records[at].clone();
                    records.insert(to, record);
                    at.min(to)..=at.max(to)
                }
                Attack::Swap(a, b) => {
                    let (a, b) = (a.index(records.len()), b.index(records.len()));
                    prop_assume!(a != b);
                    records.swap(a, b);
                    a.min(b)..=a.max(b)
                }
            };
            let report = ledger.verify();
            prop_assert_eq!(report.verdict(), Verdict::Tampered, "{:#?}", sentences(&report));
            // And some finding names the place.
            let named = place.clone().any(|at| {
                let at = u64::try_from(at).unwrap();
                report.findings.iter().any(|finding| finding.is_at(at))
            });
            prop_assert!(named, "{place:?}: {:#?}", sentences(&report));
        }
    }
}
