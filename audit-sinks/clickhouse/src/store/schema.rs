//! The tables, and how an older database becomes a present one.

use agent_audit_core::sink::SinkErrorKind;

use super::{
    client::{Client, In},
    row_binary::Reader,
};
use crate::error::Fault;

/// The SQL that makes an empty database a ledger of the present version, one statement behind the
/// other; [`ClickHouseStore::migrate`](crate::ClickHouseStore::migrate) runs it. Who wants another
/// engine, as `ReplicatedMergeTree`, runs it changed before that: tables that are there stay.
///
/// ```
/// assert!(agent_audit_clickhouse::SCHEMA.contains("CREATE TABLE IF NOT EXISTS audit_events"));
/// ```
pub const SCHEMA: &str = include_str!("schema.sql");

/// The SQL that creates the roles of writer, reader, verifier and eraser with the least that each
/// needs, for the database `audit`.
///
/// ```
/// assert!(agent_audit_clickhouse::PERMISSIONS.contains("GRANT INSERT ON audit.audit_events TO audit_writer"));
/// ```
pub const PERMISSIONS: &str = include_str!("permissions.sql");

/// The SQL that creates a user who reads one tenant alone, for the database `audit`: `TENANT` and
/// `PASSWORD` are to be replaced.
///
/// ```
/// assert!(agent_audit_clickhouse::TENANT_READER.contains("USING tenant_id = 'TENANT'"));
/// ```
pub const TENANT_READER: &str = include_str!("tenant_reader.sql");

/// The version of [`SCHEMA`].
pub(crate) const VERSION: u32 = 2;

/// What takes a database from version *n* to *n + 1*, from 1 on. Each statement can be run again,
/// because there are no transactions.
const MIGRATIONS: &[&str] = &[include_str!("schema_2.sql")];

const UNKNOWN_TABLE: u32 = 60;
const UNKNOWN_DATABASE: u32 = 81;

/// Creates what is missing.
pub(crate) async fn migrate(client: &Client, database: &str) -> Result<(), Fault> {
    let version = match version(client).await? {
        Some(version) => version,
        None => {
            let statement = format!("CREATE DATABASE IF NOT EXISTS {database}");
            client.execute(&statement, In::Default, "create the database").await?;
            0
        }
    };
    let steps: Vec<(u32, &str)> = match known(version)? {
        0 => vec![(VERSION, SCHEMA)],
        version => (1..VERSION)
            .zip(MIGRATIONS)
            .filter(|(from, _)| *from >= version)
            .map(|(from, step)| (from + 1, *step))
            .collect(),
    };
    for (version, step) in steps {
        for statement in statements(step) {
            client.execute(statement, In::Database, "create the tables").await?;
        }
        let record = format!("INSERT INTO audit_schema (version) VALUES ({version})");
        client.execute(&record, In::Database, "record the schema version").await?;
    }
    Ok(())
}

/// Makes sure that the tables are of the present version.
pub(crate) async fn check_version(client: &Client) -> Result<(), Fault> {
    let version = version(client).await?.unwrap_or(0);
    match known(version)? {
        VERSION => Ok(()),
        at => Err(Fault::new(
            SinkErrorKind::Misconfigured,
            format!("the database has schema version {at}: run `ClickHouseStore::migrate`"),
        )),
    }
}

/// The version of the tables, 0 where there are none; nothing where there is no database.
pub(crate) async fn version(client: &Client) -> Result<Option<u32>, Fault> {
    let doing = "read the schema version";
    match client.select("SELECT max(version) FROM audit_schema", doing).await {
        Ok(answer) => Reader::new(&answer).u32().map(Some).map_err(|_| malformed(doing)),
        Err(fault) if fault.code() == Some(UNKNOWN_TABLE) => Ok(Some(0)),
        Err(fault) if fault.code() == Some(UNKNOWN_DATABASE) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn known(version: u32) -> Result<u32, Fault> {
    if version <= VERSION {
        return Ok(version);
    }
    Err(Fault::new(
        SinkErrorKind::Misconfigured,
        format!(
            "the database has schema version {version}, this program knows {VERSION}: use a later \
             release"
        ),
    ))
}

/// An answer that is not in the format that was asked for.
pub(crate) fn malformed(doing: &str) -> Fault {
    Fault::corrupt(format!("{doing}: the answer is not in the format that was asked for"))
}

/// The statements of a file: each ends with a semicolon at the end of a line.
fn statements(file: &str) -> impl Iterator<Item = &str> {
    file.split(";\n").map(str::trim).filter(|statement| {
        statement.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with("--"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_split_at_its_statements() {
        assert_eq!(statements(SCHEMA).count(), 3);
        let file = "-- a; b\nSELECT 1;\n\n-- nothing\n";
        assert_eq!(statements(file).collect::<Vec<_>>(), ["-- a; b\nSELECT 1"]);
        assert!(statements(SCHEMA).all(|statement| statement.contains("IF NOT EXISTS")));
        assert_eq!(u32::try_from(MIGRATIONS.len()), Ok(VERSION - 1));
        let again = ["IF NOT EXISTS", "MATERIALIZE"];
        for statement in MIGRATIONS.iter().flat_map(|step| statements(step)) {
            assert!(again.iter().any(|word| statement.contains(word)), "{statement}");
        }
    }

    #[test]
    fn a_later_schema_is_refused() {
        assert!(known(u32::MAX).is_err());
        assert_eq!(known(1).ok(), Some(1));
    }

    #[test]
    fn the_tables_have_every_column_that_is_written() {
        for column in super::super::rows::event_columns().split(", ") {
            let column = column.split('.').next().unwrap_or_default();
            assert!(SCHEMA.contains(&format!("\n    {column} ")), "{column}");
        }
        for column in super::super::rows::CONTENT_COLUMNS.split(", ") {
            assert!(SCHEMA.contains(&format!("\n    {column} ")), "{column}");
        }
    }
}
