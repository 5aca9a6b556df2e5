//! A transcript, and the events that tell it.

use std::{collections::HashMap, fmt};

use serde_json::value::RawValue;

use super::{
    fields::Fields,
    message::{Call, JSON, Message},
};
use crate::{
    content::Part,
    event::{
        Payload,
        model::{ContextItem, ModelDecided, ModelStatus},
        session::{Provenance, SessionEnded, SessionOutcome, SessionStarted},
        tool::{DecisionLink, ToolAttempted, ToolCompleted, ToolStatus},
    },
    id::{CallId, EventId, SessionId},
};

/// One session in the OpenAI chat format, borrowed from its text.
///
/// ```
/// use agent_audit_core::openai_chat::Transcript;
/// let line = br#"{"session_id":"s-1","model":"gpt-4o","messages":[
///     {"role":"user","content":"hi"},{"role":"assistant","content":"hello"}]}"#;
/// let transcript = Transcript::parse(line)?;
/// assert_eq!((transcript.session_id().as_str(), transcript.messages()), ("s-1", 2));
/// let types: Vec<_> = transcript
///     .events()
///     .iter()
///     .map(|event| event.payload.event_type().as_str().to_owned())
///     .collect();
/// assert_eq!(types, ["session.started", "model.decided", "session.ended"]);
/// # Ok::<(), agent_audit_core::openai_chat::InvalidTranscript>(())
/// ```
pub struct Transcript<'a> {
    session_id: SessionId,
    fields: Fields<'a>,
    messages: Vec<&'a RawValue>,
}

/// One event of a transcript, on its way into a log.
///
/// ```
/// use agent_audit_core::{event::Payload, openai_chat::Transcript};
/// let transcript = Transcript::parse(br#"{"session_id":"s-1","messages":[]}"#)?;
/// let [started, ended] = &transcript.events()[..] else { unreachable!() };
/// assert!(matches!(started.payload, Payload::SessionStarted(_)));
/// assert_eq!(ended.parts.len(), 0);
/// # Ok::<(), agent_audit_core::openai_chat::InvalidTranscript>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TranscriptEvent {
    /// The identity that the event must have: others refer to it.
    pub event_id: EventId,
    /// The event that caused it.
    pub parent_event_id: Option<EventId>,
    /// What happened.
    pub payload: Payload,
    /// Its content.
    pub parts: Vec<Part>,
}

/// Why text is not a transcript.
///
/// ```
/// use agent_audit_core::openai_chat::Transcript;
/// let error = Transcript::parse(br#"{"session_id":"s-1"}"#).unwrap_err();
/// assert_eq!(error.to_string(), "`messages` is missing: it must be the array of the chat's messages");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTranscript(String);

const SESSION_ID: &str = "session_id";
const MESSAGES: &str = "messages";

