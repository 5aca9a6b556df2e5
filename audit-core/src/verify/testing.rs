//! A small honest writer: real records, a real tree, real signed checkpoints.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{
    chain::ChainRef,
    checkpoint::{Checkpoint, chain_origin},
    content::{ContentRef, Part, PartBody},
    event::{
        Event, Payload,
        chain::{ChainClosed, ChainOpened},
        model::{ModelDecided, ModelStatus},
        tool::{ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::{Hash, leaf},
    id::{ChainId, EventId, TenantId, WriterId},
    index::IndexBuilder,
    key::SigningKey,
    record::Record,
    timestamp::Timestamp,
    tree::CompactRange,
};

use super::{ChainReport, ChainVerifier, CheckpointSource, Checkpoints, Report};

pub(super) fn chain(tenant: &str, id: &str) -> ChainRef {
    ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new(id).unwrap())
}

/// A chain with its checkpoints, as its writer left it.
#[derive(Clone)]
pub(super) struct Ledger {
    pub(super) chain: ChainRef,
    pub(super) key: SigningKey,
    pub(super) records: Vec<Vec<u8>>,
    pub(super) notes: Vec<String>,
    pub(super) tree: CompactRange,
    pub(super) head: Hash,
    pub(super) every: u64,
    pub(super) open_attempt: Option<EventId>,
    /// The index of the records since the last checkpoint; checkpoints have none without it.
    pub(super) index: Option<IndexBuilder>,
}

impl Ledger {
    pub(super) fn new(tenant: &str, id: &str, every: u64) -> Self {
        let mut ledger = Self {
            chain: chain(tenant, id),
            key: SigningKey::from_seed(&[7; 32]),
            records: Vec::new(),
            notes: Vec::new(),
            tree: CompactRange::new(),
            head: Hash::ZERO,
            every,
            open_attempt: None,
            index: Some(IndexBuilder::new(0)),
        };
        let key = ledger.key.verifying_key().to_string();
        ledger.append(ChainOpened::new(WriterId::random(), key, "test"), []);
        ledger
    }

    /// A closed chain of so many records, with a checkpoint every so many and at the end.
    pub(super) fn of(tenant: &str, id: &str, records: u64, every: u64) -> Self {
        let mut ledger = Self::new(tenant, id, every);
        while ledger.size() < records - 1 {
            // No attempt without room for its outcome.
            if ledger.size() == records - 2 && ledger.open_attempt.is_none() {
                ledger.decide();
            } else {
                ledger.work();
            }
        }
        ledger.append(ChainClosed::new("shutdown"), []);
        if !ledger.size().is_multiple_of(every) {
            ledger.checkpoint();
        }
        ledger
    }

    pub(super) fn size(&self) -> u64 {
        self.tree.size()
    }

    /// One more record of an agent at work.
    pub(super) fn work(&mut self) {
        let at = self.size();
        if let Some(attempt) = self.open_attempt.take() {
            self.append(
                ToolCompleted::new("refund", attempt, ToolStatus::Ok),
                [Part::text("output", format!("done {at}"))],
            );
        } else if at % 3 == 1 {
            let id = self.append(
                ToolAttempted::new("refund"),
                [Part::json("input", &BTreeMap::from([("amount", at)])).unwrap()],
            );
            self.open_attempt = Some(id);
        } else {
            self.decide();
        }
    }

    fn decide(&mut self) {
        let output = Part::text("output", format!("answer {} for ann@example.com", self.size()));
        let payload = ModelDecided::new("openai", "gpt-5", ModelStatus::Ok);
        self.append(payload, [output, Part::text("reasoning", "because")]);
    }

    pub(super) fn append(
        &mut self,
        payload: impl Into<Payload>,
        parts: impl IntoIterator<Item = Part>,
    ) -> EventId {
        self.append_with(payload, parts, |_| ())
    }

    pub(super) fn append_with(
        &mut self,
        payload: impl Into<Payload>,
        parts: impl IntoIterator<Item = Part>,
        edit: impl FnOnce(&mut Event),
    ) -> EventId {
        let (references, bodies): (Vec<ContentRef>, Vec<PartBody>) =
            parts.into_iter().map(Part::commit).unzip();
        let mut event = Event::example(payload);
        event.tenant_id = self.chain.tenant_id.clone();
        event.chain_id = self.chain.chain_id.clone();
        event.sequence = self.size();
        event.previous_event_hash = self.head;
        event.timestamp_utc = Timestamp::from_nanos(1_700_000_000_000_000_000 + self.size());
        event.content = references;
        edit(&mut event);
        let id = event.event_id;
        let record = Record::new(event.canonical_bytes().unwrap(), bodies);
        self.push(&record);
        id
    }

    /// Appends a record as it is, and signs a checkpoint where one is due.
    pub(super) fn push(&mut self, record: &Record) {
        if let Some(index) = &mut self.index {
            index.push(&record.view().unwrap()).unwrap();
        }
        self.head = record.event_hash();
        self.tree.push(self.head);
        self.records.push(record.to_bytes());
        if self.size().is_multiple_of(self.every) {
            self.checkpoint();
        }
    }

    pub(super) fn checkpoint(&mut self) {
        let origin = chain_origin(self.chain.chain_id.as_str());
        let mut checkpoint = Checkpoint::new(origin, self.tree.size(), self.tree.root());
        if let Some(index) = &mut self.index {
            if index.next() > index.from() {
                checkpoint.extensions = vec![index.build().root().to_string()];
            }
            *index = IndexBuilder::new(self.tree.size());
        }
        self.notes.push(checkpoint.sign(&self.key).unwrap().to_string());
    }

