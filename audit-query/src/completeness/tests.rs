//! An honest writer's indexes prove every answer, and nothing that somebody leaves out goes unseen.

use std::{collections::BTreeSet, sync::Arc};

use agent_audit_core::{
    checkpoint::{Checkpoint, SignedCheckpoint, chain_origin},
    event::{
        Event, Other,
        review::{ReviewDecided, ReviewDecision, Reviewer, ReviewerKind},
    },
    hash::Hash,
    id::{ChainId, SessionId, SubjectId, TenantId},
    index::{EntryProof, IndexBuilder},
    key::SigningKey,
    record::Record,
    tree::CompactRange,
};
use proptest::prelude::*;

use super::{interval::IntervalProof, proof::Link, *};
use crate::{Ledger, QueryError, QueryErrorKind, scan::Records, scan::Scanned};

/// Session, type, reviewer where it is a review, subject.
type Values = (u8, u8, Option<u8>, Option<u8>);

fn values() -> impl Strategy<Value = Values> {
    (0..5u8, 0..3u8, prop::option::weighted(0.3, 0..3u8), prop::option::of(0..3u8))
}

/// A chain as its writer left it, and a store of it.
#[derive(Debug, Clone)]
struct World {
    chain: ChainId,
    key: SigningKey,
    events: Vec<Event>,
    records: Vec<Record>,
    checkpoints: Vec<SignedCheckpoint>,
}

impl World {
    /// Checkpoints at these sizes and at the end, each with the index of what came since the last.
    fn new(chain: &str, events: &[Values], sizes: &BTreeSet<usize>) -> Self {
        let mut world = Self {
            chain: ChainId::new(chain).unwrap(),
            key: SigningKey::from_seed(&[7; 32]),
            events: Vec::new(),
            records: Vec::new(),
            checkpoints: Vec::new(),
        };
        let mut from = 0;
        for event in events {
            world.append(*event);
            let size = world.records.len();
            if sizes.contains(&size) || size == events.len() {
                world.sign(&[(from, size)]);
                from = size;
            }
        }
        world
    }

    fn append(&mut self, (session, kind, reviewer, subject): Values) {
        let mut event = match reviewer {
            Some(reviewer) => {
                let reviewer = Reviewer::new(format!("r-{reviewer}"), ReviewerKind::Human);
                Event::example(ReviewDecided::new("review", ReviewDecision::Approve, reviewer))
            }
            None => Event::example(Other::custom(&format!("type_{kind}")).unwrap()),
        };
        event.tenant_id = TenantId::new("acme").unwrap();
        event.chain_id = self.chain.clone();
        event.session_id = SessionId::new(format!("s \"{session}\"")).unwrap();
        event.subject_id = subject.map(|of| SubjectId::new(format!("p-{of}")).unwrap());
        event.sequence = self.records.len() as u64;
        event.previous_event_hash = self.records.last().map_or(Hash::ZERO, Record::event_hash);
        self.records.push(Record::new(event.canonical_bytes().unwrap(), Vec::new()));
        self.events.push(event);
    }

    /// Signs a checkpoint of what there is, with an index of each of these intervals.
    fn sign(&mut self, intervals: &[(usize, usize)]) {
        let tree: CompactRange = self.records.iter().map(Record::event_hash).collect();
        let mut checkpoint =
            Checkpoint::new(chain_origin(self.chain.as_str()), tree.size(), tree.root());
        for (from, size) in intervals {
            let mut builder = IndexBuilder::new(*from as u64);
            for record in &self.records[*from..*size] {
                builder.push(&record.view().unwrap()).unwrap();
            }
            checkpoint.extensions.push(builder.build().root().to_string());
        }
        self.checkpoints.push(checkpoint.sign(&self.key).unwrap());
    }

    fn ledger(&self) -> Ledger {
        let store = Scanned::new("world", self.clone());
        Ledger::new(Arc::new(store), TenantId::new("acme").unwrap())
    }

    fn prove(&self, criteria: &Criteria) -> Result<CompletenessProof, QueryError> {
        let ledger = self.ledger();
        pollster::block_on(prove(&ledger, &self.chain, &self.checkpoints, criteria))
    }

    /// The events that meet the criteria, by the events themselves.
    fn answer(&self, criteria: &Criteria) -> Vec<(u64, Hash)> {
        let has = |event: &Event, field: Field, value: &str| match field {
            Field::EventType => event.event_type().as_str() == value,
            Field::Session => event.session_id.as_str() == value,
            Field::Subject => event.subject_id.as_ref().is_some_and(|id| id.as_str() == value),
            _ => match &event.payload {
                agent_audit_core::event::Payload::ReviewDecided(decided) => {
                    decided.reviewer.reviewer_id == value
                }
                _ => false,
            },
        };
        self.events
            .iter()
            .zip(&self.records)
            .filter(|(event, _)| {
                criteria
                    .fields()
                    .all(|(field, values)| values.iter().any(|value| has(event, field, value)))
            })
            .map(|(event, record)| (event.sequence, record.event_hash()))
            .collect()
    }

    fn verify(
        &self,
        proof: &CompletenessProof,
        events: &[(u64, Hash)],
    ) -> Result<Completeness, RefusedProof> {
        proof.verify(events.iter().copied(), &[self.key.verifying_key()])
    }
}

impl Records for World {
    fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        Ok(vec![TenantId::new("acme").unwrap()])
    }

    fn read(
        &self,
        _: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        self.records.iter().cloned().try_for_each(each)
    }
}

fn session(at: u8) -> Criteria {
    Criteria::of(Field::Session, format!("s \"{at}\""))
}

