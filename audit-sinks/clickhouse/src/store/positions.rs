//! What the server holds at positions of chains: of several rows at one, the one that came first.

use std::collections::{BTreeMap, HashMap};

use agent_audit_core::{
    hash::Hash,
    sink::{ChainRef, Head},
};

use super::{client::Client, row_binary::Reader, schema::malformed, sql::literal};
use crate::error::Fault;

/// Rows at one position in the order in which they came: block numbers are given in the order of
/// commits, and are kept by merges.
pub(crate) const IN_ORDER: &str = "sequence, _block_number, _block_offset";

/// How many ranges one query asks for.
const RANGES: usize = 64;

/// Positions of a chain, both ends included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range<'a> {
    pub(crate) chain: &'a ChainRef,
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The hashes at positions, by chain.
#[derive(Debug, Default)]
pub(crate) struct Positions(HashMap<ChainRef, BTreeMap<u64, Hash>>);

impl Positions {
    pub(crate) fn of(&mut self, chain: &ChainRef) -> &mut BTreeMap<u64, Hash> {
        self.0.entry(chain.clone()).or_default()
    }
}

/// Reads what is at these positions.
pub(crate) async fn read(
    client: &Client,
    ranges: &[Range<'_>],
    doing: &str,
) -> Result<Positions, Fault> {
    let mut positions = Positions::default();
    for ranges in ranges.chunks(RANGES) {
        let conditions: Vec<String> = ranges.iter().map(condition).collect();
        let query = format!(
            "SELECT tenant_id, chain_id, sequence, event_hash FROM audit_events WHERE {} \
             ORDER BY tenant_id, chain_id, {IN_ORDER} LIMIT 1 BY tenant_id, chain_id, sequence",
            conditions.join(" OR ")
        );
        let answer = client.select(&query, doing).await?;
        let mut rows = Reader::new(&answer);
        // Rows of one chain come together.
        while !rows.is_empty() {
            let row = (|| Ok((rows.bytes()?, rows.bytes()?, rows.i64()?, rows.hash()?)))();
            let (tenant, chain, sequence, hash) =
                row.map_err(|super::row_binary::Malformed| malformed(doing))?;
            let asked = ranges.iter().find(|range| {
                range.chain.tenant_id.as_str().as_bytes() == tenant
                    && range.chain.chain_id.as_str().as_bytes() == chain
            });
            if let (Some(range), Ok(sequence)) = (asked, u64::try_from(sequence)) {
                positions.of(range.chain).insert(sequence, hash);
            }
        }
    }
    Ok(positions)
}

fn condition(range: &Range<'_>) -> String {
    format!("({} AND sequence BETWEEN {} AND {})", of_chain(range.chain), range.first, range.last)
}

/// The condition that a row is of a chain.
pub(crate) fn of_chain(chain: &ChainRef) -> String {
    let (tenant, chain) = (chain.tenant_id.as_str(), chain.chain_id.as_str());
    format!("tenant_id = {} AND chain_id = {}", literal(tenant), literal(chain))
}

/// The last event of a chain.
pub(crate) async fn head(client: &Client, chain: &ChainRef) -> Result<Option<Head>, Fault> {
    let doing = "read the head";
    let query = format!(
        "SELECT sequence, event_hash FROM audit_events WHERE {} \
         ORDER BY sequence DESC, _block_number, _block_offset LIMIT 1",
        of_chain(chain)
    );
    let answer = client.select(&query, doing).await?;
    let mut rows = Reader::new(&answer);
    if rows.is_empty() {
        return Ok(None);
    }
    let (Ok(sequence), Ok(hash)) = (rows.i64(), rows.hash()) else { return Err(malformed(doing)) };
    match u64::try_from(sequence) {
        Ok(sequence) => Ok(Some(Head::new(sequence, hash))),
        Err(_) => Err(Fault::corrupt(format!("chain {chain} ends before position 0: verify it"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::id::{ChainId, TenantId};

    use super::*;

    #[test]
    fn a_condition_names_one_chain() {
        let chain = ChainRef::new(TenantId::new("acme").unwrap(), ChainId::new("c-1").unwrap());
        let range = Range { chain: &chain, first: 4, last: 9 };
        assert_eq!(
            condition(&range),
            "(tenant_id = 'acme' AND chain_id = 'c-1' AND sequence BETWEEN 4 AND 9)"
        );
    }
}
