//! The job against attacks, outages and its own death: stores in memory, files on disk, and a clock
//! that the tests set.

mod attacks;
mod comparison;
mod faults;
mod reporting;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agent_audit_core::{
    chain::ChainRef,
    content::Part,
    event::{Other, Payload},
    key::SigningKey,
    log::{AuditLog, Clock, Draft, Durability},
    memory::MemorySink,
    record::Record,
    sink::{Batch, Segment, Sink as _},
    timestamp::Timestamp,
    verify::{FindingKind, Severity, Verdict},
};

use super::{Outcome, TenantCheckpoints, Watch, WatchBuilder};
use crate::{EventStore, scan::Scanned};

/// A minute, in nanoseconds.
pub(super) const MINUTE: u64 = 60_000_000_000;
/// How long a store may lag in the tests.
pub(super) const GRACE: u64 = 10 * MINUTE;

/// A clock that goes on by a millisecond with every look, and by more where a test says so.
#[derive(Debug, Clone)]
pub(super) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(super) fn advance(&self, nanos: u64) {
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }

    pub(super) fn set_back(&self, nanos: u64) {
        self.0.fetch_sub(nanos, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.fetch_add(1_000_000, Ordering::SeqCst))
    }
}

/// A writer, two stores, a job that watches them, and a log in a third store that records its runs.
pub(super) struct World {
    dir: tempfile::TempDir,
    pub(super) clock: TestClock,
    log: AuditLog,
    record: AuditLog,
    pub(super) hot: MemorySink,
    pub(super) cold: MemorySink,
    pub(super) records: MemorySink,
    pub(super) key: SigningKey,
}

impl World {
    /// Two tenants, of which `acme` has several records.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = TestClock(Arc::new(AtomicU64::new(1_700_000_000_000_000_000)));
        let (hot, records) = (MemorySink::named("hot"), MemorySink::named("records"));
        let log = writer(&dir.path().join("log"), &clock, &hot, SigningKey::from_seed(&[1; 32]));
        let record =
            writer(&dir.path().join("record"), &clock, &records, SigningKey::from_seed(&[2; 32]));
        let cold = MemorySink::named("cold");
        let key = SigningKey::from_seed(&[3; 32]);
        let world = Self { dir, clock, log, record, hot, cold, records, key };
        world.write("acme", 20);
        world.write("globex", 5);
        world.archive();
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Records notes of a tenant in the hot store.
    pub(super) fn write(&self, tenant: &str, notes: usize) {
        let session = self.log.session(tenant, "s-1", "support-agent").unwrap();
        for note in 0..notes {
            let part = Part::text("note", format!("note {note} of {tenant}"));
            let draft = Draft::new(Other::custom("note").unwrap()).with_part(part);
            session.record_blocking(draft).unwrap();
        }
    }

    /// Records any event.
    pub(super) fn record(
        &self,
        tenant: &str,
        payload: impl Into<Payload>,
    ) -> agent_audit_core::id::EventId {
        let session = self.log.session(tenant, "s-1", "support-agent").unwrap();
        session.record_blocking(Draft::new(payload)).unwrap().event_id
    }

    /// Waits until the writer has signed a checkpoint of so many chains.
    pub(super) fn wait_for_checkpoints(&self, chains: usize) {
        self.wait_for(|text| {
            let all = self.hot.chains();
            all.iter().filter(|chain| text.contains(chain.chain_id.as_str())).count() >= chains
        });
    }

    /// Waits until the writer has signed a checkpoint of a chain of this size.
    pub(super) fn wait_for_size(&self, chain: &ChainRef, size: u64) {
        let wanted = format!("agent-audit/chain/{}\\n{size}\\n", chain.chain_id);
        self.wait_for(|text| text.contains(&wanted));
    }

