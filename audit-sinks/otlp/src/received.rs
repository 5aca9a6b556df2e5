//! What a collector received, read back from the lines of JSON that its file exporter writes.

use std::collections::{BTreeMap, btree_map::Entry};

use agent_audit_core::{chain::ChainRef, event::Event, hash, hash::Hash};
use serde::Deserialize;

use crate::mapping::names;

/// The events that a collector received, each once.
///
/// A collector receives an event again when an answer got lost. The reader therefore takes each
/// event once by its chain and its sequence; another event at a position that is taken is counted as
/// a fork, and the first one is kept.
///
/// ```
/// use agent_audit_core::{chain::ChainRef, event::{Event, chain::ChainClosed}};
/// use agent_audit_otlp::ReceivedEvents;
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let bytes = event.canonical_bytes()?;
/// let line = serde_json::json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{
///     "attributes": [
///         {"key": "agent_audit.event", "value": {"stringValue": String::from_utf8(bytes.clone())?}},
///     ],
/// }]}]}]}).to_string();
/// let mut received = ReceivedEvents::new();
/// received.add_line(&line)?;
/// received.add_line(&line)?;
/// let chain = ChainRef::new(event.tenant_id, event.chain_id);
/// assert_eq!(received.chain(&chain).collect::<Vec<_>>(), [(0, &bytes[..])]);
/// assert_eq!((received.duplicates(), received.forks()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct ReceivedEvents {
    events: BTreeMap<ChainRef, BTreeMap<u64, (Hash, Vec<u8>)>>,
    duplicates: u64,
    forks: u64,
}

/// A line that is not what the file exporter of a collector writes, or holds a record without its
/// event.
///
/// ```
/// use agent_audit_otlp::ReceivedEvents;
/// let error = ReceivedEvents::new().add_line("{").unwrap_err();
/// assert_eq!(error.to_string(), "a line that cannot be read: it is not OTLP in JSON");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a line that cannot be read: {0}")]
pub struct UnreadableLine(&'static str);

impl ReceivedEvents {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes up the events of one line. Records that are not of this crate are passed over.
    ///
    /// # Errors
    /// [`UnreadableLine`] where the line is not OTLP in JSON, or an event in it cannot be read.
    pub fn add_line(&mut self, line: &str) -> Result<(), UnreadableLine> {
        let export: Export =
            serde_json::from_str(line).map_err(|_| UnreadableLine("it is not OTLP in JSON"))?;
        let scopes = export.resource_logs.into_iter().flat_map(|logs| logs.scope_logs);
        for record in scopes.flat_map(|logs| logs.log_records) {
            let events = record.attributes.into_iter().filter(|pair| pair.key == names::EVENT);
            for event in events.filter_map(|pair| pair.value.string_value) {
                self.add(event.into_bytes())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, bytes: Vec<u8>) -> Result<(), UnreadableLine> {
        let event = Event::from_slice(&bytes)
            .map_err(|_| UnreadableLine("it holds no event that can be read"))?;
        let hash = hash::leaf(&bytes);
        let chain = self.events.entry(ChainRef::new(event.tenant_id, event.chain_id)).or_default();
        match chain.entry(event.sequence) {
            Entry::Vacant(place) => {
                place.insert((hash, bytes));
            }
            Entry::Occupied(place) if place.get().0 == hash => self.duplicates += 1,
            Entry::Occupied(_) => self.forks += 1,
        }
        Ok(())
    }

    /// The chains that there is something of.
    pub fn chains(&self) -> impl Iterator<Item = &ChainRef> {
        self.events.keys()
    }

    /// The events of a chain: position and canonical bytes, in order, each once.
    pub fn chain(&self, chain: &ChainRef) -> impl Iterator<Item = (u64, &[u8])> {
        let events = self.events.get(chain).into_iter().flatten();
        events.map(|(sequence, (_, bytes))| (*sequence, &**bytes))
    }

    /// How many events came again.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// How many events came at a position that another one has.
    #[must_use]
    pub fn forks(&self) -> u64 {
        self.forks
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    #[serde(default)]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    #[serde(default)]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    #[serde(default)]
    log_records: Vec<LogRecord>,
}

#[derive(Deserialize)]
struct LogRecord {
    #[serde(default)]
    attributes: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: AnyValue,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct AnyValue {
    #[serde(default)]
    string_value: Option<String>,
}
