//! The archive as the verifier of a log directory reads it: on plain threads.

use std::sync::mpsc;

use agent_audit_core::{
    chain::ChainRef,
    verify::directory::{RecordStore, StoreError, StoredRecord},
};

use super::{ArchiveFinding, S3Archive, walk::Walk};
use crate::config::S3Config;

/// An archive beside a log directory, for
/// [`verify_directory`](agent_audit_core::verify::directory::verify_directory).
///
/// It runs the client on threads of its own, so that it can be used with and without a runtime. What
/// can be read of a damaged archive is read; what is wrong beyond the events themselves is the
/// error at the end, and [`S3Archive::verify`] tells all of it.
///
/// ```
/// use agent_audit_core::verify::directory::{RecordStore, VerifyOptions};
/// use agent_audit_s3::{S3Config, S3Store};
/// let store = S3Store::new(S3Config::new("ledger").with_name("cold"));
/// assert_eq!(store.name(), "cold");
/// let options = VerifyOptions::default().with_store(store);
/// assert_eq!(options.stores.len(), 1);
/// ```
#[derive(Debug, Clone)]
pub struct S3Store {
    config: S3Config,
}

/// How many objects may wait to be verified.
const AHEAD: usize = 2;

impl S3Store {
    /// The archive of this configuration.
    #[must_use]
    pub fn new(config: S3Config) -> Self {
        Self { config }
    }

    /// Runs something on a thread and a runtime of its own: the caller may be inside another.
    fn run<T: Send>(
        &self,
        work: impl AsyncFnOnce(S3Archive) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        let config = self.config.clone();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async { work(S3Archive::open(config).await?).await })
        };
        let stopped = |_| Err("the reading of the archive was stopped".into());
        std::thread::scope(|scope| scope.spawn(run).join().unwrap_or_else(stopped))
    }
}

impl RecordStore for S3Store {
    fn name(&self) -> &str {
        &self.config.name
    }

    fn chains(&self) -> Result<Vec<ChainRef>, StoreError> {
        self.run(async |archive: S3Archive| {
            let mut chains = Vec::new();
            for tenant in archive.tenants().await? {
                chains.extend(archive.chains(&tenant).await?);
            }
            Ok(chains)
        })
    }

    fn read(
        &self,
        chain: &ChainRef,
        from: u64,
        each: &mut dyn FnMut(StoredRecord<'_>),
    ) -> Result<(), StoreError> {
        let (send, received) = mpsc::sync_channel(AHEAD);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                self.run(async |archive: S3Archive| read(&archive, chain, from, &send).await)
            });
            for rows in received {
                for (position, record, mismatch) in rows {
                    if position < from {
                        continue;
                    }
                    let bytes = record.to_bytes();
                    let stored = StoredRecord::new(&bytes);
                    each(match mismatch {
                        Some(column) => stored.with_column_mismatch(column),
                        None => stored,
                    });
                }
            }
            let stopped = |_| Err("the reading of the archive was stopped".into());
            reading.join().unwrap_or_else(stopped)
        })
    }
}

type Rows = Vec<(u64, agent_audit_core::record::Record, Option<&'static str>)>;

async fn read(
    archive: &S3Archive,
    chain: &ChainRef,
    from: u64,
    send: &mpsc::SyncSender<Rows>,
) -> Result<(), StoreError> {
    let convert = agent_audit_core::sink::SinkError::from;
    let mut walk = Walk::whole(archive, chain, from).await.map_err(convert)?;
    let mut first_fault: Option<ArchiveFinding> = None;
    while let Some(found) = walk.next().await.map_err(convert)? {
        if found.sound().is_err() && first_fault.is_none() {
            first_fault = found.findings.first().cloned();
        }
        let Some(signed) = &found.manifest else { continue };
        let positions = signed.manifest.first..;
        let rows = positions.zip(found.rows).map(|(at, (record, column))| (at, record, column));
        // Nobody listens: the reader has seen enough.
        if send.send(rows.collect()).is_err() {
            return Ok(());
        }
    }
    match first_fault {
        Some(finding) => Err(format!("{finding}; verify the archive itself").into()),
        None => Ok(()),
    }
}
