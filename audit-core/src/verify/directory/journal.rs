//! The journal: one pass over all chains, handed to workers by chain.

use std::{
    collections::HashMap,
    fs,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    path::Path,
    sync::mpsc,
};

use crate::{
    canonical::{self, EventView},
    chain::ChainRef,
    hash::Hash,
    id::{ChainId, TenantId},
    journal::{Scan, ScanEnd},
    record::RecordView,
};

use super::{
    super::{
        ChainReport, ChainVerifier, Checkpoints, Finding, FindingKind, Severity,
        batch::{self, Read, Whole},
        chain::End,
    },
    Slots, Ticker, VerifyError,
    stores::Copy,
};

/// The kind of entry that is an event.
const EVENT: u8 = 1;
/// How many bytes of records go to a worker at once.
const BATCH: usize = 256 << 10;
/// How many batches may wait for a worker: memory stays bounded when reading outruns hashing.
const WAITING: usize = 4;
const JOURNAL: &str = "journal";

/// What is known of one chain.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) chain: ChainRef,
    pub(super) checkpoints: Checkpoints,
    /// The stores that hold the chain, until they have been read.
    pub(super) in_stores: Vec<usize>,
    pub(super) copies: Vec<Copy>,
    journal: Option<ChainVerifier>,
    /// Which copy the journal is held against first: the longest.
    primary: usize,
    /// Where the journal and a copy differ: the copy, the first and the last position.
    conflicts: Vec<(usize, u64, u64)>,
    /// Whether the journal goes on behind the end of the longest copy.
    beyond: bool,
    /// Whether what is absent may be in a store that was not given.
    elsewhere: bool,
}

impl Slot {
    pub(super) fn new(chain: ChainRef, checkpoints: Checkpoints) -> Self {
        Self {
            chain,
            checkpoints,
            in_stores: Vec::new(),
            copies: Vec::new(),
            journal: None,
            primary: 0,
            conflicts: Vec::new(),
            beyond: false,
            elsewhere: false,
        }
    }

