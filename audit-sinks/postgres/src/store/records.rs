//! The records of one chain, a chunk of events at a time, and one event's content at a time.

use std::{collections::VecDeque, fmt, pin::Pin};

use agent_audit_core::{
    columns::{COLUMNS, Stored, StoredRow},
    content::{AbsentReason, PartBody, Salt, Sealed},
    id::{EventId, TenantId},
    record::Record,
    sink::{ChainRef, SinkError, SinkErrorKind},
    timestamp::Timestamp,
};
use futures_util::TryStreamExt;
use tokio::time::timeout;
use tokio_postgres::{Row, RowStream, types::ToSql};

use super::{schema, text};
use crate::{error::Fault, pool::Lease};

/// The records of one chain; see [`PostgresStore::records`](crate::PostgresStore::records).
///
/// ```
/// use agent_audit_postgres::Records;
/// async fn count(mut records: Records) -> usize {
///     let mut count = 0;
///     while records.next().await.is_some() {
///         count += 1;
///     }
///     count
/// }
/// # let _ = count;
/// ```
pub struct Records {
    chain: ChainRef,
    /// `None` once there is nothing more.
    lease: Option<Lease>,
    /// Position and id of the last event that was read.
    after: (i64, String),
    events: VecDeque<Event>,
    content: Option<Pin<Box<RowStream>>>,
    /// The next row of content, which belongs to the event of this number.
    ahead: Option<(i64, Row)>,
    external_ids: VecDeque<(i64, String, String)>,
}

/// One row of events.
struct Event {
    /// Its place in the chunk, from 1.
    number: i64,
    sequence: i64,
    values: Vec<Stored>,
    bytes: Vec<u8>,
}

/// How many events, and about how many bytes of them, are in memory at a time. Of their content there
/// is one event's at a time.
const CHUNK_EVENTS: i64 = 256;
const CHUNK_BYTES: usize = 4 << 20;

/// The content of some events of a tenant, by their number from 1.
pub(crate) const CONTENT: &str = "\
    SELECT e.number, c.ordinal, c.name, c.media_type, c.state, c.salt, c.bytes, c.key_id, \
        c.algorithm, c.nonce, c.absent_reason, c.absent_at, c.absent_evidence::text \
    FROM unnest($2::text[]) WITH ORDINALITY AS e (id, number) \
    JOIN agent_audit.audit_content c ON c.tenant_id = $1 AND c.event_id = e.id::uuid \
    ORDER BY e.number, c.ordinal";

/// Names the tenant whose rows the session sees.
pub(super) async fn for_tenant(lease: &Lease, tenant: &TenantId) -> Result<(), Fault> {
    schema::check_version(lease.client()).await?;
    lease
        .client()
        .execute("SELECT set_config('audit.tenant_id', $1, false)", &[&tenant.as_str()])
        .await
        .map(|_| ())
        .map_err(|error| Fault::postgres(&error, &format!("read as tenant {tenant}")))
}

impl Records {
    pub(super) fn new(chain: ChainRef, lease: Lease, from: u64) -> Self {
        // From the start on also what is before 0: such a row is wrong, and must not hide.
        let (after, lease) = match i64::try_from(from) {
            Ok(0) => (i64::MIN, Some(lease)),
            Ok(from) => (from - 1, Some(lease)),
            Err(_) => {
                lease.give_back();
                (i64::MAX, None)
            }
        };
        Self {
            chain,
            lease,
            after: (after, "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned()),
            events: VecDeque::new(),
            content: None,
            ahead: None,
            external_ids: VecDeque::new(),
        }
    }

    /// The next record, with the columns that are stored beside it.
    ///
    /// # Cancel safety
    /// What was read when the future is dropped may be lost: read the chain again from the last
    /// position that was seen.
    pub async fn next(&mut self) -> Option<Result<(StoredRow, Record), SinkError>> {
        let lease = self.lease.as_ref()?;
        let (patience, doing) = (lease.patience(), format!("read chain {}", self.chain));
        let next = timeout(patience, self.try_next()).await;
        match next.unwrap_or_else(|_| Err(Fault::timeout(&doing))) {
            Ok(Some(found)) => Some(found.map_err(SinkError::from)),
            Ok(None) => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
                None
            }
            Err(fault) => {
                self.lease = None;
                Some(Err(fault.into()))
            }
        }
    }

