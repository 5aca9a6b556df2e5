//! What the sessions and tenants of a log amount to, and the tables that show it.

use std::collections::BTreeMap;

use agent_audit_core::canonical::EventView;
use serde::{Deserialize, Serialize};

use crate::{output::grouped, table::Table};

/// One session in a list.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Session {
    pub(crate) session_id: String,
    pub(crate) agent_id: String,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) events: u64,
    pub(crate) decisions: u64,
    pub(crate) tools: u64,
    pub(crate) reviews: u64,
    pub(crate) failures: u64,
}

/// The sessions of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<String, Session>);

/// What decides whether an event tells of a failure.
#[derive(Deserialize)]
struct Ended<'a> {
    #[serde(alias = "outcome")]
    status: Option<&'a str>,
}

impl Sessions {
    pub(crate) fn add(&mut self, event: &EventView<'_>) {
        if !self.0.contains_key(event.session_id) {
            let session = Session {
                session_id: event.session_id.to_owned(),
                agent_id: event.agent_id.to_owned(),
                first: event.timestamp_utc.to_owned(),
                ..Session::default()
            };
            self.0.insert(event.session_id.to_owned(), session);
        }
        let Some(session) = self.0.get_mut(event.session_id) else { return };
        session.events += 1;
        // Times are written so that their order as text is their order.
        if session.last.as_str() < event.timestamp_utc {
            event.timestamp_utc.clone_into(&mut session.last);
        }
        if event.timestamp_utc < session.first.as_str() {
            event.timestamp_utc.clone_into(&mut session.first);
        }
        match event.event_type {
            "model.decided" => session.decisions += 1,
            "tool.attempted" => session.tools += 1,
            "review.decided" => session.reviews += 1,
            _ => {}
        }
        if matches!(event.event_type, "model.decided" | "tool.completed" | "session.ended") {
            let ended: Option<Ended<'_>> = serde_json::from_slice(event.payload).ok();
            let status = ended.and_then(|ended| ended.status);
            if !matches!(status, Some("ok" | "completed")) {
                session.failures += 1;
            }
        }
    }

    /// The sessions in the order in which they began.
    pub(crate) fn in_order(&self) -> Vec<&Session> {
        let mut sessions: Vec<_> = self.0.values().collect();
        sessions.sort_by(|a, b| a.first.cmp(&b.first).then(a.session_id.cmp(&b.session_id)));
        sessions
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The sessions as a table.
pub(crate) fn table_of_sessions(sessions: &[&Session]) -> String {
    let mut table = Table::new([
        "SESSION",
        "AGENT",
        "FIRST (UTC)",
        "LAST (UTC)",
        "DECISIONS",
        "TOOLS",
        "REVIEWS",
        "FAILURES",
    ])
    .numbers_from(4);
    for session in sessions {
        table.row([
            session.session_id.as_str(),
            session.agent_id.as_str(),
            &second(&session.first),
            &second(&session.last),
            &grouped(session.decisions),
            &grouped(session.tools),
            &grouped(session.reviews),
            &grouped(session.failures),
        ]);
    }
    table.to_string()
}

/// One tenant in a list.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tenant {
    pub(crate) tenant_id: String,
    pub(crate) sessions: u64,
    pub(crate) events: u64,
    pub(crate) last: String,
}

/// The tenants as a table.
pub(crate) fn table_of_tenants(tenants: &[Tenant]) -> String {
    let mut table =
        Table::new(["TENANT", "LAST EVENT (UTC)", "SESSIONS", "EVENTS"]).numbers_from(2);
    for tenant in tenants {
        table.row([
            tenant.tenant_id.as_str(),
            &second(&tenant.last),
            &grouped(tenant.sessions),
            &grouped(tenant.events),
        ]);
    }
    table.to_string()
}

/// A timestamp to the second, as a person reads it.
fn second(timestamp: &str) -> String {
    let text: String = timestamp.chars().take(19).collect();
    text.replace('T', " ")
}
