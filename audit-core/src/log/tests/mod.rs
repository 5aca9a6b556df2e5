//! The log handle against real files: what is acknowledged is there, in one chain, after anything.

mod attempts;
mod faults;
mod index;
mod places;
mod pressure;
mod unrecorded;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
};

use crate::{
    event::{Event, Other},
    journal::Scan,
    log::{AuditLog, AuditLogBuilder, Clock, Draft},
    record::{Record, RecordView},
    timestamp::Timestamp,
    verify::{
        Report, Verdict,
        directory::{VerifyOptions, verify_directory},
    },
};

/// A note with content, as a caller would record it.
fn note(text: &str) -> Draft {
    Draft::new(Other::custom("note").unwrap()).with_part(crate::content::Part::text("note", text))
}

/// Every event of every tenant in a closed log, in the order of its chain.
fn events(dir: &Path) -> HashMap<String, Vec<Event>> {
    let mut found: HashMap<String, Vec<Event>> = HashMap::new();
    for record in records(dir) {
        let event = record.event().unwrap();
        found.entry(event.tenant_id.to_string()).or_default().push(event);
    }
    found
}

fn records(dir: &Path) -> Vec<Record> {
    let mut scan = Scan::open(dir.join("journal")).unwrap();
    let mut records = Vec::new();
    while let Some(entry) = scan.next_entry().unwrap() {
        let view: RecordView<'_> = super::entry::read(entry.index, entry.bytes).unwrap();
        records.push(Record::new(view.event_bytes.to_vec(), view.parts().unwrap()));
    }
    records
}

fn types(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.event_type().to_string()).collect()
}

fn verify(dir: &Path) -> Report {
    verify_directory(dir, VerifyOptions::default()).unwrap()
}

#[track_caller]
fn assert_intact(dir: &Path) -> Report {
    let report = verify(dir);
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", report.findings);
    report
}

/// A clock that tests set.
#[derive(Debug, Clone)]
struct SetClock(Arc<Mutex<u64>>);

impl SetClock {
    fn at(nanos: u64) -> Self {
        Self(Arc::new(Mutex::new(nanos)))
    }

    fn set(&self, nanos: u64) {
        *self.0.lock().unwrap() = nanos;
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(*self.0.lock().unwrap())
    }
}

/// A log that leaves a moment's work to the thread of maintenance.
fn quick(dir: &Path) -> AuditLogBuilder {
    AuditLog::builder(dir)
}
