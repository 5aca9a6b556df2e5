//! Is an event that stands where it belongs right in itself?

use agent_audit_core::{
    canonical::EventView,
    chain::ChainRef,
    columns::Columns,
    event::{Event, SCHEMA_VERSION},
    id::EventId,
    verify::{Finding, FindingKind},
};

use super::{
    files::shown,
    gone::Lack,
    records::{Fault, Taken},
    walk::State,
};
use crate::export::parts::{self, Part, Reason};

/// Which event it is about: its chain, position and identity.
type Of<'a> = (&'a ChainRef, u64, Option<EventId>);

impl State<'_, '_> {
    /// What was found wrong when the record was read.
    pub(super) fn faults(&mut self, of: Of<'_>, taken: &Taken) {
        let (kind, detail) = match &taken.fault {
            None => return,
            Some(Fault::Edited) => (
                FindingKind::Tampered,
                "was changed: its event does not have the hash beside it".to_owned(),
            ),
            Some(Fault::Column(column)) => (
                FindingKind::ColumnMismatch,
                format!("was changed: column {column} does not say what the record says"),
            ),
            Some(Fault::Spelling) => (
                FindingKind::Tampered,
                "was changed: its line is not spelt as an exporter spells it".to_owned(),
            ),
        };
        self.find(kind, detail, of, taken);
    }

    /// What stands in an event that is where it belongs.
    pub(super) fn inside(
        &mut self,
        of: Of<'_>,
        event: &EventView<'_>,
        covered: bool,
        taken: &Taken,
    ) {
        let (chain, _, id) = of;
        let said = Reason::of_event_type(event.event_type);
        if let (Some(id), Some(reason)) = (id, said) {
            self.gone.says(chain, id, reason, covered);
        }
        let matches = if self.walk.is_evidence {
            said.is_some()
        } else {
            self.walk.filter.is_empty()
                || Columns::of(taken.record.event_bytes()).is_ok_and(|columns| {
                    self.walk.filter.matches(&columns, &columns.values(&taken.hash))
                })
        };
        if !matches {
            let detail = "does not belong here: it does not match the question".to_owned();
            self.find(FindingKind::Foreign, detail, of, taken);
        }
        if event.schema_version != SCHEMA_VERSION
            && self.schema_known
            && Event::from_slice(taken.record.event_bytes()).is_err()
        {
            self.schema_known = false;
            let detail = format!(
                "has schema version {:?}, which this program cannot read; its hashes were checked, \
                 use a release that knows it for the rest",
                shown(event.schema_version)
            );
            self.find(FindingKind::UnknownSchema, detail, of, taken);
        }
        self.content(of, event, covered, taken);
    }

    fn content(&mut self, of: Of<'_>, event: &EventView<'_>, covered: bool, taken: &Taken) {
        let (chain, at, id) = of;
        let named = event.content_len();
        self.tally.parts += u64::try_from(named).unwrap_or(u64::MAX);
        let bodies = taken.record.parts();
        let place = &taken.place;
        let mut found = Vec::new();
        let counted = if self.walk.content {
            let (tally, gone, draft) = (&mut self.tally, &mut *self.gone, &mut *self.draft);
            parts::judge(event, bodies, &mut |part| {
                let lack = |part| Lack { chain, at, event: id, part, place, covered };
                match part {
                    Part::Clear => {}
                    Part::Sealed => tally.sealed += 1,
                    Part::UnknownSeal { name, algorithm } => found.push((
                        FindingKind::UnknownSeal,
                        format!(
                            "has content that this program cannot judge: part {:?} is encrypted with \
                             algorithm {algorithm}; use a release that knows it",
                            shown(name)
                        ),
                    )),
                    Part::Other { name } => found.push((
                        FindingKind::ContentMismatch,
                        format!(
                            "has other content than it committed to: part {:?} was changed",
                            shown(name)
                        ),
                    )),
                    Part::Gone { name, reason, evidence } => {
                        match reason {
                            Reason::Erased => tally.erased += 1,
                            Reason::Purged => tally.purged += 1,
                        }
                        gone.names(&lack(name), evidence, reason, draft);
                    }
                    Part::GoneUnexplained { name } => {
                        lack(name).unexplained("nothing says why", draft);
                    }
                }
            })
        } else if bodies.is_empty() {
            Ok(())
        } else {
            Err(0)
        };
        if let Err(expected) = counted {
            found.push((
                FindingKind::ContentMismatch,
                format!(
                    "has other content than it must have: {expected} parts, and there are {}",
                    bodies.len()
                ),
            ));
        }
        for (kind, detail) in found {
            self.find(kind, detail, of, taken);
        }
    }

    fn find(&mut self, kind: FindingKind, detail: String, (chain, at, id): Of<'_>, taken: &Taken) {
        let finding = Finding::new(kind, detail).in_chain(chain).at(at, at).of_event(id);
        self.draft.add(finding.in_place(taken.place.to_string()));
    }
}