impl<'a> Transcript<'a> {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// [`InvalidTranscript`] where the text is not a JSON object with a `session_id` and one array
    /// of `messages`. Nothing is asked of the messages themselves.
    pub fn parse(text: &'a [u8]) -> Result<Self, InvalidTranscript> {
        let invalid = |why: String| InvalidTranscript(why);
        let fields: Fields<'a> = serde_json::from_slice(text)
            .map_err(|error| invalid(format!("not a JSON object: {error}")))?;
        let session_id = match (fields.field(SESSION_ID), fields.text(SESSION_ID)) {
            (None, _) => {
                return Err(invalid(format!(
                    "`{SESSION_ID}` is missing: give each session a name"
                )));
            }
            (_, None) => return Err(invalid(format!("`{SESSION_ID}` is not text"))),
            (_, Some(id)) => SessionId::new(&*id).map_err(|error| invalid(error.to_string()))?,
        };
        if fields.0.iter().filter(|(key, _)| key == MESSAGES).count() > 1 {
            return Err(invalid(format!("`{MESSAGES}` is there more than once")));
        }
        let raw = fields.field(MESSAGES).ok_or_else(|| {
            invalid(format!("`{MESSAGES}` is missing: it must be the array of the chat's messages"))
        })?;
        let messages = serde_json::from_str(raw.get())
            .map_err(|_| invalid(format!("`{MESSAGES}` is not an array")))?;
        Ok(Self { session_id, fields, messages })
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> &SessionId {
        &self.session_id
    }

    /// The model, where the transcript names it.
    #[must_use]
    pub fn model(&self) -> Option<String> {
        self.fields.text("model").map(Into::into)
    }

    /// How many messages there are.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    /// The events that tell the session, in order, with fresh identities.
    #[must_use]
    pub fn events(&self) -> Vec<TranscriptEvent> {
        let mut teller = Teller::new(self);
        for (at, raw) in self.messages.iter().enumerate() {
            let message = Message::read(raw);
            if message.is_assistant() {
                teller.decided(&message, at);
                continue;
            }
            if message.is_result() {
                teller.result(&message);
            }
            teller.context.push(message);
        }
        teller.end()
    }

    /// Everything but the messages, with raw values.
    fn rest(&self) -> String {
        let mut rest = "{".to_owned();
        for (key, raw) in self.fields.0.iter().filter(|(key, _)| key != MESSAGES) {
            if rest.len() > 1 {
                rest.push(',');
            }
            rest.push_str(&serde_json::to_string(key).expect("text has a JSON form"));
            rest.push(':');
            rest.push_str(raw.get());
        }
        rest.push('}');
        rest
    }
}

impl fmt::Debug for Transcript<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transcript")
            .field("session_id", &self.session_id)
            .field("messages", &self.messages.len())
            .finish_non_exhaustive()
    }
}

/// The walk over the messages.
struct Teller<'a> {
    provider: String,
    model: String,
    events: Vec<TranscriptEvent>,
    /// The messages since the latest decision.
    context: Vec<Message<'a>>,
    decision: Option<EventId>,
    calls: Vec<MadeCall<'a>>,
    /// Where the calls of the latest decision begin.
    latest: usize,
    /// The calls with an id, in order.
    by_id: HashMap<CallId, Vec<usize>>,
}

struct MadeCall<'a> {
    decision: EventId,
    id: CallId,
    call: Call<'a>,
    answered: bool,
}

impl<'a> Teller<'a> {
    fn new(transcript: &Transcript<'a>) -> Self {
        let text = |name| {
            let text = transcript.fields.text(name).filter(|text| !text.is_empty());
            text.map_or_else(|| "unknown".to_owned(), Into::into)
        };
        let mut teller = Self {
            provider: text("provider"),
            model: text("model"),
            events: Vec::with_capacity(transcript.messages.len() + 2),
            context: Vec::new(),
            decision: None,
            calls: Vec::new(),
            latest: 0,
            by_id: HashMap::new(),
        };
        let started = SessionStarted::new().with_provenance(Provenance::Imported);
        let part = Part::new("transcript", JSON, transcript.rest());
        teller.push(None, started, vec![part]);
        teller
    }

    fn decided(&mut self, message: &Message<'a>, at: usize) {
        let mut parts = Vec::with_capacity(self.context.len() + 1);
        let mut items = Vec::with_capacity(self.context.len());
        for (nth, message) in self.context.drain(..).enumerate() {
            let name = context_name(nth);
            items.push(ContextItem::new(message.role(), &name));
            parts.push(message.part(name));
        }
        parts.push(message.part("output"));
        let calls: Vec<_> = (0..)
            .zip(message.calls())
            .map(|(nth, call): (usize, _)| {
                let id = call.id.clone();
                (id.unwrap_or_else(|| placed(&format!("message-{at}-call-{nth}"))), call)
            })
            .collect();
        let mut decided =
            ModelDecided::new(self.provider.as_str(), self.model.as_str(), ModelStatus::Ok)
                .with_decision(message.decision(&calls))
                .with_context(items)
                .with_provenance(Provenance::Imported);
        decided.context_after = self.decision;
        let decision = self.push(None, decided, parts);
        self.decision = Some(decision);
        self.latest = self.calls.len();
        for (id, call) in calls {
            self.by_id.entry(id.clone()).or_default().push(self.calls.len());
            self.calls.push(MadeCall { decision, id, call, answered: false });
        }
    }

