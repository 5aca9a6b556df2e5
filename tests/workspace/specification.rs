//! `docs/SPEC.md` is true: every example in it is recomputed by the code that users run.

use std::{
    collections::HashMap, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use agent_audit::{
    AuditLog, ToolCall, canonical,
    chain::ChainRef,
    checkpoint::{SignedCheckpoint, chain_origin},
    content::{PartBody, Salt, commitment},
    event::{Event, EventType},
    hash::{self, Hash},
    id::TenantId,
    index::{EntryProof, Field, IndexBuilder, IndexRoot},
    journal::{Journal, JournalOptions},
    key::{SigningKey, VerifyingKey},
    record::Record,
    tree::{ConsistencyProof, InclusionProof, MerkleTree},
    verify::{Basis, ChainVerifier, CheckpointSource, Checkpoints, Report, Verdict},
};
use agent_audit_query::completeness::CompletenessProof;
use sha2::{Digest as _, Sha256};

/// The examples of the page by name: each is a fenced block behind a comment that names it.
struct Spec {
    text: String,
    examples: HashMap<String, String>,
}

impl Spec {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/SPEC.md");
        let text = fs::read_to_string(path).unwrap();
        let mut examples = HashMap::new();
        for piece in text.split("<!-- example: ").skip(1) {
            let (name, rest) = piece.split_once(" -->\n```").unwrap();
            let body = rest.split_once('\n').unwrap().1;
            let body = body.split_once("\n```").unwrap().0;
            assert!(examples.insert(name.to_owned(), body.to_owned()).is_none(), "twice: {name}");
        }
        Self { text, examples }
    }

    fn get(&self, name: &str) -> &str {
        self.examples.get(name).unwrap_or_else(|| panic!("no example {name:?} in the page"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            self.get(name).bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        assert_eq!(digits.len() % 2, 0);
        digits.chunks(2).map(byte).collect()
    }

    fn hash(&self, name: &str) -> Hash {
        self.get(name).parse().unwrap()
    }

    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(self.get(name)).unwrap()
    }

    fn leaves(&self) -> [Hash; 3] {
        [0, 1, 2].map(|n| self.hash(&format!("event {n} hash")))
    }

    fn key(&self) -> SigningKey {
        let seed = self.get("key file").rsplit(' ').next().unwrap();
        SigningKey::from_seed_base64(seed).unwrap()
    }

    fn chain(&self) -> ChainRef {
        let event = Event::from_slice(self.get("event 0").as_bytes()).unwrap();
        ChainRef::new(event.tenant_id, event.chain_id)
    }
}

#[test]
fn events_are_canonical_and_have_their_hash() {
    let spec = Spec::read();
    for n in 0..3 {
        let bytes = spec.get(&format!("event {n}")).as_bytes();
        let event = Event::from_slice(bytes).unwrap();
        assert_eq!(event.canonical_bytes().unwrap(), bytes, "event {n}");
        assert_eq!(hash::leaf(bytes), spec.leaves()[n], "event {n}");
        assert_eq!(usize::try_from(event.sequence).unwrap(), n);
        let previous = n.checked_sub(1).map_or(Hash::ZERO, |before| spec.leaves()[before]);
        assert_eq!(event.previous_event_hash, previous, "event {n}");
    }
    let length = format!("Event 0, of {} bytes", spec.get("event 0").len());
    assert!(spec.text.contains(&length), "{length}");
}

#[test]
fn limits_and_types_are_those_of_the_code() {
    let spec = Spec::read();
    assert_eq!((canonical::MAX_INTEGER, canonical::MAX_DEPTH), ((1 << 53) - 1, 64));
    for kind in EventType::ALL {
        let quoted = format!("`{}`", kind.as_str());
        assert!(spec.text.contains(&quoted), "the page does not name {quoted}");
    }
    for field in ["$serde_json::private::x", "", "é", "a\"b"] {
        let object = HashMap::from([(field, 1)]);
        assert!(canonical::to_vec(&object).is_err(), "{field:?} is a key");
    }
}

#[test]
fn the_commitment_follows_from_salt_and_plaintext() {
    let spec = Spec::read();
    let salt = Salt::from_bytes(spec.bytes("salt").try_into().unwrap());
    let plaintext = spec.get("plaintext").as_bytes();
    assert_eq!(commitment(&salt, plaintext), spec.hash("commitment"));
    let event = Event::from_slice(spec.get("event 1").as_bytes()).unwrap();
    assert_eq!(event.content[0].commitment, spec.hash("commitment"));
    assert_eq!(event.content[0].bytes, u64::try_from(plaintext.len()).unwrap());
}

#[test]
fn the_record_is_the_event_and_its_content() {
    let spec = Spec::read();
    let bytes = spec.bytes("record");
    let record = Record::from_bytes(&bytes).unwrap();
    assert_eq!(record.event_bytes(), spec.get("event 1").as_bytes());
    assert_eq!(record.content("input"), Some(spec.get("plaintext").as_bytes()));
    assert_eq!(record.to_bytes(), bytes);
    assert!(spec.text.contains(&format!("Event 1 with its part, {} bytes", bytes.len())));
}

#[test]
fn tree_and_proofs_hold() {
    let spec = Spec::read();
    let leaves = spec.leaves();
    let tree = MerkleTree::from_leaves(&leaves);
    assert_eq!(hash::node(&leaves[0], &leaves[1]), spec.hash("node"));
    assert_eq!(tree.root(), spec.hash("root"));

    let inclusion: InclusionProof = serde_json::from_value(spec.json("inclusion proof")).unwrap();
    assert_eq!(tree.inclusion_proof(1).unwrap(), inclusion);
    inclusion.verify(&leaves[1], &tree.root()).unwrap();
    let consistency: ConsistencyProof =
        serde_json::from_value(spec.json("consistency proof")).unwrap();
    assert_eq!(tree.consistency_proof(2, 3).unwrap(), consistency);
    consistency.verify(&spec.hash("node"), &tree.root()).unwrap();
}

#[test]
fn the_checkpoint_is_what_the_key_signs() {
    let spec = Spec::read();
    let note = format!("{}\n", spec.get("checkpoint"));
    let signed: SignedCheckpoint = note.parse().unwrap();
    let origin = chain_origin(spec.chain().chain_id.as_str());
    let key: VerifyingKey = spec.get("public key").parse().unwrap();
    let checkpoint = signed.verify(&origin, &[key]).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (3, spec.hash("root")));
    assert_eq!(spec.key().sign_checkpoint(checkpoint).unwrap().to_string(), note);
    let verifier = key.note_verifier(&origin).unwrap().to_string();
    assert_eq!(verifier, spec.get("verifier key"));
    let key_id = verifier.split('+').nth(1).unwrap();
    assert!(spec.text.contains(&format!("The key id is `{key_id}`")), "{key_id}");
}

