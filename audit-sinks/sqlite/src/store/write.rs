//! One tenant's database, open for appending.

use std::path::{Path, PathBuf};

use agent_audit_core::{
    content::{AbsentReason, PartBody},
    hash::Hash,
    id::{ChainId, TenantId},
    record::Record,
    sink::{Head, Segment, SegmentOutcome, SinkErrorKind},
};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig, params,
    params_from_iter,
};

use super::{
    columns::{COLUMNS, Columns, Value},
    files::{self, FileId},
    schema,
};
use crate::{config::SqliteConfig, error::Fault};

#[derive(Debug)]
pub(crate) struct Database {
    conn: Connection,
    path: PathBuf,
    file: Option<FileId>,
    insert_event: String,
}

impl Database {
    /// Opens a tenant's database, and creates it where it is missing.
    pub(crate) fn open(
        path: &Path,
        tenant: &TenantId,
        config: &SqliteConfig,
    ) -> Result<Self, Fault> {
        files::ensure_directory(&config.directory)?;
        files::ensure_file(path)?;
        let file = FileId::of(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(path, flags)
            .and_then(|conn| set_up(&conn, config).map(|()| conn))
            .map_err(|error| Fault::sqlite(&error, &format!("open the database of {tenant}")))?;
        schema::migrate(&mut conn, tenant)?;
        // A process that was killed may have left commits in the log that it had not synced yet;
        // they look like any other. A checkpoint syncs the log before it copies.
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|error| Fault::sqlite(&error, "sync what was found"))?;
        let insert_event = format!(
            "INSERT INTO events ({}, event) VALUES ({}?)",
            COLUMNS.join(", "),
            "?, ".repeat(COLUMNS.len())
        );
        Ok(Self { conn, path: path.to_owned(), file, insert_event })
    }

    /// Whether the path still leads to the file that is open: what is written to a file that was
    /// moved or deleted would be acknowledged and gone.
    pub(crate) fn is_in_place(&self) -> bool {
        FileId::of(&self.path) == self.file
    }

    /// The last event of a chain.
    pub(crate) fn head(&self, chain: &ChainId) -> Result<Option<Head>, Fault> {
        head(&self.conn, chain).map_err(|error| Fault::sqlite(&error, "read the head"))
    }

    /// Appends segments in one transaction: one outcome for each, or one fault for all.
    pub(crate) fn append(&mut self, segments: &[&Segment]) -> Result<Vec<SegmentOutcome>, Fault> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| Fault::sqlite(&error, "begin"))?;
        let outcomes = segments
            .iter()
            .map(|segment| append_segment(&tx, &self.insert_event, segment))
            .collect::<Result<Vec<_>, _>>()?;
        tx.commit().map_err(|error| Fault::commit(&error, "commit"))?;
        Ok(outcomes)
    }
}

fn set_up(conn: &Connection, config: &SqliteConfig) -> rusqlite::Result<()> {
    conn.busy_timeout(std::time::Duration::from_millis(config.busy_timeout_ms))?;
    conn.set_prepared_statement_cache_capacity(16);
    // No statement of ours needs to write the schema table or a shadow table.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    // Content that becomes absent is overwritten in the file, not only unlinked.
    conn.pragma_update(None, "secure_delete", true)?;
    // A REPLACE then meets the triggers that refuse to delete.
    conn.pragma_update(None, "recursive_triggers", true)?;
    if let Some(bytes) = config.max_database_bytes {
        let page: u64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = (bytes / page.max(1)).clamp(1, u64::from(u32::MAX) - 1);
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
    }
    Ok(())
}

/// Why a segment is not stored, where its tenant's other segments can be.
enum Refused {
    Outcome(SegmentOutcome),
    Database(Fault),
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        // What SQLite refuses about one row undoes that statement; all else may undo the transaction.
        if fault.kind == SinkErrorKind::Rejected {
            Self::Outcome(SegmentOutcome::Failed { error: fault.into() })
        } else {
            Self::Database(fault)
        }
    }
}

