//! Reading for verification and display.

use std::{
    collections::VecDeque,
    fmt,
    path::{Path, PathBuf},
};

use agent_audit_core::{
    columns::{COLUMNS, StoredRow, check_columns},
    content::{AbsentReason, PartBody, Salt, Sealed},
    id::{ChainId, TenantId},
    record::Record,
    sink::{ChainRef, SinkError, SinkErrorKind},
    timestamp::Timestamp,
    verify::directory::{RecordStore, StoreError, StoredRecord},
};
use rusqlite::{Connection, Row, params, types::ValueRef};

use super::{columns::stored_row, files, reader::Reader, schema};
use crate::error::Fault;

/// The databases of a directory, to be read and never changed.
///
/// It works beside a live writer, on a copy with or without its `-wal` files, and on a read-only
/// medium. Beside a live writer it takes part in the writer's locks, which touches the `-shm` file;
/// that holds no data, only an index that `SQLite` builds anew at will.
///
/// ```
/// use agent_audit_sqlite::{SqliteSink, SqliteStore};
/// let dir = tempfile::tempdir()?;
/// let sink = SqliteSink::open(dir.path())?;
/// assert!(SqliteStore::open_read_only(dir.path())?.tenants()?.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct SqliteStore {
    directory: PathBuf,
}

impl SqliteStore {
    /// Names the directory to read from.
    ///
    /// # Errors
    /// [`SinkError`] where it is not a directory that can be listed.
    pub fn open_read_only(directory: impl Into<PathBuf>) -> Result<Self, SinkError> {
        let store = Self { directory: directory.into() };
        store.tenants()?;
        Ok(store)
    }

    /// The tenants that have a database, sorted.
    ///
    /// # Errors
    /// [`SinkError`] where the directory cannot be listed.
    pub fn tenants(&self) -> Result<Vec<TenantId>, SinkError> {
        Ok(files::tenants_in(&self.directory)?)
    }

    /// The file of a tenant's database.
    #[must_use]
    pub fn path_of(&self, tenant: &TenantId) -> PathBuf {
        self.directory.join(files::file_of_tenant(tenant))
    }

    /// The chains of a tenant, sorted; none where the tenant has no database.
    ///
    /// # Errors
    /// [`SinkError`] where the database cannot be read.
    pub fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainRef>, SinkError> {
        let Some(mut reader) = open(&self.path_of(tenant))? else { return Ok(Vec::new()) };
        let names = reader.read("list chains", chain_names)?;
        let chains = names.into_iter().map(|name| {
            let chain = ChainId::new(&name).map_err(|error| {
                Fault::new(SinkErrorKind::Corrupt, format!("list chains of {tenant}: {error}"))
            })?;
            Ok(ChainRef::new(tenant.clone(), chain))
        });
        chains.collect()
    }

    /// The tenants' databases as the verifier reads them, one for each, so that one which cannot be
    /// read keeps nothing of the others from it. Columns are held against the records.
    ///
    /// # Errors
    /// [`SinkError`] where the directory cannot be listed.
    pub fn record_stores(&self) -> Result<Vec<Box<dyn RecordStore>>, SinkError> {
        let store = |tenant: TenantId| -> Box<dyn RecordStore> {
            let name = format!("sqlite/{}", files::file_of_tenant(&tenant));
            Box::new(TenantStore { store: self.clone(), tenant, name })
        };
        Ok(self.tenants()?.into_iter().map(store).collect())
    }

    /// The records of a chain from a position on, in order, in bounded memory.
    ///
    /// An error of one record does not end the iteration; one of the database does.
    ///
    /// # Errors
    /// [`SinkError`] where the database cannot be read.
    pub fn records(&self, chain: &ChainRef, from_sequence: u64) -> Result<Records, SinkError> {
        let reader = open(&self.path_of(&chain.tenant_id))?;
        // From the start on also what is before 0: such a row is wrong, and must not hide.
        let after = match i64::try_from(from_sequence) {
            Ok(0) => (i64::MIN, i64::MIN),
            Ok(from) => (from, i64::MIN),
            Err(_) => (i64::MAX, i64::MAX),
        };
        Ok(Records { chain: chain.clone(), reader, after, ready: VecDeque::new() })
    }
}

