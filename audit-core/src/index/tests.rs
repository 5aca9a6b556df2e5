use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{checkpoint::Checkpoint, tree::EMPTY_ROOT};

/// An event by its type, reviewer, session and subject.
type Values = (u8, Option<u8>, u8, Option<u8>);

fn values() -> impl Strategy<Value = Values> {
    // Few values in each field, so that they come again, and of sessions some more.
    (0..4u8, prop::option::weighted(0.2, 0..3u8), 0..9u8, prop::option::of(0..5u8))
}

/// With quotation marks and whatever else is written otherwise in JSON.
fn text(kind: &str, value: u8) -> String {
    format!("{kind} \"{value}\" \\ ü")
}

/// The value as it stands in JSON.
fn raw(kind: &str, value: u8) -> String {
    unquoted(&serde_json::to_string(&text(kind, value)).unwrap()).to_owned()
}

struct Owned {
    event_type: String,
    reviewer: Option<String>,
    session: String,
    subject: Option<String>,
}

impl Owned {
    fn of((event_type, reviewer, session, subject): Values) -> Self {
        Self {
            event_type: raw("type", event_type),
            reviewer: reviewer.map(|value| raw("reviewer", value)),
            session: raw("session", session),
            subject: subject.map(|value| raw("subject", value)),
        }
    }

    fn terms(&self) -> Terms<'_> {
        Terms {
            event_type: &self.event_type,
            reviewer: self.reviewer.as_deref(),
            session: &self.session,
            subject: self.subject.as_deref(),
        }
    }
}

fn builder(from: u64, events: &[Values]) -> IndexBuilder {
    let mut builder = IndexBuilder::new(from);
    for event in events {
        builder.push_terms(&Owned::of(*event).terms()).unwrap();
    }
    builder
}

/// Every value and its positions, by the shortest code there is.
fn expected(from: u64, events: &[Values]) -> BTreeMap<(Field, String), Vec<u64>> {
    let mut expected: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for (at, event) in (from..).zip(events) {
        let (event_type, reviewer, session, subject) = *event;
        let values = [
            (Field::EventType, "type", Some(event_type)),
            (Field::Reviewer, "reviewer", reviewer),
            (Field::Session, "session", Some(session)),
            (Field::Subject, "subject", subject),
        ];
        for (field, kind, value) in values {
            if let Some(value) = value {
                expected.entry((field, text(kind, value))).or_default().push(at);
            }
        }
    }
    expected
}

