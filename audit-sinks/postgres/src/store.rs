//! The tables: creating them and reading from them.

mod bridge;
mod read;
mod records;
pub(crate) mod schema;
pub(crate) mod text;

pub use read::PostgresStore;
pub use records::Records;
pub use schema::{GRANTS, MIGRATIONS, ROLES};

#[cfg(feature = "query")]
pub(crate) use read::CHAINS;
#[cfg(feature = "query")]
pub(crate) use records::{CONTENT, read_part};