    /// Takes a record of the journal, its event scanned and hashed where that was possible.
    fn push(&mut self, record: RecordView<'_>, whole: Option<(&Whole<'_>, &[Hash])>) {
        let mut verifier = self.journal.take().unwrap_or_else(|| self.begin());
        let end = self.copies.get(self.primary).map_or(0, |copy| copy.verifier.next_sequence());
        if !self.beyond && verifier.next_sequence() >= end {
            // What came before is counted in the store's copy.
            verifier.forget_counts();
            self.beyond = true;
        }
        match whole {
            None => verifier.push_view(record),
            Some((Whole { event, hash, .. }, commitments)) => {
                verifier.push_hashed(record, event, *hash, commitments);
                for (at, copy) in self.copies.iter().enumerate() {
                    let index = event.sequence.checked_sub(copy.first);
                    let other = index
                        .and_then(|index| usize::try_from(index).ok())
                        .and_then(|index| copy.hashes.get(index));
                    if other.is_some_and(|other| other != hash) {
                        match self.conflicts.last_mut() {
                            Some((copy, _, last)) if *copy == at && *last + 1 == event.sequence => {
                                *last = event.sequence;
                            }
                            _ => self.conflicts.push((at, event.sequence, event.sequence)),
                        }
                    }
                }
            }
        }
        self.journal = Some(verifier);
    }

    /// A verifier that starts where the journal starts, as the longest copy knows the chain there.
    fn begin(&mut self) -> ChainVerifier {
        let longest =
            (0..self.copies.len()).max_by_key(|at| self.copies[*at].verifier.next_sequence());
        let Some(longest) = longest else {
            // The findings about checkpoints are told once, by the verifier that runs first.
            let verifier =
                ChainVerifier::new(self.chain.clone(), std::mem::take(&mut self.checkpoints));
            return if self.elsewhere { verifier.with_trimmed_beginning() } else { verifier };
        };
        self.primary = longest;
        let copy = &mut self.copies[longest];
        let passed_over = copy.branch.is_none() && copy.verifier.next_sequence() > copy.first;
        if passed_over {
            let mut checkpoints = self.checkpoints.clone();
            checkpoints.findings.clear();
            ChainVerifier::new(self.chain.clone(), checkpoints).with_trimmed_beginning()
        } else {
            copy.branch.take().unwrap_or_else(|| copy.verifier.second_copy())
        }
    }

    /// The report of the chain; findings alone where there is no record of it.
    pub(super) fn finish(mut self) -> Result<ChainReport, Vec<Finding>> {
        let Some(mut journal) = self.journal.take() else { return self.finish_copies() };
        if self.copies.is_empty() {
            return Ok(journal.finish());
        }
        let store_end = self.copies[self.primary].verifier.next_sequence();
        let journal_end = journal.next_sequence();
        let behind = journal_end < store_end;
        if !self.beyond {
            journal.forget_counts();
        }
        // What went, and why, may stand in different copies.
        for (at, copy) in self.copies.iter_mut().enumerate() {
            if behind && at == self.primary {
                copy.verifier.join_evidence(&journal);
            } else {
                journal.join_evidence(&copy.verifier);
            }
        }
        let mut tail = journal.finish_as(if behind { End::Continued } else { End::Whole });
        for finding in &mut tail.findings {
            finding.place.get_or_insert_with(|| JOURNAL.to_owned());
        }
        if behind {
            let detail = format!(
                "are missing at the end of the journal; store {} holds them",
                self.copies[self.primary].store
            );
            tail.findings.push(
                Finding::new(FindingKind::Truncated, detail)
                    .in_chain(&self.chain)
                    .at(journal_end, store_end - 1)
                    .in_place(JOURNAL),
            );
        }
        let mut report = None;
        let mut others = Vec::new();
        for (at, copy) in self.copies.into_iter().enumerate() {
            // A store that ends where the journal has not begun yet lacks what lies between.
            let reaches = copy.branch.is_some() || copy.verifier.next_sequence() >= copy.first;
            let store = copy.store.clone();
            if at == self.primary {
                report = Some(copy.finish(if behind { End::Whole } else { End::Continued }));
            } else {
                let end = if reaches { End::Continued } else { End::Whole };
                others.extend(faults(copy.finish(end).findings));
            }
            let conflicts = self.conflicts.iter().filter(|(copy, ..)| *copy == at);
            others.extend(
                conflicts.map(|(_, first, last)| conflict(&self.chain, &store, *first, *last)),
            );
        }
        let Some(mut report) = report else { return Ok(tail) };
        if !behind {
            report.events += tail.events;
            report.parts += tail.parts;
            report.bytes += tail.bytes;
            report.erased += tail.erased;
            report.purged += tail.purged;
            report.sealed += tail.sealed;
            report.checkpoints_checked = report.checkpoints_checked.max(tail.checkpoints_checked);
            report.indexes_checked = report.indexes_checked.max(tail.indexes_checked);
            report.cover(tail.coverage);
            report.state = report.state.and(tail.state);
        }
        for finding in tail.findings.into_iter().chain(others) {
            let known = |other: &Finding| {
                other.kind == finding.kind
                    && other.sequence == finding.sequence
                    && other.last_sequence == finding.last_sequence
                    && other.place != finding.place
            };
            // Where one copy was changed, that the copies differ is no second fault.
            let explained = finding.kind == FindingKind::Forked
                && report.findings.iter().any(|other| {
                    other.severity == Severity::Tampering
                        && finding.sequence.is_some_and(|at| other.is_at(at))
                });
            if !explained && !report.findings.iter().any(known) {
                report.state = None;
                report.findings.push(finding);
            }
        }
        Ok(report)
    }

    fn finish_copies(self) -> Result<ChainReport, Vec<Finding>> {
        let longest =
            (0..self.copies.len()).max_by_key(|at| self.copies[*at].verifier.next_sequence());
        let Some(longest) = longest else {
            let mut findings = self.checkpoints.findings.clone();
            if let Some(size) = self.checkpoints.largest().filter(|size| *size > 0) {
                let (severity, way_out) = if self.elsewhere {
                    (Severity::Unsure, "; if it was delivered to a store, name the store")
                } else {
                    (Severity::Tampering, "")
                };
                let detail = format!(
                    "the whole chain is missing: a signed checkpoint states that it had {size} \
                     records{way_out}"
                );
                let finding = Finding::new(FindingKind::ChainMissing, detail)
                    .in_chain(&self.chain)
                    .with_severity(severity);
                findings.push(finding);
            }
            return Err(findings);
        };
        let mut report = None;
        let mut others = Vec::new();
        for (at, copy) in self.copies.into_iter().enumerate() {
            let finished = copy.finish(End::Whole);
            if at == longest {
                report = Some(finished);
            } else {
                others.extend(faults(finished.findings));
            }
        }
        match report {
            Some(mut report) => {
                report.findings.extend(others);
                Ok(report)
            }
            None => Err(others),
        }
    }
}

