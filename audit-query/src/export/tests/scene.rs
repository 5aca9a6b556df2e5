//! Chains of a tenant, their checkpoints, and exports of them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{Checkpoint, chain_origin},
    content::{ContentRef, Part, PartBody},
    event::{
        Event, Other, Payload,
        chain::ChainOpened,
        tool::{ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{EventId, TenantId, WriterId},
    key::SigningKey,
    record::Record,
    tree::MerkleTree,
    verify::{Finding, FindingKind},
};

use crate::{
    Filter, Ledger, QueryError,
    export::{
        ExportReport, ExportVerdict, Exported, Exporter, LogCheckpoints, Manifest, VerifyOptions,
        manifest::{self, MANIFEST, SIGNATURE},
        verify,
    },
    scan::{Records, Scanned},
};

/// A chain that grows as a test needs it.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) chain: ChainRef,
    pub(super) records: Vec<Record>,
}

impl Chain {
    pub(super) fn new(tenant: &str, chain: &str) -> Self {
        let chain = ChainRef::new(tenant.parse().unwrap(), chain.parse().unwrap());
        let mut new = Self { chain, records: Vec::new() };
        new.push(ChainOpened::new(WriterId::random(), "ed25519:example", "tests"), Vec::new());
        new
    }

    /// Adds an event with bodies that are already made.
    pub(super) fn push(
        &mut self,
        payload: impl Into<Payload>,
        content: Vec<(ContentRef, PartBody)>,
    ) -> EventId {
        let (references, bodies) = content.into_iter().unzip();
        let mut event = Event::example(payload);
        event.tenant_id = self.chain.tenant_id.clone();
        event.chain_id = self.chain.chain_id.clone();
        event.sequence = self.records.len() as u64;
        event.previous_event_hash = self.records.last().map_or(Hash::ZERO, Record::event_hash);
        event.content = references;
        let id = event.event_id;
        self.records.push(Record::new(event.canonical_bytes().unwrap(), bodies));
        id
    }

    /// Adds calls of tools until there are so many events.
    pub(super) fn grow(mut self, events: usize) -> Self {
        while self.records.len() < events {
            let number = self.records.len();
            let input = Part::text("input", format!("order A-{number}")).commit();
            let attempt = self.push(ToolAttempted::new("refund"), vec![input]);
            if self.records.len() < events {
                let output = Part::text("output", format!("refunded {number} €")).commit();
                let done = ToolCompleted::new("refund", attempt, ToolStatus::Ok);
                self.push(done, vec![output]);
            }
        }
        self
    }

    pub(super) fn note(&mut self) -> EventId {
        self.push(Other::custom("note").unwrap(), Vec::new())
    }

    /// The signed checkpoint of its first events.
    pub(super) fn checkpoint(&self, size: usize, key: &SigningKey) -> String {
        let leaves: Vec<Hash> = self.records[..size].iter().map(Record::event_hash).collect();
        let root = MerkleTree::from_leaves(&leaves).root();
        let origin = chain_origin(self.chain.chain_id.as_str());
        Checkpoint::new(origin, size as u64, root).sign(key).unwrap().to_string()
    }

    /// The same with one event changed, and all that follows linked anew.
    pub(super) fn rewritten(&self, at: usize, change: impl FnOnce(&mut Event)) -> Self {
        let mut other = self.clone();
        let mut change = Some(change);
        for position in at..other.records.len() {
            let mut event = other.records[position].event().unwrap();
            if let Some(change) = change.take() {
                change(&mut event);
            }
            let before = position.checked_sub(1).map(|before| other.records[before].event_hash());
            event.previous_event_hash = before.unwrap_or(Hash::ZERO);
            let parts = other.records[position].parts().to_vec();
            other.records[position] = Record::new(event.canonical_bytes().unwrap(), parts);
        }
        other
    }
}

/// Records as a store hands them out.
#[derive(Debug)]
pub(super) struct Shelf(pub(super) Vec<Chain>);

impl Records for Shelf {
    fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        Ok(self.0.iter().map(|chain| chain.chain.tenant_id.clone()).collect())
    }

    fn read(
        &self,
        tenant: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let own = self.0.iter().filter(|chain| chain.chain.tenant_id == *tenant);
        own.flat_map(|chain| chain.records.clone()).try_for_each(each)
    }
}

