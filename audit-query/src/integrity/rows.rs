//! The records of one chain in one store, page by page, whatever the store makes of it.

use agent_audit_core::{
    hash::Hash,
    id::{ChainId, TenantId},
};

use crate::{EventStore, Filter, Found, Order, QueryError, QueryErrorKind, Select};

/// About how many bytes of records a page has.
const PAGE_BYTES: usize = 4 << 20;
/// The most records of a page, and how many the first one has.
const MOST: usize = 1_000;
const FIRST: usize = 100;
/// How many positions are looked at first where a page holds a record that cannot be read.
const WINDOW: u64 = 512;
/// How many positions are tried behind a record that cannot be read.
const PROBES: u64 = 8;

/// What a store gives next.
#[derive(Debug)]
pub(super) enum Page {
    /// Records, in the store's order; at least one.
    Rows(Vec<Found>),
    /// There are no more.
    End,
    /// At this position stands what is no record; what comes behind can be read.
    Unreadable(u64, QueryError),
    /// From this position on the store holds what is no record; nothing more can be read.
    Broken(u64, QueryError),
    /// The store does not answer.
    Failed(QueryError),
}

/// Reads a chain.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    store: &'a dyn EventStore,
    tenant: &'a TenantId,
    chain: &'a ChainId,
    from: u64,
    /// The records at `from` that have been given already.
    given: Vec<Hash>,
    limit: usize,
    /// How many positions a page may reach, where one was found that cannot be read.
    window: Option<u64>,
    over: bool,
}

impl<'a> Rows<'a> {
    pub(super) fn new(
        store: &'a dyn EventStore,
        tenant: &'a TenantId,
        chain: &'a ChainId,
        from: u64,
    ) -> Self {
        let (given, limit) = (Vec::new(), FIRST);
        Self { store, tenant, chain, from, given, limit, window: None, over: false }
    }

    pub(super) async fn next(&mut self) -> Page {
        while !self.over {
            let limit = self.limit + self.given.len();
            let to = self.window.map(|window| self.from.saturating_add(window));
            match self.select(self.from, to, limit).await {
                Ok(rows) => {
                    if let Some(page) = self.take(rows, limit) {
                        return page;
                    }
                }
                Err(error) if error.kind() != QueryErrorKind::Corrupt => {
                    self.over = true;
                    return Page::Failed(error);
                }
                // Nearer and nearer to what cannot be read.
                Err(error) => match self.window.unwrap_or(2 * WINDOW) / 2 {
                    0 => return self.step_over(error).await,
                    window => self.window = Some(window),
                },
            }
        }
        Page::End
    }

    /// The new ones of some rows; none where there are none, but perhaps behind.
    fn take(&mut self, rows: Vec<Found>, limit: usize) -> Option<Page> {
        let whole = rows.len() >= limit;
        let (from, given) = (self.from, std::mem::take(&mut self.given));
        let known = |row: &Found| row.sequence() == from && given.contains(row.hash());
        let rows: Vec<Found> = rows.into_iter().filter(|row| !known(row)).collect();
        let last = rows.iter().map(Found::sequence).max().unwrap_or(from);
        if rows.is_empty() {
            match self.window.take() {
                // The narrow page is done; the next one may be as wide as it likes.
                Some(window) => self.from = from.saturating_add(window),
                None if whole => self.from = from.saturating_add(1),
                None => {
                    self.over = true;
                    return Some(Page::End);
                }
            }
            return None;
        }
        if last < from {
            // A store that gives what was not asked for is not asked again; the verifier judges.
            self.over = true;
            return Some(Page::Rows(rows));
        }
        let bytes: usize = rows.iter().map(weight).sum();
        self.limit = (PAGE_BYTES / (bytes / rows.len()).max(1)).clamp(1, MOST);
        self.from = last;
        self.given =
            rows.iter().filter(|row| row.sequence() == last).map(|row| *row.hash()).collect();
        if last == from {
            self.given.extend(given);
        }
        Some(Page::Rows(rows))
    }

    /// What stands at `from` cannot be read: can what stands behind it?
    async fn step_over(&mut self, error: QueryError) -> Page {
        let at = self.from;
        // What was read a moment ago and cannot be read now is not stepped over.
        let probes = if self.given.is_empty() { PROBES } else { 0 };
        for behind in 1..=probes {
            let probe = at.saturating_add(behind);
            if self.select(probe, probe.checked_add(1), 1).await.is_ok() {
                self.from = at.saturating_add(1);
                self.window = None;
                return Page::Unreadable(at, error);
            }
        }
        self.over = true;
        Page::Broken(at, error)
    }

    async fn select(
        &self,
        from: u64,
        to: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Found>, QueryError> {
        let mut filter = Filter::new().chain(self.chain.clone()).from_sequence(from);
        if let Some(to) = to {
            filter = filter.to_sequence(to);
        }
        // As the store gives them: who they belong to and in which order they stand is for the
        // verifier to judge, which names what is wrong.
        self.store.select(self.tenant, &Select::new(filter, Order::Chain, limit).content()).await
    }
}

fn weight(row: &Found) -> usize {
    let parts = row.record().parts().iter();
    row.record().event_bytes().len()
        + parts.map(|part| part.bytes().map_or(64, <[u8]>::len)).sum::<usize>()
}