proptest! {
    #[test]
    fn an_index_proves_where_each_value_is_and_where_it_is_not(
        from in 0..1_000_000u64,
        events in prop::collection::vec(values(), 1..80),
        absent in 10..255u8,
    ) {
        let index = builder(from, &events).build();
        let root = index.root();
        let expected = expected(from, &events);
        prop_assert_eq!(root.entries, expected.len() as u64);
        prop_assert_eq!((root.from, root.size), (from, from + events.len() as u64));
        for ((field, value), positions) in &expected {
            let key = field.key(value);
            prop_assert_eq!(index.positions(&key), Some(&**positions));
            let proof = index.prove(&key);
            prop_assert_eq!(proof.verify(&key, &root).unwrap(), &**positions);
        }
        for (field, kind) in
            [(Field::EventType, "type"), (Field::Session, "session"), (Field::Subject, "subject")]
        {
            let key = field.key(&text(kind, absent));
            let proof = index.prove(&key);
            prop_assert_eq!(proof.verify(&key, &root).unwrap(), &[] as &[u64]);
            // It says so of no value that is there.
            for (field, value) in expected.keys() {
                prop_assert!(proof.verify(&field.key(value), &root).is_err());
            }
        }
    }

    #[test]
    fn a_proof_that_was_changed_is_refused(
        events in prop::collection::vec(values(), 2..60),
        chosen: prop::sample::Index,
        other: prop::sample::Index,
    ) {
        let index = builder(5, &events).build();
        let root = index.root();
        let expected: Vec<_> = expected(5, &events).into_iter().collect();
        let ((field, value), positions) = chosen.get(&expected);
        let key = field.key(value);
        let EntryProof::Present { positions: found, inclusion } = index.prove(&key) else {
            return Err(TestCaseError::fail("it is there"));
        };
        let with = |positions: Vec<u64>| {
            let proof = EntryProof::Present { positions, inclusion: inclusion.clone() };
            proof.verify(&key, &root).is_err()
        };
        prop_assert_eq!(&found, positions);
        prop_assert!(with(found[1..].to_vec()), "the first is left out");
        prop_assert!(with(found[..found.len() - 1].to_vec()), "the last is left out");
        prop_assert!(with(found.iter().map(|at| at + 1).collect()), "shifted");
        prop_assert!(with(found.iter().rev().chain(&found).copied().collect()), "twice");
        let more = (5..root.size).find(|at| !found.contains(at));
        if let Some(more) = more {
            let mut found = found.clone();
            found.push(more);
            found.sort_unstable();
            prop_assert!(with(found), "one more");
        }
        // Another entry's neighbours do not hide it.
        let ((other_field, other_value), _) = other.get(&expected);
        let absent = index.prove(&other_field.key(&format!("no {other_value}")));
        prop_assert!(absent.verify(&key, &root).is_err());
        if let EntryProof::Absent { before: Some(before), after: Some(after) } = absent {
            let between = EntryProof::Absent { before: Some(after), after: Some(before) };
            prop_assert_eq!(between.verify(&key, &root), Err(EntryProofError::Neighbours));
        }
        // Nor does pretending that the index ends, or begins, beside it.
        for ((side_field, side_value), _) in &expected {
            let side_key = side_field.key(side_value);
            let EntryProof::Present { positions, inclusion } = index.prove(&side_key) else {
                return Err(TestCaseError::fail("it is there"));
            };
            let places = Sha256::digest(builder::bytes_of(&positions)).into();
            let side = Neighbour { key: side_key, places: Hash::from_bytes(places), inclusion };
            let before = EntryProof::Absent { before: Some(side.clone()), after: None };
            let after = EntryProof::Absent { before: None, after: Some(side) };
            prop_assert!(before.verify(&key, &root).is_err());
            prop_assert!(after.verify(&key, &root).is_err());
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written(
        from in 0..1u64 << 53,
        events in 1..=MAX_EVENTS,
        entries in 1..u64::MAX,
        root: [u8; 32],
    ) {
        let root = IndexRoot { from, size: from + events, entries, root: Hash::from_bytes(root) };
        prop_assert_eq!(root.to_string().parse::<IndexRoot>().unwrap(), root);
    }
}

#[test]
fn the_key_is_over_canonical_json() {
    let json = r#"{"field":"session","value":"a \"b\" \\ \n ü"}"#;
    let key = Hash::from_bytes(Sha256::digest(json).into());
    assert_eq!(Field::Session.key("a \"b\" \\ \n ü"), key);
}

#[test]
fn lines_of_a_checkpoint_join_and_reach_its_size() {
    let line =
        |from: u64, size: u64| IndexRoot { from, size, entries: 2, root: EMPTY_ROOT }.to_string();
    let read = |size: u64, lines: &[String]| {
        let mut checkpoint = Checkpoint::new("example.com/log", size, EMPTY_ROOT);
        checkpoint.extensions = lines.to_vec();
        IndexRoot::all_of(&checkpoint)
    };
    let other = "another-extension 1 2 3".to_owned();
    let later = "agent-audit-index/2 in a form of its own".to_owned();
    assert_eq!(read(9, &[]).unwrap(), []);
    assert_eq!(read(9, &[other.clone(), later]).unwrap(), []);
    assert_eq!(read(9, &[line(2, 5), other, line(5, 9)]).unwrap().len(), 2);
    assert!(read(9, &[line(2, 5), line(6, 9)]).is_err(), "a hole");
    assert!(read(9, &[line(5, 9), line(2, 5)]).is_err(), "out of order");
    assert!(read(10, &[line(2, 9)]).is_err(), "not to the end");
    for line in [
        "agent-audit-index/1",
        "agent-audit-index/1 0 0 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "agent-audit-index/1 0 1 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "agent-audit-index/1 00 1 2 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "agent-audit-index/1 0 32769 2 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "agent-audit-index/1 0 1 2 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        "agent-audit-index/1 0 1 2  47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ] {
        assert!(read(1, &[line.to_owned()]).is_err(), "{line}");
    }
}

#[test]
fn an_interval_has_a_bound() {
    let mut builder = IndexBuilder::new(7);
    let event = Owned::of((0, None, 0, None));
    for _ in 0..MAX_EVENTS {
        builder.push_terms(&event.terms()).unwrap();
    }
    assert_eq!(builder.push_terms(&event.terms()), Err(IndexFull));
    assert_eq!(builder.next(), 7 + MAX_EVENTS);
    assert!(builder.build().root().to_string().parse::<IndexRoot>().is_ok());
}

#[test]
fn only_the_reviewer_of_a_decision_counts() {
    let payload = br#"{"decision":"approve","reviewer":{"kind":"human","reviewer_id":"a \"b\""}}"#;
    assert_eq!(reviewer("review.decided", payload), Some(r#"a \"b\""#));
    assert_eq!(reviewer("tool.completed", payload), None);
    for other in [r#"{}"#, r#"{"reviewer":"a"}"#, r#"{"reviewer":{"reviewer_id":7}}"#] {
        assert_eq!(reviewer("review.decided", other.as_bytes()), None, "{other}");
    }
}

#[cfg(feature = "writer")]
mod pending {
    use super::{super::Pending, *};

    fn roots(pending: &Pending) -> Vec<IndexRoot> {
        pending.indexes().roots()
    }

    fn push(pending: &mut Pending, events: &[Values]) {
        for event in events {
            pending.push(pending.next(), &Owned::of(*event).terms());
        }
    }

    proptest! {
        /// Whatever is signed and written down on the way, the next index is that of the events
        /// since the last signed one.
        #[test]
        fn the_next_index_is_of_the_events_that_no_signed_one_covers(
            events in prop::collection::vec(values(), 1..60),
            signed in 0..60usize,
            stored in 0..60usize,
        ) {
            let (signed, stored) = (signed.min(events.len() - 1), stored.min(events.len()));
            let mut pending = Pending::starting_at(0);
            push(&mut pending, &events[..stored]);
            let json = serde_json::to_string(&pending).unwrap();
            let restored: Pending = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&restored, &pending);
            let mut pending = restored;
            push(&mut pending, &events[stored..]);
            pending.signed(signed as u64);
            prop_assert_eq!(pending.start(), signed as u64);
            prop_assert_eq!(pending.next(), events.len() as u64);
            let index = builder(signed as u64, &events[signed..]).build();
            prop_assert_eq!(roots(&pending), vec![index.root()]);
            pending.signed(events.len() as u64);
            prop_assert_eq!(roots(&pending), vec![]);
        }
    }

    /// Without checkpoints for long, memory stays bounded and there is no hole.
    #[test]
    fn full_intervals_are_hashed_and_join() {
        let mut pending = Pending::starting_at(3);
        let events = [(0, None, 0, None), (1, Some(1), 0, None), (2, None, 1, Some(1))];
        let count = 2 * MAX_EVENTS + 10;
        for event in events.iter().cycle().take(usize::try_from(count).unwrap()) {
            push(&mut pending, &[*event]);
        }
        let signed = roots(&pending);
        let sizes: Vec<_> = signed.iter().map(|root| (root.from, root.size)).collect();
        let (first, second) = (3 + MAX_EVENTS, 3 + 2 * MAX_EVENTS);
        assert_eq!(sizes, [(3, first), (first, second), (second, second + 10)]);
        let json = serde_json::to_string(&pending).unwrap();
        let mut restored: Pending = serde_json::from_str(&json).unwrap();
        assert_eq!(roots(&restored), signed);
        restored.signed(first);
        assert_eq!(roots(&restored), signed[1..]);
        restored.signed(second + 4);
        assert_eq!((restored.start(), restored.next()), (second + 4, second + 10));
    }

    #[test]
    fn what_is_not_the_next_event_makes_a_hole_and_no_wrong_index() {
        let mut pending = Pending::starting_at(0);
        push(&mut pending, &[(0, None, 0, None)]);
        pending.push(5, &Owned::of((0, None, 0, None)).terms());
        let signed = roots(&pending);
        assert_eq!((signed.len(), signed[0].from, signed[0].size), (1, 5, 6));
    }

    #[test]
    fn what_is_no_index_is_not_taken_for_one() {
        let fault = |json: &str| serde_json::from_str::<Pending>(json).is_err();
        let entry = |field: &str, positions: &str| {
            format!(r#"{{"field":"{field}","positions":{positions},"value":"a"}}"#)
        };
        let whole =
            |entries: &[String]| format!(r#"{{"from":3,"entries":[{}]}}"#, entries.join(","));
        let kind = entry("event_type", "[3,4]");
        assert!(!fault(&whole(&[kind.clone(), entry("session", "[3,4]")])));
        assert!(fault(&whole(&[kind.clone(), entry("session", "[3]")])), "an event of no session");
        assert!(fault(&whole(&[kind.clone(), entry("session", "[3,4,5]")])), "of no type");
        assert!(fault(&whole(&[kind.clone(), entry("session", "[2,3,4]")])), "before the interval");
        assert!(fault(&whole(&[kind.clone(), kind, entry("session", "[3,4]")])), "twice");
        let root = IndexRoot { from: 0, size: 2, entries: 2, root: EMPTY_ROOT };
        assert!(fault(&format!(r#"{{"from":3,"roots":["{root}"],"entries":[]}}"#)), "a hole");
    }
}
