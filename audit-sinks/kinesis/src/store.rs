//! The stream: writing records to it and reading them from it.

mod access;
mod put;
mod reader;

pub use reader::{KinesisReader, KinesisRecord, Positions};

pub(crate) use access::Access;
pub(crate) use put::Put;
