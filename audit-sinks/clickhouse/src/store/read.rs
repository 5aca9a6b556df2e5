//! Reading for verification and display.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, OnceLock},
};

use agent_audit_core::{
    columns::StoredRow,
    hash::Hash,
    id::{ChainId, TenantId},
    record::Record,
    sink::{ChainRef, SinkError},
};

use super::{
    client::Client,
    positions::{IN_ORDER, of_chain},
    row_binary::{Malformed, Reader},
    rows::{self, ContentRow, EventRow},
    schema::{self, malformed},
    sql::literal,
    verifier,
};
use crate::{config::ClickHouseConfig, error::Fault};

/// The ledgers of all tenants at a server, to be created and read.
///
/// Of rows at one position that are equal in everything one is read; where they differ, all are
/// read, the one that came first in front, so that a fork is seen and not settled in silence.
///
/// ```
/// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseStore};
/// # async fn show() -> Result<(), agent_audit_core::sink::SinkError> {
/// let store = ClickHouseStore::new(ClickHouseConfig::new("http://localhost:8123"))?;
/// store.migrate().await?;
/// for tenant in store.tenants().await? {
///     for chain in store.chains(&tenant).await? {
///         let mut records = store.records(&chain, 0).await?;
///         while let Some(item) = records.next().await {
///             let (row, record) = item?;
///             assert_eq!(row.event_hash(), Some(record.event_hash()));
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ClickHouseStore {
    config: ClickHouseConfig,
    client: Arc<Client>,
    /// Set once the tables were seen to be of the present version.
    is_present: Arc<OnceLock<()>>,
}

impl ClickHouseStore {
    /// Names the server to read from. It is not asked for anything yet.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used.
    ///
    /// ```
    /// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseStore};
    /// let error = ClickHouseStore::new(ClickHouseConfig::new("localhost:8123")).unwrap_err();
    /// assert!(error.to_string().contains("has no scheme"));
    /// ```
    pub fn new(config: ClickHouseConfig) -> Result<Self, SinkError> {
        let client = Arc::new(Client::new(&config)?);
        Ok(Self { config, client, is_present: Arc::default() })
    }

    /// Creates the database and the tables where they are missing, and brings older ones to the
    /// present version. It can be run at any time and by several at once. The user needs the right
    /// to create; the sink's does not.
    ///
    /// # Errors
    /// [`SinkError`] where the server refuses, or the tables are of a later release.
    pub async fn migrate(&self) -> Result<(), SinkError> {
        Ok(schema::migrate(&self.client, &self.config.database).await?)
    }

    /// The tenants that have events, sorted; those that a row policy lets this user see.
    ///
    /// # Errors
    /// [`SinkError`] where the server cannot be read.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, SinkError> {
        self.check_version().await?;
        let query = "SELECT DISTINCT tenant_id FROM audit_events ORDER BY tenant_id";
        Ok(names(&self.client, query, "list tenants", |name| TenantId::new(name).ok()).await?)
    }

    /// The chains of a tenant, sorted.
    ///
    /// # Errors
    /// [`SinkError`] where the server cannot be read.
    pub async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainRef>, SinkError> {
        self.check_version().await?;
        let query = format!(
            "SELECT DISTINCT chain_id FROM audit_events WHERE tenant_id = {} ORDER BY chain_id",
            literal(tenant.as_str())
        );
        let chain = |name: &str| {
            let chain = ChainId::new(name).ok()?;
            Some(ChainRef::new(tenant.clone(), chain))
        };
        Ok(names(&self.client, &query, &format!("list chains of {tenant}"), chain).await?)
    }

    /// The records of a chain from a position on, in order, in bounded memory.
    ///
    /// # Errors
    /// [`SinkError`] where the server cannot be read.
    pub async fn records(
        &self,
        chain: &ChainRef,
        from_sequence: u64,
    ) -> Result<Records, SinkError> {
        self.check_version().await?;
        // From the start on also what is before 0: such a row is wrong, and must not hide.
        let from = match from_sequence {
            0 => Some(i64::MIN),
            from => i64::try_from(from).ok(),
        };
        let client = Arc::clone(&self.client);
        let ready = VecDeque::new();
        Ok(Records { client, chain: chain.clone(), from, ready, is_broken: false })
    }

    async fn check_version(&self) -> Result<(), Fault> {
        if self.is_present.get().is_none() {
            schema::check_version(&self.client).await?;
            self.is_present.get_or_init(|| ());
        }
        Ok(())
    }

    /// The tenants' ledgers as the verifier reads them, one for each. Columns are held against the
    /// records. Each reads on a thread and with connections of its own, so that it can be used
    /// where no runtime is, and within one.
    ///
    /// # Errors
    /// [`SinkError`] where the tenants cannot be listed.
    pub async fn record_stores(
        &self,
    ) -> Result<Vec<Box<dyn agent_audit_core::verify::directory::RecordStore>>, SinkError> {
        Ok(verifier::stores(&self.config, self.tenants().await?))
    }
}