/// The names of the chains, sorted.
pub(crate) fn chain_names(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    // One step through the index per chain, however many events there are.
    conn.prepare_cached(
        "WITH RECURSIVE chain (id) AS (
            SELECT min(chain_id) FROM events
            UNION ALL
            SELECT (SELECT min(chain_id) FROM events WHERE chain_id > chain.id)
            FROM chain WHERE chain.id IS NOT NULL
        ) SELECT id FROM chain WHERE id IS NOT NULL",
    )?
    .query_map([], |row| row.get::<_, String>(0))?
    .collect()
}

/// One tenant's database as the verifier reads it; see [`SqliteStore::record_stores`].
#[derive(Debug)]
struct TenantStore {
    store: SqliteStore,
    tenant: TenantId,
    name: String,
}

impl RecordStore for TenantStore {
    fn name(&self) -> &str {
        &self.name
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        Ok(self.store.chains(&self.tenant)?)
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        let mut records = self.store.records(chain, from)?;
        while let Some(item) = records.next() {
            match item {
                Ok((row, record)) if record.has_binary_form() => {
                    let bytes = record.to_bytes();
                    let stored = StoredRecord::new(&bytes);
                    each(match check_columns(&row, record.event_bytes()) {
                        None => stored,
                        Some(column) => stored.with_column_mismatch(column),
                    });
                }
                // What takes the place of a record and is none must not hide the records after it.
                Ok(_) => each(StoredRecord::new(&[])),
                Err(_) if records.reader.is_some() => each(StoredRecord::new(&[])),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Opens a database that is there and has its tables.
fn open(path: &Path) -> Result<Option<Reader>, Fault> {
    if !path.exists() {
        return Ok(None);
    }
    let mut reader = Reader::open(path)?;
    let ready = reader.read("read the schema", |conn| Ok(schema::check_version(conn)))??;
    Ok(ready.then_some(reader))
}

/// The records of one chain; see [`SqliteStore::records`].
///
/// ```
/// use agent_audit_core::{id::{ChainId, TenantId}, sink::ChainRef};
/// use agent_audit_sqlite::{SqliteSink, SqliteStore};
/// let dir = tempfile::tempdir()?;
/// let chain = ChainRef::new(TenantId::new("acme")?, ChainId::new("c-1")?);
/// let store = SqliteStore::open_read_only(dir.path())?;
/// assert!(store.records(&chain, 0)?.next().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Records {
    chain: ChainRef,
    /// `None` once there is nothing more.
    reader: Option<Reader>,
    /// Position and row of the last record that was read.
    after: (i64, i64),
    ready: VecDeque<Result<(StoredRow, Record), Fault>>,
}

/// How many records, and about how many bytes of them, are in memory at a time.
const CHUNK_RECORDS: usize = 256;
const CHUNK_BYTES: usize = 4 << 20;

impl Iterator for Records {
    type Item = Result<(StoredRow, Record), SinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => self.reader = None,
                Err(fault) => {
                    self.reader = None;
                    return Some(Err(fault.into()));
                }
            }
        }
        self.ready.pop_front().map(|item| item.map_err(SinkError::from))
    }
}

impl Records {
    fn fill(&mut self) -> Result<bool, Fault> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        let (chain, after) = (&self.chain, self.after);
        let doing = "read records";
        let (ready, after) = reader.read(doing, |conn| read_chunk(conn, chain, after))?;
        self.after = after;
        self.ready = ready;
        Ok(!self.ready.is_empty())
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("chain", &self.chain)
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}

type Chunk = VecDeque<Result<(StoredRow, Record), Fault>>;

fn read_chunk(
    conn: &Connection,
    chain: &ChainRef,
    mut after: (i64, i64),
) -> rusqlite::Result<(Chunk, (i64, i64))> {
    let mut chunk = Chunk::new();
    let mut bytes = 0;
    let mut events = conn.prepare_cached(&format!(
        "SELECT {}, event, event_row FROM events \
         WHERE chain_id = ?1 AND (sequence, event_row) > (?2, ?3) \
         ORDER BY sequence, event_row LIMIT {CHUNK_RECORDS}",
        COLUMNS.join(", ")
    ))?;
    let mut rows = events.query(params![chain.chain_id.as_str(), after.0, after.1])?;
    while let Some(row) = rows.next()? {
        let event_row: i64 = row.get("event_row")?;
        after = (row.get("sequence")?, event_row);
        let item = read_record(conn, row, event_row);
        bytes += item.as_ref().map_or(0, |(_, record)| size(record));
        chunk.push_back(match item {
            Ok(record) => Ok(record),
            Err(error) => Err(fault_of_record(error, chain, after.0)?),
        });
        if bytes >= CHUNK_BYTES {
            break;
        }
    }
    Ok((chunk, after))
}