/// A world, and what is asked of it: of some values, some of which do not occur.
fn question() -> impl Strategy<Value = (World, Criteria)> {
    let sizes = prop::collection::btree_set(1..50usize, 0..8);
    let events = prop::collection::vec(values(), 1..50);
    let value = prop_oneof![
        (0..7u8).prop_map(|at| (Field::Session, format!("s \"{at}\""))),
        (0..4u8).prop_map(|at| (Field::EventType, format!("custom.type_{at}"))),
        Just((Field::EventType, "review.decided".to_owned())),
        (0..4u8).prop_map(|at| (Field::Reviewer, format!("r-{at}"))),
        (0..4u8).prop_map(|at| (Field::Subject, format!("p-{at}"))),
    ];
    let values = prop::collection::vec(value, 1..4);
    (events, sizes, values).prop_map(|(events, sizes, values)| {
        let mut values = values.into_iter();
        let (field, value) = values.next().unwrap();
        let first = Criteria::of(field, value);
        let criteria = values.fold(first, |all, (field, value)| all.and(field, value));
        (World::new("c-1", &events, &sizes), criteria)
    })
}

/// The same proof with another part, by way of its JSON form: what an attacker can write.
fn changed(proof: &CompletenessProof, change: impl FnOnce(&mut Vec<Link>)) -> CompletenessProof {
    let mut json = serde_json::to_value(proof).unwrap();
    let mut links: Vec<Link> = serde_json::from_value(json["checkpoints"].take()).unwrap();
    change(&mut links);
    json["checkpoints"] = serde_json::to_value(links).unwrap();
    serde_json::from_value(json).unwrap()
}

#[track_caller]
fn refused(world: &World, proof: &CompletenessProof, kind: RefusedProofKind) -> String {
    let error = world.verify(proof, &[]).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn attack_26_an_answer_from_which_an_event_is_left_out((world, criteria) in question()) {
        let proof = world.prove(&criteria).unwrap();
        let json = serde_json::to_string(&proof).unwrap();
        prop_assert_eq!(&serde_json::from_str::<CompletenessProof>(&json).unwrap(), &proof);
        let answer = world.answer(&criteria);
        let whole = world.verify(&proof, &answer).unwrap();
        prop_assert!(whole.is_complete(), "{}", whole);
        prop_assert_eq!(whole.size, world.records.len() as u64);
        prop_assert_eq!(whole.matching, answer.len() as u64);
        for left_out in 0..answer.len() {
            let mut events = answer.clone();
            let (position, _) = events.remove(left_out);
            let found = world.verify(&proof, &events).unwrap();
            prop_assert!(!found.is_complete());
            prop_assert_eq!(found.missing, vec![position]);
        }
        for (position, record) in (0..).zip(&world.records) {
            if answer.iter().all(|(at, _)| *at != position) {
                let mut events = answer.clone();
                events.push((position, record.event_hash()));
                prop_assert_eq!(world.verify(&proof, &events).unwrap().foreign, vec![position]);
            }
        }
        if let Some((position, hash)) = answer.first() {
            let twice = [answer.clone(), vec![(*position, *hash)]].concat();
            prop_assert!(world.verify(&proof, &twice).unwrap().is_complete());
            let other = [answer.clone(), vec![(*position, Hash::ZERO)]].concat();
            prop_assert_eq!(world.verify(&proof, &other).unwrap().foreign, vec![*position]);
        }
    }

    /// Whatever one part of a proof is replaced with, of another interval or another question: it is
    /// refused, or says less, and never that something is whole from which an event was left out.
    #[test]
    fn a_patched_proof_never_hides_an_event(
        (world, criteria) in question(),
        other in 0..7u8,
        places: [prop::sample::Index; 4],
    ) {
        let proof = world.prove(&criteria).unwrap();
        let donor = world.prove(&session(other)).unwrap();
        let answer = world.answer(&criteria);
        let left_out = if answer.is_empty() { return Ok(()) } else { places[0].index(answer.len()) };
        let mut events = answer.clone();
        events.remove(left_out);
        let pick = |links: &[Link], of: usize| {
            let link = places[of].index(links.len());
            let entry = places[of + 1].index(links[link].indexes[0].0.len());
            (link, entry)
        };
        let patched = changed(&proof, |links| {
            let (link, entry) = pick(links, 1);
            let donors: Vec<Link> = serde_json::from_value(
                serde_json::to_value(&donor).unwrap()["checkpoints"].take(),
            ).unwrap();
            let (from, part) = pick(&donors, 2);
            links[link].indexes[0].0[entry] = donors[from].indexes[0].0[part].clone();
        });
        if let Ok(found) = world.verify(&patched, &events) {
            prop_assert!(!found.is_complete());
        }
        let fewer = changed(&proof, |links| drop(links.remove(places[3].index(links.len()))));
        match world.verify(&fewer, &events) {
            Ok(found) if found.size == world.records.len() as u64 => {
                prop_assert!(!found.is_complete());
            }
            // A smaller size, which the auditor holds against the checkpoint that they know.
            Ok(_) => {}
            Err(error) => prop_assert!(matches!(
                error.kind(),
                RefusedProofKind::OtherHistory | RefusedProofKind::Malformed
            )),
        }
    }
}

/// Ten events of two sessions in intervals of 0 to 3, 4 to 6 and 7 to 9; session 2 is only in the
/// second.
fn small() -> World {
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
    assert_eq!((found.unproven.clone(), found.size), (vec![4..7], 10));
    assert!(found.to_string().contains("positions 4 to 6 are in no signed index"), "{found}");
    let found = world.verify(&fewer, &world.answer(&session(2))).unwrap();
    assert_eq!(found.uncovered, [5]);
    // Without the first interval, and without the last one.
    let later = changed(&proof, |links| {
        links.remove(0);
        links[0].consistency.clear();
    });
    assert_eq!(world.verify(&later, &[]).unwrap().unproven, [0..4]);
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