async fn names<T>(
    client: &Client,
    query: &str,
    doing: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, Fault> {
    let answer = client.select(query, doing).await?;
    let mut rows = Reader::new(&answer);
    let mut names = Vec::new();
    while !rows.is_empty() {
        let name = rows.text().map_err(|Malformed| malformed(doing))?;
        let name = name
            .and_then(&read)
            .ok_or_else(|| Fault::corrupt(format!("{doing}: a name that is stored is none")))?;
        names.push(name);
    }
    Ok(names)
}

/// How many rows, and about how many bytes of them, are in memory at a time.
const CHUNK_ROWS: usize = 1_024;
const CHUNK_BYTES: u64 = 8 << 20;

/// The records of one chain; see [`ClickHouseStore::records`].
///
/// ```
/// use agent_audit_clickhouse::Records;
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
    client: Arc<Client>,
    chain: ChainRef,
    /// The position to go on from; `None` once there is nothing more.
    from: Option<i64>,
    ready: VecDeque<Result<(StoredRow, Record), Fault>>,
    /// Whether the server failed, which ends the records.
    is_broken: bool,
}

impl Records {
    /// The next record. An error of one record does not end the records; one of the server does.
    ///
    /// # Cancel safety
    /// Where the call is cancelled, nothing is lost: the next one goes on from the same record.
    pub async fn next(&mut self) -> Option<Result<(StoredRow, Record), SinkError>> {
        if self.ready.is_empty()
            && let Err(fault) = self.fill().await
        {
            self.from = None;
            self.is_broken = true;
            return Some(Err(fault.into()));
        }
        self.ready.pop_front().map(|item| item.map_err(SinkError::from))
    }

