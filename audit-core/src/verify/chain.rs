//! The verifier of one chain.

mod content;
mod story;

use serde::{Deserialize, Serialize};

use crate::{
    canonical::{self, EventView},
    chain::ChainRef,
    hash::{self, Hash},
    record::RecordView,
    tree::CompactRange,
};

use content::Content;
use story::TIMESTAMP;

use super::{
    ChainReport, Checkpoints, Finding, FindingKind, Severity,
    batch::{self, Batch, Read},
    indexes::Indexes,
    links::{Court, Links},
    memory::{Attempts, Evidence, Findings, Recent, Reviews, Seen, event_id, parse_id, tag},
    order::{Late, Order},
};

/// Where a chain stood when it was verified: all it takes to go on from there.
///
/// Keep it where the log cannot reach it: a verification that resumes trusts it.
///
/// ```
/// use agent_audit_core::{hash::Hash, tree::CompactRange, verify::ChainState};
/// let empty = ChainState::new(Hash::ZERO, CompactRange::new());
/// assert_eq!(empty.size(), 0);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainState {
    head: Hash,
    tree: CompactRange,
}

impl ChainState {
    /// The state of a chain with this last event hash and this tree over all of its event hashes.
    #[must_use]
    pub fn new(head: Hash, tree: CompactRange) -> Self {
        Self { head, tree }
    }

    /// How many records the chain has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The event hash of the last record; zeros where there is none.
    #[must_use]
    pub fn head(&self) -> &Hash {
        &self.head
    }

    /// The tree over all event hashes.
    #[must_use]
    pub fn tree(&self) -> &CompactRange {
        &self.tree
    }
}

/// Verifies the records of one chain, in the order in which they are stored.
///
/// Memory is bounded: the last 256 records, the attempts that are open, at most 1,000 findings and
/// O(log n) hashes. A record costs about as much as SHA-256 over its bytes. A second use of an
/// event id is recognised within the last 256 records, a second use of a position always.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, event::Event, event::chain::{ChainClosed, ChainOpened}};
/// use agent_audit_core::{id::WriterId, record::Record};
/// use agent_audit_core::verify::{ChainVerifier, Checkpoints, FindingKind, Report, Verdict};
///
/// let opened = Event::example(ChainOpened::new(WriterId::random(), "ed25519:…", "example"));
/// let chain = ChainRef::new(opened.tenant_id.clone(), opened.chain_id.clone());
/// let mut closed = Event::example(ChainClosed::new("shutdown"));
/// closed.sequence = 1;
/// closed.previous_event_hash = opened.hash()?;
///
/// let mut verifier = ChainVerifier::new(chain.clone(), Checkpoints::none());
/// for event in [&opened, &closed] {
///     verifier.push(&Record::new(event.canonical_bytes()?, Vec::new()).to_bytes());
/// }
/// assert_eq!(Report::from_chains([verifier.finish()]).verdict(), Verdict::Intact);
///
/// let mut verifier = ChainVerifier::new(chain, Checkpoints::none());
/// verifier.push(&Record::new(closed.canonical_bytes()?, Vec::new()).to_bytes());
/// assert_eq!(verifier.finish().findings[0].kind, FindingKind::HeadMissing);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChainVerifier {
    findings: Findings,
    recent: Recent,
    attempts: Attempts,
    reviews: Reviews,
    evidence: Evidence,
    links: Links,
    indexes: Indexes,
    order: Order,
    counts: Counts,
    /// The position that comes next.
    next: u64,
    /// Records at the end so far that say no position of this chain.
    unplaced: u64,
    head_missing: Severity,
    last_timestamp: [u8; TIMESTAMP],
    closed: bool,
    schema_known: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    events: u64,
    parts: u64,
    bytes: u64,
    erased: u64,
    purged: u64,
    sealed: u64,
}

/// How a stream of records ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There are no more records of the chain anywhere.
    Whole,
    /// Another copy goes on.
    #[cfg(feature = "writer")]
    Continued,
}

impl ChainVerifier {
    /// Verifies a chain from its first record.
    #[must_use]
    pub fn new(chain: ChainRef, checkpoints: Checkpoints) -> Self {
        Self::from_parts(chain, checkpoints, CompactRange::new(), None)
    }

    /// Goes on behind a state that the caller trusts. Attempts from before it are not known here.
    #[must_use]
    pub fn resume(chain: ChainRef, checkpoints: Checkpoints, state: ChainState) -> Self {
        let head = (state.size() > 0).then_some(state.head);
        Self::from_parts(chain, checkpoints, state.tree, head)
    }

