//! A connection that never changes what it reads, with or without a live writer.
//!
//! - While a database has its `-shm` file, a writer may be at work: the connection takes part in its
//!   locks, read only.
//! - Without one nobody writes: the file is read as it lies, without locks and without creating
//!   anything, and its `-wal`, where there is one, is indexed in memory. Should a writer come in the
//!   middle, the files show it after the read, and the read is done again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use agent_audit_core::sink::SinkErrorKind;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::files::{FileId, companion};
use crate::error::Fault;

/// A database open for reading only.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    conn: Connection,
    /// What the files looked like, where no lock keeps a writer from changing them.
    unlocked: Option<Files>,
}

/// How often a read is done again before it gives up.
const ATTEMPTS: usize = 32;

impl Reader {
    pub(crate) fn open(path: &Path) -> Result<Self, Fault> {
        // Looked at before the file is opened: a change from here on is seen.
        let files = Files::at(path);
        let attempt = |unlocked| {
            connect(path, unlocked)
                .map_err(|error| Fault::sqlite(&error, &format!("open {}", path.display())))
        };
        if files.index {
            return Ok(Self { path: path.to_owned(), conn: attempt(None)?, unlocked: None });
        }
        let conn = attempt(Some(&files))?;
        Ok(Self { path: path.to_owned(), conn, unlocked: Some(files) })
    }

    /// Reads in one transaction.
    pub(crate) fn read<T>(
        &mut self,
        doing: &str,
        work: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Fault> {
        for _ in 0..ATTEMPTS {
            let result = self.conn.unchecked_transaction().and_then(|tx| work(&tx));
            let settled =
                self.unlocked.as_ref().is_none_or(|before| *before == Files::at(&self.path));
            if settled {
                return result.map_err(|error| {
                    Fault::sqlite(&error, &format!("{doing} from {}", self.path.display()))
                });
            }
            *self = Self::open(&self.path)?;
        }
        Err(Fault::new(
            SinkErrorKind::Unavailable,
            format!("{} changes all the time: read it again later", self.path.display()),
        ))
    }
}

/// The file system without its locks: `nolock=1` would also be without the log.
const WITHOUT_LOCKS: &str = if cfg!(windows) { "&vfs=win32-none" } else { "&vfs=unix-none" };

fn connect(path: &Path, unlocked: Option<&Files>) -> rusqlite::Result<Connection> {
    let mode = match unlocked {
        None => "",
        Some(files) if files.log.is_some_and(|(len, _)| len > 0) => WITHOUT_LOCKS,
        Some(_) => "&immutable=1",
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let conn = Connection::open_with_flags(format!("{}?mode=ro{mode}", file_uri(path)), flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    conn.pragma_update(None, "query_only", true)?;
    // A file from elsewhere may be damaged on purpose.
    conn.pragma_update(None, "cell_size_check", true)?;
    if unlocked.is_some() {
        // Keeps the index of the log in memory instead of in a file.
        conn.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
    }
    Ok(conn)
}

/// The path as `SQLite` reads it in a URI.
fn file_uri(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'=' => uri.push(char::from(*byte)),
            _ if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

/// What the files of a database look like from outside.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    id: Option<FileId>,
    database: Option<(u64, SystemTime)>,
    log: Option<(u64, SystemTime)>,
    index: bool,
}

impl Files {
    fn at(path: &Path) -> Self {
        let look = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()?))
        };
        Self {
            id: FileId::of(path),
            database: look(path),
            log: look(&companion(path, "-wal")),
            index: companion(path, "-shm").exists(),
        }
    }
}
