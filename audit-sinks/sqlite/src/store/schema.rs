//! The tables, and how an older database becomes a present one.

use agent_audit_core::{id::TenantId, sink::SinkErrorKind};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use crate::error::Fault;

/// The SQL that makes an empty database a ledger of the present version.
///
/// ```
/// assert!(agent_audit_sqlite::SCHEMA.contains("CREATE TABLE events"));
/// ```
pub const SCHEMA: &str = include_str!("schema.sql");

/// `aaud`, by which `file` and the verifier know a ledger.
const APPLICATION_ID: i64 = 0x6161_7564;

/// What takes a database from version *n* to *n + 1*, from 0, which is empty.
const MIGRATIONS: &[&str] = &[SCHEMA];

/// Makes the database a ledger of this tenant at the present version, or says why it cannot.
pub(crate) fn migrate(conn: &mut Connection, tenant: &TenantId) -> Result<(), Fault> {
    let (application, version) = marks(conn)?;
    if application == APPLICATION_ID && Ok(version) == i64::try_from(MIGRATIONS.len()) {
        return check_tenant(conn, tenant);
    }
    let doing = "create the tables";
    let fault = |error: &rusqlite::Error| Fault::sqlite(error, doing);
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(|error| fault(&error))?;
    // Once more under the lock: another process may have been here in between.
    let (application, version) = marks(&tx)?;
    let pending = pending(application, version, is_empty(&tx)?)?;
    for migration in pending {
        tx.execute_batch(migration).map_err(|error| fault(&error))?;
    }
    tx.execute(
        "INSERT INTO ledger (one, tenant_id) VALUES (1, ?1) ON CONFLICT DO NOTHING",
        params![tenant.as_str()],
    )
    .and_then(|_| tx.pragma_update(None, "application_id", APPLICATION_ID))
    .and_then(|()| tx.pragma_update(None, "user_version", MIGRATIONS.len()))
    .map_err(|error| fault(&error))?;
    tx.commit().map_err(|error| Fault::commit(&error, doing))?;
    check_tenant(conn, tenant)
}

/// Makes sure that a database is a ledger of the present version, without writing.
///
/// `Ok(false)` is an empty one: its writer has not come so far yet.
pub(crate) fn check_version(conn: &Connection) -> Result<bool, Fault> {
    let (application, version) = marks(conn)?;
    let missing = pending(application, version, is_empty(conn)?)?.len();
    match MIGRATIONS.len() - missing {
        0 => Ok(false),
        _ if missing == 0 => Ok(true),
        at => Err(Fault::new(
            SinkErrorKind::Misconfigured,
            format!("the database has schema version {at}: let its writer open it once"),
        )),
    }
}

/// Whether a later release wrote this ledger.
#[cfg(feature = "query")]
pub(crate) fn is_of_later_release(conn: &Connection) -> bool {
    marks(conn).is_ok_and(|(application, version)| {
        application == APPLICATION_ID
            && usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len())
    })
}

fn pending(application: i64, version: i64, empty: bool) -> Result<&'static [&'static str], Fault> {
    let refused = |text: String| Err(Fault::new(SinkErrorKind::Misconfigured, text));
    if application != APPLICATION_ID && !(empty && application == 0 && version == 0) {
        return refused(
            "the database is not a ledger of agent-audit: name another directory".into(),
        );
    }
    match usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..)) {
        Some(pending) => Ok(pending),
        None => refused(format!(
            "the database has schema version {version}, this program knows {}: use a later release",
            MIGRATIONS.len()
        )),
    }
}

fn marks(conn: &Connection) -> Result<(i64, i64), Fault> {
    let mark = |name| conn.pragma_query_value(None, name, |row| row.get(0));
    mark("application_id")
        .and_then(|application| Ok((application, mark("user_version")?)))
        .map_err(|error| Fault::sqlite(&error, "read the schema version"))
}

fn is_empty(conn: &Connection) -> Result<bool, Fault> {
    conn.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
        .map_err(|error| Fault::sqlite(&error, "read the schema"))
}

/// Makes sure that the ledger is this tenant's.
pub(crate) fn check_tenant(conn: &Connection, tenant: &TenantId) -> Result<(), Fault> {
    let found: Option<String> = conn
        .query_row("SELECT tenant_id FROM ledger", [], |row| row.get(0))
        .optional()
        .map_err(|error| Fault::sqlite(&error, "read the tenant of the ledger"))?;
    if found.as_deref() == Some(tenant.as_str()) {
        return Ok(());
    }
    Err(Fault::new(
        SinkErrorKind::Corrupt,
        format!(
            "the database of tenant {tenant} holds the ledger of {}: put the right file back",
            found.as_deref().unwrap_or("nobody")
        ),
    ))
}
