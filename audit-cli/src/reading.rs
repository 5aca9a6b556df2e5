//! Reading a log: the embedded store and the journal as one, each event once.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use agent_audit_core::{
    canonical::{self, EventView},
    journal::{Scan, ScanEnd},
    log::{Layout, entry},
    record::{Record, RecordView},
};
use agent_audit_sqlite::SqliteStore;

use crate::{failure::Failure, output::counted, stores};

/// A log to be read; nothing is locked and nothing changed.
#[derive(Debug)]
pub(crate) struct Log {
    layout: Layout,
    store: Option<SqliteStore>,
}

/// An event that was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) event: EventView<'a>,
    body: Body<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Body<'a> {
    Stored(&'a Record),
    Journaled(RecordView<'a>),
}

impl Found<'_> {
    pub(crate) fn record(&self) -> Result<Record, Failure> {
        match self.body {
            Body::Stored(record) => Ok(record.clone()),
            Body::Journaled(view) => Ok(Record::new(view.event_bytes.to_vec(), view.parts()?)),
        }
    }
}

/// What else there is to know about what was read.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// All tenants of the log.
    pub(crate) tenants: BTreeSet<String>,
    faults: Vec<String>,
    unreadable: u64,
}

impl Remarks {
    /// What a person must know before believing that this is all.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.faults.clone();
        if self.unreadable > 0 {
            warnings.push(format!("{} could not be read", counted(self.unreadable, "record")));
        }
        warnings
    }
}

impl Log {
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let layout = Layout::new(dir);
        let fail = |why: String| {
            Failure::new(format!(
                "`{}` is not an audit log: {why}; give the directory that the log was opened with",
                dir.display()
            ))
        };
        std::fs::metadata(dir).map_err(|error| {
            Failure::new(format!("cannot read `{}`: {error}; check the path", dir.display()))
        })?;
        match std::fs::metadata(layout.identity()) {
            Ok(_) => Ok(Self { store: stores::embedded(&layout)?, layout }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(fail("it has no log.json".to_owned()))
            }
            Err(error) => Err(fail(error.to_string())),
        }
    }

    /// Reads the events of a tenant, or of all, each chain in order; until `each` wants no more.
    pub(crate) fn read(
        &self,
        tenant: Option<&str>,
        each: &mut dyn FnMut(Found<'_>) -> Result<bool, Failure>,
    ) -> Result<Remarks, Failure> {
        let mut remarks = Remarks::default();
        let mut told: HashMap<String, Ranges> = HashMap::new();
        let mut go_on = true;
        // First, so that what is delivered and trimmed from the journal in the meantime is read.
        if let Some(store) = &self.store {
            go_on = read_store(store, tenant, &mut told, &mut remarks, each)?;
        }
        if go_on {
            self.read_rest(tenant, &told, &mut remarks, each)?;
        }
        Ok(remarks)
    }

    /// Reads the events in the journal alone, of a tenant, or of all.
    pub(crate) fn read_journal(
        &self,
        tenant: Option<&str>,
        each: &mut dyn FnMut(Found<'_>) -> Result<bool, Failure>,
    ) -> Result<Remarks, Failure> {
        let mut remarks = Remarks::default();
        self.read_rest(tenant, &HashMap::new(), &mut remarks, each)?;
        Ok(remarks)
    }

    fn read_rest(
        &self,
        tenant: Option<&str>,
        told: &HashMap<String, Ranges>,
        remarks: &mut Remarks,
        each: &mut dyn FnMut(Found<'_>) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let dir = self.layout.journal();
        if !dir.is_dir() {
            remarks.faults.push(format!("the journal `{}` is missing", dir.display()));
            return Ok(());
        }
        let mut scan = Scan::open(&dir)?;
        while let Some(found) = scan.next_entry()? {
            let Some((&entry::RECORD, stored)) = found.bytes.split_first() else {
                remarks.unreadable += 1;
                continue;
            };
            let view = RecordView::parse(stored).ok();
            let Some((view, event)) =
                view.and_then(|view| Some((view, canonical::scan(view.event_bytes).ok()?)))
            else {
                remarks.unreadable += 1;
                continue;
            };
            note(&mut remarks.tenants, event.tenant_id);
            if tenant.is_some_and(|tenant| tenant != event.tenant_id)
                || told.get(event.chain_id).is_some_and(|told| told.has(event.sequence))
            {
                continue;
            }
            if !each(Found { event, body: Body::Journaled(view) })? {
                return Ok(());
            }
        }
        match scan.end() {
            Some(ScanEnd::Damaged { reason, next_index, .. }) => remarks.faults.push(format!(
                "the journal is damaged: it could be read up to entry {next_index} ({reason})"
            )),
            Some(ScanEnd::Gap { expected, found, .. }) => remarks.faults.push(format!(
                "the journal has a gap: entries {expected} to {} are missing",
                found.saturating_sub(1)
            )),
            _ => {}
        }
        Ok(())
    }
}

fn read_store(
    store: &SqliteStore,
    tenant: Option<&str>,
    told: &mut HashMap<String, Ranges>,
    remarks: &mut Remarks,
    each: &mut dyn FnMut(Found<'_>) -> Result<bool, Failure>,
) -> Result<bool, Failure> {
    for owner in store.tenants()? {
        note(&mut remarks.tenants, owner.as_str());
        if tenant.is_some_and(|tenant| tenant != owner.as_str()) {
            continue;
        }
        let chains = match store.chains(&owner) {
            Ok(chains) => chains,
            Err(error) => {
                remarks.faults.push(Failure::from(error).to_string());
                continue;
            }
        };
        for chain in chains {
            let told = told.entry(chain.chain_id.as_str().to_owned()).or_default();
            let records = match store.records(&chain, 0) {
                Ok(records) => records,
                Err(error) => {
                    remarks.faults.push(Failure::from(error).to_string());
                    continue;
                }
            };
            for item in records {
                let Ok((_, record)) = item else {
                    remarks.unreadable += 1;
                    continue;
                };
                match record.view() {
                    // A database can be made to hold what belongs to somebody else.
                    Ok(event) if event.tenant_id == owner.as_str() => {
                        told.add(event.sequence);
                        if !each(Found { event, body: Body::Stored(&record) })? {
                            return Ok(false);
                        }
                    }
                    _ => remarks.unreadable += 1,
                }
            }
        }
    }
    Ok(true)
}

fn note(tenants: &mut BTreeSet<String>, tenant: &str) {
    if !tenants.contains(tenant) {
        tenants.insert(tenant.to_owned());
    }
}

/// A set of positions; those of a chain are one range, unless somebody has been at it.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, position: u64) {
        if self.has(position) {
            return;
        }
        if let Some((_, last)) = self.0.range_mut(..position).next_back()
            && *last + 1 == position
        {
            *last = position;
        } else {
            self.0.insert(position, position);
        }
    }

    fn has(&self, position: u64) -> bool {
        self.0.range(..=position).next_back().is_some_and(|(_, last)| position <= *last)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn ranges_hold_exactly_what_was_added() {
        let mut ranges = Ranges::default();
        for position in [0, 1, 2, 7, 8, 1, 5] {
            ranges.add(position);
        }
        let held: Vec<u64> = (0..12).filter(|position| ranges.has(*position)).collect();
        assert_eq!(held, [0, 1, 2, 5, 7, 8]);
        assert_eq!(ranges.0.len(), 3, "neighbours share a range");
    }
}
