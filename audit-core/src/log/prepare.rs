//! The fast path to canonical bytes: everything that does not depend on the place in the chain is
//! written before the chain is locked, and what is left is four insertions.

use std::ops::Range;

use crate::{
    canonical::{self, write_string},
    content::{ContentRef, Part, PartBody, invalid_part},
    error::AuditError,
    event::SCHEMA_VERSION,
    hash::{Hash, LeafHasher},
    id::{AgentId, ChainId, EventId, SessionId, SpanId, SubjectId, TenantId, TraceId, WriterId},
    index::{self, Terms},
    record,
    timestamp::Timestamp,
};

use super::Draft;

/// The most canonical bytes that one event may have: content does not count.
pub(crate) const MAX_EVENT_BYTES: usize = 16 << 20;

/// Room in front of the event bytes for the kind of the journal entry and the record's header.
const ENTRY_HEADER: usize = 6;

/// The envelope's fields that do not depend on the place in the chain.
pub(crate) struct Scope<'a> {
    pub(crate) tenant: &'a TenantId,
    pub(crate) session: &'a SessionId,
    pub(crate) agent: &'a AgentId,
    pub(crate) parent: Option<EventId>,
    pub(crate) subject: Option<&'a SubjectId>,
    pub(crate) trace: Option<(&'a TraceId, Option<&'a SpanId>)>,
}

/// An event that lacks only its place: sequence, previous hash and time.
pub(crate) struct Prepared {
    pub(crate) event_id: EventId,
    /// Up to the opening quotation mark of the previous hash.
    before: Vec<u8>,
    /// The event hash as far as `before` goes.
    hasher: LeafHasher,
    /// From the session to the opening quotation mark of the time.
    middle: Vec<u8>,
    /// What follows the time.
    after: Vec<u8>,
    parts: Vec<u8>,
    /// Where the payload stands in `before`.
    payload: Range<usize>,
    terms: TermsAt,
}

/// Where the text of what an event is indexed by stands in its entry; the session and the subject
/// in the middle of it, until the event has its place.
struct TermsAt {
    event_type: Range<usize>,
    reviewer: Option<Box<str>>,
    session: Range<usize>,
    subject: Option<Range<usize>>,
}

/// The place of an event in its chain.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) previous: Hash,
    pub(crate) at: Timestamp,
}

/// An event as it goes to the journal.
pub(crate) struct Placed {
    /// Kind of the entry, record header, event bytes.
    pub(crate) head: Vec<u8>,
    /// The bodies of the content.
    pub(crate) parts: Vec<u8>,
    pub(crate) event_hash: Hash,
    terms: TermsAt,
}

impl TermsAt {
    fn moved_by(&mut self, offset: usize) {
        for range in [&mut self.session].into_iter().chain(&mut self.subject) {
            *range = range.start + offset..range.end + offset;
        }
    }
}

impl Placed {
    /// What the event is indexed by.
    pub(crate) fn terms(&self) -> Terms<'_> {
        let text = |range: &Range<usize>| {
            std::str::from_utf8(&self.head[range.clone()]).expect("an event is UTF-8")
        };
        let TermsAt { event_type, reviewer, session, subject } = &self.terms;
        Terms {
            event_type: text(event_type),
            reviewer: reviewer.as_deref(),
            session: text(session),
            subject: subject.as_ref().map(text),
        }
    }
}

