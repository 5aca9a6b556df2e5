//! The tables at the server: their schema, writing to them and reading from them.

mod client;
#[cfg(feature = "query")]
mod form;
mod positions;
mod read;
mod row_binary;
mod rows;
mod schema;
mod sql;
mod verifier;
mod write;

pub use read::{ClickHouseStore, Records};
pub use schema::{PERMISSIONS, SCHEMA, TENANT_READER};

pub(crate) use client::Client;
pub(crate) use positions::head;
pub(crate) use schema::check_version;
pub(crate) use write::{append, may_insert};

#[cfg(feature = "query")]
pub(crate) use form::Params;
#[cfg(feature = "query")]
pub(crate) use row_binary::{Malformed, Reader};
#[cfg(feature = "query")]
pub(crate) use rows::{CONTENT_COLUMNS, ContentRow, is_text};
#[cfg(feature = "query")]
pub(crate) use schema::{VERSION, malformed, version};
#[cfg(feature = "query")]
pub(crate) use sql::{is_identifier, literal};