/// What a second copy adds to what the first one says.
fn faults(findings: Vec<Finding>) -> impl Iterator<Item = Finding> {
    findings.into_iter().filter(|finding| finding.severity <= Severity::Unsure)
}

fn conflict(chain: &ChainRef, store: &str, first: u64, last: u64) -> Finding {
    let detail = format!(
        "differ between the journal and store {store}: two histories of the chain, or one copy was \
         changed"
    );
    let detail = if first == last { detail.replacen("differ", "differs", 1) } else { detail };
    Finding::new(FindingKind::Forked, detail).in_chain(chain).at(first, last).in_place(store)
}

/// What the pass over the journal leaves behind.
pub(super) struct Outcome {
    pub(super) slots: Vec<Slot>,
    pub(super) findings: Vec<Finding>,
}

/// The position of the first record of each chain that the journal holds.
pub(super) fn first_positions(dir: &Path) -> Result<HashMap<Box<str>, u64>, VerifyError> {
    let mut first: HashMap<Box<str>, u64> = HashMap::new();
    if !dir.is_dir() {
        return Ok(first);
    }
    let mut scan = Scan::open(dir)?;
    while let Some(entry) = scan.next_entry()? {
        let Some((&EVENT, record)) = entry.bytes.split_first() else { continue };
        let Some(chain) = chain_id(record).filter(|chain| !first.contains_key(*chain)) else {
            continue;
        };
        let view = RecordView::parse(record).ok();
        if let Some(event) = view.and_then(|view| canonical::scan(view.event_bytes).ok()) {
            first.insert(chain.into(), event.sequence);
        }
    }
    Ok(first)
}

/// Verifies the records of the journal.
pub(super) fn verify(
    dir: &Path,
    slots: Slots,
    complete: bool,
    workers: usize,
    ticker: &mut Ticker<'_>,
) -> Result<Outcome, VerifyError> {
    let mut findings = Vec::new();
    if !dir.is_dir() {
        let finding = Finding::new(
            FindingKind::JournalDamaged,
            format!("the journal is missing: there is no directory `{}`", dir.display()),
        );
        let slots = slots.into_values().collect();
        return Ok(Outcome { slots, findings: vec![finding] });
    }
    ticker.journal(size(dir));
    let mut scan = Scan::open(dir)?;
    let elsewhere = scan.first_index().is_some_and(|first| first > 0) && !complete;
    let mut shares: Vec<Share> = (0..workers.max(1)).map(|_| Share::new(elsewhere)).collect();
    for (id, mut slot) in slots {
        slot.elsewhere = elsewhere;
        let at = share_of(id.as_bytes(), shares.len());
        shares[at].slots.insert(id, slot);
    }
    if let [share] = &mut shares[..] {
        let mut batch = Batch::default();
        read(&mut scan, ticker, &mut findings, |_, record| {
            batch.push(record);
            if batch.bytes.len() >= BATCH {
                share.take_all(&batch);
                batch = Batch::default();
            }
            true
        })?;
        share.take_all(&batch);
    } else {
        spread(&mut scan, &mut shares, ticker, &mut findings)?;
    }
    findings.extend(end_of(&scan, dir));
    let mut all = Vec::new();
    for share in shares {
        findings.extend(share.findings);
        all.extend(share.slots.into_values());
    }
    Ok(Outcome { slots: all, findings })
}