#[test]
fn the_index_of_the_checkpoint_is_that_of_the_events() {
    let spec = Spec::read();
    let mut builder = IndexBuilder::new(0);
    for n in 0..3 {
        let event = spec.get(&format!("event {n}"));
        builder.push(&canonical::scan(event.as_bytes()).unwrap()).unwrap();
    }
    let index = builder.build();
    let note = format!("{}\n", spec.get("checkpoint"));
    let signed: SignedCheckpoint = note.parse().unwrap();
    assert_eq!(IndexRoot::all_of(signed.unverified()).unwrap(), [index.root()]);

    // Entry by entry, with nothing but SHA-256 and the formulas of the page.
    let entries: Vec<Hash> =
        spec.get("index entries").split_whitespace().map(|hash| hash.parse().unwrap()).collect();
    let named: [(Field, &str, &[u64]); 5] = [
        (Field::EventType, "chain.opened", &[0]),
        (Field::Session, "agent-audit", &[0]),
        (Field::EventType, "tool.completed", &[2]),
        (Field::EventType, "tool.attempted", &[1]),
        (Field::Session, "s-1", &[1, 2]),
    ];
    let mut leaves = Vec::new();
    for (entry, (field, value, positions)) in entries.chunks(2).zip(named) {
        let key = serde_json::json!({"field": field.as_str(), "value": value}).to_string();
        assert_eq!(entry[0], Hash::from_bytes(Sha256::digest(key).into()), "{value}");
        assert_eq!(field.key(value), entry[0]);
        let places: Vec<u8> = positions.iter().flat_map(|at| at.to_le_bytes()).collect();
        assert_eq!(entry[1], Hash::from_bytes(Sha256::digest(places).into()), "{value}");
        assert_eq!(index.positions(&entry[0]), Some(positions));
        leaves.push(hash::leaf(&[*entry[0].as_bytes(), *entry[1].as_bytes()].concat()));
    }
    assert_eq!(MerkleTree::from_leaves(&leaves).root(), index.root().root);

    let absent: EntryProof = serde_json::from_value(spec.json("absence proof")).unwrap();
    let key = Field::Session.key("s-2");
    assert_eq!(index.prove(&key), absent);
    assert_eq!(absent.verify(&key, &index.root()).unwrap(), [0; 0]);
    assert!(spec.text.contains(&format!("Its key begins with `{}`", &key.to_string()[..4])));
}

