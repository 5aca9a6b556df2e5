//! One store's copy of a chain while it is read: what it holds goes to the verifier, and what is
//! needed to compare it with other copies is kept for a moment.

use std::collections::VecDeque;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    tree::CompactRange,
    verify::{ChainReport, ChainState, ChainVerifier, Checkpoints, Finding, FindingKind, Severity},
};

use super::{
    absent::Absences,
    rows::{Page, Rows},
};
use crate::{EventStore, Found, QueryError};

/// A record, as far as another copy is compared with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub(super) sequence: u64,
    pub(super) hash: Hash,
    /// When it was recorded, in nanoseconds since 1970.
    pub(super) at: i64,
    /// Whether it closes the chain.
    pub(super) closes: bool,
}

/// A copy that is being read.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    store: &'a str,
    chain: &'a ChainRef,
    rows: Rows<'a>,
    verifier: ChainVerifier,
    /// Records that were verified and not compared yet.
    queue: VecDeque<Row>,
    ended: bool,
    failed: Option<QueryError>,
    broken: Option<(u64, QueryError)>,
    unreadable: Vec<(u64, String)>,
    /// The record before the first one to be verified, which must still be there.
    anchor: Option<(u64, Hash)>,
    /// Whether the record in front of the first one is not what it was.
    unanchored: bool,
    tree: CompactRange,
    head: Option<Hash>,
    first: Option<Row>,
    last: Option<Row>,
    absences: Absences,
    /// The first position that another copy has and this one, read to its end, does not.
    pub(super) missed: Option<Row>,
    from: u64,
    bytes: u64,
    records: u64,
    /// The event hash at the size that the tenant's checkpoint states, and that size.
    probe: Option<(u64, Option<Hash>)>,
}

/// A copy that has been read.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) report: ChainReport,
    /// From where a later run can go on, where the copy has no fault and was read to its end.
    pub(super) state: Option<ChainState>,
    /// The position behind the last record.
    pub(super) end: u64,
    /// Where reading began.
    pub(super) from: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// The first and the last record that were read.
    pub(super) first: Option<Row>,
    pub(super) last: Option<Row>,
    /// Whether the store could be read to the end.
    pub(super) whole: bool,
    pub(super) missed: Option<Row>,
    pub(super) absences: Absences,
    /// Faults are there, so that a copy that was read from the middle must be read whole.
    pub(super) suspect: bool,
    /// The event hash at the size that was asked for.
    pub(super) probed: Option<Hash>,
}

impl<'a> Reading<'a> {
    /// Reads from the beginning.
    pub(super) fn whole(
        store: &'a dyn EventStore,
        chain: &'a ChainRef,
        checkpoints: Checkpoints,
    ) -> Self {
        Self::new(
            store,
            chain,
            ChainVerifier::new(chain.clone(), checkpoints),
            CompactRange::new(),
            None,
        )
    }

    /// Reads on behind what was verified in an earlier run, and looks again at the last of it.
    pub(super) fn resumed(
        store: &'a dyn EventStore,
        chain: &'a ChainRef,
        checkpoints: Checkpoints,
        state: &ChainState,
    ) -> Self {
        let anchor = state.size().checked_sub(1).map(|last| (last, *state.head()));
        let verifier = ChainVerifier::resume(chain.clone(), checkpoints, state.clone());
        Self::new(store, chain, verifier, state.tree().clone(), anchor)
    }

    fn new(
        store: &'a dyn EventStore,
        chain: &'a ChainRef,
        verifier: ChainVerifier,
        tree: CompactRange,
        anchor: Option<(u64, Hash)>,
    ) -> Self {
        let from = verifier.next_sequence();
        let first = anchor.map_or(from, |(at, _)| at);
        Self {
            store: store.name(),
            chain,
            rows: Rows::new(store, &chain.tenant_id, &chain.chain_id, first),
            verifier,
            queue: VecDeque::new(),
            ended: false,
            failed: None,
            broken: None,
            unreadable: Vec::new(),
            anchor,
            unanchored: false,
            tree,
            head: anchor.map(|(_, hash)| hash),
            first: None,
            last: None,
            absences: Absences::default(),
            missed: None,
            from,
            bytes: 0,
            records: 0,
            probe: None,
        }
    }

    /// Also tells the event hash of the record before this size.
    pub(super) fn probing(mut self, size: u64) -> Self {
        self.probe = size.checked_sub(1).map(|last| (last, None));
        self
    }

