//! What is in a log directory, read without the writer, and what must be true of it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use agent_audit::{
    canonical,
    chain::ChainRef,
    hash::Hash,
    journal::{Scan, ScanEnd},
    log::{Layout, entry},
    record::RecordView,
    sqlite::SqliteStore,
    verify::{
        FindingKind, Report, Verdict,
        directory::{VerifyOptions, verify_directory},
    },
};

/// An event that the log has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Ack {
    /// Which process it was acknowledged to.
    pub(crate) round: u64,
    pub(crate) event_type: String,
    pub(crate) tenant: String,
    pub(crate) chain: String,
    pub(crate) sequence: u64,
    pub(crate) event_id: String,
    pub(crate) hash: Hash,
}

impl Ack {
    /// Reads the line of a process; none where it says something else.
    pub(crate) fn read(round: u64, line: &str) -> Option<Self> {
        let words: Vec<_> = line.strip_prefix("ack ")?.split(' ').collect();
        let [event_type, tenant, chain, sequence, event_id, hash] = words[..] else {
            panic!("a garbled line: {line}")
        };
        Some(Self {
            round,
            event_type: event_type.to_owned(),
            tenant: tenant.to_owned(),
            chain: chain.to_owned(),
            sequence: sequence.parse().unwrap(),
            event_id: event_id.to_owned(),
            hash: hash.parse().unwrap(),
        })
    }
}

/// What stands at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) hash: Hash,
    pub(crate) event_id: String,
    pub(crate) event_type: String,
    pub(crate) parent: Option<String>,
    pub(crate) payload: Vec<u8>,
}

impl Place {
    fn status(&self) -> String {
        let payload: serde_json::Value = serde_json::from_slice(&self.payload).unwrap();
        payload["status"].as_str().unwrap().to_owned()
    }
}

pub(crate) type Chains = BTreeMap<(String, String), BTreeMap<u64, Place>>;

/// Everything in the journal, which MUST hold no position twice.
pub(crate) fn journal(dir: &Path) -> Chains {
    let mut chains = Chains::new();
    let mut scan = Scan::open(Layout::new(dir).journal()).unwrap();
    while let Some(found) = scan.next_entry().unwrap() {
        let Some((&entry::RECORD, record)) = found.bytes.split_first() else {
            panic!("an entry of another kind")
        };
        add(&mut chains, RecordView::parse(record).unwrap().event_bytes, "the journal");
    }
    let end = scan.end().unwrap();
    assert!(matches!(end, ScanEnd::Clean { .. } | ScanEnd::Torn { .. }), "{end:?}");
    chains
}

/// Everything in the databases, which MUST hold no position twice.
pub(crate) fn sqlite(dir: &Path) -> Chains {
    let mut chains = Chains::new();
    let directory = Layout::new(dir).sqlite();
    if !directory.exists() {
        return chains;
    }
    let store = SqliteStore::open_read_only(directory).unwrap();
    for tenant in store.tenants().unwrap() {
        for chain in store.chains(&tenant).unwrap() {
            for record in store.records(&chain, 0).unwrap() {
                add(&mut chains, record.unwrap().1.event_bytes(), "sqlite");
            }
        }
    }
    chains
}

/// The log as it is: what was delivered and trimmed from the journal, and what was not.
pub(crate) fn whole(dir: &Path) -> Chains {
    let mut whole = sqlite(dir);
    for (chain, places) in journal(dir) {
        let known = whole.entry(chain.clone()).or_default();
        for (sequence, place) in places {
            if let Some(stored) = known.get(&sequence) {
                assert_eq!(*stored, place, "{chain:?} {sequence}: journal and sqlite disagree");
            }
            known.insert(sequence, place);
        }
    }
    whole
}

fn add(chains: &mut Chains, event_bytes: &[u8], place: &str) {
    let view = canonical::scan(event_bytes).unwrap();
    let chain = (view.tenant_id.to_owned(), view.chain_id.to_owned());
    let before = chains.entry(chain).or_default().insert(
        view.sequence,
        Place {
            hash: agent_audit::hash::leaf(event_bytes),
            event_id: view.event_id.to_owned(),
            event_type: view.event_type.to_owned(),
            parent: view.parent_event_id.map(str::to_owned),
            payload: view.payload.to_vec(),
        },
    );
    assert!(before.is_none(), "{place} holds {} of {} twice", view.sequence, view.chain_id);
}

/// Whether attempts may still be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempts {
    /// The writer died a moment ago.
    MayBeOpen,
    /// The log was opened again and closed.
    AreClosed,
}

