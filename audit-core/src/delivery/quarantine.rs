//! Events that a sink refused for good, kept aside so that their chain can go on.
//!
//! One file an event, `quarantine/<sink>/<event hash>.json`, replaced as a whole:
//!
//! ```json
//! {"format":1,"checksum":"5bbe78b3","sink":"kafka","chain":["acme","c-1"],"sequence":7,"event_hash":"9f…","refused_at":"2026-01-02T03:04:05.000000000Z","message":"sink rejected: too large","record":"AAEC…"}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `format` | 1 |
//! | `checksum` | CRC-32C, 8 lower-case hex digits, of the JSON text `[sink,chain,sequence,event_hash,refused_at,message,record]` without spaces |
//! | `sink`, `chain`, `sequence`, `event_hash` | who refused which event |
//! | `refused_at`, `message` | when and why |
//! | `record` | base64 of the record in its binary form, with its content |
//!
//! The file is durable before the cursor says that the chain goes on behind the event, so that an
//! event is in the journal, in its sink or here at any instant. It is deleted when the sink has taken
//! the event. A file that does not read like that is reported and left alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::health::QuarantinedEvent;
use crate::{
    chain::ChainRef,
    error::AuditError,
    hash::Hash,
    id::{ChainId, TenantId},
    log::{create_dir, replace, sync_dir},
    record::Record,
    timestamp::Timestamp,
};

const FORMAT: u32 = 1;

/// Reads an event that was kept aside, with its content.
///
/// The path is that of [`QuarantinedEvent::path`].
///
/// ```
/// use agent_audit_core::delivery::read_quarantined;
/// let error = read_quarantined("no-such-file.json").unwrap_err();
/// assert!(error.to_string().contains("no-such-file.json"));
/// ```
///
/// # Errors
/// Where there is no such file, or it is damaged.
pub fn read_quarantined(path: impl AsRef<Path>) -> Result<(QuarantinedEvent, Record), AuditError> {
    let path = path.as_ref();
    let bytes = fs::read(path).map_err(|error| AuditError::io("read", path, error))?;
    parse(path, &bytes).ok_or_else(|| {
        AuditError::damaged(format!(
            "`{}` is not an event that was kept aside, or is damaged: restore it from a backup, or \
             copy the event from another sink",
            path.display()
        ))
    })
}

/// What one sink refused.
#[derive(Debug)]
pub(super) struct Quarantine {
    sink: String,
    directory: PathBuf,
    most: usize,
    events: Vec<QuarantinedEvent>,
}

impl Quarantine {
    /// Lists what is there.
    pub(super) fn open(directory: PathBuf, sink: &str, most: usize) -> Result<Self, AuditError> {
        let mut events = Vec::new();
        let files = match fs::read_dir(&directory) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { sink: sink.to_owned(), directory, most, events });
            }
            Err(error) => return Err(AuditError::io("list", &directory, error)),
        };
        for file in files {
            let path = file.map_err(|error| AuditError::io("list", &directory, error))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read_quarantined(&path) {
                Ok((event, _)) => events.push(event),
                Err(error) => tracing::error!(sink, %error, "a quarantined event cannot be read"),
            }
        }
        events.sort_by(|a, b| (&a.chain, a.sequence).cmp(&(&b.chain, b.sequence)));
        Ok(Self { sink: sink.to_owned(), directory, most, events })
    }

    pub(super) fn list(&self) -> Vec<QuarantinedEvent> {
        self.events.clone()
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn find(&self, chain: &ChainRef, sequence: u64) -> Option<&QuarantinedEvent> {
        self.events.iter().find(|event| event.chain == *chain && event.sequence == sequence)
    }

    /// Keeps an event aside; durable when this returns. The same event again replaces what is kept.
    ///
    /// # Errors
    /// Where there are too many, or the file cannot be written.
    pub(super) fn keep(
        &mut self,
        chain: &ChainRef,
        sequence: u64,
        record: &Record,
        message: &str,
    ) -> Result<(), AuditError> {
        let event_hash = record.event_hash();
        let held = self.events.iter().position(|event| event.event_hash == event_hash);
        if held.is_none() && self.events.len() >= self.most {
            return Err(AuditError::invalid(format!(
                "{} events are in quarantine already: mend the sink and release them, or raise \
                 `quarantine_max_events`",
                self.events.len()
            )));
        }
        let path = self.directory.join(format!("{event_hash}.json"));
        let file = File {
            format: FORMAT,
            checksum: String::new(),
            sink: self.sink.clone(),
            chain: (chain.tenant_id.clone(), chain.chain_id.clone()),
            sequence,
            event_hash,
            refused_at: Timestamp::now(),
            message: message.to_owned(),
            record: STANDARD.encode(record.to_bytes()),
        };
        create_dir(&self.directory)?;
        if let Some(parent) = self.directory.parent() {
            // The directory itself must be found after a crash, or what is in it is lost.
            for dir in [Some(parent), parent.parent()].into_iter().flatten() {
                sync_dir(dir).map_err(|error| AuditError::io("sync the directory", dir, error))?;
            }
        }
        replace(&path, &file.to_bytes())?;
        let event = QuarantinedEvent {
            chain: chain.clone(),
            sequence,
            event_hash,
            at: file.refused_at,
            message: file.message,
            path,
        };
        match held {
            Some(at) => self.events[at] = event,
            None => self.events.push(event),
        }
        Ok(())
    }

    /// Deletes an event that the sink has now.
    pub(super) fn forget(&mut self, event_hash: Hash) -> Result<(), AuditError> {
        let Some(at) = self.events.iter().position(|event| event.event_hash == event_hash) else {
            return Ok(());
        };
        let path = self.events[at].path.clone();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(AuditError::io("delete", &path, error));
            }
            _ => {}
        }
        self.events.remove(at);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    checksum: String,
    sink: String,
    chain: (TenantId, ChainId),
    sequence: u64,
    event_hash: Hash,
    refused_at: Timestamp,
    message: String,
    record: String,
}

