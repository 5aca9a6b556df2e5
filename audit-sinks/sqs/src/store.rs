//! The queue: sending messages to it and receiving them from it.

mod access;
mod reader;
mod send;
mod text;

pub use reader::{SqsMessage, SqsReader};

pub(crate) use access::Access;
pub(crate) use send::Send;