/// Holds a directory against everything that was ever acknowledged there.
#[track_caller]
pub(crate) fn check(dir: &Path, acks: &[Ack], attempts: Attempts) -> Chains {
    let whole = whole(dir);
    let mut ids = HashSet::new();
    let mut tenants = HashSet::new();
    for ((tenant, chain), places) in &whole {
        assert!(tenants.insert(tenant), "tenant {tenant} has two chains");
        for (at, (sequence, place)) in (0_u64..).zip(places) {
            assert_eq!(at, *sequence, "chain {chain} has a hole");
            assert!(ids.insert(&place.event_id), "event {} is there twice", place.event_id);
            let opens = place.event_type == "chain.opened";
            assert_eq!(opens, at == 0, "chain {chain} is opened once, at its beginning");
        }
    }
    let mut rounds: HashMap<(&str, u64), u64> = HashMap::new();
    for ack in acks {
        let chain = whole.get(&(ack.tenant.clone(), ack.chain.clone()));
        let place = chain.and_then(|places| places.get(&ack.sequence));
        let place = place.unwrap_or_else(|| panic!("lost what was acknowledged: {ack:?}"));
        assert_eq!(
            (place.hash, &place.event_id, &place.event_type),
            (ack.hash, &ack.event_id, &ack.event_type)
        );
        let twice = rounds.insert((&ack.chain, ack.sequence), ack.round);
        assert_eq!(twice, None, "one place was acknowledged twice: {ack:?}");
    }
    for ((_, chain), places) in &whole {
        check_attempts(chain, places, &rounds, attempts);
        check_resumed(chain, places, &rounds);
    }
    check_verifier(dir, &whole, attempts);
    whole
}

/// Every attempt has one outcome, and it is unknown if and only if its process did not record one.
fn check_attempts(
    chain: &str,
    places: &BTreeMap<u64, Place>,
    rounds: &HashMap<(&str, u64), u64>,
    attempts: Attempts,
) {
    let mut outcomes: HashMap<&str, u64> = HashMap::new();
    for (sequence, place) in places {
        if let ("tool.completed" | "model.decided", Some(parent)) =
            (place.event_type.as_str(), &place.parent)
        {
            let before = outcomes.insert(parent, *sequence);
            assert_eq!(before, None, "attempt {parent} of chain {chain} ends twice");
        }
    }
    let resumed: Vec<u64> = places
        .iter()
        .filter(|(_, place)| place.event_type == "chain.resumed")
        .map(|(sequence, _)| *sequence)
        .collect();
    for (sequence, place) in places {
        if !matches!(place.event_type.as_str(), "tool.attempted" | "model.requested") {
            continue;
        }
        let Some(end) = outcomes.get(place.event_id.as_str()) else {
            assert_eq!(
                attempts,
                Attempts::MayBeOpen,
                "the attempt at {sequence} of chain {chain} has no outcome"
            );
            continue;
        };
        let later = resumed.iter().find(|at| (sequence..end).contains(at));
        let unknown = places[end].status() == "unknown";
        assert_eq!(
            unknown,
            later.is_some(),
            "chain {chain}: the attempt at {sequence} ended at {end}, and was resumed at {later:?}"
        );
        // A process that dies while it opens the log may leave it to the next; one that has opened
        // the log may not.
        let late = later.and_then(|at| (*at..*end).find(|at| rounds.contains_key(&(chain, *at))));
        assert_eq!(late, None, "chain {chain}: recorded before {sequence} was closed at {end}");
    }
}

/// Between what two processes wrote, the chain says that it was resumed.
fn check_resumed(chain: &str, places: &BTreeMap<u64, Place>, rounds: &HashMap<(&str, u64), u64>) {
    let (mut last, mut resumed) = (None, false);
    for (sequence, place) in places {
        resumed |= place.event_type == "chain.resumed";
        let Some(round) = rounds.get(&(chain, *sequence)) else { continue };
        if let Some(last) = last
            && last != *round
        {
            assert!(last < *round, "chain {chain}: process {round} before {last} at {sequence}");
            assert!(resumed, "chain {chain}: process {round} went on at {sequence} unannounced");
        }
        (last, resumed) = (Some(*round), false);
    }
}

fn check_verifier(dir: &Path, whole: &Chains, attempts: Attempts) {
    let report = verify(dir);
    let expected = [FindingKind::Unclosed, FindingKind::TornTail, FindingKind::UnresolvedAttempt];
    let expected = match attempts {
        Attempts::MayBeOpen => &expected[..],
        Attempts::AreClosed => &expected[..1],
    };
    let events: usize = whole.values().map(BTreeMap::len).sum();
    let surprising: Vec<_> =
        report.findings.iter().filter(|finding| !expected.contains(&finding.kind)).collect();
    assert_eq!(report.verdict(), Verdict::Intact, "{surprising:#?}");
    assert!(surprising.is_empty(), "{surprising:#?}");
    assert_eq!(report.events, u64::try_from(events).unwrap());
}

/// The verifier's report on journal and databases together.
pub(crate) fn verify(dir: &Path) -> Report {
    let mut options = VerifyOptions::default();
    let sqlite = Layout::new(dir).sqlite();
    if sqlite.exists() {
        options.stores = SqliteStore::open_read_only(sqlite).unwrap().record_stores().unwrap();
    }
    verify_directory(dir, options).unwrap()
}

/// The chain of a tenant.
#[track_caller]
pub(crate) fn chain_of(chains: &Chains, tenant: &str) -> (ChainRef, BTreeMap<u64, Place>) {
    let ((_, chain), places) = chains.iter().find(|((of, _), _)| of == tenant).unwrap();
    let tenant = agent_audit::id::TenantId::new(tenant).unwrap();
    (ChainRef::new(tenant, agent_audit::id::ChainId::new(chain).unwrap()), places.clone())
}
