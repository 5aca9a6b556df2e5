//! The databases of a directory: their files and tables, writing to them and reading from them.

mod columns;
mod files;
mod pool;
mod read;
mod reader;
mod schema;
mod write;

pub use files::{file_of_tenant, tenant_of_file};
pub use read::{Records, SqliteStore};
pub use schema::SCHEMA;

pub(crate) use files::{ensure_directory, probe};
pub(crate) use pool::{Missing, Pool};
pub(crate) use write::Database;

#[cfg(feature = "query")]
pub(crate) use files::{FileId, tenants_in};
#[cfg(feature = "query")]
pub(crate) use read::{chain_names, read_parts};
#[cfg(feature = "query")]
pub(crate) use reader::Reader;
#[cfg(feature = "query")]
pub(crate) use schema::{check_tenant, check_version, is_of_later_release};
