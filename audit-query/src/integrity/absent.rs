//! Content that is gone: does an event of the tenant say why, and does it speak of this content?
//!
//! The verifier of one chain accepts an event of that chain by its type. Here the whole tenant is at
//! hand: the event may stand in another chain, as where a process of its own erases, and what it says
//! is compared with the record whose content is gone. An erasure that is named for content which it
//! cannot have erased is how a deletion would be covered up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use agent_audit_core::{
    chain::ChainRef,
    content::{AbsentReason, PartBody},
    event::{Payload, key::KeyScope},
    id::{EventId, TenantId},
    verify::{Finding, FindingKind, Severity},
};

use crate::{EventStore, Filter, Found, Order, QueryError, Select};

/// How many groups of absent parts of one chain are told apart, and how many events are remembered.
const MAX_GROUPS: usize = 4_096;
const MAX_EVENTS: usize = 1 << 14;

/// How far the clocks of two writers may differ: five minutes, in nanoseconds.
const SKEW: i64 = 300_000_000_000;

/// Parts that are gone for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Reason {
    evidence: Option<EventId>,
    erased: bool,
    subject: Option<String>,
}

#[derive(Debug, Clone)]
struct Group {
    first: u64,
    part: String,
    count: u64,
    /// The time of the newest record.
    newest: i64,
}

/// The absent parts of one copy of a chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Absences {
    groups: BTreeMap<Reason, Group>,
    beyond: u64,
}

impl Absences {
    /// Notes the parts of a record that are gone.
    pub(super) fn note(&mut self, found: &Found) {
        let absent =
            found.record().parts().iter().enumerate().filter_map(|(at, part)| match part {
                PartBody::Absent { reason, evidence, .. } => Some((at, *reason, *evidence)),
                _ => None,
            });
        for (at, reason, evidence) in absent {
            let subject = found.text("subject_id");
            let key = Reason { evidence, erased: reason == AbsentReason::Erased, subject };
            if let Some(group) = self.groups.get_mut(&key) {
                group.count += 1;
                group.first = group.first.min(found.sequence());
                group.newest = group.newest.max(found.timestamp());
            } else if self.groups.len() < MAX_GROUPS {
                let view = found.record().view().ok();
                let name =
                    view.and_then(|view| view.content().nth(at).map(|part| part.name.to_owned()));
                let part = name.unwrap_or_default().chars().take(128).collect();
                let (first, newest) = (found.sequence(), found.timestamp());
                self.groups.insert(key, Group { first, part, count: 1, newest });
            } else {
                self.beyond += 1;
            }
        }
    }

    /// What no event of the tenant explains. Of records that had been verified before, up to
    /// `seen`, it was there or explained then: somebody took it away.
    pub(super) async fn unexplained(
        &self,
        chain: &ChainRef,
        seen: u64,
        events: &mut Evidence,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (reason, group) in &self.groups {
            let why = match reason.evidence {
                None => Some("nothing says why".to_owned()),
                Some(id) => match events.of(&chain.tenant_id, id).await {
                    Ok(event) => event.as_ref().map_or_else(
                        || Some(format!("the tenant has no event {id}, which it names for it")),
                        |event| event.does_not_explain(id, reason, group),
                    ),
                    Err(error) => {
                        Some(format!("event {id}, which it names for it, cannot be read: {error}"))
                    }
                },
            };
            let Some(why) = why else { continue };
            let more = match group.count {
                1 => String::new(),
                count => format!(" ({} more parts are gone like it)", count - 1),
            };
            let (severity, then) = match group.first < seen {
                true => (
                    Severity::Tampering,
                    "; an earlier run found it there, or gone for a reason that was recorded",
                ),
                false => (Severity::Unsure, ""),
            };
            let detail =
                format!("lacks content: part {:?} is gone, and {why}{more}{then}", group.part);
            let finding = Finding::new(FindingKind::ContentMissing, detail).with_severity(severity);
            findings.push(finding.in_chain(chain).at(group.first, group.first));
        }
        if self.beyond > 0 {
            let detail = format!(
                "{} more parts are gone, for more reasons than could be compared: verify the chain \
                 by itself",
                self.beyond
            );
            findings.push(Finding::new(FindingKind::ContentMissing, detail).in_chain(chain));
        }
        findings
    }
}

/// An event that content is said to be gone by.
#[derive(Debug, Clone)]
struct Event {
    payload: Payload,
    at: i64,
}

impl Event {
    fn does_not_explain(&self, id: EventId, reason: &Reason, group: &Group) -> Option<String> {
        let not = |what: &str| Some(format!("event {id}, which it names for it, {what}"));
        if self.at.saturating_add(SKEW) < group.newest {
            return not("was recorded before the content was");
        }
        match (&self.payload, reason.erased) {
            (Payload::KeyDestroyed(key), true) => match &key.scope {
                KeyScope::Signing => not("destroyed a key that seals nothing"),
                KeyScope::Subject => {
                    let destroyed = key.subject_id.as_ref().map(|subject| subject.as_str());
                    let same = destroyed.is_none() || destroyed == reason.subject.as_deref();
                    if same { None } else { not("erased the content about another person") }
                }
                _ => None,
            },
            (Payload::ContentPurged(purge), false) => {
                let before = purge.before.map(|before| before.as_nanos_i64());
                let covered = before.is_none_or(|before| group.newest < before);
                if covered { None } else { not("let go of older content only") }
            }
            (_, true) => not("is no key.destroyed"),
            (_, false) => not("is no content.purged"),
        }
    }
}

/// The events of a tenant that content is said to be gone by, as the stores have them.
#[derive(Debug)]
pub(super) struct Evidence {
    stores: Vec<Arc<dyn EventStore>>,
    known: HashMap<EventId, Option<Event>>,
}

impl Evidence {
    pub(super) fn new(stores: Vec<Arc<dyn EventStore>>) -> Self {
        Self { stores, known: HashMap::new() }
    }

    async fn of(&mut self, tenant: &TenantId, id: EventId) -> Result<Option<Event>, QueryError> {
        if let Some(known) = self.known.get(&id) {
            return Ok(known.clone());
        }
        let event = self.find(tenant, id).await?;
        if self.known.len() < MAX_EVENTS {
            self.known.insert(id, event.clone());
        }
        Ok(event)
    }

    /// Looks in every store: one that lags need not have it yet.
    async fn find(&self, tenant: &TenantId, id: EventId) -> Result<Option<Event>, QueryError> {
        let mut failed = None;
        for store in &self.stores {
            let select = Select::new(Filter::new().event(id), Order::Time, 2);
            let found = match store.select(tenant, &select).await {
                Ok(found) => found,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            let own =
                |found: &&Found| found.event_id() == id && found.tenant_id() == tenant.as_str();
            if let Some(found) = found.iter().find(own)
                && let Ok(event) = found.event()
            {
                return Ok(Some(Event { payload: event.payload, at: found.timestamp() }));
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