impl File {
    fn to_bytes(&self) -> Vec<u8> {
        let Self { sink, chain, sequence, event_hash, refused_at, message, record, .. } = self;
        serde_json::to_vec(&File {
            format: FORMAT,
            checksum: self.checksum(),
            sink: sink.clone(),
            chain: chain.clone(),
            sequence: *sequence,
            event_hash: *event_hash,
            refused_at: *refused_at,
            message: message.clone(),
            record: record.clone(),
        })
        .expect("names, numbers and text have a JSON form")
    }

    fn checksum(&self) -> String {
        let Self { sink, chain, sequence, event_hash, refused_at, message, record, .. } = self;
        let checked = (sink, chain, sequence, event_hash, refused_at, message, record);
        let text = serde_json::to_vec(&checked).expect("names, numbers and text have a JSON form");
        format!("{:08x}", crc32c::crc32c(&text))
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Option<(QuarantinedEvent, Record)> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    if file.format != FORMAT || file.checksum != file.checksum() {
        return None;
    }
    let record = Record::from_bytes(&STANDARD.decode(&file.record).ok()?).ok()?;
    if record.event_hash() != file.event_hash {
        return None;
    }
    let (tenant, chain) = file.chain;
    let event = QuarantinedEvent {
        chain: ChainRef::new(tenant, chain),
        sequence: file.sequence,
        event_hash: file.event_hash,
        at: file.refused_at,
        message: file.message,
        path: path.to_owned(),
    };
    Some((event, record))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::event::{Event, chain::ChainClosed};

    fn record(sequence: u64) -> (ChainRef, Record) {
        let mut event = Event::example(ChainClosed::new("test"));
        event.sequence = sequence;
        let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
        (chain, Record::new(event.canonical_bytes().unwrap(), Vec::new()))
    }

    #[test]
    fn what_is_kept_is_read_back_and_found_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("quarantine/kafka");
        let mut quarantine = Quarantine::open(place.clone(), "kafka", 2).unwrap();
        assert_eq!(quarantine.list(), []);
        let (chain, one) = record(1);
        quarantine.keep(&chain, 1, &one, "too large").unwrap();
        quarantine.keep(&chain, 1, &one, "still too large").unwrap();
        let (_, two) = record(2);
        quarantine.keep(&chain, 2, &two, "too large").unwrap();
        assert!(quarantine.keep(&chain, 3, &record(3).1, "too large").is_err(), "there is a bound");

        let mut again = Quarantine::open(place, "kafka", 2).unwrap();
        assert_eq!(again.list(), quarantine.list());
        let found = again.find(&chain, 1).unwrap().clone();
        assert_eq!(found.message, "still too large");
        assert_eq!(read_quarantined(&found.path).unwrap(), (found.clone(), one));
        again.forget(found.event_hash).unwrap();
        assert!(!found.path.exists() && again.len() == 1);
    }

    #[test]
    fn a_changed_byte_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::open(dir.path().join("q/s"), "s", 9).unwrap();
        let (chain, one) = record(1);
        quarantine.keep(&chain, 1, &one, "too large").unwrap();
        let path = quarantine.list()[0].path.clone();
        let good = fs::read(&path).unwrap();
        assert!(parse(&path, &good).is_some());
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x01;
            assert!(parse(&path, &bytes).is_none(), "byte {at}");
            assert!(parse(&path, &good[..at]).is_none());
        }
    }
}