#[test]
fn the_proof_of_completeness_shows_what_is_left_out() {
    let spec = Spec::read();
    let proof: CompletenessProof = serde_json::from_value(spec.json("completeness proof")).unwrap();
    assert_eq!(serde_json::to_value(&proof).unwrap(), spec.json("completeness proof"));
    let key: VerifyingKey = spec.get("public key").parse().unwrap();
    let [_, first, second] = spec.leaves();
    let verify = |events: &[(u64, Hash)]| proof.verify(events.to_vec(), &[key]).unwrap();
    let whole = verify(&[(1, first), (2, second)]);
    assert!(whole.is_complete(), "{whole}");
    assert_eq!((whole.size, whole.root), (3, spec.hash("root")));
    assert_eq!(verify(&[(1, first)]).missing, [2]);
}

#[test]
fn the_three_events_are_an_intact_chain_under_the_checkpoint() {
    let spec = Spec::read();
    let record = |n: usize, parts| {
        Record::new(spec.get(&format!("event {n}")).as_bytes().to_vec(), parts).to_bytes()
    };
    // The body of event 2 is not on the page, only that its salt follows that of event 1.
    let salt: Vec<u8> = (32..64).collect();
    let salt = Salt::from_bytes(salt.try_into().unwrap());
    let body = PartBody::Clear { salt, bytes: b"refunded".to_vec() };
    let records = [record(0, Vec::new()), spec.bytes("record"), record(2, vec![body])];

    let verify = |records: &[Vec<u8>]| {
        let key = spec.get("public key").parse().unwrap();
        let mut checkpoints = Checkpoints::trusting(&spec.chain(), vec![key]);
        checkpoints.add(&format!("{}\n", spec.get("checkpoint")), CheckpointSource::Separate);
        let mut verifier = ChainVerifier::new(spec.chain(), checkpoints);
        records.iter().for_each(|record| verifier.push(record));
        Report::from_chains([verifier.finish()])
    };
    let report = verify(&records);
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
    assert_eq!((report.basis, report.covered), (Basis::SeparateCheckpoint, 3));
    assert_eq!((report.checkpoints_checked, report.indexes_checked), (1, 1));
    assert_eq!(verify(&records[..2]).verdict(), Verdict::Tampered);
}