fn append_segment(
    conn: &Connection,
    insert_event: &str,
    segment: &Segment,
) -> Result<SegmentOutcome, Fault> {
    let run = |sql| {
        conn.prepare_cached(sql)
            .and_then(|mut statement| statement.execute([]))
            .map_err(|error| Fault::sqlite(&error, "append"))
    };
    run("SAVEPOINT segment")?;
    let outcome = match store_segment(conn, insert_event, segment) {
        Ok(()) => SegmentOutcome::Accepted,
        Err(Refused::Outcome(outcome)) => {
            run("ROLLBACK TO segment")?;
            outcome
        }
        Err(Refused::Database(fault)) => return Err(fault),
    };
    run("RELEASE segment")?;
    Ok(outcome)
}

fn store_segment(conn: &Connection, insert_event: &str, segment: &Segment) -> Result<(), Refused> {
    let doing = format!("append to chain {}", segment.chain());
    let fault = |error: &rusqlite::Error| Fault::sqlite(error, &doing);
    let chain = &segment.chain().chain_id;
    let head = head(conn, chain).map_err(|error| fault(&error))?;
    attach(segment, head)?;
    let next = head.map_or(0, |head| head.sequence + 1);
    if segment.first() < next {
        let mut stored = conn
            .prepare_cached("SELECT event_hash FROM events WHERE chain_id = ?1 AND sequence = ?2")
            .map_err(|error| fault(&error))?;
        for (sequence, hash, _) in segment.iter().take_while(|(sequence, ..)| *sequence < next) {
            let same: Option<bool> = stored
                .query_row(params![chain.as_str(), sequence], |row| {
                    Ok(row.get_ref(0)?.as_blob().ok() == Some(hash.as_bytes().as_slice()))
                })
                .optional()
                .map_err(|error| fault(&error))?;
            match same {
                Some(true) => {}
                Some(false) => return Err(Refused::Outcome(SegmentOutcome::Conflict { sequence })),
                None => return Err(lost(segment, sequence)),
            }
        }
    }
    for (_, hash, record) in segment.iter().skip_while(|(sequence, ..)| *sequence < next) {
        insert(conn, insert_event, hash, record, &doing)?;
    }
    Ok(())
}

/// Whether the segment starts within what is stored or right after it.
fn attach(segment: &Segment, head: Option<Head>) -> Result<(), Refused> {
    let next = head.map_or(0, |head| head.sequence + 1);
    if segment.first() < next {
        return Ok(());
    }
    let reason = if segment.first() > next {
        format!("it starts at {} and the next position is {next}", segment.first())
    } else {
        let expected = head.map_or(Hash::ZERO, |head| head.event_hash);
        let linked = segment.records()[0].view().is_ok_and(|v| v.previous_event_hash == expected);
        if linked {
            return Ok(());
        }
        format!("event {next} is not linked to the event stored before it")
    };
    Err(rejected(segment, &reason))
}

fn rejected(segment: &Segment, reason: &str) -> Refused {
    let text = format!("segment of chain {} does not attach: {reason}", segment.chain());
    Fault::new(SinkErrorKind::Rejected, text).into()
}

fn lost(segment: &Segment, sequence: u64) -> Refused {
    let text = format!("chain {} has lost its event {sequence}: verify it", segment.chain());
    let error = Fault::new(SinkErrorKind::Corrupt, text).into();
    Refused::Outcome(SegmentOutcome::Failed { error })
}

fn head(conn: &Connection, chain: &ChainId) -> rusqlite::Result<Option<Head>> {
    conn.prepare_cached(
        "SELECT sequence, event_hash FROM events WHERE chain_id = ?1 ORDER BY sequence DESC LIMIT 1",
    )?
    .query_row(params![chain.as_str()], |row| {
        Ok(Head::new(row.get(0)?, Hash::from_bytes(row.get(1)?)))
    })
    .optional()
}

