//! The tables, and how an older database becomes a present one.

use agent_audit_core::sink::SinkErrorKind;
use tokio_postgres::Client;

use crate::error::{Fault, HOW_TO_MIGRATE};

/// The SQL that creates the roles and the schema: for an administrator, once in each database.
///
/// ```
/// assert!(agent_audit_postgres::ROLES.contains("CREATE SCHEMA IF NOT EXISTS agent_audit"));
/// ```
pub const ROLES: &str = include_str!("../../sql/roles.sql");

/// The SQL that says who may do what with each table and function. Every migration puts it into force.
///
/// ```
/// assert!(agent_audit_postgres::GRANTS.contains("GRANT EXECUTE ON FUNCTION"));
/// ```
pub const GRANTS: &str = include_str!("../../sql/grants.sql");

/// Name and SQL of what takes a database from version *n* to *n + 1*, from 0, which has no tables.
///
/// ```
/// assert_eq!(agent_audit_postgres::MIGRATIONS[0].0, "0001_tables");
/// ```
pub const MIGRATIONS: [(&str, &str); 4] = [
    ("0001_tables", include_str!("../../sql/migrations/0001_tables.sql")),
    ("0002_partitions", include_str!("../../sql/migrations/0002_partitions.sql")),
    ("0003_append", include_str!("../../sql/migrations/0003_append.sql")),
    ("0004_reading", include_str!("../../sql/migrations/0004_reading.sql")),
];

/// Where what was done is written down.
const RECORD: &str = "
    CREATE TABLE IF NOT EXISTS agent_audit.audit_migrations (
        version integer PRIMARY KEY,
        name text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now(),
        applied_by text NOT NULL DEFAULT session_user
    )";

/// Brings the tables to the present version and the grants into force, in one transaction, and says how
/// many steps that took.
pub(crate) async fn migrate(client: &mut Client) -> Result<usize, Fault> {
    let doing = "migrate the tables";
    let fault = |error: tokio_postgres::Error| Fault::postgres(&error, doing);
    let transaction = client.transaction().await.map_err(fault)?;
    // Creating an index on a large table takes its time; and one at a time.
    transaction
        .batch_execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s';
             SELECT pg_advisory_xact_lock(hashtextextended('agent_audit.migrate', 0));
             SET LOCAL ROLE audit_owner;",
        )
        .await
        .map_err(fault)?;
    transaction.batch_execute(RECORD).await.map_err(fault)?;
    let version = transaction
        .query_one("SELECT coalesce(max(version), 0) FROM agent_audit.audit_migrations", &[])
        .await
        .map_err(fault)?;
    let pending = pending(version.get(0))?;
    let done = MIGRATIONS.len() - pending.len();
    for (version, (name, sql)) in (1i32..).zip(&MIGRATIONS).skip(done) {
        transaction
            .batch_execute(sql)
            .await
            .map_err(|error| Fault::postgres(&error, &format!("{doing}: {name}")))?;
        transaction
            .execute(
                "INSERT INTO agent_audit.audit_migrations (version, name) VALUES ($1, $2)",
                &[&version, name],
            )
            .await
            .map_err(fault)?;
    }
    transaction.batch_execute(GRANTS).await.map_err(fault)?;
    transaction.commit().await.map_err(|error| Fault::of_append(&error, doing))?;
    Ok(pending.len())
}

fn pending(version: i32) -> Result<&'static [(&'static str, &'static str)], Fault> {
    usize::try_from(version).ok().and_then(|version| MIGRATIONS.get(version..)).ok_or_else(|| {
        let text = format!(
            "the tables of the audit log have version {version}, this program knows {}: use a later \
             release",
            MIGRATIONS.len()
        );
        Fault::new(SinkErrorKind::Misconfigured, text)
    })
}

/// Makes sure that the tables are there, at the present version, without writing.
pub(crate) async fn check_version(client: &Client) -> Result<(), Fault> {
    let version = client
        .query_one("SELECT coalesce(max(version), 0) FROM agent_audit.audit_migrations", &[])
        .await
        .map_err(|error| Fault::postgres(&error, "read the version of the tables"))?
        .get(0);
    check(version)
}

/// Whether a later release made the tables of this version.
#[cfg(feature = "query")]
pub(crate) fn is_of_later_release(version: i32) -> bool {
    usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len())
}

/// Makes sure that this is the present version.
pub(crate) fn check(version: i32) -> Result<(), Fault> {
    let missing = pending(version)?.len();
    if missing == 0 {
        return Ok(());
    }
    let text = format!(
        "the tables of the audit log have version {version}, this program needs {}: {HOW_TO_MIGRATE}",
        MIGRATIONS.len()
    );
    Err(Fault::new(SinkErrorKind::Misconfigured, text))
}

/// Makes sure that a writer can append, and that what it appends is durable.
pub(crate) async fn check_writer(client: &Client) -> Result<(), Fault> {
    check_version(client).await?;
    let row = client
        .query_one(
            "SELECT current_setting('server_encoding') = 'UTF8',
                 current_setting('fsync')::boolean AND current_setting('full_page_writes')::boolean,
                 NOT pg_is_in_recovery() AND NOT current_setting('transaction_read_only')::boolean,
                 (SELECT count(*) FROM pg_proc
                  WHERE pronamespace = 'agent_audit'::regnamespace
                  AND proname IN ('audit_append', 'audit_head')
                  AND has_function_privilege(oid, 'EXECUTE')) = 2,
                 current_user::text",
            &[],
        )
        .await
        .map_err(|error| Fault::postgres(&error, "check the database"))?;
    let user: &str = row.get(4);
    let checks: [(bool, SinkErrorKind, String); 4] = [
        (
            row.get(0),
            SinkErrorKind::Misconfigured,
            "the database is not encoded in UTF8: create it with ENCODING 'UTF8'".to_owned(),
        ),
        (
            row.get(1),
            SinkErrorKind::Misconfigured,
            "the server does not sync what it commits: turn fsync and full_page_writes on"
                .to_owned(),
        ),
        (
            row.get(2),
            SinkErrorKind::Unavailable,
            "the server takes no writes: it is a standby, or set to read only".to_owned(),
        ),
        (
            row.get(3),
            SinkErrorKind::PermissionDenied,
            format!("login {user} may not append: make it a member of audit_writer"),
        ),
    ];
    for (holds, kind, text) in checks {
        if !holds {
            return Err(Fault::new(kind, text));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_later_release_is_left_alone() {
        assert_eq!(pending(0).unwrap().len(), MIGRATIONS.len());
        assert_eq!(pending(4).unwrap().len(), 0);
        for version in [5, -1] {
            let error = pending(version).unwrap_err().to_string();
            assert!(error.contains("use a later release"), "{error}");
        }
    }
}