#[test]
fn a_journal_is_written_and_read_as_specified() {
    let spec = Spec::read();
    let names = ["segment header", "batch", "frame", "mark"];
    let example: Vec<u8> = names.iter().flat_map(|name| spec.bytes(name)).collect();

    // Read: the checksums are right.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("00000000000000000000.journal");
    fs::write(&file, &example).unwrap();
    let (journal, recovered) = Journal::open(dir.path(), JournalOptions::default()).unwrap();
    assert_eq!((recovered.next_index, recovered.torn), (1, None));
    let mut entry = Vec::new();
    assert_eq!(journal.reader(0).unwrap().next(&mut entry).unwrap(), Some(0));
    assert_eq!(entry, b"a");
    drop(journal);

    // Written: everything else is, but for the salt, the size of the file and what depends on both.
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(dir.path(), JournalOptions::default()).unwrap();
    let permit = journal.admit_blocking(1).unwrap();
    let ticket = journal.append(permit, &[b"a"]).unwrap();
    journal.durable(ticket).wait().unwrap();
    let written = fs::read(dir.path().join("00000000000000000000.journal")).unwrap();
    for range in [0..24, 40..60, 64..108, 112..121] {
        assert_eq!(written[range.clone()], example[range.clone()], "bytes {range:?}");
    }
}

