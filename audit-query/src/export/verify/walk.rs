//! The events of an export and their proofs, side by side, in one pass.

use agent_audit_core::{
    canonical::EventView,
    chain::ChainRef,
    hash::Hash,
    id::TenantId,
    verify::{Finding, FindingKind},
};

use super::{
    chains::Chains,
    files::{Files, shown},
    gone::Gone,
    index::Events,
    lines::Lines,
    positions::Cover,
    records::{Fault, Item, Place, Records, Taken},
    report::Draft,
    run::{Ended, Link, Run},
};
use crate::{Filter, QueryError, export::proof::ProofLine};

/// One set of events with its proofs.
pub(super) struct Walk<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) files: &'a Files,
    /// Whether bodies of content are there.
    pub(super) content: bool,
    /// What every event must match.
    pub(super) filter: &'a Filter,
    /// Whether the events are there only to say why content is gone.
    pub(super) is_evidence: bool,
    /// Where the export claims to leave no position out.
    pub(super) cover: Option<Cover>,
    /// Where events are collected to be held against an index.
    pub(super) collect: Option<Events>,
}

/// What a walk counted, beside what it noted of each chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) events: u64,
    pub(super) covered: u64,
    pub(super) parts: u64,
    pub(super) erased: u64,
    pub(super) purged: u64,
    pub(super) sealed: u64,
    pub(super) bytes: u64,
    /// Records of the proofs that are not there.
    pub(super) missing: u64,
}

/// Where a walk stands.
pub(super) struct State<'w, 'a> {
    pub(super) walk: &'w mut Walk<'a>,
    pub(super) chains: &'w mut Chains,
    pub(super) gone: &'w mut Gone,
    pub(super) draft: &'w mut Draft,
    proofs: Lines<ProofLine>,
    open: Option<Run>,
    /// The end of the run before, and the hash of the event there.
    behind: Option<(ChainRef, u64, Option<Hash>)>,
    /// The last event that was taken.
    last: Option<(ChainRef, u64)>,
    /// Places at which something stands that is no event of the export: it took one of theirs.
    unplaced: u64,
    pub(super) tally: Tally,
    pub(super) schema_known: bool,
}

impl Walk<'_> {
    /// Checks every event.
    pub(super) fn run(
        &mut self,
        mut records: Records<'_>,
        proofs: &'static str,
        chains: &mut Chains,
        gone: &mut Gone,
        draft: &mut Draft,
        mut tick: impl FnMut(&Tally),
    ) -> Result<Tally, QueryError> {
        let proofs = Lines::open(self.files, proofs)?;
        let mut state = State {
            walk: self,
            chains,
            gone,
            draft,
            proofs,
            open: None,
            behind: None,
            last: None,
            unplaced: 0,
            tally: Tally::default(),
            schema_known: true,
        };
        while let Some(item) = records.next()? {
            match item {
                Item::Record(taken) => state.record(&taken)?,
                Item::Damaged(place, what) => {
                    state.unplaced += 1;
                    let place = place.to_string();
                    state.draft.find(FindingKind::Tampered, &place, what);
                }
                Item::Cut(place) => {
                    let place = place.to_string();
                    let what = "the record does not end: the file was cut";
                    state.draft.find(FindingKind::Truncated, &place, what);
                }
                Item::Lost(place, what) => state.lost(&place, &what),
            }
            if state.tally.events.is_multiple_of(1_024) {
                tick(&state.tally);
            }
        }
        while state.turn(None)? {}
        let State { walk, chains, draft, tally, .. } = state;
        if let Some(cover) = &mut walk.cover {
            cover.finish(chains, draft);
        }
        tick(&tally);
        Ok(tally)
    }
}

impl State<'_, '_> {
    fn lost(&mut self, place: &Place, what: &str) {
        let cut = self.walk.files.is_cut(place.name());
        let kind = if cut { FindingKind::Truncated } else { FindingKind::Tampered };
        let detail = format!("from here on the file cannot be read: {what}");
        self.draft.find(kind, &place.to_string(), detail);
    }