    fn wait_for(&self, signed: impl Fn(&str) -> bool) {
        let end = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let written = files(&self.path("log/checkpoints")).into_values();
            let text: String =
                written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
            if signed(&text) {
                return;
            }
            assert!(std::time::Instant::now() < end, "no such checkpoint was signed");
            std::thread::yield_now();
        }
    }

    /// Closes the chains.
    pub(super) fn close_log(&self) {
        assert!(self.log.close_blocking(Duration::from_secs(60)).unwrap().is_complete());
    }

    /// Another log directory whose events go to the hot store.
    pub(super) fn other_writer(&self, name: &str, key: SigningKey) -> AuditLog {
        writer(&self.path(name), &self.clock, &self.hot, key)
    }

    /// Brings everything that the hot store has to the cold one.
    pub(super) fn archive(&self) {
        for chain in self.hot.chains() {
            let held = self.cold.records(&chain).len();
            let new: Vec<Record> = self.hot.records(&chain).into_iter().skip(held).collect();
            if !new.is_empty() {
                append(&self.cold, &chain, new);
            }
        }
    }

    /// The chain of a tenant; there must be one.
    pub(super) fn chain(&self, tenant: &str) -> ChainRef {
        let mut chains = self.hot.chains();
        chains.retain(|chain| chain.tenant_id.as_str() == tenant);
        assert_eq!(chains.len(), 1);
        chains.remove(0)
    }

    pub(super) fn builder(&self) -> WatchBuilder {
        Watch::builder(self.path("integrity"))
            .with_store(store("hot", &self.hot))
            .with_store(store("cold", &self.cold))
            .with_checkpoint_dir(self.path("kept"))
            .with_signing_key(self.key.clone())
            .with_grace(Duration::from_nanos(GRACE))
            .with_whole_every(NonZeroU32::new(1_000).unwrap())
            .with_share(NonZeroU32::new(u32::MAX).unwrap())
            .with_record(self.record.clone(), "integrity".parse().unwrap())
            .with_record_store(store("records", &self.records))
            .with_clock(self.clock.clone())
    }

    /// One run, in a process of its own.
    pub(super) fn run(&self) -> Outcome {
        self.run_with(|builder| builder)
    }

    pub(super) fn run_with(&self, with: impl FnOnce(WatchBuilder) -> WatchBuilder) -> Outcome {
        let mut watch = with(self.builder()).open().unwrap();
        pollster::block_on(watch.run()).unwrap()
    }

    /// A run that reads everything from the beginning.
    pub(super) fn run_whole(&self) -> Outcome {
        self.run_with(|builder| builder.with_whole_every(NonZeroU32::MIN))
    }

    #[track_caller]
    pub(super) fn run_intact(&self) -> Outcome {
        let outcome = self.run();
        assert_intact(&outcome);
        outcome
    }

    /// The checkpoints of a tenant: the newest file, where there are several.
    pub(super) fn checkpoints(&self, tenant: &str) -> (PathBuf, TenantCheckpoints) {
        let files = std::fs::read_dir(self.path("kept")).unwrap();
        let mut found: Vec<_> = files
            .filter_map(|file| {
                let path = file.unwrap().path();
                let read = TenantCheckpoints::read(&path, &[self.key.verifying_key()]).ok()?;
                (read.state(0)?.tenant_id.as_str() == tenant).then_some((path, read))
            })
            .collect();
        found.sort_by_key(|(_, read)| read.state(read.len() - 1).map(|state| state.at));
        found.pop().unwrap()
    }

    /// The size that the newest checkpoint of a tenant states of its chain.
    pub(super) fn known(&self, chain: &ChainRef) -> Option<u64> {
        let (_, checkpoints) = self.checkpoints(chain.tenant_id.as_str());
        let state = checkpoints.state(checkpoints.len() - 1)?;
        state.chain(&chain.chain_id).map(|entry| entry.size)
    }

    /// Removes everything that a store holds of a tenant.
    pub(super) fn remove_tenant(sink: &MemorySink, tenant: &str) {
        for chain in sink.chains().into_iter().filter(|chain| chain.tenant_id.as_str() == tenant) {
            sink.tamper().remove_chain(&chain);
        }
    }

    /// Removes files of the job in which a text stands.
    pub(super) fn remove_files(&self, dir: &str, text: &str) {
        let mut removed = 0;
        for (path, bytes) in files(&self.path(dir)) {
            if String::from_utf8_lossy(&bytes).contains(text) {
                std::fs::remove_file(path).unwrap();
                removed += 1;
            }
        }
        assert!(removed > 0, "nothing in {dir} speaks of {text}");
    }

    pub(super) fn copy_state(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut copy = files(&self.path("integrity"));
        copy.extend(files(&self.path("kept")));
        copy
    }

    /// Puts an older copy of everything that the job keeps in its place.
    pub(super) fn restore_state(&self, copy: &BTreeMap<PathBuf, Vec<u8>>) {
        for dir in ["integrity", "kept"] {
            std::fs::remove_dir_all(self.path(dir)).unwrap();
        }
        for (path, bytes) in copy {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn writer(dir: &Path, clock: &TestClock, sink: &MemorySink, key: SigningKey) -> AuditLog {
    AuditLog::builder(dir)
        .with_sink(sink.clone())
        .with_durability(Durability::Delivered)
        .with_checkpoint_every(1, Duration::from_secs(3600))
        .with_signing_key(key)
        .with_clock(clock.clone())
        .open()
        .unwrap()
}

pub(super) fn append(sink: &MemorySink, chain: &ChainRef, records: Vec<Record>) {
    let batch = Batch::new(vec![Segment::new(chain.clone(), records).unwrap()]);
    pollster::block_on(sink.append(&batch)).unwrap();
}

pub(super) fn store(name: &str, sink: &MemorySink) -> Arc<dyn EventStore> {
    Arc::new(Scanned::new(name, sink.clone()))
}

/// All files below a directory.
pub(super) fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for item in std::fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(path).unwrap());
        }
    }
    found
}