/// A tenant with two chains, the first of which goes on behind its last checkpoint.
pub(super) struct Scene {
    dir: tempfile::TempDir,
    pub(super) log_key: SigningKey,
    pub(super) key: SigningKey,
    pub(super) chains: Vec<Chain>,
    pub(super) sizes: Vec<Vec<usize>>,
    exports: std::cell::Cell<usize>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let (a, b) =
            (Chain::new("acme", "chain-a").grow(40), Chain::new("acme", "chain-b").grow(7));
        Self::of(vec![a, b], vec![vec![16, 36], vec![7]])
    }

    pub(super) fn of(chains: Vec<Chain>, sizes: Vec<Vec<usize>>) -> Self {
        let key = |seed| SigningKey::from_seed(&[seed; 32]);
        let dir = tempfile::tempdir().unwrap();
        Self { dir, log_key: key(1), key: key(2), chains, sizes, exports: Default::default() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn ledger(&self) -> Ledger {
        let tenant = self.chains[0].chain.tenant_id.clone();
        Ledger::new(Arc::new(Scanned::new("shelf", Shelf(self.chains.clone()))), tenant)
    }

    pub(super) fn checkpoints(&self) -> LogCheckpoints {
        let tenant = self.chains[0].chain.tenant_id.clone();
        let mut all = LogCheckpoints::trusting(tenant, [self.log_key.verifying_key()]);
        for (chain, sizes) in self.chains.iter().zip(&self.sizes) {
            for size in sizes {
                let note = chain.checkpoint(*size, &self.log_key);
                all.add(chain.chain.chain_id.clone(), &note).unwrap();
            }
        }
        all
    }

    /// Exports into a fresh directory.
    pub(super) fn export(
        &self,
        set: impl FnOnce(Exporter<'_>) -> Exporter<'_>,
    ) -> (PathBuf, Exported) {
        let out = self.out();
        let exported = self.try_export(&out, &self.checkpoints(), set).unwrap();
        (out, exported)
    }

    pub(super) fn out(&self) -> PathBuf {
        self.exports.set(self.exports.get() + 1);
        self.path(&format!("export-{}", self.exports.get()))
    }

    pub(super) fn try_export(
        &self,
        out: &Path,
        checkpoints: &LogCheckpoints,
        set: impl FnOnce(Exporter<'_>) -> Exporter<'_>,
    ) -> Result<Exported, QueryError> {
        let ledger = self.ledger();
        let exporter = set(Exporter::new(&ledger, &self.key, checkpoints).with_name("auditor-3"));
        pollster::block_on(exporter.write(out))
    }

    /// Everything, with content.
    pub(super) fn whole(&self) -> PathBuf {
        self.export(with_content).0
    }

    /// Everything with content, a few events to a file.
    pub(super) fn in_files(&self) -> PathBuf {
        self.export(|exporter| exporter.with_content().with_file_bytes(8_000)).0
    }

    /// What an auditor who has both keys finds.
    pub(super) fn verify(&self, dir: &Path) -> ExportReport {
        let options = VerifyOptions::default()
            .with_exporter_keys([self.key.verifying_key()])
            .with_log_keys([self.log_key.verifying_key()]);
        verify(dir, options).unwrap()
    }
}

pub(super) fn with_content(exporter: Exporter<'_>) -> Exporter<'_> {
    exporter.with_content()
}

/// The tools' calls that ended: every second event.
pub(super) fn completed() -> Filter {
    Filter::new().event_type("tool.completed").tool("refund")
}

/// The records of the first file of events, as lines.
pub(super) fn lines(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join("events-000001.ndjson")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Writes the first file of events anew.
pub(super) fn write_lines(dir: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(dir.join("events-000001.ndjson"), text).unwrap();
}

/// Changes a file as text.
pub(super) fn edit(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    let other = change(text.clone());
    assert_ne!(other, text, "nothing was changed in {}", path.display());
    fs::write(path, other).unwrap();
}

/// What an attacker does who recomputes every digest, and changes the manifest.
pub(super) fn recompute(dir: &Path, change: impl FnOnce(&mut Manifest)) {
    let bytes = fs::read(dir.join(MANIFEST)).unwrap();
    let mut manifest = Manifest::read(&bytes).unwrap();
    manifest.files.retain_mut(|file| {
        let Ok(bytes) = fs::read(dir.join(&file.name)) else { return false };
        file.bytes = bytes.len() as u64;
        file.sha256 = manifest::sha256(&bytes);
        true
    });
    change(&mut manifest);
    fs::write(dir.join(MANIFEST), manifest.to_bytes().unwrap()).unwrap();
}

/// What an attacker does beside that who has a key, or makes one up.
pub(super) fn resign(dir: &Path, key: &SigningKey, change: impl FnOnce(&mut Manifest)) {
    recompute(dir, |manifest| {
        manifest.exporter.public_key = key.verifying_key();
        change(manifest);
    });
    let digest = manifest::sha256(&fs::read(dir.join(MANIFEST)).unwrap());
    let note = manifest::sign(&digest, key).unwrap();
    fs::write(dir.join(SIGNATURE), note.to_string()).unwrap();
}

/// The findings that speak against an export.
pub(super) fn faults(report: &ExportReport) -> Vec<&Finding> {
    let serious = report.findings.iter();
    serious.filter(|f| f.severity <= agent_audit_core::verify::Severity::Unsure).collect()
}

/// The one fault that there is, with its kind and what it must name.
pub(super) fn only(report: &ExportReport, kind: FindingKind, names: &[&str]) {
    let found = faults(report);
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1, "{shown:#?}");
    assert_eq!(found[0].kind, kind, "{shown:?}");
    assert_names(&shown[0], names);
}

/// A fault of this kind that names this, beside others.
pub(super) fn among(report: &ExportReport, kind: FindingKind, names: &[&str]) {
    let shown: Vec<_> =
        faults(report).iter().map(|finding| format!("{} {finding}", finding.kind)).collect();
    let found = shown.iter().any(|text| {
        text.starts_with(kind.as_str()) && names.iter().all(|name| text.contains(name))
    });
    assert!(found, "no {kind} that names {names:?} in {shown:#?}");
}

fn assert_names(text: &str, names: &[&str]) {
    for name in names {
        assert!(text.contains(name), "{text} does not name {name}");
    }
}

pub(super) fn assert_verdict(report: &ExportReport, verdict: ExportVerdict) {
    let shown: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(report.verdict(), verdict, "{shown:#?}");
}