/// Hands records to one thread for each share.
fn spread(
    scan: &mut Scan,
    shares: &mut [Share],
    ticker: &mut Ticker<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), VerifyError> {
    std::thread::scope(|scope| {
        let mut lanes: Vec<Lane> = shares
            .iter_mut()
            .map(|share| {
                let (send, receive) = mpsc::sync_channel::<Batch>(WAITING);
                scope.spawn(move || receive.iter().for_each(|batch| share.take_all(&batch)));
                Lane { send, batch: Batch::default() }
            })
            .collect();
        let count = lanes.len();
        read(scan, ticker, findings, |chain, record| {
            lanes[share_of(chain.unwrap_or_default().as_bytes(), count)].push(record)
        })?;
        for lane in &mut lanes {
            lane.flush();
        }
        Ok(())
    })
}

/// Reads the journal and hands out each record with its chain id, until `each` wants no more.
fn read(
    scan: &mut Scan,
    ticker: &mut Ticker<'_>,
    findings: &mut Vec<Finding>,
    mut each: impl FnMut(Option<&str>, &[u8]) -> bool,
) -> Result<(), VerifyError> {
    const TICK: u64 = 4_096;
    let (mut events, mut bytes) = (0, 0);
    let mut unknown: HashMap<u8, (u64, u64)> = HashMap::new();
    while let Some(entry) = scan.next_entry()? {
        let Some((&kind, record)) = entry.bytes.split_first() else { continue };
        if kind != EVENT {
            unknown.entry(kind).or_insert((entry.index, 0)).1 += 1;
            continue;
        }
        if !each(chain_id(record), record) {
            break;
        }
        events += 1;
        bytes += u64::try_from(record.len()).unwrap_or(u64::MAX);
        if events == TICK {
            ticker.add(std::mem::take(&mut events), std::mem::take(&mut bytes));
        }
    }
    ticker.add(events, bytes);
    let mut unknown: Vec<_> = unknown.into_iter().collect();
    unknown.sort_unstable();
    for (kind, (index, count)) in unknown {
        let detail = format!(
            "{count} journal entries, the first one with index {index}, are of kind {kind}, which \
             this program does not know; use a release that does"
        );
        findings.push(Finding::new(FindingKind::UnknownEntry, detail).in_place(JOURNAL));
    }
    Ok(())
}

/// The records on their way to one worker.
struct Lane {
    send: mpsc::SyncSender<Batch>,
    batch: Batch,
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Batch {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.ends.push(self.bytes.len());
    }
}

impl Lane {
    fn push(&mut self, record: &[u8]) -> bool {
        self.batch.push(record);
        self.batch.bytes.len() < BATCH || self.flush()
    }

    /// Returns whether the worker is still there.
    fn flush(&mut self) -> bool {
        let next = Batch { bytes: Vec::with_capacity(BATCH * 5 / 4), ends: Vec::new() };
        self.send.send(std::mem::replace(&mut self.batch, next)).is_ok()
    }
}

/// The chains of one worker.
struct Share {
    slots: Slots,
    findings: Vec<Finding>,
    elsewhere: bool,
}

impl Share {
    fn new(elsewhere: bool) -> Self {
        Self { slots: Slots::new(), findings: Vec::new(), elsewhere }
    }

    fn take_all(&mut self, batch: &Batch) {
        let mut start = 0;
        let records = batch.ends.iter().map(|end| {
            let begin = std::mem::replace(&mut start, *end);
            &batch.bytes[begin..*end]
        });
        for group in batch::groups(&records.collect::<Vec<_>>()) {
            let read = batch::Batch::read(group);
            for (record, stored) in read.records.iter().zip(group) {
                match record {
                    Read::Whole(whole) => self.take_whole(whole, read.commitments(whole)),
                    Read::Damaged { record, what } => self.take_damaged(stored, *record, what),
                }
            }
        }
    }

    fn take_whole(&mut self, whole: &Whole<'_>, commitments: &[Hash]) {
        match self.slot(whole.event.chain_id, Some(&whole.event)) {
            Some(slot) => slot.push(whole.record, Some((whole, commitments))),
            None => self.belongs_nowhere("it names no chain"),
        }
    }