    fn record(&mut self, taken: &Taken) -> Result<(), QueryError> {
        let Ok(event) = taken.record.view() else { return Ok(()) };
        self.tally.events += 1;
        self.tally.bytes += u64::try_from(taken.bytes).unwrap_or(u64::MAX);
        let Some(chain) = self.place(&event, taken) else { return Ok(()) };
        let at = event.sequence;
        if !self.find_run(&chain, at, taken, &event)? {
            return Ok(());
        }
        self.last = Some((chain.clone(), at));
        let id = event.event_id.parse().ok();
        let edited = matches!(taken.fault, Some(Fault::Edited));
        self.faults((&chain, at, id), taken);
        let Some(run) = &mut self.open else { return Ok(()) };
        let covered = run.is_covered();
        let previous = (!edited).then_some(event.previous_event_hash);
        let place = taken.place.to_string();
        run.push(Link { at, id, hash: taken.hash, previous, place }, self.draft);
        self.tally.covered += u64::from(covered);
        if let Some(claimed) = self.chains.get(&chain)
            && !self.walk.is_evidence
        {
            let seen = &mut claimed.seen;
            seen.events += 1;
            seen.covered += u64::from(covered);
            seen.first.get_or_insert(at);
            seen.last = Some(at);
        }
        if let Some(collect) = &mut self.walk.collect {
            collect.entry(chain.chain_id.clone()).or_default().push((at, taken.hash));
        }
        if !edited {
            self.inside((&chain, at, id), &event, covered, taken);
        }
        Ok(())
    }

    /// The chain of an event, if it is one of the export.
    fn place(&mut self, event: &EventView<'_>, taken: &Taken) -> Option<ChainRef> {
        let chain = event.chain_id.parse().ok();
        let chain = chain.map(|chain| ChainRef::new(self.walk.tenant.clone(), chain));
        let own = event.tenant_id == self.walk.tenant.as_str();
        let named = chain.filter(|chain| self.chains.get(chain).is_some());
        if own && named.is_some() {
            return named;
        }
        let detail = if own {
            "a record is of a chain that the manifest does not name".to_owned()
        } else {
            "a record belongs to another tenant than the export".to_owned()
        };
        let says = format!(
            "{detail}: it says that it is record {} of {}/{}",
            event.sequence,
            shown(event.tenant_id),
            shown(event.chain_id)
        );
        self.unplaced += 1;
        let finding = Finding::new(FindingKind::Foreign, says);
        let id = event.event_id.parse().ok();
        self.draft.add(finding.of_event(id).in_place(taken.place.to_string()));
        None
    }

    /// Goes on to the run that an event stands in; says no where there is none.
    fn find_run(
        &mut self,
        chain: &ChainRef,
        at: u64,
        taken: &Taken,
        event: &EventView<'_>,
    ) -> Result<bool, QueryError> {
        loop {
            let Some(run) = &mut self.open else {
                if self.turn(None)? {
                    continue;
                }
                self.stray(chain, at, taken, event);
                return Ok(false);
            };
            let (first, next, last) = (run.first, run.next, run.last);
            let same = run.chain() == chain;
            match run.chain().chain_id.cmp(&chain.chain_id) {
                std::cmp::Ordering::Equal if at > last => {}
                std::cmp::Ordering::Equal if at >= next && at >= first => {
                    if at > next {
                        let previous = event.previous_event_hash;
                        let previous = taken.fault.is_none().then_some(previous);
                        let chain = chain.clone();
                        run.skip_to(at, previous, self.draft);
                        self.missing(&chain, next, at - 1);
                    }
                    return Ok(true);
                }
                std::cmp::Ordering::Less => {}
                _ => {
                    self.stray(chain, at, taken, event);
                    return Ok(false);
                }
            }
            let previous = taken.fault.is_none().then_some(event.previous_event_hash);
            let behind = previous.filter(|_| last.checked_add(1) == Some(at) && same);
            if !self.turn(behind)? {
                self.stray(chain, at, taken, event);
                return Ok(false);
            }
        }
    }

