//! An honest writer's indexes prove every answer, and nothing that somebody leaves out goes unseen.

mod changed;
mod writers;

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
