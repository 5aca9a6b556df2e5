//! From records back to the transcript that they tell.

use std::fmt::Display;

use super::transcript::{Transcript, context_name};
use crate::{
    content::{AbsentReason, PartBody},
    event::{Event, Payload, session::Provenance},
    record::Record,
};

/// Why records are not, or no longer, a transcript.
///
/// ```
/// use agent_audit_core::openai_chat::Transcript;
/// let error = Transcript::rebuild(&[]).unwrap_err();
/// assert!(error.to_string().starts_with("the session was not imported from a transcript"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRebuilt(String);

impl Transcript<'_> {
    /// Joins the records of an imported session to the object that they came from.
    ///
    /// The result is one JSON object on one line, equal to the one that was imported in everything
    /// that JSON means; values and messages are the same byte for byte. Records come in any order.
    ///
    /// # Errors
    /// [`NotRebuilt`] where the session was not imported or not to its end, or where content is
    /// sealed, erased, purged or altered.
    ///
    /// ```
    /// use agent_audit_core::{event::Event, openai_chat::Transcript, record::Record};
    /// let line = r#"{"session_id":"s-1","score":1.50,"messages":[{"role":"user","content":"hi"}]}"#;
    /// let records: Vec<Record> = (0..)
    ///     .zip(Transcript::parse(line.as_bytes())?.events())
    ///     .map(|(sequence, told)| {
    ///         let (references, bodies): (Vec<_>, _) =
    ///             told.parts.into_iter().map(|part| part.commit()).unzip();
    ///         let mut event = Event::example(told.payload);
    ///         event.sequence = sequence;
    ///         event.content = references;
    ///         Ok(Record::new(event.canonical_bytes()?, bodies))
    ///     })
    ///     .collect::<Result<_, agent_audit_core::canonical::CanonicalError>>()?;
    /// assert_eq!(Transcript::rebuild(&records)?, line);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rebuild(records: &[Record]) -> Result<String, NotRebuilt> {
        let mut events = Vec::with_capacity(records.len());
        for record in records {
            let event = record.event().map_err(|error| {
                NotRebuilt(format!("a record of the session cannot be read: {error}"))
            })?;
            events.push((event, record.parts()));
        }
        events.sort_by(|(a, _), (b, _)| {
            a.chain_id.cmp(&b.chain_id).then(a.sequence.cmp(&b.sequence))
        });

        let mut rest = None;
        let mut messages: Vec<&str> = Vec::new();
        let mut ended = false;
        for (event, parts) in &events {
            let source = Source { event, parts };
            match &event.payload {
                Payload::SessionStarted(started)
                    if started.provenance == Some(Provenance::Imported) && rest.is_none() =>
                {
                    rest = Some(source.part("transcript")?);
                }
                Payload::ModelDecided(decided)
                    if decided.provenance == Some(Provenance::Imported) =>
                {
                    for item in &decided.context {
                        messages.push(source.part(&item.part)?);
                    }
                    messages.push(source.part("output")?);
                }
                Payload::SessionEnded(done) if done.provenance == Some(Provenance::Imported) => {
                    for nth in 0..event.content.len() {
                        messages.push(source.part(&context_name(nth))?);
                    }
                    ended = true;
                }
                _ => {}
            }
        }
        let Some(rest) = rest else {
            return Err(NotRebuilt(
                "the session was not imported from a transcript: show it as a timeline or as JSON"
                    .to_owned(),
            ));
        };
        if !ended {
            return Err(NotRebuilt(
                "the session was not imported to its end: the import was interrupted".to_owned(),
            ));
        }
        let open = rest.strip_suffix('}').ok_or_else(|| {
            NotRebuilt("content \"transcript\" of the session is not a JSON object".to_owned())
        })?;
        let comma = if open == "{" { "" } else { "," };
        Ok(format!("{open}{comma}\"messages\":[{}]}}", messages.join(",")))
    }
}

/// One event and the bodies of its content.
struct Source<'a> {
    event: &'a Event,
    parts: &'a [PartBody],
}

impl<'a> Source<'a> {
    /// The text of a part, checked against its commitment.
    fn part(&self, name: &str) -> Result<&'a str, NotRebuilt> {
        let fail = |why: &dyn Display| {
            NotRebuilt(format!("content {name:?} of event {} {why}", self.event.event_id))
        };
        let at = self.event.content.iter().position(|reference| reference.name == name);
        let (reference, body) = at
            .and_then(|at| self.event.content.get(at).zip(self.parts.get(at)))
            .ok_or_else(|| fail(&"is missing"))?;
        let bytes = match body {
            PartBody::Clear { bytes, .. } => bytes,
            PartBody::Sealed(_) => return Err(fail(&"is sealed")),
            PartBody::Absent { reason: AbsentReason::Erased, .. } => {
                return Err(fail(&"was erased"));
            }
            PartBody::Absent { .. } => return Err(fail(&"was purged")),
        };
        body.check(reference).map_err(|_| fail(&"was altered: verify the log"))?;
        std::str::from_utf8(bytes).map_err(|error| fail(&error))
    }
}