    /// An event that no proof speaks of at this place.
    fn stray(&mut self, chain: &ChainRef, at: u64, taken: &Taken, event: &EventView<'_>) {
        let (kind, detail) = match &self.last {
            Some((last, before)) if last == chain && *before == at => {
                (FindingKind::Duplicated, "stands in the export twice")
            }
            Some((last, before)) if (last, *before) > (chain, at) => {
                (FindingKind::Reordered, "stands in the export behind records that come after it")
            }
            _ => (FindingKind::Tampered, "was put in: no proof of the export speaks of it"),
        };
        let id = event.event_id.parse().ok();
        let finding = Finding::new(kind, detail).in_chain(chain).at(at, at).of_event(id);
        self.draft.add(finding.in_place(taken.place.to_string()));
    }

    /// Records that the proofs speak of are not there, unless something else stands in their place.
    fn missing(&mut self, chain: &ChainRef, first: u64, last: u64) {
        let count = last - first + 1;
        self.tally.missing = self.tally.missing.saturating_add(count);
        if self.unplaced >= count {
            self.unplaced -= count;
            return;
        }
        self.unplaced = 0;
        let (are, them) = if first == last { ("is", "it") } else { ("are", "them") };
        let detail = format!("{are} missing: the proofs speak of {them}, and no file has {them}");
        let finding = Finding::new(FindingKind::Missing, detail).in_chain(chain);
        self.draft.add(finding.at(first, last));
    }

    /// Ends the run whose turn it was and begins the next one; says no where there is none. An event
    /// right behind the run keeps a hash of its last one.
    fn turn(&mut self, behind: Option<Hash>) -> Result<bool, QueryError> {
        if let Some(mut run) = self.open.take() {
            let chain = run.chain().clone();
            if run.next <= run.last {
                let (next, last) = (run.next, run.last);
                run.skip_to(last.saturating_add(1), None, self.draft);
                self.missing(&chain, next, last);
            }
            let ended = run.finish(behind, self.draft);
            self.behind = Some((chain.clone(), run.last, run.head()));
            let count = run.last - run.first + 1;
            if let (Some(claimed), false) = (self.chains.get(&chain), self.walk.is_evidence) {
                if let Ended::Proven { separate } = ended {
                    claimed.seen.proven += count;
                    claimed.seen.separate = claimed.seen.separate.max(separate);
                }
                claimed.seen.runs += 1;
            }
        }
        while let Some((place, line)) = self.proofs.next(self.draft)? {
            let chain = ChainRef::new(self.walk.tenant.clone(), line.chain_id.clone());
            let before = self.behind.as_ref().filter(|(behind, ..)| *behind == chain);
            let follows = match &self.behind {
                Some((behind, at, _)) => {
                    behind.chain_id < line.chain_id || *behind == chain && *at < line.first
                }
                None => true,
            };
            let right = line.first <= line.last
                && line.last < MAX_SEQUENCE
                && line.size.is_none_or(|size| line.last < size);
            if !follows || !right {
                let what = "the proof was changed: its run is none, or not behind the one before";
                self.draft.find(FindingKind::Tampered, &place, what);
                continue;
            }
            let before = before.filter(|(_, at, _)| *at + 1 == line.first);
            let before = before.and_then(|(.., hash)| *hash);
            let Some(claimed) = self.chains.get(&chain) else {
                let what = "the proof is of a chain that the manifest does not name";
                self.draft.find(FindingKind::Foreign, &place, what);
                continue;
            };
            let positions = (line.first, line.last);
            self.open = Some(Run::new(line, place, claimed, before, self.draft));
            if let Some(cover) = &mut self.walk.cover {
                cover.run(&chain, positions, self.chains, self.draft);
            }
            return Ok(true);
        }
        Ok(false)
    }
}

/// Positions are integers that every reader of JSON keeps exactly.
const MAX_SEQUENCE: u64 = agent_audit_core::canonical::MAX_INTEGER;