    /// Tells the call that a message is the result of, and the result.
    fn result(&mut self, message: &Message<'a>) {
        let call_id = message.tool_call_id();
        let (made, link) = match &call_id {
            Some(id) => (self.made_by_id(id), DecisionLink::CallId),
            None => (self.next_unanswered(message), DecisionLink::Scope),
        };
        let made = made.map(|at| {
            self.calls[at].answered = true;
            &self.calls[at]
        });
        let name = match (made, message.text("name")) {
            (Some(made), _) => made.call.name.to_string(),
            (None, Some(name)) => name.into(),
            (None, None) => "unknown".to_owned(),
        };
        let mut attempted = ToolAttempted::new(&*name).with_provenance(Provenance::Imported);
        // Without a call of its own the result follows from the latest decision, most likely.
        let (parent, link) = match made {
            Some(made) => (Some(made.decision), Some(link)),
            None => (self.decision, self.decision.map(|_| DecisionLink::Scope)),
        };
        attempted.decision_link = link;
        attempted.call_id = call_id.or_else(|| made.map(|made| made.id.clone()));
        let call_id = attempted.call_id.clone();
        let input = made.map(|made| made.call.part());
        let attempt = self.push(parent, attempted, input.into_iter().collect());

        let status = if message.says_error() { ToolStatus::ToolError } else { ToolStatus::Ok };
        let mut completed =
            ToolCompleted::new(name, attempt, status).with_provenance(Provenance::Imported);
        completed.call_id = call_id;
        self.push(Some(attempt), completed, vec![message.part("output")]);
    }

    /// The latest call with this id that has no answer; where all have one, the latest.
    fn made_by_id(&self, id: &CallId) -> Option<usize> {
        let made = self.by_id.get(id)?;
        let open = made.iter().rev().find(|at| !self.calls[**at].answered);
        open.or(made.last()).copied()
    }

    /// The first call of the latest decision that has no answer, one of the same name before others.
    fn next_unanswered(&self, message: &Message<'_>) -> Option<usize> {
        let open = || (self.latest..self.calls.len()).filter(|at| !self.calls[*at].answered);
        let name = message.text("name");
        let same = |at: &usize| Some(&*self.calls[*at].call.name) == name.as_deref();
        open().find(same).or_else(|| open().next())
    }

    fn end(mut self) -> Vec<TranscriptEvent> {
        let ended = SessionEnded::new(SessionOutcome::Completed)
            .with_reason("end_of_transcript")
            .with_provenance(Provenance::Imported);
        let context = std::mem::take(&mut self.context);
        let parts =
            context.iter().enumerate().map(|(nth, message)| message.part(context_name(nth)));
        self.push(None, ended, parts.collect());
        self.events
    }

    fn push(
        &mut self,
        parent_event_id: Option<EventId>,
        payload: impl Into<Payload>,
        parts: Vec<Part>,
    ) -> EventId {
        let event_id = EventId::new();
        self.events.push(TranscriptEvent {
            event_id,
            parent_event_id,
            payload: payload.into(),
            parts,
        });
        event_id
    }
}

pub(super) fn context_name(nth: usize) -> String {
    format!("context.{nth}")
}

/// The id of a call that has none, from its place.
pub(super) fn placed(place: &str) -> CallId {
    CallId::new(place).expect("a short name is a call id")
}

#[cfg(feature = "writer")]
impl From<TranscriptEvent> for crate::log::Draft {
    fn from(event: TranscriptEvent) -> Self {
        let mut draft = Self::new(event.payload).with_parts(event.parts);
        draft.event_id = event.event_id;
        draft.parent_event_id = event.parent_event_id;
        draft
    }
}