/// A value that cannot be is a fault of its record; anything else is one of the database.
fn fault_of_record(
    error: rusqlite::Error,
    chain: &ChainRef,
    sequence: i64,
) -> rusqlite::Result<Fault> {
    if error.sqlite_error_code().is_some() {
        return Err(error);
    }
    Ok(Fault::sqlite(&error, &format!("read event {sequence} of chain {chain}")))
}

fn size(record: &Record) -> usize {
    let content = |part: &PartBody| match part {
        PartBody::Clear { bytes, .. } => bytes.len(),
        PartBody::Sealed(sealed) => sealed.ciphertext.len(),
        _ => 0,
    };
    record.event_bytes().len() + record.parts().iter().map(content).sum::<usize>()
}

fn read_record(
    conn: &Connection,
    row: &Row<'_>,
    event_row: i64,
) -> rusqlite::Result<(StoredRow, Record)> {
    let mut stored = stored_row(row)?;
    let event = row.get("event")?;
    let parts = read_parts(conn, event_row, |ordinal, name, media_type| {
        stored.push_part(ordinal, name, media_type);
    })?;
    let mut ids = conn.prepare_cached(
        "SELECT key, value FROM external_ids WHERE event_row = ?1 ORDER BY ordinal",
    )?;
    let mut rows = ids.query(params![event_row])?;
    while let Some(row) = rows.next()? {
        stored.push_external_id(row.get(0)?, row.get(1)?);
    }
    Ok((stored, Record::new(event, parts)))
}

/// The content of an event; tells of each part where it stands, its name and its media type.
pub(crate) fn read_parts(
    conn: &Connection,
    event_row: i64,
    mut each: impl FnMut(i64, String, String),
) -> rusqlite::Result<Vec<PartBody>> {
    let mut parts = Vec::new();
    let mut content = conn.prepare_cached(
        "SELECT ordinal, name, media_type, state, salt, bytes, key_id, algorithm, nonce, \
         absent_reason, absent_at, absent_evidence FROM content WHERE event_row = ?1 ORDER BY ordinal",
    )?;
    let mut rows = content.query(params![event_row])?;
    while let Some(row) = rows.next()? {
        each(row.get("ordinal")?, row.get("name")?, row.get("media_type")?);
        parts.push(read_body(row)?);
    }
    Ok(parts)
}

fn read_body(row: &Row<'_>) -> rusqlite::Result<PartBody> {
    let unknown = |column: &str| {
        let index = row.as_ref().column_index(column).unwrap_or_default();
        rusqlite::Error::InvalidColumnType(index, column.to_owned(), rusqlite::types::Type::Text)
    };
    match row.get_ref("state")? {
        ValueRef::Text(b"clear") => Ok(PartBody::Clear {
            salt: Salt::from_bytes(row.get("salt")?),
            bytes: row.get("bytes")?,
        }),
        ValueRef::Text(b"sealed") => Ok(PartBody::Sealed(Sealed::new(
            row.get::<_, String>("key_id")?,
            row.get("algorithm")?,
            row.get("nonce")?,
            row.get("bytes")?,
        ))),
        ValueRef::Text(b"absent") => Ok(PartBody::Absent {
            reason: match row.get_ref("absent_reason")? {
                ValueRef::Text(b"erased") => AbsentReason::Erased,
                ValueRef::Text(b"purged") => AbsentReason::Purged,
                _ => return Err(unknown("absent_reason")),
            },
            at: row.get::<_, Option<u64>>("absent_at")?.map(Timestamp::from_nanos),
            evidence: match row.get::<_, Option<String>>("absent_evidence")? {
                Some(id) => Some(id.parse().map_err(|_| unknown("absent_evidence"))?),
                None => None,
            },
        }),
        _ => Err(unknown("state")),
    }
}