    pub(super) fn checkpoints(&self) -> Checkpoints {
        let mut checkpoints = Checkpoints::trusting(&self.chain, vec![self.key.verifying_key()]);
        for note in &self.notes {
            checkpoints.add(note, CheckpointSource::Own);
        }
        checkpoints
    }

    pub(super) fn verify_chain(&self) -> ChainReport {
        let mut verifier = ChainVerifier::new(self.chain.clone(), self.checkpoints());
        self.records.iter().for_each(|record| verifier.push(record));
        let report = verifier.finish();
        // Whoever hands over many records at once is told the same.
        let records: Vec<&[u8]> = self.records.iter().map(Vec::as_slice).collect();
        for size in [3, 16, records.len().max(1)] {
            let mut verifier = ChainVerifier::new(self.chain.clone(), self.checkpoints());
            records.chunks(size).for_each(|records| verifier.push_batch(records));
            assert_eq!(verifier.finish(), report, "in batches of {size}");
        }
        report
    }

    pub(super) fn verify(&self) -> Report {
        Report::from_chains([self.verify_chain()])
    }

    pub(super) fn record(&self, at: usize) -> Record {
        Record::from_bytes(&self.records[at]).unwrap()
    }

    /// Changes the stored event bytes of a record and nothing else.
    pub(super) fn edit(&mut self, at: usize, edit: impl FnOnce(String) -> String) {
        let record = self.record(at);
        let text = String::from_utf8(record.event_bytes().to_vec()).unwrap();
        let changed = edit(text.clone());
        assert_ne!(text, changed, "the attack must change something");
        self.records[at] = Record::new(changed.into_bytes(), record.parts().to_vec()).to_bytes();
    }

    /// Links all records from `at` on anew, as an attacker does who knows the format.
    pub(super) fn relink(&mut self, at: usize) {
        for n in at.max(1)..self.records.len() {
            let before = leaf(self.record(n - 1).event_bytes());
            let record = self.record(n);
            let mut event = record.event().unwrap();
            event.previous_event_hash = before;
            event.sequence = u64::try_from(n).unwrap();
            let bytes = event.canonical_bytes().unwrap();
            self.records[n] = Record::new(bytes, record.parts().to_vec()).to_bytes();
        }
    }
}

/// What stands in a directory beside the journal.
pub(super) fn write_files(dir: &Path, ledgers: &[&Ledger]) {
    use std::fmt::Write as _;
    std::fs::create_dir_all(dir.join("checkpoints")).unwrap();
    std::fs::create_dir_all(dir.join("keys")).unwrap();
    std::fs::write(dir.join("log.json"), r#"{"format":1,"writer_id":"w-1"}"#).unwrap();
    let mut lines = String::new();
    for ledger in ledgers {
        let key = ledger.key.verifying_key();
        std::fs::write(dir.join("keys").join("signing.pub"), format!("{key}\n")).unwrap();
        for note in &ledger.notes {
            let line = serde_json::json!({
                "chain_id": ledger.chain.chain_id, "note": note,
                "tenant_id": ledger.chain.tenant_id,
            });
            writeln!(lines, "{line}").unwrap();
        }
    }
    std::fs::write(dir.join("checkpoints").join("1.ndjson"), lines).unwrap();
}

/// Journals the records of several chains, interleaved.
pub(super) fn write_journal(dir: &Path, chains: &[&[Vec<u8>]]) -> crate::journal::Journal {
    use crate::journal::{Journal, JournalOptions};
    let options = JournalOptions::default();
    let (journal, _) = Journal::open(dir.join("journal"), options).unwrap();
    let longest = chains.iter().map(|records| records.len()).max().unwrap_or(0);
    let mut last = None;
    for at in 0..longest {
        for records in chains {
            if let Some(record) = records.get(at) {
                last = Some(append(&journal, &[&[1], record]));
            }
        }
    }
    if let Some(ticket) = last {
        journal.durable(ticket).wait().unwrap();
    }
    journal
}

pub(super) fn append(journal: &crate::journal::Journal, entry: &[&[u8]]) -> crate::journal::Ticket {
    let length = entry.iter().map(|part| part.len()).sum();
    let permit = journal.admit_blocking(length).unwrap();
    journal.append(permit, entry).unwrap()
}

/// A store that keeps what it is given.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    pub(super) chains: Vec<(ChainRef, Vec<Vec<u8>>)>,
    /// Position and name of a column that was edited.
    pub(super) column: Option<(u64, &'static str)>,
    /// The store breaks off before this position.
    pub(super) fails_at: Option<u64>,
}

impl Shelf {
    pub(super) fn holding(ledger: &Ledger, records: &[Vec<u8>]) -> Self {
        Self { chains: vec![(ledger.chain.clone(), records.to_vec())], ..Self::default() }
    }
}

impl super::directory::RecordStore for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn chains(&self) -> Result<Vec<ChainRef>, super::directory::StoreError> {
        Ok(self.chains.iter().map(|(chain, _)| chain.clone()).collect())
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(super::directory::StoredRecord<'_>),
    ) -> Result<(), super::directory::StoreError> {
        let (_, records) = self.chains.iter().find(|(own, _)| own == chain).unwrap();
        for (at, bytes) in (0u64..).zip(records).skip(usize::try_from(from)?) {
            if self.fails_at == Some(at) {
                return Err("the disk is gone".into());
            }
            let record = super::directory::StoredRecord::new(bytes);
            match self.column {
                Some((column_at, column)) if column_at == at => {
                    each(record.with_column_mismatch(column));
                }
                _ => each(record),
            }
        }
        Ok(())
    }
}
