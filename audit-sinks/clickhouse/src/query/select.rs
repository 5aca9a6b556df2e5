//! Events: first their places, by the columns, and then the records at these places.
//!
//! Two steps, because only the second one reads records, as many as are wanted, and because it looks
//! at a place as a whole: of several rows there the first one counts, whichever the filter found.

use std::collections::HashMap;

use agent_audit_core::{
    columns::Columns, content::PartBody, hash::Hash, id::TenantId, record::Record,
};
use agent_audit_query::{Cursor, Found, QueryError, Select};

use super::{Asker, Question, Wrong, corrupt, name, question::sorted, rows};
use crate::store::{CONTENT_COLUMNS, ContentRow};

/// How many places are looked for at a time.
const ROUND: usize = 10_001;
/// How many records are read at a time, and how many with their content.
const RECORDS: usize = 1_000;
const RECORDS_WITH_CONTENT: usize = 100;

/// A row that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    time: i64,
    chain: String,
    sequence: i64,
    hash: Hash,
}

impl Key {
    fn place(&self) -> (&str, i64) {
        (&self.chain, self.sequence)
    }

    fn cursor(&self) -> Result<Cursor, QueryError> {
        let sequence = u64::try_from(self.sequence)
            .map_err(|_| corrupt(format!("chain {} has an event before its first", self.chain)))?;
        Ok(Cursor::new(self.time, self.chain.as_str(), sequence))
    }
}

pub(super) async fn select(
    asker: &Asker,
    tenant: &TenantId,
    select: &Select,
) -> Result<Vec<Found>, QueryError> {
    let mut found = Vec::new();
    let mut after = select.after.clone();
    loop {
        let wanted = select.limit.saturating_sub(found.len()).min(ROUND);
        if wanted == 0 {
            return Ok(found);
        }
        let mut keys = matching(asker, tenant, select, after.as_ref(), wanted).await?;
        let is_end = keys.len() < wanted;
        after = match keys.last() {
            Some(last) => Some(last.cursor()?),
            None => return Ok(found),
        };
        // A row that was inserted twice is found twice, side by side.
        keys.dedup();
        let at_a_time = if select.content { RECORDS_WITH_CONTENT } else { RECORDS };
        for keys in keys.chunks(at_a_time) {
            read(asker, tenant, keys, select.content, &mut found).await?;
        }
        if is_end {
            return Ok(found);
        }
    }
}

/// The rows that match, in order.
async fn matching(
    asker: &Asker,
    tenant: &TenantId,
    select: &Select,
    after: Option<&Cursor>,
    limit: usize,
) -> Result<Vec<Key>, QueryError> {
    let mut question = Question::of(tenant).matching(&select.filter);
    if let Some(after) = after {
        question = question.after(after, select.order, select.descending);
    }
    let limit = question.params.count(limit);
    let query = format!(
        "SELECT timestamp_utc, chain_id, sequence, event_hash FROM audit_events WHERE {} \
         ORDER BY {} LIMIT {limit}",
        question.conditions(),
        sorted(select.order, select.descending)
    );
    let doing = "look for events";
    let answer = asker.ask(Some(tenant), &query, &question.params, doing).await?;
    rows(&answer, doing, |row| {
        let time = row.i64()?;
        let chain = name(row, |text| Some(text.to_owned()))?;
        Ok(Key { time, chain, sequence: row.i64()?, hash: row.hash()? })
    })
}

/// Reads the records of rows that were found, in their order.
async fn read(
    asker: &Asker,
    tenant: &TenantId,
    keys: &[Key],
    content: bool,
    found: &mut Vec<Found>,
) -> Result<(), QueryError> {
    let mut events = first_at(asker, tenant, keys).await?;
    let mut parts = match content {
        true => parts_at(asker, tenant, keys).await?,
        false => HashMap::new(),
    };
    for key in keys {
        let wrong =
            |what: &str| corrupt(format!("event {} of chain {} {what}", key.sequence, key.chain));
        let Some((hash, event)) = events.get_mut(&(key.chain.clone(), key.sequence)) else {
            return Err(wrong("was there a moment ago and is gone"));
        };
        if *hash != key.hash {
            // A second writer's row, which was never acknowledged; the first one's was found by
            // itself, where it matches.
            continue;
        }
        let event = std::mem::take(event);
        let bodies = match content {
            true => {
                let rows = parts.remove(&(key.chain.clone(), key.sequence, key.hash));
                bodies(&event, rows.unwrap_or_default())
                    .ok_or_else(|| wrong("lacks content that it names"))?
            }
            false => Vec::new(),
        };
        let record = Found::new(Record::new(event, bodies))?;
        if *record.hash() != key.hash || *record.place() != key.cursor()? {
            return Err(wrong("does not agree with the columns beside it"));
        }
        found.push(record);
    }
    Ok(())
}

/// The row that counts at each place.
async fn first_at(
    asker: &Asker,
    tenant: &TenantId,
    keys: &[Key],
) -> Result<HashMap<(String, i64), (Hash, Vec<u8>)>, QueryError> {
    let question = at(tenant, keys);
    let query = format!(
        "SELECT chain_id, sequence, event_hash, event FROM audit_events WHERE {} \
         ORDER BY chain_id, sequence, _block_number, _block_offset LIMIT 1 BY chain_id, sequence",
        question.conditions()
    );
    let doing = "read events";
    let answer = asker.ask(Some(tenant), &query, &question.params, doing).await?;
    let rows = rows(&answer, doing, |row| {
        let chain = name(row, |text| Some(text.to_owned()))?;
        Ok(((chain, row.i64()?), (row.hash()?, row.bytes()?.to_vec())))
    })?;
    Ok(rows.into_iter().collect())
}

/// The content of the events at some places, each part once.
async fn parts_at(
    asker: &Asker,
    tenant: &TenantId,
    keys: &[Key],
) -> Result<HashMap<(String, i64, Hash), Vec<ContentRow>>, QueryError> {
    let question = at(tenant, keys);
    let part = "chain_id, sequence, event_hash, ordinal";
    let query = format!(
        "SELECT {CONTENT_COLUMNS} FROM audit_content WHERE {} \
         ORDER BY {part}, _block_number, _block_offset LIMIT 1 BY {part}",
        question.conditions()
    );
    let doing = "read content";
    let answer = asker.ask(Some(tenant), &query, &question.params, doing).await?;
    let mut parts: HashMap<_, Vec<ContentRow>> = HashMap::new();
    for row in rows(&answer, doing, |row| ContentRow::read(row).map_err(Wrong::from))? {
        parts.entry((row.chain.clone(), row.sequence, row.event_hash)).or_default().push(row);
    }
    Ok(parts)
}

fn at(tenant: &TenantId, keys: &[Key]) -> Question {
    Question::of(tenant).with(|params| {
        format!("(chain_id, sequence) IN {}", params.places(keys.iter().map(Key::place)))
    })
}

/// The bodies of an event's content: as many as it names, each in its place.
fn bodies(event: &[u8], rows: Vec<ContentRow>) -> Option<Vec<PartBody>> {
    let named = Columns::of(event).ok()?.parts().len();
    if !rows.iter().map(|row| row.ordinal).eq((0..).take(named)) {
        return None;
    }
    rows.into_iter().map(|row| row.body).collect()
}