    fn from_parts(
        chain: ChainRef,
        checkpoints: Checkpoints,
        tree: CompactRange,
        head: Option<Hash>,
    ) -> Self {
        let mut findings = Findings::new(chain);
        checkpoints.findings.into_iter().for_each(|finding| findings.add(finding));
        let next = tree.size();
        let mut verifier = Self {
            findings,
            recent: Recent::default(),
            attempts: Attempts::default(),
            reviews: Reviews::default(),
            evidence: Evidence::default(),
            indexes: Indexes::new(checkpoints.indexes, next),
            links: Links::new(tree, head, checkpoints.known),
            order: Order::default(),
            counts: Counts::default(),
            next,
            unplaced: 0,
            head_missing: Severity::Tampering,
            last_timestamp: [0; TIMESTAMP],
            closed: false,
            schema_known: true,
        };
        let (links, mut court) = verifier.court();
        links.compare(&mut court);
        verifier
    }

    /// Says that the stream may lack its beginning because it was moved elsewhere: what is missing
    /// there is then "could not tell" and not tampering.
    #[must_use]
    pub fn with_trimmed_beginning(mut self) -> Self {
        self.head_missing = Severity::Unsure;
        self
    }

    /// The chain.
    #[must_use]
    pub fn chain(&self) -> &ChainRef {
        &self.findings.chain
    }

