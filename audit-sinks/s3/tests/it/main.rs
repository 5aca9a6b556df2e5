//! The archive on a real server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod access;
#[cfg(feature = "query")]
mod asking;
mod conformance;
mod locks;
mod outages;
mod place;
mod reading;
mod tampering;
mod writing;

use agent_audit_core::{chain::ChainRef, id::TenantId, record::Record};
use agent_audit_s3::S3Archive;
use agent_audit_test_support::sinks::{append, failure, store};

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

async fn records(archive: &S3Archive, chain: &ChainRef, from: u64) -> Vec<Record> {
    let mut records = archive.records(chain, from);
    let mut found = Vec::new();
    while let Some(record) = records.next().await {
        let (position, record) = record.unwrap();
        assert_eq!(record.view().unwrap().sequence, position);
        found.push(record);
    }
    found
}
