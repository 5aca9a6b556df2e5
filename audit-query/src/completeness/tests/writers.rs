//! Writers and stores as they are: without an index, twice the same events, with events lost.

use super::{changed::small, *};

#[test]
fn checkpoints_without_an_index_leave_a_hole_and_no_error() {
    let mut world = World::new("c-1", &[], &BTreeSet::new());
    let add = |world: &mut World, count: usize, intervals: &[(usize, usize)]| {
        (0..count).for_each(|_| world.append((1, 0, None, None)));
        world.sign(intervals);
    };
    add(&mut world, 4, &[]);
    let error = world.prove(&session(1)).unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::NotFound);
    assert!(error.to_string().contains("no checkpoint of chain c-1 has an index"), "{error}");
    add(&mut world, 2, &[(4, 6)]);
    add(&mut world, 3, &[]);
    add(&mut world, 3, &[(9, 10), (10, 12)]);
    let proof = world.prove(&session(1)).unwrap();
    let found = world.verify(&proof, &world.answer(&session(1))).unwrap();
    assert_eq!(found.unproven, [0..4, 6..9]);
    assert_eq!(found.uncovered, [0, 1, 2, 3, 6, 7, 8]);
    assert_eq!((found.matching, found.missing.len()), (5, 0));
}

/// A writer that signed some events twice, because its process died in between.
#[test]
fn of_intervals_that_overlap_the_fewest_are_taken() {
    let mut world = World::new("c-1", &[(1, 0, None, None); 3], &BTreeSet::new());
    let size = |count: usize, world: &mut World, intervals: &[(usize, usize)]| {
        (0..count).for_each(|at| world.append((u8::try_from(at % 3).unwrap(), 0, None, None)));
        world.sign(intervals);
    };
    size(2, &mut world, &[(3, 5)]);
    size(2, &mut world, &[(3, 7)]);
    size(2, &mut world, &[(5, 9)]);
    size(2, &mut world, &[(9, 11)]);
    let proof = world.prove(&session(1)).unwrap();
    let json = serde_json::to_value(&proof).unwrap();
    assert_eq!(json["checkpoints"].as_array().unwrap().len(), 4);
    assert!(world.verify(&proof, &world.answer(&session(1))).unwrap().is_complete());
}

#[test]
fn a_store_that_lacks_or_changes_an_event_gives_no_proof() {
    let world = small();
    for lost in 0..10 {
        let mut damaged = world.clone();
        damaged.records.remove(lost);
        let error = damaged.prove(&session(1)).unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
        let mut damaged = world.clone();
        let mut event = damaged.events[lost].clone();
        event.session_id = SessionId::new("another").unwrap();
        damaged.records[lost] = Record::new(event.canonical_bytes().unwrap(), Vec::new());
        let error = damaged.prove(&session(1)).unwrap_err();
        assert!(error.to_string().contains("run `agent-audit verify`"), "{error}");
    }
}

#[test]
fn a_proof_of_another_form_is_refused() {
    let world = small();
    let json = serde_json::to_value(world.prove(&session(1)).unwrap()).unwrap();
    let with = |name: &str, value: serde_json::Value| {
        let mut json = json.clone();
        json[name] = value;
        serde_json::from_value::<CompletenessProof>(json)
    };
    assert!(with("more", 1.into()).is_err(), "an unknown field");
    assert!(with("criteria", serde_json::json!({"agent": ["a"]})).is_err(), "an unknown index");
    let nothing = with("criteria", serde_json::json!({})).unwrap();
    refused(&world, &nothing, RefusedProofKind::Malformed);
    let empty = with("criteria", serde_json::json!({"session": []})).unwrap();
    refused(&world, &empty, RefusedProofKind::Malformed);
    refused(&world, &with("format", 2.into()).unwrap(), RefusedProofKind::UnknownVersion);
    let other = with("criteria", serde_json::json!({"session": ["s \"0\""]})).unwrap();
    refused(&world, &other, RefusedProofKind::Index);
}

/// The whole way: a writer that is stopped and goes on, its checkpoint files, its store.
#[test]
fn the_events_of_a_session_across_restarts() {
    use agent_audit_core::{log::AuditLog, memory::MemorySink};
    let dir = tempfile::tempdir().unwrap();
    let (key, sink) = (SigningKey::from_seed(&[7; 32]), MemorySink::new());
    let hour = std::time::Duration::from_secs(3_600);
    for round in 0..3 {
        let log = AuditLog::builder(dir.path())
            .with_signing_key(key.clone())
            .with_sink(sink.clone())
            .with_checkpoint_every(3, hour)
            .open()
            .unwrap();
        for at in 0..7 {
            let session = log.session("acme", &format!("s-{}", (at + round) % 3), "agent").unwrap();
            session.record_blocking(Other::custom("note").unwrap()).unwrap();
        }
        log.close_blocking(std::time::Duration::from_secs(10)).unwrap();
    }
    let lines = std::fs::read_to_string(dir.path().join("checkpoints/000001.ndjson")).unwrap();
    let checkpoints: Vec<SignedCheckpoint> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["note"].as_str().unwrap().parse().unwrap())
        .collect();
    let store = Arc::new(Scanned::new("memory", sink));
    let ledger = Ledger::new(store, TenantId::new("acme").unwrap());
    let work = async {
        let chain = &ledger.chains().await.unwrap()[0];
        for (criteria, filter) in [
            (
                Criteria::of(Field::Session, "s-1"),
                crate::Filter::new().session("s-1".parse().unwrap()),
            ),
            (
                Criteria::of(Field::EventType, "chain.resumed"),
                crate::Filter::new().event_type("chain.resumed"),
            ),
        ] {
            let proof = prove(&ledger, chain, &checkpoints, &criteria).await.unwrap();
            let events = ledger.all(&filter, crate::Order::Chain, false, 1_000).await.unwrap();
            assert!(!events.is_empty());
            let events: Vec<_> =
                events.iter().map(|found| (found.sequence(), *found.hash())).collect();
            let found = proof.verify(events.iter().copied(), &[key.verifying_key()]).unwrap();
            assert!(found.is_complete(), "{found}");
            assert_eq!(found.size, 3 * 7 + 3 + 3, "events, openings and closings");
            let found = proof.verify(events[1..].to_vec(), &[key.verifying_key()]).unwrap();
            assert_eq!(found.missing, [events[0].0]);
        }
    };
    pollster::block_on(work);
}
