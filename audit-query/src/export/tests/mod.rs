//! Exports as they are made, and every attack on them: each is named by what it did.

mod claims;
mod erasure;
mod files;
mod index;
mod keys;
mod made;
#[cfg(feature = "parquet")]
mod parquet;
mod records;
mod scene;
mod store;
