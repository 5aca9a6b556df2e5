//! What the events of a chain tell of its life: how it begins, its time, its gaps, and what was begun
//! in it and never ended.

use super::{
    super::{
        FindingKind,
        memory::{event_id, parse_id},
    },
    ChainVerifier, shown,
};
use crate::{canonical::EventView, content::AbsentReason, event, hash::Hash};

/// The length of a timestamp's text, which sorts as the time does.
pub(super) const TIMESTAMP: usize = 30;

impl ChainVerifier {
    pub(super) fn check_genesis(&mut self, event: &EventView<'_>) {
        let id = parse_id(event.event_id).and_then(event_id);
        let detail = if event.event_type != "chain.opened" {
            format!("was changed: it does not open the chain, it is {}", shown(event.event_type))
        } else if event.previous_event_hash != Hash::ZERO {
            "was changed: it is the first and keeps the hash of one before".to_owned()
        } else {
            return;
        };
        self.findings.at(FindingKind::Tampered, 0, id, detail);
        self.links.blame_head();
    }

    pub(super) fn check_time(&mut self, event: &EventView<'_>, at: u64) {
        let Ok(now) = <[u8; TIMESTAMP]>::try_from(event.timestamp_utc.as_bytes()) else {
            let detail = format!("has no valid timestamp: {}", shown(event.timestamp_utc));
            let id = self.recent.event_id(at);
            self.findings.at(FindingKind::Tampered, at, id, detail);
            return;
        };
        if now < self.last_timestamp {
            let before = String::from_utf8_lossy(&self.last_timestamp).into_owned();
            let detail = format!(
                "is dated {}, before the record in front of it ({before}): the writer's clock went \
                 back",
                event.timestamp_utc
            );
            let id = self.recent.event_id(at);
            self.findings.at(FindingKind::ClockRegression, at, id, detail);
        }
        self.last_timestamp = now;
    }

    pub(super) fn follow_attempts(&mut self, event: &EventView<'_>, at: u64, id: u128) {
        let parent = |event: &EventView<'_>| event.parent_event_id.and_then(parse_id);
        self.closed = false;
        match event.event_type {
            "tool.attempted" => self.attempts.begin(id, at, "tool"),
            "model.requested" => self.attempts.begin(id, at, "model"),
            "tool.completed" if !self.attempts.is_empty() => {
                self.attempts.end(parent(event));
                self.attempts.end(named_id(event.payload, br#""attempt_event_id":""#));
            }
            "model.decided" if !self.attempts.is_empty() => {
                self.attempts.end(parent(event));
                self.attempts.end(named_id(event.payload, br#""request_event_id":""#));
            }
            "review.proposed" => {
                if let Some(review) = named_text(event.payload, br#""review_id":"#) {
                    self.reviews.propose(review, at, id);
                }
            }
            "review.decided" if !self.reviews.is_empty() => {
                // Escalated: someone else is to decide.
                let decision = named_text(event.payload, br#""decision":"#);
                if decision.as_deref() != Some("escalate")
                    && let Some(review) = named_text(event.payload, br#""review_id":"#)
                {
                    self.reviews.decide(&review);
                }
            }
            "content.purged" => self.evidence.says(id, AbsentReason::Purged),
            "key.destroyed" => self.evidence.says(id, AbsentReason::Erased),
            "chain.closed" => self.closed = true,
            "chain.gap" => self.note_gap(event, at),
            _ => {}
        }
    }

    fn note_gap(&mut self, event: &EventView<'_>, at: u64) {
        let payload: serde_json::Value = serde_json::from_slice(event.payload).unwrap_or_default();
        let lost = match &payload["lost_events"] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let reason = payload["reason"].as_str().unwrap_or("no reason given");
        let detail = format!(
            "says that {} events could not be written before it ({})",
            shown(&lost),
            shown(reason)
        );
        let id = self.recent.event_id(at);
        self.findings.at(FindingKind::Gap, at, id, detail);
    }

    pub(super) fn check_schema(&mut self, event: &EventView<'_>, at: u64, id: u128) {
        if event::is_readable(event.schema_version) {
            return;
        }
        // One finding for each stretch, not for each record.
        if std::mem::replace(&mut self.schema_known, false) {
            let detail = format!(
                "has schema version {}, which this program cannot read; its hashes were checked, \
                 use a release that knows it for the rest",
                shown(event.schema_version)
            );
            self.findings.at(FindingKind::UnknownSchema, at, event_id(id), detail);
        }
    }

    /// What was begun and has no end: a fault of nobody, and for a person to look at.
    pub(super) fn unresolved(&mut self) {
        for (at, id, what) in std::mem::take(&mut self.attempts).into_open() {
            self.findings.at_in_words(FindingKind::UnresolvedAttempt, at, Some(id), || {
                format!("began a {what} call whose outcome is not recorded")
            });
        }
        for (review, at, id) in std::mem::take(&mut self.reviews).into_open() {
            let detail = format!(
                "asks for review {}, whose decision this chain does not hold: it is still awaited, \
                 nobody will answer it, or another chain of the tenant holds it",
                shown(&review)
            );
            self.findings.at(FindingKind::OpenReview, at, event_id(id), detail);
        }
    }
}

/// The event id behind a key of a canonical payload.
///
/// In canonical JSON a quotation mark inside a text is escaped, so the needle is found as a key
/// alone. A key of the same name deeper inside would close a call that nobody reports as open.
fn named_id(payload: &[u8], needle: &[u8]) -> Option<u128> {
    let start = memchr::memmem::find(payload, needle)? + needle.len();
    let text = payload.get(start..start + 36)?;
    parse_id(std::str::from_utf8(text).ok()?)
}

/// The text behind a key of a canonical payload; see [`named_id`] for how it is found.
fn named_text(payload: &[u8], needle: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(payload, needle)? + needle.len();
    let mut values = serde_json::Deserializer::from_slice(payload.get(start..)?).into_iter();
    values.next()?.ok()
}