    /// Whether an error that came was the last of it.
    pub(super) fn is_over(&self) -> bool {
        self.lease.is_none()
    }

    async fn try_next(&mut self) -> Result<Option<Result<(StoredRow, Record), Fault>>, Fault> {
        if self.events.is_empty() {
            self.fill().await?;
        }
        let Some(event) = self.events.pop_front() else { return Ok(None) };
        let sequence = u64::try_from(event.sequence).map_err(|_| "it has no position".to_owned());
        let mut row = StoredRow::new(sequence.clone().unwrap_or_default(), event.values);
        let mut parts = sequence.map(|_| Vec::new());
        while let Some(content) = self.content_of(event.number).await? {
            let part = read_part(&content, |ordinal, name, media_type| {
                row.push_part(ordinal, name, media_type);
            });
            // Of a broken part the rest of the content is passed over.
            parts = parts.and_then(|mut parts| {
                parts.push(part?);
                Ok(parts)
            });
        }
        while self.external_ids.front().is_some_and(|(number, ..)| *number == event.number) {
            if let Some((_, key, value)) = self.external_ids.pop_front() {
                row.push_external_id(key, value);
            }
        }
        let found = parts.map(|parts| (row, Record::new(event.bytes, parts))).map_err(|why| {
            let text = format!("read event {} of chain {}: {why}", event.sequence, self.chain);
            Fault::new(SinkErrorKind::Corrupt, text)
        });
        Ok(Some(found))
    }

    /// Reads the next events, their external ids, and the beginning of their content.
    async fn fill(&mut self) -> Result<(), Fault> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let doing = format!("read chain {}", self.chain);
        let fault = |error: tokio_postgres::Error| Fault::postgres(&error, &doing);
        let (tenant, chain) = (self.chain.tenant_id.as_str(), self.chain.chain_id.as_str());
        let columns: Vec<String> = COLUMNS.iter().map(|name| column(name)).collect();
        let sql = format!(
            "SELECT {}, event, event_id::text AS id FROM agent_audit.audit_events \
             WHERE tenant_id = $1 AND chain_id = $2 \
             AND (sequence, event_id) > ($3, $4::text::uuid) \
             ORDER BY sequence, event_id LIMIT {CHUNK_EVENTS}",
            columns.join(", ")
        );
        let parameters: [&(dyn ToSql + Sync); 4] = [&tenant, &chain, &self.after.0, &self.after.1];
        let found = lease.client().query_raw(&sql, parameters).await.map_err(fault)?;
        let mut found = Box::pin(found);
        let (mut ids, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(fault)? {
            let id: String = row.try_get("id").map_err(fault)?;
            let sequence: i64 = row.try_get("sequence").map_err(fault)?;
            let event: Vec<u8> = row.try_get("event").map_err(fault)?;
            let values = (0..COLUMNS.len()).map(|at| stored(&row, at)).collect();
            self.after = (sequence, id.clone());
            ids.push(id);
            bytes += event.len();
            let number = i64::try_from(ids.len()).unwrap_or(i64::MAX);
            self.events.push_back(Event { number, sequence, values, bytes: event });
            if bytes >= CHUNK_BYTES {
                break;
            }
        }
        drop(found);
        self.content = None;
        self.ahead = None;
        self.external_ids.clear();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = "SELECT e.number, x.key, x.value \
             FROM unnest($2::text[]) WITH ORDINALITY AS e (id, number) \
             JOIN agent_audit.audit_external_ids x ON x.tenant_id = $1 AND x.event_id = e.id::uuid \
             ORDER BY e.number, x.ordinal";
        for row in lease.client().query(sql, &[&tenant, &ids]).await.map_err(fault)? {
            let text = |at| row.try_get::<_, &str>(at).map(|text| text::decode(text).into_owned());
            let id =
                (row.try_get(0).map_err(fault)?, text(1).map_err(fault)?, text(2).map_err(fault)?);
            self.external_ids.push_back(id);
        }
        let parameters: [&(dyn ToSql + Sync); 2] = [&tenant, &ids];
        let content = lease.client().query_raw(CONTENT, parameters).await.map_err(fault)?;
        self.content = Some(Box::pin(content));
        Ok(())
    }