    /// The position that comes next.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.next
    }

    /// The event hash of the last record; absent before the first one.
    #[must_use]
    pub fn head(&self) -> Option<Hash> {
        self.links.head_hash()
    }

    /// Takes the next stored record, in its binary form.
    pub fn push(&mut self, stored: &[u8]) {
        match RecordView::parse(stored) {
            Ok(record) => {
                self.push_view(record);
                // The frame around event and parts.
                self.counts.bytes += length(stored.len()) - length(record.event_bytes.len());
            }
            Err(error) => {
                self.counts.bytes += length(stored.len());
                self.unplace(FindingKind::Tampered, format!("was changed: {error}"), None);
            }
        }
    }

    /// Takes the next stored records, in their binary form: finds what [`push`](Self::push) would
    /// find of one after the other, and is faster, because records are hashed side by side.
    ///
    /// Hand over as many as are at hand, a hundred or more where they are small.
    ///
    /// ```
    /// use agent_audit_core::{chain::ChainRef, event::Event, event::chain::ChainOpened};
    /// use agent_audit_core::{id::WriterId, record::Record};
    /// use agent_audit_core::verify::{ChainVerifier, Checkpoints};
    ///
    /// let opened = Event::example(ChainOpened::new(WriterId::random(), "ed25519:…", "example"));
    /// let chain = ChainRef::new(opened.tenant_id.clone(), opened.chain_id.clone());
    /// let stored = Record::new(opened.canonical_bytes()?, Vec::new()).to_bytes();
    /// let mut verifier = ChainVerifier::new(chain, Checkpoints::none());
    /// verifier.push_batch(&[&stored]);
    /// assert_eq!(verifier.head(), Some(opened.hash()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_batch(&mut self, stored: &[&[u8]]) {
        for group in batch::groups(stored) {
            let batch = Batch::read(group);
            self.links.expect(batch.leaves());
            for (read, stored) in batch.records.iter().zip(group) {
                self.push_read(&batch, read, stored);
            }
        }
    }

    fn push_read(&mut self, batch: &Batch<'_>, read: &Read<'_>, stored: &[u8]) {
        match read {
            Read::Whole(whole) => {
                self.push_hashed(whole.record, &whole.event, whole.hash, batch.commitments(whole));
                self.counts.bytes += length(stored.len()) - length(whole.record.event_bytes.len());
            }
            Read::Damaged { what, .. } => {
                self.counts.bytes += length(stored.len());
                self.unplace(FindingKind::Tampered, format!("was changed: {what}"), None);
            }
        }
    }

    /// Takes the next stored record, its frame already read.
    pub fn push_view(&mut self, record: RecordView<'_>) {
        match canonical::scan(record.event_bytes) {
            Ok(event) => {
                let hash = hash::leaf(record.event_bytes);
                self.push_hashed(record, &event, hash, &[]);
            }
            Err(error) => {
                self.counts.bytes += length(record.event_bytes.len());
                self.unplace(FindingKind::Tampered, format!("was changed: {error}"), None);
            }
        }
    }

    /// Takes the next stored record, its event scanned and hashed; the commitments to its clear
    /// parts where they are known.
    pub(super) fn push_hashed(
        &mut self,
        record: RecordView<'_>,
        event: &EventView<'_>,
        hash: Hash,
        commitments: &[Hash],
    ) {
        self.counts.bytes += length(record.event_bytes.len());
        let content = Content { record, commitments };
        let chain = &self.findings.chain;
        if event.tenant_id != chain.tenant_id.as_str() || event.chain_id != chain.chain_id.as_str()
        {
            let id = parse_id(event.event_id).and_then(event_id);
            let detail = format!(
                "is foreign: it says that it is record {} of {}/{}",
                event.sequence,
                shown(event.tenant_id),
                shown(event.chain_id)
            );
            self.unplace(FindingKind::Foreign, detail, id);
            return;
        }
        self.place(content, event, hash);
    }

    /// Ends the verification.
    #[must_use]
    pub fn finish(self) -> ChainReport {
        self.finish_as(End::Whole)
    }

    /// Forgets what was counted and found, and keeps where the chain stands: for a second copy that
    /// is verified from here on.
    #[cfg(feature = "writer")]
    pub(super) fn second_copy(&self) -> Self {
        let mut copy = self.clone();
        copy.findings.clear();
        copy.counts = Counts::default();
        copy
    }

    /// Takes in what another copy says about content that is gone.
    #[cfg(feature = "writer")]
    pub(super) fn join_evidence(&mut self, other: &Self) {
        self.evidence.join(&other.evidence);
    }

    /// Starts to count from here.
    #[cfg(feature = "writer")]
    pub(super) fn forget_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// The id of the event at one of the last positions.
    #[cfg(feature = "writer")]
    pub(super) fn event_id(&self, at: u64) -> Option<crate::id::EventId> {
        self.recent.event_id(at)
    }

    pub(super) fn finish_as(mut self, end: End) -> ChainReport {
        if self.unplaced > 0 {
            self.skip_unplaced();
        } else {
            let next = self.next;
            let (links, mut court) = self.court();
            links.settle_head(&mut court, next);
        }
        let empty = self.next == 0;
        let (order, head_missing) = (std::mem::take(&mut self.order), self.head_missing);
        let reached = self.next.max(order.branch_end());
        let (links, mut court) = self.court();
        order.finish(&mut court, head_missing);
        links.finish(&mut court);
        self.indexes.judge(&mut self.findings, self.links.fits);
        if end == End::Whole {
            self.truncation(reached);
            self.unresolved();
            self.unexplained();
            if !self.closed && !empty {
                self.findings.add(Finding::new(
                    FindingKind::Unclosed,
                    format!(
                        "the chain is open after record {}: its writer is at work or was stopped",
                        self.next - 1
                    ),
                ));
            }
        }
        let state = self.state();
        ChainReport {
            chain: self.findings.chain.clone(),
            events: self.counts.events,
            parts: self.counts.parts,
            bytes: self.counts.bytes,
            erased: self.counts.erased,
            purged: self.counts.purged,
            sealed: self.counts.sealed,
            checkpoints_checked: self.links.checked,
            indexes_checked: self.indexes.checked,
            covered: self.links.coverage.strongest().1,
            coverage: self.links.coverage,
            basis: self.links.coverage.strongest().0,
            findings: self.findings.into_list(),
            state,
        }
    }

    /// From where a later verification can go on: nothing while there is a fault.
    #[must_use]
    pub fn state(&self) -> Option<ChainState> {
        if self.findings.has_faults() || self.unplaced > 0 {
            return None;
        }
        let tree = self.links.tree()?;
        let head = self.links.last_leaf().unwrap_or(Hash::ZERO);
        (tree.size() == self.next).then(|| ChainState::new(head, tree))
    }

    fn court(&mut self) -> (&mut Links, Court<'_>) {
        (&mut self.links, Court { findings: &mut self.findings, recent: &self.recent })
    }

    /// A record that says no position of this chain: it stands at the next one, or in between.
    fn unplace(&mut self, kind: FindingKind, detail: String, id: Option<crate::id::EventId>) {
        let at = self.next + self.unplaced;
        self.unplaced += 1;
        self.counts.events += 1;
        self.findings.at(kind, at, id, detail);
    }

    /// The records that say no position took as many positions; only the last link is known.
    fn skip_unplaced(&mut self) {
        let (next, skipped) = (self.next, std::mem::take(&mut self.unplaced));
        let (links, mut court) = self.court();
        links.settle_head(&mut court, next);
        links.spoil();
        self.next += skipped;
    }

    fn place(&mut self, content: Content<'_>, event: &EventView<'_>, hash: Hash) {
        let (sequence, previous) = (event.sequence, event.previous_event_hash);
        let follows = match self.next {
            0 => previous == Hash::ZERO,
            _ => self.links.follows(&previous),
        };
        if !follows && self.order.branches(sequence, &previous, hash) {
            return;
        }
        if self.unplaced > 0 && sequence > self.next {
            self.place_unplaced(sequence, previous);
        }
        if sequence == self.next {
            self.take(content, event, hash);
        } else if follows {
            let id = parse_id(event.event_id).and_then(event_id);
            let detail = format!(
                "was changed: it follows record {} by its hash, and says that it is record {sequence}",
                self.next.saturating_sub(1)
            );
            self.findings.at(FindingKind::Tampered, self.next, id, detail);
            self.take(content, event, hash);
            self.links.blame_head();
        } else if sequence > self.next {
            self.leap(sequence, previous);
            self.take(content, event, hash);
        } else {
            let next = self.next;
            let mut court = Court { findings: &mut self.findings, recent: &self.recent };
            if self.order.late(&mut court, sequence, previous, hash, next) == Late::Moved {
                self.counts.events += 1;
                self.remember(event, sequence, hash);
                self.check_content(content, event, sequence);
            }
        }
    }

    /// Records without a position stand before one at `sequence`: they took the places between.
    fn place_unplaced(&mut self, sequence: u64, previous: Hash) {
        let took = self.unplaced.min(sequence - self.next);
        let one = took == 1 && self.unplaced == 1 && sequence == self.next + 1;
        let next = self.next;
        let (links, mut court) = self.court();
        links.settle_head(&mut court, next);
        if one {
            links.settle_claimed(&mut court, previous);
        } else {
            links.spoil();
        }
        self.next += took;
        self.unplaced = 0;
    }

    /// Positions are missing in front of a record.
    fn leap(&mut self, sequence: u64, previous: Hash) {
        let (next, head_missing) = (self.next, self.head_missing);
        let before = self.links.head_hash();
        let mut court = Court { findings: &mut self.findings, recent: &self.recent };
        self.links.settle_head(&mut court, next);
        if sequence - next == 1 {
            self.links.settle_claimed(&mut court, previous);
        } else {
            self.links.spoil();
        }
        self.order.hole(&mut court, (next, sequence - 1), before, previous, head_missing);
        self.next = sequence;
    }

    /// Takes a record at the position that comes next.
    fn take(&mut self, content: Content<'_>, event: &EventView<'_>, hash: Hash) {
        let at = self.next;
        self.unplaced = 0;
        self.counts.events += 1;
        let (links, mut court) = self.court();
        links.push(&mut court, at, event.previous_event_hash, hash);
        self.indexes.judge(&mut self.findings, self.links.fits);
        self.indexes.push(&mut self.findings, at, event);
        self.next = at + 1;
        let id = self.remember(event, at, hash);
        if at == 0 {
            self.check_genesis(event);
        }
        self.check_time(event, at);
        self.follow_attempts(event, at, id);
        self.check_schema(event, at, id);
        self.check_content(content, event, at);
    }

    fn remember(&mut self, event: &EventView<'_>, at: u64, hash: Hash) -> u128 {
        let Some(id) = parse_id(event.event_id) else {
            let detail = format!("has no valid event id: {}", shown(event.event_id));
            let finding = Finding::new(FindingKind::Tampered, detail).at(at, at);
            self.findings.add(finding);
            return 0;
        };
        if let Some(before) = self.recent.insert(Seen { id, sequence: at, tag: tag(&hash) }) {
            let detail = format!("has the same event id as record {before}");
            self.findings.at(FindingKind::Duplicated, at, event_id(id), detail);
        }
        id
    }

    fn truncation(&mut self, reached: u64) {
        let Some(size) = self.links.largest().filter(|size| *size > reached) else { return };
        let detail = format!(
            "{} missing: a signed checkpoint states that the chain had {size} records, and it has \
             {reached}",
            if size - reached == 1 { "is" } else { "are" }
        );
        let finding = Finding::new(FindingKind::Truncated, detail).at(reached, size - 1);
        self.findings.add(finding);
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// Text from a record, made safe to print: short, quoted, control characters escaped.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    format!("{short:?}")
}