#[test]
fn the_small_files_are_as_specified() {
    let spec = Spec::read();
    assert_eq!(spec.json("checkpoint line")["note"], format!("{}\n", spec.get("checkpoint")));
    assert_eq!(spec.key().verifying_key().to_string(), spec.get("public key"));
    assert_eq!(spec.key().verifying_key().id(), spec.get("public key id"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signing.key");
    fs::write(&path, format!("{}\n", spec.get("key file"))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let key = SigningKey::load_or_create(&path).unwrap();
    assert_eq!(key.verifying_key(), spec.key().verifying_key());

    let chains = spec.get("chains.json");
    let seal_at = chains.rfind('\n').unwrap() + 1;
    let sum = Hash::from_bytes(Sha256::digest(&chains[..seal_at]).into());
    assert_eq!(&chains[seal_at..], format!(r#"{{"sha256":"{sum}"}}"#));

    let cursor = spec.get("cursor");
    let (checksum, rest) = cursor.strip_prefix(r#"{"format":2,"checksum":""#).unwrap().split_at(8);
    let (position, rest) =
        rest.strip_prefix(r#"","position":"#).unwrap().split_once(r#","chains":"#).unwrap();
    let (chains, missing) = rest.split_once(r#","missing":"#).unwrap();
    let signed = format!("[{position},{chains},{}]", missing.strip_suffix('}').unwrap());
    assert_eq!(checksum, format!("{:08x}", crc32c::crc32c(signed.as_bytes())));
}

#[test]
fn a_quarantined_event_is_its_record_and_why_it_was_refused() {
    let spec = Spec::read();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("event.json");
    fs::write(&path, spec.get("quarantined event")).unwrap();
    let (event, record) = agent_audit::delivery::read_quarantined(&path).unwrap();
    assert_eq!(record.to_bytes(), spec.bytes("record"));
    assert_eq!(event.event_hash.to_string(), spec.get("event 1 hash"));
    assert_eq!((event.sequence, event.chain.tenant_id.as_str()), (1, "acme"));
    assert_eq!(event.message, "sink rejected: larger than the collector takes");
}

/// A log that was written just now has the files of the page, with the fields of its examples.
#[test]
fn a_log_directory_has_the_files_of_the_page() {
    let spec = Spec::read();
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::builder(dir.path())
        .with_signing_key(spec.key())
        .with_sink(agent_audit::memory::MemorySink::new())
        .open()
        .unwrap();
    let session = log.session("acme", "s-1", "support-agent").unwrap();
    drop(session.attempt_tool_blocking(ToolCall::new("refund")).unwrap());
    assert!(log.close_blocking(Duration::from_secs(60)).unwrap().is_complete());

    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    let shape = |text: &str| shape(&serde_json::from_str(text).unwrap());
    assert_eq!(shape(&read("log.json")), shape(spec.get("log.json")));
    let written: serde_json::Value = serde_json::from_str(&read("log.json")).unwrap();
    assert_eq!(written["format"], spec.json("log.json")["format"]);
    assert_eq!(spec.json("event 0")["writer_id"], spec.json("log.json")["writer_id"]);
    let (chains, example) = (read("chains.json"), spec.get("chains.json"));
    assert_eq!(chains.lines().count(), 3);
    for (line, example) in chains.lines().zip(example.lines()) {
        assert_eq!(shape(line), shape(example));
    }
    for line in read("checkpoints/000001.ndjson").lines() {
        assert_eq!(shape(line), shape(spec.get("checkpoint line")));
    }
    assert_eq!(shape(&read("cursors/memory.json")), shape(spec.get("cursor")));
    let public = format!("keys/{}.pub", spec.get("public key id"));
    assert_eq!(read(&public), format!("{}\n", spec.get("public key")));

    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["chains.json", "checkpoints", "cursors", "journal", "keys", "log.json"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for name in names {
        let path = dir.path().join(name);
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&path), expected, "{}", path.display());
    }
}

/// The states of a tenant, their tree and the file that keeps them; verified as an auditor does.
#[test]
fn tenant_checkpoints_are_as_specified() {
    use agent_audit_query::integrity::{TenantCheckpoints, TenantState, tenant_origin};
    let spec = Spec::read();
    let key: VerifyingKey = spec.get("public key").parse().unwrap();
    let states = [0, 1].map(|n| {
        let bytes = spec.get(&format!("tenant state {n}")).as_bytes();
        let state = TenantState::from_slice(bytes).unwrap();
        assert_eq!(state.canonical_bytes(), bytes, "state {n}");
        assert_eq!(state.hash(), spec.hash(&format!("tenant state {n} hash")), "state {n}");
        state
    });
    assert_eq!((states[0].number, states[0].previous), (0, Hash::ZERO));
    assert_eq!((states[1].number, states[1].previous), (1, states[0].hash()));
    let [chain] = &states[1].chains[..] else { panic!("one chain") };
    assert_eq!((chain.size, chain.root), (3, spec.hash("root")));
    assert_eq!((chain.head, &chain.chain_id), (spec.leaves()[2], &spec.chain().chain_id));

    let tree = MerkleTree::from_leaves(&states.each_ref().map(TenantState::hash));
    assert_eq!(tree.root(), spec.hash("tenant root"));
    let note = format!("{}\n", spec.get("tenant checkpoint"));
    let signed: SignedCheckpoint = note.parse().unwrap();
    let origin = &states[0].origin;
    let id = origin.rsplit('/').next().unwrap();
    assert_eq!(*origin, tenant_origin(id));
    let checkpoint = signed.verify(origin, &[key]).unwrap();
    assert_eq!((checkpoint.size, checkpoint.root), (2, tree.root()));
    assert_eq!(spec.key().sign_checkpoint(checkpoint).unwrap().to_string(), note);
    let key_id = key.note_verifier(origin).unwrap().to_string();
    let key_id = key_id.split('+').nth(1).unwrap().to_owned();
    assert!(spec.text.contains(&format!("The key id is `{key_id}`")), "{key_id}");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("{id}.ndjson"));
    fs::write(&path, format!("{}\n", spec.get("tenant checkpoints"))).unwrap();
    let read = TenantCheckpoints::read(&path, &[key]).unwrap();
    assert_eq!((read.len(), read.origin()), (2, &**origin));
    assert_eq!(read.state(1), Some(&states[1]));
    assert_eq!(read.note(1).unwrap().to_string(), note);
    let (first, second) = (read.note(0).unwrap().unverified(), checkpoint);
    read.consistency_proof(1, 2).unwrap().verify(&first.root, &second.root).unwrap();
}

/// The export of the page is intact, and is what an exporter writes but for the time and its version.
#[test]
fn the_export_is_as_specified() {
    use agent_audit_query::{
        Filter, Ledger,
        export::{
            ExportCompleteness, ExportVerdict, Exporter, LogCheckpoints, VerifyOptions, verify,
        },
        scan::Scanned,
    };
    let spec = Spec::read();
    let key = spec.key();
    let files = [
        ("checkpoints.ndjson", format!("{}\n", spec.get("checkpoint line"))),
        ("events-000001.ndjson", format!("{}\n", spec.get("exported events"))),
        ("proofs.ndjson", format!("{}\n", spec.get("exported proofs"))),
        ("manifest.json", spec.get("manifest").to_owned()),
        ("manifest.note", format!("{}\n", spec.get("manifest note"))),
    ];
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in &files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let options = VerifyOptions::default()
        .with_exporter_keys([key.verifying_key()])
        .with_log_keys([key.verifying_key()]);
    let report = verify(dir.path(), options).unwrap();
    assert_eq!(report.verdict(), ExportVerdict::Intact, "{:?}", report.findings);
    assert_eq!(report.completeness, ExportCompleteness::Proven);
    assert_eq!((report.events, report.covered), (2, 2));

    let salt: Vec<u8> = (32..64).collect();
    let salt = Salt::from_bytes(salt.try_into().unwrap());
    let body = PartBody::Clear { salt, bytes: b"refunded".to_vec() };
    let bytes = |n: usize| spec.get(&format!("event {n}")).as_bytes().to_vec();
    let records = vec![
        Record::new(bytes(0), Vec::new()),
        Record::from_bytes(&spec.bytes("record")).unwrap(),
        Record::new(bytes(2), vec![body]),
    ];
    let chain = spec.chain();
    let ledger = Ledger::new(
        std::sync::Arc::new(Scanned::new("sqlite", Shelf(records))),
        chain.tenant_id.clone(),
    );
    let mut checkpoints = LogCheckpoints::trusting(chain.tenant_id, [key.verifying_key()]);
    checkpoints.add(chain.chain_id, &format!("{}\n", spec.get("checkpoint"))).unwrap();
    let out = tempfile::tempdir().unwrap();
    let exporter = Exporter::new(&ledger, &key, &checkpoints)
        .with_name("auditor-3")
        .with_filter(Filter::new().from_sequence(1))
        .with_content();
    pollster::block_on(exporter.write(out.path())).unwrap();
    for (name, text) in &files[..3] {
        assert_eq!(fs::read_to_string(out.path().join(name)).unwrap(), *text, "{name}");
    }
    let written = fs::read_to_string(out.path().join("manifest.json")).unwrap();
    let mut written: serde_json::Value = serde_json::from_str(&written).unwrap();
    let example = spec.json("manifest");
    written["exported_at"] = example["exported_at"].clone();
    written["exporter"]["software"] = example["exporter"]["software"].clone();
    assert_eq!(written, example);
}

/// Records as a store hands them out.
#[derive(Debug)]
struct Shelf(Vec<Record>);

impl agent_audit_query::scan::Records for Shelf {
    fn tenants(&self) -> Result<Vec<TenantId>, agent_audit_query::QueryError> {
        Ok(Vec::new())
    }

    fn read(
        &self,
        _: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), agent_audit_query::QueryError>,
    ) -> Result<(), agent_audit_query::QueryError> {
        self.0.iter().cloned().try_for_each(each)
    }
}

/// The names of all fields, at every level that is not a list.
fn shape(value: &serde_json::Value) -> Vec<String> {
    let Some(object) = value.as_object() else { return Vec::new() };
    object
        .iter()
        .flat_map(|(name, value)| {
            let below = shape(value).into_iter().map(move |below| format!("{name}.{below}"));
            std::iter::once(name.clone()).chain(below)
        })
        .collect()
}
