//! One tenant's database, open for appending.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use agent_audit_core::{
    columns::{COLUMNS, Columns, Value},
    content::{AbsentReason, PartBody},
    hash::Hash,
    id::{ChainId, TenantId},
    record::Record,
    sink::{Head, Segment, SegmentOutcome, SinkError, SinkErrorKind},
};
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig, params,
    params_from_iter,
};

use super::{
    columns::Bound,
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
    ///
    /// A segment that is refused after some of it was inserted takes the transaction back, which
    /// then starts again without it. That is rare; savepoints, which would copy every page that a
    /// segment changes, would slow down each segment.
    pub(crate) fn append(&mut self, segments: &[&Segment]) -> Result<Vec<SegmentOutcome>, Fault> {
        let mut rejected: HashMap<usize, Fault> = HashMap::new();
        loop {
            match self.try_append(segments, &rejected)? {
                Ok(outcomes) => return Ok(outcomes),
                Err((at, fault)) => rejected.insert(at, fault),
            };
        }
    }

    fn try_append(
        &mut self,
        segments: &[&Segment],
        rejected: &HashMap<usize, Fault>,
    ) -> Result<Result<Vec<SegmentOutcome>, (usize, Fault)>, Fault> {
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| Fault::sqlite(&error, "begin"))?;
        let mut outcomes = Vec::with_capacity(segments.len());
        for (at, segment) in segments.iter().enumerate() {
            if let Some(fault) = rejected.get(&at) {
                outcomes.push(SegmentOutcome::Failed { error: fault.clone().into() });
                continue;
            }
            match append_segment(&tx, &self.insert_event, segment) {
                Ok(outcome) => outcomes.push(outcome),
                Err(fault) if fault.kind == SinkErrorKind::Rejected => return Ok(Err((at, fault))),
                Err(fault) => return Err(fault),
            }
        }
        tx.commit().map_err(|error| Fault::commit(&error, "commit"))?;
        Ok(Ok(outcomes))
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

/// Appends a segment, or says why it cannot be without having inserted anything. A fault of kind
/// `Rejected` is about an event of the segment, any other about the database.
fn append_segment(
    conn: &Connection,
    insert_event: &str,
    segment: &Segment,
) -> Result<SegmentOutcome, Fault> {
    let doing = format!("append to chain {}", segment.chain());
    let fault = |error: &rusqlite::Error| Fault::sqlite(error, &doing);
    let chain = &segment.chain().chain_id;
    let head = head(conn, chain).map_err(|error| fault(&error))?;
    let attached = match segment.attach(head) {
        Ok(attached) => attached,
        Err(error) => return Ok(SegmentOutcome::Failed { error: error.into() }),
    };
    for (sequence, hash) in attached.overlap() {
        let stored = conn
            .prepare_cached("SELECT event_hash FROM events WHERE chain_id = ?1 AND sequence = ?2")
            .and_then(|mut select| {
                select
                    .query_row(params![chain.as_str(), sequence], |row| {
                        Ok(row.get_ref(0)?.as_blob().ok() == Some(hash.as_bytes().as_slice()))
                    })
                    .optional()
            });
        match stored.map_err(|error| fault(&error))? {
            Some(true) => {}
            Some(false) => return Ok(SegmentOutcome::Conflict { sequence }),
            None => {
                let text = format!("{doing}: event {sequence} was stored and is gone: verify it");
                let error = SinkError::new(SinkErrorKind::Corrupt, text);
                return Ok(SegmentOutcome::Failed { error });
            }
        }
    }
    for (_, hash, record) in attached.fresh() {
        insert(conn, insert_event, hash, record, &doing)?;
    }
    Ok(SegmentOutcome::Accepted)
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
    let columns = Columns::of(record.event_bytes()).map_err(|error| refused(error.to_string()))?;
    if record.parts().len() != columns.parts().len() {
        return Err(refused(format!(
            "an event names {} parts of content and its record has {}",
            columns.parts().len(),
            record.parts().len()
        )));
    }
    let values = columns.values(hash);
    let event = [Value::Bytes(record.event_bytes())];
    conn.prepare_cached(insert_event)
        .and_then(|mut insert| {
            insert.insert(params_from_iter(values.into_iter().chain(event).map(Bound)))
        })
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
    for ((ordinal, (name, media_type)), body) in (0i64..).zip(columns.parts()).zip(bodies) {
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
    for (ordinal, (key, value)) in (0i64..).zip(columns.external_ids()) {
        conn.prepare_cached(
            "INSERT INTO external_ids (event_row, ordinal, key, value) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![event_row, ordinal, key, value])?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::chain;

    use super::*;

    #[test]
    fn an_acknowledgement_means_durable() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = TenantId::new("acme").unwrap();
        let path = dir.path().join("acme.sqlite3");
        let config = SqliteConfig::new(dir.path());
        let database = Database::open(&path, &tenant, &config).unwrap();
        let pragma = |name| -> i64 {
            database.conn.pragma_query_value(None, name, |row| row.get(0)).unwrap()
        };
        assert_eq!(pragma("synchronous"), 2, "FULL: each commit syncs the log");
        assert_eq!(pragma("foreign_keys"), 1);
        assert_eq!(pragma("secure_delete"), 1);
        assert_eq!(pragma("application_id"), 0x6161_7564);
        assert_eq!(pragma("user_version"), 1);
    }

    /// The files as a killed process leaves them: commits in the log, none in the database.
    #[test]
    fn what_a_killed_process_left_is_synced_at_open() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let tenant = TenantId::new("acme").unwrap();
        let path = dir.path().join("acme.sqlite3");
        let mut database = Database::open(&path, &tenant, &SqliteConfig::new(dir.path())).unwrap();
        let segment = chain(&tenant, 3);
        database.append(&[&segment]).unwrap();
        let copied = copy.path().join("acme.sqlite3");
        for suffix in ["", "-wal"] {
            std::fs::copy(files::companion(&path, suffix), files::companion(&copied, suffix))
                .unwrap();
        }

        let database = Database::open(&copied, &tenant, &SqliteConfig::new(copy.path())).unwrap();
        let head = database.head(&segment.chain().chain_id).unwrap().unwrap();
        assert_eq!(head.sequence, 2);
        // The database alone has them now: the log was synced and copied.
        let alone = dir.path().join("alone.sqlite3");
        std::fs::copy(&copied, &alone).unwrap();
        let conn = Connection::open(&alone).unwrap();
        let count = "SELECT count(*) FROM events";
        assert_eq!(conn.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 3);
    }
}