fn insert(
    conn: &Connection,
    insert_event: &str,
    hash: &Hash,
    record: &Record,
    doing: &str,
) -> Result<(), Fault> {
    let fault = |error: &rusqlite::Error| Fault::sqlite(error, doing);
    let refused = |text| Fault::new(SinkErrorKind::Rejected, format!("{doing}: {text}"));
    let columns = Columns::of(record.event_bytes())
        .map_err(|field| refused(format!("the event's {field} cannot be read")))?;
    if record.parts().len() != columns.parts.len() {
        return Err(refused(format!(
            "an event names {} parts of content and its record has {}",
            columns.parts.len(),
            record.parts().len()
        )));
    }
    let values = columns.values(hash);
    let event = [Value::Blob(record.event_bytes())];
    conn.prepare_cached(insert_event)
        .and_then(|mut insert| insert.insert(params_from_iter(values.iter().chain(&event))))
        .map_err(|error| fault(&error))
        .and_then(|event_row| {
            insert_content(conn, event_row, &columns, record.parts())
                .and_then(|()| insert_external_ids(conn, event_row, &columns))
                .map_err(|error| fault(&error))
        })
}

fn insert_content(
    conn: &Connection,
    event_row: i64,
    columns: &Columns<'_>,
    bodies: &[PartBody],
) -> rusqlite::Result<()> {
    if bodies.is_empty() {
        return Ok(());
    }
    let sql = |columns: &str, values: &str| {
        format!(
            "INSERT INTO content (event_row, ordinal, name, media_type, state, {columns}) \
             VALUES (?1, ?2, ?3, ?4, {values})"
        )
    };
    for ((ordinal, part), body) in (0i64..).zip(&columns.parts).zip(bodies) {
        let (name, media_type) = (&*part.name, &*part.media_type);
        match body {
            PartBody::Clear { salt, bytes } => {
                conn.prepare_cached(
                    "INSERT INTO content (event_row, ordinal, name, media_type, state, salt, bytes) \
                     VALUES (?1, ?2, ?3, ?4, 'clear', ?5, ?6)",
                )?
                .execute(params![event_row, ordinal, name, media_type, salt.as_bytes(), bytes])?;
            }
            PartBody::Sealed(sealed) => {
                conn.prepare_cached(&sql(
                    "key_id, algorithm, nonce, bytes",
                    "'sealed', ?5, ?6, ?7, ?8",
                ))?
                .execute(params![
                    event_row,
                    ordinal,
                    name,
                    media_type,
                    sealed.key_id,
                    sealed.algorithm,
                    sealed.nonce,
                    sealed.ciphertext
                ])?;
            }
            PartBody::Absent { reason, at, evidence } => {
                conn.prepare_cached(&sql(
                    "absent_reason, absent_at, absent_evidence",
                    "'absent', ?5, ?6, ?7",
                ))?
                .execute(params![
                    event_row,
                    ordinal,
                    name,
                    media_type,
                    absent_word(*reason),
                    at.map(|at| at.as_nanos_i64()),
                    evidence.map(|id| id.to_string())
                ])?;
            }
            _ => return Err(rusqlite::Error::InvalidQuery),
        }
    }
    Ok(())
}

fn absent_word(reason: AbsentReason) -> Option<&'static str> {
    match reason {
        AbsentReason::Erased => Some("erased"),
        AbsentReason::Purged => Some("purged"),
        _ => None,
    }
}

fn insert_external_ids(
    conn: &Connection,
    event_row: i64,
    columns: &Columns<'_>,
) -> rusqlite::Result<()> {
    for (ordinal, id) in (0i64..).zip(&columns.external_ids) {
        conn.prepare_cached(
            "INSERT INTO external_ids (event_row, ordinal, key, value) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![event_row, ordinal, &*id.key, &*id.value])?;
    }
    Ok(())
}
