//! Proofs that somebody changed: each is refused, or says less, and it is named what is wrong.

use super::*;

/// Ten events of two sessions in intervals of 0 to 3, 4 to 6 and 7 to 9; session 2 is only in the
/// second.
pub(super) fn small() -> World {
    let of = |session: u8| (session, session % 3, None, None);
    let events = [0, 1, 0, 1, 1, 2, 0, 0, 1, 1].map(of);
    World::new("c-1", &events, &BTreeSet::from([4, 7]))
}

#[test]
fn each_way_to_change_a_proof_is_named() {
    let world = small();
    let proof = world.prove(&session(1)).unwrap();
    let found = world.verify(&proof, &world.answer(&session(1))).unwrap();
    assert_eq!(found.to_string(), "5 of 5 matching events up to position 10");

    let shifted = changed(&proof, |links| {
        let EntryProof::Present { positions, .. } = &mut links[0].indexes[0].0[0] else { panic!() };
        *positions = positions.iter().map(|at| at - 1).collect();
    });
    let said = refused(&world, &shifted, RefusedProofKind::Index);
    assert!(
        said.starts_with("what the proof says of session \"s \\\"1\\\"\" in positions 0 to 3 ")
    );

    let hidden = changed(&proof, |links| {
        links[1].indexes[0].0[0] = EntryProof::Absent { before: None, after: None };
    });
    refused(&world, &hidden, RefusedProofKind::Index);

    // Session 9 is nowhere: its neighbours say nothing of session 1.
    let nowhere = world.prove(&session(9)).unwrap();
    assert!(world.verify(&nowhere, &[]).unwrap().is_complete());
    let of_nowhere = |links: &mut Vec<Link>| {
        let json = serde_json::to_value(&nowhere).unwrap()["checkpoints"].take();
        *links = serde_json::from_value(json).unwrap();
    };
    refused(&world, &changed(&proof, of_nowhere), RefusedProofKind::Index);
    let exchanged = changed(&nowhere, |links| {
        for link in links {
            let EntryProof::Absent { before, after } = &mut link.indexes[0].0[0] else { panic!() };
            std::mem::swap(before, after);
        }
    });
    refused(&world, &exchanged, RefusedProofKind::Index);

    // Another interval's statement, which is true there.
    let moved = changed(&proof, |links| links[0].indexes[0] = links[2].indexes[0].clone());
    refused(&world, &moved, RefusedProofKind::Index);
    let silent = changed(&proof, |links| links[1].indexes[0] = IntervalProof(Vec::new()));
    refused(&world, &silent, RefusedProofKind::Index);
    let none = changed(&proof, |links| links[1].indexes.clear());
    let said = refused(&world, &none, RefusedProofKind::Malformed);
    assert!(said.contains("leaves out an index of the checkpoint of size 7"), "{said}");

    let other = World::new("c-2", &[(1, 0, None, None); 4], &BTreeSet::new());
    let foreign = other.prove(&session(1)).unwrap();
    let mixed = changed(&proof, |links| {
        let json = serde_json::to_value(&foreign).unwrap()["checkpoints"].take();
        *links = serde_json::from_value(json).unwrap();
    });
    let said = refused(&world, &mixed, RefusedProofKind::OtherChain);
    assert_eq!(said, "the checkpoint of size 4 is of another chain");

    let stranger = World { key: SigningKey::from_seed(&[8; 32]), ..world.clone() };
    let said = refused(&stranger, &proof, RefusedProofKind::UnknownKey);
    assert!(said.starts_with("the checkpoint of size 4 is not signed by a trusted key"), "{said}");
    let edited = changed(&proof, |links| {
        links[1].note =
            links[1].note.replacen("agent-audit-index/1 4 7", "agent-audit-index/1 5 7", 1);
    });
    refused(&world, &edited, RefusedProofKind::BadSignature);
    let unreadable = changed(&proof, |links| links[1].note.clear());
    refused(&world, &unreadable, RefusedProofKind::Malformed);
}

#[test]
fn an_interval_that_is_left_out_is_a_hole() {
    let world = small();
    let proof = world.prove(&session(2)).unwrap();
    assert_eq!(world.answer(&session(2)).len(), 1);
    // The link after the hole goes on from the one before it by a proof of its own.
    let tree = agent_audit_core::tree::MerkleTree::from_leaves(
        &world.records.iter().map(Record::event_hash).collect::<Vec<_>>(),
    );
    let fewer = changed(&proof, |links| {
        links.remove(1);
        links[1].consistency = tree.consistency_proof(4, 10).unwrap().hashes;
    });
    let found = world.verify(&fewer, &[]).unwrap();
    assert!(!found.is_complete());
    assert_eq!((found.unproven.clone(), found.size), (Vec::from_iter(std::iter::once(4..7)), 10));
    assert!(found.to_string().contains("positions 4 to 6 are in no signed index"), "{found}");
    let found = world.verify(&fewer, &world.answer(&session(2))).unwrap();
    assert_eq!(found.uncovered, [5]);
    // Without the first interval, and without the last one.
    let later = changed(&proof, |links| {
        links.remove(0);
        links[0].consistency.clear();
    });
    assert_eq!(world.verify(&later, &[]).unwrap().unproven, Vec::from_iter(std::iter::once(0..4)));
    let shorter = changed(&proof, |links| drop(links.pop()));
    let found = world.verify(&shorter, &world.answer(&session(2))).unwrap();
    assert!(found.is_complete() && found.size == 7, "as far as it says");
}

/// A log that was restored from a backup has two histories under one key: a proof is of one.
#[test]
fn intervals_of_two_histories_are_no_proof() {
    let world = small();
    let mut other = World { checkpoints: world.checkpoints[..1].to_vec(), ..world.clone() };
    other.events.truncate(4);
    other.records.truncate(4);
    for session in [0, 0, 0] {
        other.append((session, 0, None, None));
    }
    other.sign(&[(4, 7)]);
    for session in [1, 1, 1] {
        other.append((session, 0, None, None));
    }
    other.sign(&[(7, 10)]);
    // In the other history session 2 never was.
    let (ours, theirs) = (world.prove(&session(2)).unwrap(), other.prove(&session(2)).unwrap());
    assert!(other.verify(&theirs, &[]).unwrap().is_complete());
    let theirs: Vec<Link> =
        serde_json::from_value(serde_json::to_value(&theirs).unwrap()["checkpoints"].take())
            .unwrap();
    let mixed = changed(&ours, |links| links[1] = theirs[1].clone());
    let said = refused(&world, &mixed, RefusedProofKind::OtherHistory);
    assert!(said.starts_with("the checkpoint of size 10 "), "{said}");
    let unordered = changed(&ours, |links| links.swap(0, 1));
    refused(&world, &unordered, RefusedProofKind::OtherHistory);
}