    /// Whether the last error was one of the server, and not of one record.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        let Some(from) = self.from else { return Ok(()) };
        let Some(chunk) = next_chunk(&self.client, &self.chain, from).await? else {
            self.from = None;
            return Ok(());
        };
        self.ready = read_chunk(&self.client, &self.chain, from, chunk.last).await?;
        self.from = if chunk.is_end { None } else { chunk.last.checked_add(1) };
        Ok(())
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("chain", &self.chain)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// What is read at a time.
struct Extent {
    last: i64,
    /// Whether no row is behind it.
    is_end: bool,
}

/// The chunk that starts at a position or behind it: as many positions as fit in memory, and at
/// least one. Nothing where no row is left.
async fn next_chunk(client: &Client, chain: &ChainRef, from: i64) -> Result<Option<Extent>, Fault> {
    let doing = "read the sizes of records";
    let query = format!(
        "SELECT sequence, length(event) FROM audit_events WHERE {} AND sequence >= {from} \
         ORDER BY sequence LIMIT {CHUNK_ROWS}",
        of_chain(chain)
    );
    let mut events = sizes(&client.select(&query, doing).await?).map_err(|_| malformed(doing))?;
    let (Some((first, _)), Some((last, _))) = (events.first().copied(), events.last().copied())
    else {
        return Ok(None);
    };
    let is_end = events.len() < CHUNK_ROWS;
    // The rows of the last position may go on behind the limit.
    if !is_end && first != last {
        events.retain(|(sequence, _)| *sequence != last);
    }
    let last = events.last().map_or(first, |(sequence, _)| *sequence);
    let query = format!(
        "SELECT sequence, sum(length(bytes)) FROM audit_content WHERE {} \
         AND sequence BETWEEN {first} AND {last} GROUP BY sequence",
        of_chain(chain)
    );
    let content = sizes(&client.select(&query, doing).await?).map_err(|_| malformed(doing))?;
    let content: HashMap<i64, u64> = content.into_iter().collect();
    let mut bytes = 0u64;
    let mut end = first;
    let mut counted = None;
    for (sequence, event) in events {
        bytes = bytes.saturating_add(event);
        if counted != Some(sequence) {
            bytes = bytes.saturating_add(content.get(&sequence).copied().unwrap_or(0));
            counted = Some(sequence);
        }
        if bytes > CHUNK_BYTES && sequence != first {
            break;
        }
        end = sequence;
    }
    Ok(Some(Extent { last: end, is_end: is_end && end == last }))
}

fn sizes(answer: &[u8]) -> Result<Vec<(i64, u64)>, Malformed> {
    let mut rows = Reader::new(answer);
    let mut sizes = Vec::new();
    while !rows.is_empty() {
        sizes.push((rows.i64()?, rows.u64()?));
    }
    Ok(sizes)
}

type Chunk = VecDeque<Result<(StoredRow, Record), Fault>>;

async fn read_chunk(
    client: &Client,
    chain: &ChainRef,
    first: i64,
    last: i64,
) -> Result<Chunk, Fault> {
    let doing = "read records";
    let range = format!("{} AND sequence BETWEEN {first} AND {last}", of_chain(chain));
    let query = format!(
        "SELECT {} FROM audit_events WHERE {range} ORDER BY {IN_ORDER} LIMIT {CHUNK_ROWS}",
        rows::event_columns()
    );
    let answer = client.select(&query, doing).await?;
    let events = all(&answer, EventRow::read).map_err(|Malformed| malformed(doing))?;
    let query = format!(
        "SELECT {} FROM audit_content WHERE {range} \
         ORDER BY sequence, event_hash, ordinal, _block_number, _block_offset \
         LIMIT 1 BY sequence, event_hash, ordinal",
        rows::CONTENT_COLUMNS
    );
    let answer = client.select(&query, doing).await?;
    let content = all(&answer, ContentRow::read).map_err(|Malformed| malformed(doing))?;
    let mut parts: HashMap<(i64, Hash), Vec<ContentRow>> = HashMap::new();
    for part in content {
        parts.entry((part.sequence, part.event_hash)).or_default().push(part);
    }
    Ok(distinct(events).into_iter().map(|event| record(chain, event, &mut parts)).collect())
}

fn all<T>(
    answer: &[u8],
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let mut rows = Reader::new(answer);
    let mut all = Vec::new();
    while !rows.is_empty() {
        all.push(read(&mut rows)?);
    }
    Ok(all)
}

/// Leaves out each row that is equal, in everything, to one before it at the same position: an
/// insert that was tried twice.
fn distinct(events: Vec<EventRow>) -> Vec<EventRow> {
    let mut distinct: Vec<EventRow> = Vec::with_capacity(events.len());
    for event in events {
        let same = distinct.iter().rev().take_while(|before| before.sequence == event.sequence);
        if same.into_iter().all(|before| *before != event) {
            distinct.push(event);
        }
    }
    distinct
}

fn record(
    chain: &ChainRef,
    event: EventRow,
    parts: &mut HashMap<(i64, Hash), Vec<ContentRow>>,
) -> Result<(StoredRow, Record), Fault> {
    let sequence = event.sequence;
    let parts = parts.remove(&(sequence, event.event_hash)).unwrap_or_default();
    let (row, bytes) = event.stored(&parts);
    let bodies = parts.into_iter().map(|part| part.body).collect::<Option<Vec<_>>>();
    match bodies {
        Some(bodies) => Ok((row, Record::new(bytes, bodies))),
        None => Err(Fault::corrupt(format!(
            "read event {sequence} of chain {chain}: a part of its content is none"
        ))),
    }
}
