//! The embedded store of a log.

use agent_audit_core::log::Layout;
use agent_audit_sqlite::SqliteStore;

use crate::failure::Failure;

/// The embedded store of a log, where it has one.
pub(crate) fn embedded(layout: &Layout) -> Result<Option<SqliteStore>, Failure> {
    let dir = layout.sqlite();
    if !dir.is_dir() {
        return Ok(None);
    }
    Ok(Some(SqliteStore::open_read_only(dir)?))
}
