//! Events from a store, a page at a time, in bounded memory whatever an event holds.

use agent_audit_core::content::PartBody;

use crate::{Cursor, Filter, Found, Ledger, Order, QueryError, Select, ledger::CHUNK};

/// About how many bytes of records a page has.
const PAGE_BYTES: usize = 4 << 20;

/// The pages of a selection, by chain and position.
pub(super) struct Pages<'a> {
    ledger: &'a Ledger,
    select: Select,
    ended: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn new(ledger: &'a Ledger, filter: Filter, content: bool) -> Self {
        // What a page weighs is known behind the first one.
        let mut select = Select::new(filter, Order::Chain, if content { 16 } else { 256 });
        select.content = content;
        Self { ledger, select, ended: false }
    }

    /// The next events; none once there are no more.
    pub(super) async fn next(&mut self) -> Result<Vec<Found>, QueryError> {
        if self.ended {
            return Ok(Vec::new());
        }
        let page = self.ledger.select(&self.select).await?;
        self.ended = page.len() < self.select.limit;
        self.select.after = page.last().map(|found| Cursor::clone(found.place()));
        let bytes: usize = page.iter().map(weight).sum();
        let each = (bytes / page.len().max(1)).max(1);
        // A page of large records must not follow at once where one of small ones was read.
        let most = self.select.limit.saturating_mul(4).min(CHUNK);
        self.select.limit = (PAGE_BYTES / each).clamp(1, most);
        Ok(page)
    }
}

/// About how many bytes an event takes in memory.
fn weight(found: &Found) -> usize {
    let body = |body: &PartBody| match body {
        PartBody::Clear { bytes, .. } => bytes.len(),
        PartBody::Sealed(sealed) => sealed.ciphertext.len(),
        _ => 0,
    };
    let record = found.record();
    512 + record.event_bytes().len() + record.parts().iter().map(body).sum::<usize>()
}