/// What an outcome finds at fault: kind, tenant, first and last position, place.
pub(super) type Fault = (FindingKind, String, u64, u64, String);

pub(super) fn faults(outcome: &Outcome) -> Vec<Fault> {
    let findings = outcome.report.findings.iter();
    findings
        .filter(|finding| finding.severity <= Severity::Unsure)
        .map(|finding| {
            let tenant = finding.chain.as_ref().map_or("", |chain| chain.tenant_id.as_str());
            let first = finding.sequence.unwrap_or(u64::MAX);
            let last = finding.last_sequence.unwrap_or(first);
            let place = finding.place.clone().unwrap_or_default();
            (finding.kind, tenant.to_owned(), first, last, place)
        })
        .collect()
}

pub(super) fn kinds(outcome: &Outcome) -> Vec<FindingKind> {
    faults(outcome).into_iter().map(|(kind, ..)| kind).collect()
}

pub(super) fn sentences(outcome: &Outcome) -> String {
    outcome.report.to_string()
}

/// The run found exactly this at fault.
#[track_caller]
pub(super) fn found(outcome: &Outcome, expected: &[(FindingKind, &str, u64, u64, &str)]) {
    let faults = faults(outcome);
    let faults: Vec<_> = faults
        .iter()
        .map(|(kind, tenant, first, last, place)| (*kind, &**tenant, *first, *last, &**place))
        .collect();
    assert_eq!(faults, expected, "{}", sentences(outcome));
    assert_eq!(outcome.exit_code(), 1, "{}", sentences(outcome));
}

#[track_caller]
pub(super) fn assert_intact(outcome: &Outcome) {
    assert_eq!(outcome.report.verdict, Verdict::Intact, "{}", sentences(outcome));
    assert!(matches!(outcome.recorded, Some(Ok(_))), "{:?}", outcome.recorded);
    assert_eq!(outcome.exit_code(), 0);
}

#[test]
fn an_untouched_ledger_is_intact_and_only_what_is_new_is_read() {
    let world = World::new();
    let first = world.run_intact();
    assert!(first.report.whole, "the first run has nothing to rest on");
    assert_eq!(first.report.counts.events, 21 + 6);
    assert_eq!(first.report.counts.records_read, 2 * (21 + 6));
    assert_eq!(first.report.findings, []);
    world.write("acme", 3);
    world.archive();
    let second = world.run_intact();
    assert!(!second.report.whole);
    // Three new records in each store, and the record of the first run and the beginning of its
    // chain, which are a tenant of their own.
    assert_eq!(second.report.counts.records_read, 2 * 3 + 2);
    assert_eq!(second.report.counts.events, 24 + 6 + 2);
    assert_eq!(second.report.findings, [], "{second:?}");
    let third = world.run_with(|builder| builder.with_share(NonZeroU32::MIN));
    assert_intact(&third);
    assert_eq!(third.report.counts.chains_from_beginning, 3, "each chain's turn comes");
    assert_eq!(third.report.counts.records_read, 2 * (24 + 6) + 3);
}

/// The job can be one of a server's tasks.
#[test]
fn a_run_can_be_given_to_any_thread() {
    fn is_send<T: Send>(_: &T) {}
    let world = World::new();
    let mut watch = world.builder().open().unwrap();
    let run = watch.run();
    is_send(&run);
    assert_intact(&pollster::block_on(run).unwrap());
}
