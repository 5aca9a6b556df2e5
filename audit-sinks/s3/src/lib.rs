//! S3 archive of agent-audit, with Object Lock.

mod archive;
mod config;
mod error;
mod layout;
mod sink;
mod store;

pub use archive::{
    ArchiveFinding, ArchiveFindingKind, ArchiveOptions, ArchiveReport, ArchivedObject, Records,
    S3Archive, S3Store,
};
pub use config::{CreateOnce, Lock, LockMode, ObjectFormat, S3Config, S3Credentials};
pub use sink::S3Sink;