    /// The next row of content, where it belongs to the event of this number.
    async fn content_of(&mut self, number: i64) -> Result<Option<Row>, Fault> {
        if self.ahead.is_none()
            && let Some(content) = &mut self.content
        {
            let fault = |error: tokio_postgres::Error| {
                Fault::postgres(&error, &format!("read content of chain {}", self.chain))
            };
            match content.try_next().await.map_err(fault)? {
                Some(row) => self.ahead = Some((row.try_get(0).map_err(fault)?, row)),
                None => self.content = None,
            }
        }
        let (_, row) = match self.ahead.take_if(|(of, _)| *of <= number) {
            Some(ahead) => ahead,
            None => return Ok(None),
        };
        Ok(Some(row))
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("chain", &self.chain)
            .field("after", &self.after.0)
            .finish_non_exhaustive()
    }
}

fn column(name: &str) -> String {
    if name == "event_id" { "event_id::text".to_owned() } else { name.to_owned() }
}

/// A column as it is stored, whatever someone has made of it.
fn stored(row: &Row, at: usize) -> Stored {
    if let Ok(value) = row.try_get::<_, Option<&str>>(at) {
        return value.map_or(Stored::Null, |value| Stored::Text(text::decode(value).into_owned()));
    }
    if let Ok(value) = row.try_get::<_, Option<i64>>(at) {
        return value.map_or(Stored::Null, Stored::Integer);
    }
    if let Ok(value) = row.try_get::<_, Option<&[u8]>>(at) {
        return value.map_or(Stored::Null, |value| Stored::Bytes(value.to_owned()));
    }
    Stored::Other
}

/// One part of content; tells where it stands, its name and its media type.
pub(crate) fn read_part(
    content: &Row,
    tell: impl FnOnce(i64, String, String),
) -> Result<PartBody, String> {
    let wrong = |name: &str| format!("its content has no valid {name}");
    let text = |name: &str| {
        let value = content.try_get::<_, Option<&str>>(name).map_err(|_| wrong(name))?;
        Ok::<_, String>(value.map(|value| text::decode(value).into_owned()))
    };
    let bytes = |name: &str| {
        let value = content.try_get::<_, Option<&[u8]>>(name).map_err(|_| wrong(name))?;
        value.ok_or_else(|| wrong(name))
    };
    let ordinal: i32 = content.try_get("ordinal").map_err(|_| wrong("ordinal"))?;
    let name = text("name")?.ok_or_else(|| wrong("name"))?;
    let media_type = text("media_type")?.ok_or_else(|| wrong("media_type"))?;
    tell(ordinal.into(), name, media_type);
    match text("state")?.as_deref() {
        Some("clear") => Ok(PartBody::Clear {
            salt: Salt::from_bytes(bytes("salt")?.try_into().map_err(|_| wrong("salt"))?),
            bytes: bytes("bytes")?.to_owned(),
        }),
        Some("sealed") => {
            let algorithm = content.try_get::<_, Option<i16>>("algorithm").ok().flatten();
            Ok(PartBody::Sealed(Sealed::new(
                text("key_id")?.ok_or_else(|| wrong("key_id"))?,
                algorithm.and_then(|id| id.try_into().ok()).ok_or_else(|| wrong("algorithm"))?,
                bytes("nonce")?.to_owned(),
                bytes("bytes")?.to_owned(),
            )))
        }
        Some("absent") => Ok(PartBody::Absent {
            reason: match text("absent_reason")?.as_deref() {
                Some("erased") => AbsentReason::Erased,
                Some("purged") => AbsentReason::Purged,
                _ => return Err(wrong("absent_reason")),
            },
            at: match content.try_get::<_, Option<i64>>("absent_at") {
                Ok(None) => None,
                Ok(Some(at)) => {
                    Some(Timestamp::from_nanos(at.try_into().map_err(|_| wrong("absent_at"))?))
                }
                Err(_) => return Err(wrong("absent_at")),
            },
            evidence: match text("absent_evidence")? {
                None => None,
                Some(id) => Some(id.parse::<EventId>().map_err(|_| wrong("absent_evidence"))?),
            },
        }),
        _ => Err(wrong("state")),
    }
}