    fn slot(&mut self, id: &str, event: Option<&EventView<'_>>) -> Option<&mut Slot> {
        if !self.slots.contains_key(id) {
            let event = event?;
            let chain = ChainRef::new(
                TenantId::new(event.tenant_id).ok()?,
                ChainId::new(event.chain_id).ok()?,
            );
            let mut slot = Slot::new(chain, Checkpoints::none());
            slot.elsewhere = self.elsewhere;
            self.slots.insert(id.into(), slot);
        }
        self.slots.get_mut(id)
    }

    fn belongs_nowhere(&mut self, why: &str) {
        let detail = format!("a journal entry was changed and belongs to no chain: {why}");
        self.findings.push(Finding::new(FindingKind::Tampered, detail).in_place(JOURNAL));
    }

    /// A record that cannot be read still goes to the chain that it seems to name: there it stands
    /// at a position.
    fn take_damaged(&mut self, stored: &[u8], record: Option<RecordView<'_>>, why: &str) {
        let slot = chain_id(stored).and_then(|id| self.slot(id, None));
        match (slot, record) {
            (Some(slot), Some(record)) => slot.push(record, None),
            (Some(slot), None) => slot.push_unreadable(stored),
            (None, Some(_)) => self.belongs_nowhere(why),
            (None, None) => self.belongs_nowhere("it names no chain"),
        }
    }
}

impl Slot {
    fn push_unreadable(&mut self, stored: &[u8]) {
        let mut verifier = self.journal.take().unwrap_or_else(|| self.begin());
        verifier.push(stored);
        self.journal = Some(verifier);
    }
}

/// The chain id in a stored record, without checking anything else.
///
/// In canonical bytes the first occurrence of the needle is the key of the envelope: `agent_id`
/// alone comes before it, and a quotation mark in its text is escaped.
fn chain_id(record: &[u8]) -> Option<&str> {
    const NEEDLE: &[u8] = br#""chain_id":""#;
    let start = memchr::memmem::find(record, NEEDLE)? + NEEDLE.len();
    let rest = record.get(start..)?;
    let end = memchr::memchr(b'"', rest.get(..rest.len().min(129))?)?;
    std::str::from_utf8(&rest[..end]).ok()
}

fn share_of(chain: &[u8], shares: usize) -> usize {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(chain);
    let shares64 = u64::try_from(shares).unwrap_or(1).max(1);
    usize::try_from(hash % shares64).expect("less than a count in memory")
}

/// How many bytes the segment files have; only for progress.
fn size(dir: &Path) -> u64 {
    let Ok(items) = fs::read_dir(dir) else { return 0 };
    items.filter_map(|item| item.ok()?.metadata().ok()).map(|meta| meta.len()).sum()
}

/// What the end of the journal says about the journal.
fn end_of(scan: &Scan, dir: &Path) -> Option<Finding> {
    let segment = |first: u64| format!("segment {first:020} of `{}`", dir.display());
    let (kind, detail) = match scan.end()? {
        ScanEnd::Clean { .. } => return None,
        ScanEnd::Torn { tail, .. } => (
            FindingKind::TornTail,
            format!(
                "the journal ends in a write that nobody had been promised: {} bytes at offset {} \
                 of {}; they are cut at the next start",
                tail.bytes,
                tail.offset,
                segment(tail.segment)
            ),
        ),
        ScanEnd::Damaged { segment: first, offset, reason, next_index, .. } => (
            FindingKind::JournalDamaged,
            format!(
                "the journal is damaged at offset {offset} of {}: {reason}; entries from index \
                 {next_index} on were not read",
                segment(*first)
            ),
        ),
        ScanEnd::Gap { expected, found } => (
            FindingKind::JournalDamaged,
            format!(
                "the journal lacks entries {expected} to {}, or has them twice; entries from there \
                 on were not read",
                found.saturating_sub(1)
            ),
        ),
        #[expect(
            unreachable_patterns,
            reason = "an end that is added later must not pass as clean"
        )]
        _ => (FindingKind::UnknownEntry, "the journal ended in an unknown way".to_owned()),
    };
    Some(Finding::new(kind, detail))
}
