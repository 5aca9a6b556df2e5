//! Reading the record back: the story of a session, and whether it is as it was written.

use std::{collections::HashSet, fs, path::Path};

use agent_audit::{
    event::{Event, Payload},
    id::TenantId,
    key::VerifyingKey,
    record::Record,
    sqlite::SqliteStore,
    timeline::Timeline,
    verify::{
        Report,
        directory::{VerifyOptions, verify_directory},
    },
};

use crate::Fault;

/// Every record of a tenant, and of no other: each has a database of its own.
pub(crate) fn records(log: &Path, tenant: &str) -> Result<Vec<Record>, Fault> {
    let store = SqliteStore::open_read_only(log.join("sqlite"))?;
    let mut records = Vec::new();
    for chain in store.chains(&TenantId::new(tenant)?)? {
        for record in store.records(&chain, 0)? {
            records.push(record?.1);
        }
    }
    Ok(records)
}

/// The events in records, in the order of the chain.
pub(crate) fn events(records: &[Record]) -> Result<Vec<Event>, Fault> {
    Ok(records.iter().map(Record::event).collect::<Result<_, _>>()?)
}

/// The story of a session and of those that it spawned.
pub(crate) fn timeline(records: &[Record], session: &str) -> Result<String, Fault> {
    let mut told = HashSet::from([session.to_owned()]);
    let mut shown = Vec::new();
    for record in records {
        let event = record.event()?;
        if let Payload::SessionStarted(started) = &event.payload
            && let Some(parent) = &started.parent_session_id
            && told.contains(parent.as_str())
        {
            told.insert(event.session_id.to_string());
        }
        if told.contains(event.session_id.as_str()) {
            shown.push(record);
        }
    }
    Ok(Timeline::new().with_content_limit(100).render_records(shown))
}

/// Verifies journal, store and checkpoints of a log against a key that we know from elsewhere.
pub(crate) fn verify(log: &Path, key: &VerifyingKey) -> Result<Report, Fault> {
    let mut options = VerifyOptions::default().with_trusted_keys([*key]);
    options.stores = SqliteStore::open_read_only(log.join("sqlite"))?.record_stores()?;
    Ok(verify_directory(log, options)?)
}

/// The tool attempts of which no end was recorded.
pub(crate) fn unresolved(events: &[Event]) -> usize {
    let ended: HashSet<_> = events
        .iter()
        .filter_map(|event| match &event.payload {
            Payload::ToolCompleted(completed) => Some(completed.attempt_event_id),
            _ => None,
        })
        .collect();
    let attempted = |event: &&Event| matches!(event.payload, Payload::ToolAttempted(_));
    events.iter().filter(attempted).filter(|event| !ended.contains(&event.event_id)).count()
}

/// How many files below a directory hold these bytes.
pub(crate) fn files_with(bytes: &[u8], dir: &Path) -> Result<usize, Fault> {
    let mut found = 0;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found += files_with(bytes, &path)?;
        } else if fs::read(&path)?.windows(bytes.len()).any(|window| window == bytes) {
            found += 1;
        }
    }
    Ok(found)
}
