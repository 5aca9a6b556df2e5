//! Databases that are open to be asked, the latest used kept for the next question.

use std::{
    collections::{HashSet, VecDeque},
    fs, io,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use agent_audit_core::{id::TenantId, sink::SinkErrorKind};
use agent_audit_query::{QueryError, QueryErrorKind};
use rusqlite::Connection;

use crate::{
    error::Fault,
    store::{FileId, Reader, check_tenant, check_version, file_of_tenant, is_of_later_release},
};

#[derive(Debug)]
pub(super) struct Readers {
    directory: PathBuf,
    /// The most that are kept.
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used longest ago comes first.
    idle: VecDeque<(TenantId, FileId, Reader)>,
    /// Whose database was there: one that is not there any more is not an empty one.
    seen: HashSet<TenantId>,
}

/// What was found where a ledger should be.
enum Ledger<T> {
    Empty,
    Later(Fault),
    Read(Result<T, Fault>),
}

impl Readers {
    pub(super) fn new(directory: PathBuf, most: usize) -> Self {
        Self { directory, most: most.max(1), state: Mutex::default() }
    }

    /// Reads a tenant's database in one transaction. `None` is a tenant without one, or without
    /// tables in it.
    pub(super) fn ask<T>(
        &self,
        tenant: &TenantId,
        doing: &str,
        work: impl Fn(&Connection) -> rusqlite::Result<Result<T, Fault>>,
    ) -> Result<Option<T>, QueryError> {
        let path = self.directory.join(file_of_tenant(tenant));
        let Some(file) = self.find(tenant)? else { return Ok(None) };
        let mut reader = match self.take(tenant, file) {
            Some(reader) => reader,
            None => Reader::open(&path).map_err(answer)?,
        };
        let found = reader.read(doing, |conn| {
            let version = check_version(conn);
            if version.is_err() && is_of_later_release(conn) {
                return Ok(version.map_or_else(Ledger::Later, |_| Ledger::Empty));
            }
            Ok(
                match version
                    .and_then(|ready| ready.then(|| check_tenant(conn, tenant)).transpose())
                {
                    Ok(Some(())) => Ledger::Read(work(conn)?),
                    Ok(None) => Ledger::Empty,
                    Err(fault) => Ledger::Read(Err(fault)),
                },
            )
        });
        // What was read from a file that is no longer in its place is not this tenant's ledger.
        if FileId::of(&path) != Some(file) {
            return Err(gone(tenant));
        }
        match found.map_err(answer)? {
            Ledger::Empty => Ok(None),
            Ledger::Later(fault) => {
                Err(QueryError::new(QueryErrorKind::UnknownVersion, fault.context))
            }
            Ledger::Read(found) => {
                let found = found.map_err(answer)?;
                self.keep(tenant, file, reader);
                Ok(Some(found))
            }
        }
    }

    /// The file of a tenant's database now.
    fn find(&self, tenant: &TenantId) -> Result<Option<FileId>, QueryError> {
        let path = self.directory.join(file_of_tenant(tenant));
        let doing = format!("open {}", path.display());
        match fs::metadata(&path).map(|_| FileId::of(&path)) {
            Ok(Some(file)) => {
                self.lock().seen.insert(tenant.clone());
                Ok(Some(file))
            }
            Ok(None) => Err(gone(tenant)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.lock().seen.contains(tenant) {
                    return Err(gone(tenant));
                }
                // A directory that is not there has no tenants, and is not an empty one either.
                fs::metadata(&self.directory)
                    .map(|_| None)
                    .map_err(|error| missing(Fault::io(&error, &doing)))
            }
            Err(error) => Err(missing(Fault::io(&error, &doing))),
        }
    }

    fn take(&self, tenant: &TenantId, file: FileId) -> Option<Reader> {
        let mut state = self.lock();
        let at = state.idle.iter().rposition(|(of, ..)| of == tenant)?;
        let (_, of, reader) = state.idle.remove(at)?;
        (of == file).then_some(reader)
    }

    fn keep(&self, tenant: &TenantId, file: FileId, reader: Reader) {
        let mut state = self.lock();
        state.idle.push_back((tenant.clone(), file, reader));
        let surplus = if state.idle.len() > self.most { state.idle.pop_front() } else { None };
        drop(state);
        // Closed without holding up the others.
        drop(surplus);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete before anything that could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone(tenant: &TenantId) -> QueryError {
    let text = format!(
        "the database of tenant {tenant} was moved, replaced or deleted: ask again when it is back"
    );
    QueryError::new(QueryErrorKind::Unavailable, text)
}

/// A directory or file that cannot be had.
pub(super) fn missing(mut fault: Fault) -> QueryError {
    if fault.kind == SinkErrorKind::Misconfigured {
        fault.kind = SinkErrorKind::Unavailable;
    }
    answer(fault)
}

/// A fault as the answer to a question.
pub(super) fn answer(fault: Fault) -> QueryError {
    let kind = match fault.kind {
        SinkErrorKind::Unavailable | SinkErrorKind::Timeout | SinkErrorKind::Exhausted => {
            QueryErrorKind::Unavailable
        }
        SinkErrorKind::PermissionDenied | SinkErrorKind::Unauthenticated => {
            QueryErrorKind::PermissionDenied
        }
        // What is configured of a reader is a directory: a database in it that is no ledger, or lacks
        // what a ledger has, is not as its writer left it.
        SinkErrorKind::Corrupt | SinkErrorKind::Misconfigured => QueryErrorKind::Corrupt,
        _ => QueryErrorKind::Other,
    };
    QueryError::new(kind, fault.context)
}
