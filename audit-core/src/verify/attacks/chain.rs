//! Records cut, rewritten, moved, repeated and brought from elsewhere.

use super::*;

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
        checkpoints.add(note, crate::verify::CheckpointSource::Own);
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
