//! ClickHouse sink of agent-audit.

mod config;
mod error;
mod sink;
mod store;

pub use config::ClickHouseConfig;
pub use sink::ClickHouseSink;
pub use store::{ClickHouseStore, PERMISSIONS, Records, SCHEMA, TENANT_READER};