impl Prepared {
    /// Commits to the content and writes what can be written.
    pub(crate) fn new(
        draft: Draft,
        scope: &Scope<'_>,
        chain: &ChainId,
        writer: &WriterId,
    ) -> Result<Self, AuditError> {
        let Draft { payload, parts, event_id, parent_event_id, subject_id, trace, occurred_at } =
            draft;
        let event_type = payload.type_name();
        let invalid =
            |why: &dyn std::fmt::Display| AuditError::invalid(format!("{event_type}: {why}"));
        let (references, bodies) = commit(parts, &invalid)?;

        let mut before = Vec::with_capacity(1024);
        before.resize(ENTRY_HEADER, 0);
        before.extend_from_slice(b"{\"agent_id\":");
        write_string(&mut before, scope.agent.as_str());
        before.extend_from_slice(b",\"chain_id\":");
        write_string(&mut before, chain.as_str());
        if !references.is_empty() {
            before.extend_from_slice(b",\"content\":");
            canonical::append(&references, &mut before).map_err(|error| invalid(&error))?;
        }
        before.extend_from_slice(b",\"event_id\":");
        write_string(&mut before, event_id.write_to(&mut [0; 36]));
        before.extend_from_slice(b",\"event_type\":");
        let type_at = write_term(&mut before, event_type);
        if let Some(at) = occurred_at {
            before.extend_from_slice(b",\"occurred_at\":");
            push_time(&mut before, at);
        }
        if let Some(parent) = parent_event_id.or(scope.parent) {
            before.extend_from_slice(b",\"parent_event_id\":");
            write_string(&mut before, parent.write_to(&mut [0; 36]));
        }
        before.extend_from_slice(b",\"payload\":");
        let payload_start = before.len();
        canonical::append(&payload, &mut before).map_err(|error| invalid(&error))?;
        let payload_bytes = payload_start..before.len();
        let reviewer = index::reviewer(event_type, &before[payload_start..]).map(Box::from);
        before.extend_from_slice(b",\"previous_event_hash\":\"");

        let mut middle = Vec::with_capacity(256);
        middle.extend_from_slice(b",\"session_id\":");
        let session = write_term(&mut middle, scope.session.as_str());
        let own_trace = trace.as_ref().map(|(trace, span)| (trace, span.as_ref()));
        let trace = own_trace.or(scope.trace);
        if let Some((_, Some(span))) = trace {
            middle.extend_from_slice(b",\"span_id\":");
            write_string(&mut middle, span.as_str());
        }
        let subject = subject_id.as_ref().or(scope.subject).map(|subject| {
            middle.extend_from_slice(b",\"subject_id\":");
            write_term(&mut middle, subject.as_str())
        });
        middle.extend_from_slice(b",\"tenant_id\":");
        write_string(&mut middle, scope.tenant.as_str());
        middle.extend_from_slice(b",\"timestamp_utc\":");

        let mut after = Vec::with_capacity(128);
        if let Some((trace, _)) = trace {
            after.extend_from_slice(b",\"trace_id\":");
            write_string(&mut after, trace.as_str());
        }
        after.extend_from_slice(b",\"writer_id\":");
        write_string(&mut after, writer.as_str());
        after.push(b'}');

        let mut parts = Vec::with_capacity(record::parts_bytes(&bodies));
        record::write_parts(&mut parts, &bodies);
        let mut hasher = LeafHasher::new();
        hasher.update(&before[ENTRY_HEADER..]);
        let terms = TermsAt { event_type: type_at, reviewer, session, subject };
        let payload = payload_bytes;
        let prepared = Self { event_id, before, hasher, middle, after, parts, payload, terms };
        if prepared.event_bytes() > MAX_EVENT_BYTES {
            return Err(invalid(&format_args!(
                "the event has {} bytes without its content, the limit is {MAX_EVENT_BYTES}: put \
                 long text into content",
                prepared.event_bytes()
            )));
        }
        Ok(prepared)
    }

    /// How many bytes the journal entry will have, at most.
    pub(crate) fn entry_bytes(&self) -> usize {
        ENTRY_HEADER + self.event_bytes() + self.parts.len()
    }

    /// The canonical payload.
    pub(crate) fn payload(&self) -> String {
        String::from_utf8_lossy(&self.before[self.payload.clone()]).into_owned()
    }

    fn event_bytes(&self) -> usize {
        const INSERTED: usize = 64 + 40 + 16 + 32;
        self.before.len() + self.middle.len() + self.after.len() + INSERTED
    }

    /// Gives the event its place. Short, because it runs while the chain is locked.
    pub(crate) fn place(mut self, place: Place) -> Placed {
        let hashed = self.before.len();
        let head = &mut self.before;
        head.reserve(64 + 40 + 16 + 32 + self.middle.len() + self.after.len());
        let mut hex = [0; 64];
        place.previous.write_hex(&mut hex);
        head.extend_from_slice(&hex);
        head.extend_from_slice(b"\",\"schema_version\":\"");
        head.extend_from_slice(SCHEMA_VERSION.as_bytes());
        head.extend_from_slice(b"\",\"sequence\":");
        push_number(head, place.sequence);
        self.terms.moved_by(head.len());
        head.extend_from_slice(&self.middle);
        push_time(head, place.at);
        head.extend_from_slice(&self.after);

        let len = u32::try_from(head.len() - ENTRY_HEADER).expect("an event is at most 16 MiB");
        let header = super::entry::record_header(len);
        head[..ENTRY_HEADER].copy_from_slice(&header);
        let Self { before: head, parts, mut hasher, terms, .. } = self;
        hasher.update(&head[hashed..]);
        Placed { event_hash: hasher.finish(), head, parts, terms }
    }
}

fn commit(
    parts: Vec<Part>,
    invalid: &dyn Fn(&dyn std::fmt::Display) -> AuditError,
) -> Result<(Vec<ContentRef>, Vec<PartBody>), AuditError> {
    if parts.len() > usize::from(u16::MAX) {
        return Err(invalid(&format_args!("{} content parts are too many", parts.len())));
    }
    for (at, part) in parts.iter().enumerate() {
        if let Some(wrong) = invalid_part(part) {
            let name: String = part.name().chars().take(64).collect();
            return Err(invalid(&format_args!("content part {at} ({name:?}) {wrong}")));
        }
        if parts[..at].iter().any(|earlier| earlier.name() == part.name()) {
            return Err(invalid(&format_args!(
                "two content parts are named {:?}: names are unique within an event",
                part.name()
            )));
        }
    }
    Ok(parts.into_iter().map(Part::commit).unzip())
}

/// Writes a JSON string, and says where it stands without its quotation marks.
fn write_term(out: &mut Vec<u8>, text: &str) -> Range<usize> {
    let start = out.len() + 1;
    write_string(out, text);
    start..out.len() - 1
}

fn push_time(out: &mut Vec<u8>, at: Timestamp) {
    let mut text = [0; 30];
    at.write_to(&mut text);
    out.push(b'"');
    out.extend_from_slice(&text);
    out.push(b'"');
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(value % 10).expect("a digit is below ten");
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
