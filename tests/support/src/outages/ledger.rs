//! What journal and store hold, and what must be true of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use agent_audit_core::{
    journal::{Scan, ScanEnd},
    log::{Layout, entry},
    record::Record,
    sink::ChainRef,
    verify::{
        Verdict,
        directory::{RecordStore, StoreError, StoredRecord, VerifyOptions, verify_directory},
    },
};

use super::{OutageHarness, Promise, scene::Scene};

/// The records of the journal, by chain and position.
///
/// A log that is opened again begins another segment and may let go of the ones before: read it
/// before each.
#[derive(Debug, Default)]
pub(super) struct Journal {
    chains: BTreeMap<ChainRef, Vec<Record>>,
}

impl Journal {
    /// Adds what the journal of a closed log holds now. It MUST agree with what it held before.
    pub(super) fn read(&mut self, dir: &Path) {
        let journal = Layout::new(dir).journal();
        if !journal.exists() {
            return;
        }
        let mut scan = Scan::open(journal).unwrap();
        while let Some(found) = scan.next_entry().unwrap() {
            let Some((&entry::RECORD, bytes)) = found.bytes.split_first() else {
                panic!("an entry of another kind: {}", found.index)
            };
            let record = Record::from_bytes(bytes).unwrap();
            let event = record.event().unwrap();
            let chain = ChainRef::new(event.tenant_id, event.chain_id);
            let records = self.chains.entry(chain.clone()).or_default();
            let at = usize::try_from(event.sequence).unwrap();
            match records.get(at) {
                Some(before) => assert!(*before == record, "chain {chain}: {at} was another event"),
                None => {
                    assert_eq!(at, records.len(), "chain {chain}: the journal has a hole");
                    records.push(record);
                }
            }
        }
        let end = scan.end().unwrap();
        assert!(matches!(end, ScanEnd::Clean { .. } | ScanEnd::Torn { .. }), "{end:?}");
    }

    pub(super) fn chains(&self) -> &BTreeMap<ChainRef, Vec<Record>> {
        &self.chains
    }
}

/// Holds a closed log against everything that was acknowledged, its store against its journal, and
/// asks the verifier.
pub(super) async fn compare(scene: &Scene<'_>, journal: &BTreeMap<ChainRef, Vec<Record>>) {
    let (harness, dir) = (scene.harness, scene.dir.path());
    let found: BTreeSet<_> = journal.keys().map(|chain| chain.tenant_id.as_str()).collect();
    let expected: BTreeSet<_> = scene.tenants.iter().map(String::as_str).collect();
    assert_eq!(found, expected, "each tenant has a chain");
    for ack in &scene.acks {
        let at = usize::try_from(ack.sequence).unwrap();
        let kept = journal.get(&ack.chain).and_then(|records| records.get(at));
        let kept = kept.map(Record::event_hash);
        assert_eq!(kept, Some(ack.event_hash), "lost what was acknowledged: {ack:?}");
    }
    let mut stored = BTreeMap::new();
    for (chain, written) in journal {
        let read = harness.read_back(chain).await;
        stored.insert(chain.clone(), held_against(harness, chain, written, read));
    }
    let report =
        verify_directory(dir, VerifyOptions::default().with_store(ReadBack { records: stored }))
            .unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.verdict(), Verdict::Intact);
    let events: usize = journal.values().map(Vec::len).sum();
    assert_eq!(report.events, events as u64);
    assert_eq!(report.covered, report.events, "signed checkpoints cover everything");
}

/// The records of one chain as the store holds them, each once.
fn held_against(
    harness: &dyn OutageHarness,
    chain: &ChainRef,
    written: &[Record],
    read: Vec<Record>,
) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::new();
    for (at, record) in read.into_iter().enumerate() {
        let event = record.event().unwrap_or_else(|error| {
            panic!("chain {chain}: what the store holds as its record {at} is no event: {error}")
        });
        let sequence = usize::try_from(event.sequence).unwrap();
        let Some(original) = written.get(sequence) else {
            panic!("chain {chain}: the store holds event {sequence}, which nobody wrote")
        };
        assert!(
            record.event_bytes() == original.event_bytes(),
            "chain {chain}: event {sequence} has other bytes in the store\nwritten {}\nstored  {}",
            String::from_utf8_lossy(original.event_bytes()),
            String::from_utf8_lossy(record.event_bytes()),
        );
        let record = if harness.keeps_content() {
            assert!(
                record == *original,
                "chain {chain}: the content of event {sequence} is another in the store\nwritten \
                 {:?}\nstored  {:?}",
                original.parts(),
                record.parts()
            );
            record
        } else {
            // What it does not keep cannot be verified: the events alone are at stake.
            original.clone()
        };
        if sequence < kept.len() {
            assert_eq!(
                harness.promise(),
                Promise::AtLeastOnce,
                "chain {chain}: the store holds event {sequence} twice"
            );
            continue;
        }
        assert_eq!(
            sequence,
            kept.len(),
            "chain {chain}: the store holds event {sequence} where {} is due",
            kept.len()
        );
        kept.push(record);
    }
    assert_eq!(
        kept.len(),
        written.len(),
        "chain {chain}: the store holds fewer events than were written"
    );
    kept
}

/// What was read back, for the verifier.
#[derive(Debug)]
struct ReadBack {
    records: BTreeMap<ChainRef, Vec<Record>>,
}

impl RecordStore for ReadBack {
    fn name(&self) -> &str {
        "read back"
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        Ok(self.records.keys().cloned().collect())
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        let records = self.records.get(chain).map_or(&[][..], Vec::as_slice);
        for record in records.iter().skip(usize::try_from(from)?) {
            each(StoredRecord::new(&record.to_bytes()));
        }
        Ok(())
    }
}
