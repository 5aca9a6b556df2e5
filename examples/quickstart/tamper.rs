//! Somebody who owns the disk rewrites history, in a copy.

use std::{fs, path::Path};

use agent_audit::{hash, id::TenantId, sqlite::SqliteStore};
use rusqlite::{Connection, params};

use crate::Fault;

/// A record that was changed, and how.
pub(crate) struct Forged {
    pub(crate) tenant: &'static str,
    pub(crate) sequence: u64,
    pub(crate) how: &'static str,
}

/// Copies a directory, whole.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Makes a refusal an approval: in the event, in the column extracted from it and in its hash, so
/// that the record agrees with itself. Without a refusal, a model's answer becomes a failure.
pub(crate) fn forge_decision(log: &Path, tenant: &'static str) -> Result<Forged, Fault> {
    let database = open(log, tenant)?;
    let (row, sequence, refused, event): (i64, u64, bool, Vec<u8>) = database.query_row(
        "SELECT event_row, sequence, decision IS 'reject', event FROM events
         WHERE decision = 'reject' OR event_type = 'model.decided'
         ORDER BY decision IS 'reject' DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
    )?;
    let (column, from, to, how) = match refused {
        true => ("decision", "reject", "approve", "the refusal of a refund is now an approval"),
        false => ("status", "ok", "error", "an answer of the model is now a failure"),
    };
    let word = |word| format!(r#""{column}":"{word}""#);
    let event = String::from_utf8(event)?.replacen(&word(from), &word(to), 1).into_bytes();
    database.execute(
        &format!(
            "UPDATE events SET event = ?1, event_hash = ?2, {column} = ?3 WHERE event_row = ?4"
        ),
        params![event, hash::leaf(&event).as_bytes(), to, row],
    )?;
    Ok(Forged { tenant, sequence, how })
}

/// Makes an amount another one, in the content beside the event: the input of a refund, or else
/// whatever there is.
pub(crate) fn forge_amount(log: &Path, tenant: &'static str) -> Result<Forged, Fault> {
    let database = open(log, tenant)?;
    let (row, ordinal, sequence, refund, mut bytes): (i64, i64, u64, bool, Vec<u8>) = database.query_row(
        "SELECT event_row, ordinal, sequence, tool_name IS 'refund' AND name = 'input' AS refund, bytes
         FROM content JOIN events USING (event_row)
         WHERE state = 'clear' AND length(bytes) > 0
         ORDER BY refund DESC LIMIT 1",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
    )?;
    let first = bytes.iter().position(|byte| (b'1'..=b'8').contains(byte)).unwrap_or(0);
    bytes[first] += 1;
    database.execute(
        "UPDATE content SET bytes = ?1 WHERE event_row = ?2 AND ordinal = ?3",
        params![bytes, row, ordinal],
    )?;
    let how = match refund {
        true => "the amount of a refund is now another one",
        false => "a piece of content is now another one",
    };
    Ok(Forged { tenant, sequence, how })
}

/// Opens a tenant's database without the triggers that refuse every change.
fn open(log: &Path, tenant: &str) -> Result<Connection, Fault> {
    let store = SqliteStore::open_read_only(log.join("sqlite"))?;
    let database = Connection::open(store.path_of(&TenantId::new(tenant)?))?;
    database.execute_batch(
        "DROP TRIGGER events_refuse_update; DROP TRIGGER content_only_becomes_absent;",
    )?;
    Ok(database)
}
