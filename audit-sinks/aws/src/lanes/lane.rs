//! One lane: the messages of one chain, made when there is room for them.

use std::sync::Arc;

use agent_audit_core::sink::{Segment, SinkErrorKind};

use super::Transport;
use crate::{claim::Claims, error::Fault, message::Message};

/// The messages of one chain.
pub(super) struct Lane<'a> {
    key: Arc<str>,
    parts: Vec<Part<'a>>,
    /// What comes next.
    next: Spot,
    /// The message of that spot, where it is made already.
    made: Option<Message<'a>>,
    /// It shares no request, because one that it shared was refused.
    pub(super) alone: bool,
    /// The most messages of one request.
    pub(super) most: usize,
    pub(super) stopped: Option<Fault>,
}

/// A segment, and how many of its events the service took.
struct Part<'a> {
    segment: &'a Segment,
    taken: usize,
}

/// A place in a lane: which of its segments, and which event there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    part: usize,
    event: usize,
}

impl<'a> Lane<'a> {
    pub(super) fn new(key: Arc<str>, most: usize) -> Self {
        let (parts, next, made) = (Vec::new(), Spot::default(), None);
        Self { key, parts, next, made, alone: false, most, stopped: None }
    }

    /// Adds a segment; which one it is.
    pub(super) fn add(&mut self, segment: &'a Segment) -> usize {
        self.parts.push(Part { segment, taken: 0 });
        self.parts.len() - 1
    }

    /// Whether the next message is made.
    pub(super) fn has_made(&self) -> bool {
        self.made.is_some()
    }

    /// The next message; none where there is none.
    pub(super) fn peek(
        &mut self,
        transport: &impl Transport,
        claims: Option<&Claims>,
    ) -> Result<Option<&Message<'a>>, Fault> {
        if self.made.is_none() {
            let Some(part) = self.parts.get(self.next.part) else { return Ok(None) };
            let message = make(part.segment, self.next.event, &self.key, transport, claims)?;
            self.made = Some(message);
        }
        Ok(self.made.as_ref())
    }

    /// Takes the message that was looked at.
    pub(super) fn take(&mut self) -> Option<(Spot, Message<'a>)> {
        let message = self.made.take()?;
        let spot = self.next;
        self.next.event += 1;
        if self.parts.get(spot.part).is_none_or(|part| self.next.event >= part.segment.len()) {
            self.next = Spot { part: spot.part + 1, event: 0 };
        }
        Some((spot, message))
    }

    /// Begins again at a spot.
    pub(super) fn back_to(&mut self, spot: Spot) {
        (self.next, self.made) = (spot, None);
    }

    /// The service took the event of a spot.
    pub(super) fn took(&mut self, spot: Spot) {
        self.parts[spot.part].taken += 1;
    }

    pub(super) fn took_nothing(&self) -> bool {
        self.parts.iter().all(|part| part.taken == 0)
    }

    /// A segment, and how many of its events the service took.
    pub(super) fn taken_of(&self, part: usize) -> (&'a Segment, usize) {
        (self.parts[part].segment, self.parts[part].taken)
    }
}

/// The message of an event.
fn make<'a>(
    segment: &'a Segment,
    at: usize,
    key: &Arc<str>,
    transport: &impl Transport,
    claims: Option<&Claims>,
) -> Result<Message<'a>, Fault> {
    let (chain, record, event_hash) =
        (segment.chain(), &segment.records()[at], segment.hashes()[at]);
    let sequence = segment.first() + at as u64;
    let to_line = || {
        String::from_utf8(record.to_json_line_with(&event_hash)).map_err(|_| {
            let what = format!("event {sequence} of {chain} is not UTF-8");
            Fault::new(SinkErrorKind::Rejected, what)
        })
    };
    let line = to_line()?;
    let mut message = Message {
        key: Arc::clone(key),
        chain,
        sequence,
        event_hash,
        label: transport.label(record),
        text: String::new(),
        object: None,
        bytes: 0,
    };
    let overhead = transport.overhead(&message);
    let most = transport.limits().message_bytes;
    // What is far too large is not encoded first.
    if line.len() + overhead <= most {
        let text = transport.encode(line);
        if text.len() + overhead <= most {
            message.bytes = text.len() + overhead;
            message.text = text;
            return Ok(message);
        }
        return refer(message, to_line()?, overhead, most, claims);
    }
    refer(message, line, overhead, most, claims)
}

/// Lets a message stand for an object.
fn refer<'a>(
    mut message: Message<'a>,
    line: String,
    overhead: usize,
    most: usize,
    claims: Option<&Claims>,
) -> Result<Message<'a>, Fault> {
    let refused = |what: String| {
        let Message { sequence, chain, .. } = &message;
        Fault::new(SinkErrorKind::Rejected, format!("event {sequence} of {chain} {what}"))
    };
    let Some(claims) = claims else {
        return Err(refused(format!(
            "is a message of {} bytes, more than {most}: set a bucket for large events",
            line.len() + overhead
        )));
    };
    let claim = claims.claim(message.chain, message.sequence, message.event_hash, line.as_bytes());
    let text = claim.to_text();
    if text.len() + overhead > most {
        return Err(refused(format!("has a claim of {} bytes, more than {most}", text.len())));
    }
    message.bytes = text.len() + overhead;
    message.text = text;
    message.object = Some(Box::new((claim, line)));
    Ok(message)
}