    /// Sees to it that there is a next record, if the store has one.
    pub(super) async fn fill(&mut self) {
        while self.queue.is_empty() && !self.ended {
            match self.rows.next().await {
                Page::Rows(rows) => self.take(rows),
                Page::End => self.ended = true,
                Page::Unreadable(at, error) => {
                    self.unreadable.push((at, error.to_string()));
                    // The verifier counts it, and says that it was changed.
                    self.verifier.push(&[]);
                }
                Page::Broken(at, error) => {
                    self.broken = Some((at, error));
                    self.ended = true;
                }
                Page::Failed(error) => {
                    self.failed = Some(error);
                    self.ended = true;
                }
            }
        }
    }

    /// The next record to be compared.
    pub(super) fn peek(&self) -> Option<&Row> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) -> Option<Row> {
        self.queue.pop_front()
    }

    /// Whether this copy was read to its end and has no more records.
    pub(super) fn is_done(&self) -> bool {
        self.ended && self.queue.is_empty() && self.failed.is_none() && self.broken.is_none()
    }

    fn take(&mut self, rows: Vec<Found>) {
        let mut rows = rows.into_iter().peekable();
        if let Some((at, hash)) = self.anchor.take() {
            let first = rows.next_if(|row| row.sequence() == at);
            self.unanchored = first.is_none_or(|row| *row.hash() != hash);
        }
        let mut stored = Vec::new();
        for found in rows {
            let row = Row {
                sequence: found.sequence(),
                hash: *found.hash(),
                at: found.timestamp(),
                closes: found.event_type() == "chain.closed",
            };
            if row.sequence == self.tree.size() {
                self.tree.push(row.hash);
            }
            if let Some((at, hash)) = &mut self.probe
                && *at == row.sequence
            {
                hash.get_or_insert(row.hash);
            }
            self.absences.note(&found);
            let record = found.into_record();
            // A record without a binary form is none that a writer made.
            stored.push(if record.has_binary_form() { record.to_bytes() } else { Vec::new() });
            self.records += 1;
            self.head = Some(row.hash);
            self.first.get_or_insert(row);
            self.last = Some(row);
            self.queue.push_back(row);
        }
        self.bytes +=
            stored.iter().map(|bytes| u64::try_from(bytes.len()).unwrap_or(0)).sum::<u64>();
        let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        self.verifier.push_batch(&stored);
    }

    /// Ends the reading.
    pub(super) fn finish(self) -> Outcome {
        let end = self.verifier.next_sequence().max(self.unplaced_end());
        let whole = self.failed.is_none() && self.broken.is_none();
        let mut report = self.verifier.finish();
        // How a copy ends, and why content is gone, is judged with all copies at hand.
        report.findings.retain(|finding| {
            !matches!(
                finding.kind,
                FindingKind::Truncated | FindingKind::ContentMissing | FindingKind::Unclosed
            )
        });
        let name = |finding: Finding| finding.in_chain(self.chain);
        for (at, why) in self.unreadable {
            let told = report.findings.iter_mut().find(|finding| finding.is_at(at));
            let detail = format!("cannot be read: {why}");
            match told {
                Some(finding) if finding.last_sequence.is_none() => finding.detail = detail,
                _ => report
                    .findings
                    .push(name(Finding::new(FindingKind::Tampered, detail).at(at, at))),
            }
        }
        if let Some((at, error)) = self.broken {
            let detail = format!(
                "the store holds what is no record, at position {at} or behind it: {error}"
            );
            report.findings.push(name(Finding::new(FindingKind::Tampered, detail)));
        }
        // A store that holds nothing at all is short; that is judged with the others.
        let unanchored = self.unanchored || (whole && self.anchor.is_some());
        let faults = report.findings.iter().any(|finding| finding.severity <= Severity::Unsure);
        let suspect = unanchored || faults;
        if let Some(error) = self.failed {
            let detail = format!(
                "the store could not be read behind record {end}: {error}; what was verified before \
                 is kept, make it readable and run again"
            );
            report.findings.push(name(Finding::new(FindingKind::StoreUnreadable, detail)));
        }
        for finding in &mut report.findings {
            finding.place.get_or_insert_with(|| self.store.to_owned());
        }
        let complete = whole && !suspect && self.tree.size() == end;
        Outcome {
            state: self
                .head
                .filter(|_| complete && end > 0)
                .map(|head| ChainState::new(head, self.tree)),
            end,
            from: self.from,
            records: self.records,
            bytes: self.bytes,
            first: self.first,
            last: self.last,
            whole,
            missed: self.missed,
            absences: self.absences,
            suspect,
            probed: self.probe.and_then(|(_, hash)| hash),
            report,
        }
    }

    /// The position behind the last record that the store gave, whatever the verifier made of it.
    fn unplaced_end(&self) -> u64 {
        self.last.map_or(0, |row| row.sequence.saturating_add(1))
    }
}
