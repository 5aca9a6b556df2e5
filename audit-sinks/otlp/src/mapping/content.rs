//! Content: what the event commits to, and the content itself where the user asks for it.

use agent_audit_core::{
    content::{AbsentReason, PartBody},
    event::model::{ContextItem, ContextRole},
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::{
    attributes::{Attributes, int, list, object, text},
    envelope::{Envelope, Part},
    names,
};

/// What the content of an event is.
#[derive(Debug)]
pub(super) enum Carries {
    /// Something that no convention has a name for.
    Parts,
    /// What a model is asked.
    Request { context: Vec<ContextItem> },
    /// What a model was asked, and what it answered.
    Answer { context: Vec<ContextItem>, finish_reason: Option<String> },
    /// What a tool is called with.
    Arguments,
    /// What a tool gave back.
    Result,
}

/// One entry for each part, in order, and the attributes of the conventions for what they name.
/// Without bodies nothing but the commitments is told.
pub(super) fn attributes(
    event: &Envelope<'_>,
    carries: Carries,
    bodies: &[PartBody],
    out: &mut Attributes,
) {
    if event.content.is_empty() {
        return;
    }
    let (parts, elsewhere) = (&event.content[..], vec![None; event.content.len()]);
    let mut carried = Carried { parts, carries, bodies, elsewhere };
    if !bodies.is_empty() {
        carried.conventions(out);
    }
    let parts = parts.iter().enumerate();
    out.list(names::CONTENT, parts.map(|(at, part)| carried.entry(at, part)));
}

struct Carried<'a> {
    parts: &'a [Part<'a>],
    carries: Carries,
    bodies: &'a [PartBody],
    /// The attribute that holds the text of a part, where it is not its entry.
    elsewhere: Vec<Option<&'static str>>,
}

impl Carried<'_> {
    fn entry(&self, at: usize, part: &Part<'_>) -> Value {
        let mut fields = vec![
            ("name", Some(text(part.name.as_ref()))),
            ("media_type", Some(text(part.media_type.as_ref()))),
            ("bytes", Some(int(part.bytes))),
            ("commitment", Some(text(part.commitment.as_ref()))),
            ("role", self.role(part.name.as_ref()).map(text)),
        ];
        match self.bodies.get(at) {
            None => {}
            Some(PartBody::Clear { salt, bytes }) => {
                // The salt goes with the content, so that it can be checked by its commitment.
                fields.push(("salt", Some(Value::BytesValue(salt.as_bytes().to_vec()))));
                match (self.elsewhere[at], std::str::from_utf8(bytes)) {
                    (Some(attribute), _) => fields.push(("attribute", Some(text(attribute)))),
                    (None, Ok(clear)) => fields.push(("text", Some(text(clear)))),
                    (None, Err(_)) => {
                        fields.push(("data", Some(Value::BytesValue(bytes.clone()))));
                    }
                }
            }
            Some(PartBody::Absent { reason, .. }) => {
                let state = match reason {
                    AbsentReason::Erased => "erased",
                    _ => "purged",
                };
                fields.push(("state", Some(text(state))));
            }
            Some(_) => fields.push(("state", Some(text("sealed")))),
        }
        object(fields)
    }

    /// Whose voice a part has, where it is of the context of a model.
    fn role(&self, part: &str) -> Option<&str> {
        let (Carries::Request { context } | Carries::Answer { context, .. }) = &self.carries else {
            return None;
        };
        context.iter().find(|item| item.part == part).map(|item| item.role.as_str())
    }

    /// The attributes that the conventions have for content.
    fn conventions(&mut self, out: &mut Attributes) {
        // What is carried does not change while the parts of it are looked up.
        let carries = std::mem::replace(&mut self.carries, Carries::Parts);
        match &carries {
            Carries::Parts => {}
            Carries::Request { context } => self.input(context, out),
            Carries::Answer { context, finish_reason } => {
                self.input(context, out);
                self.output(finish_reason.as_ref(), out);
            }
            Carries::Arguments => {
                let input = self.take("input", names::TOOL_CALL_ARGUMENTS);
                out.value(names::TOOL_CALL_ARGUMENTS, input.map(text));
            }
            Carries::Result => {
                let output = self.take("output", names::TOOL_CALL_RESULT);
                out.value(names::TOOL_CALL_RESULT, output.map(text));
            }
        }
        self.carries = carries;
    }

    fn output(&mut self, finish_reason: Option<&String>, out: &mut Attributes) {
        let thought = self.take("reasoning", names::OUTPUT_MESSAGES);
        let said = self.take("output", names::OUTPUT_MESSAGES);
        let parts: Vec<_> = [("reasoning", thought), ("text", said)]
            .into_iter()
            .filter_map(|(kind, said)| {
                Some(object([("type", Some(text(kind))), ("content", Some(text(said?)))]))
            })
            .collect();
        if !parts.is_empty() {
            let message = object([
                ("role", Some(text("assistant"))),
                ("parts", Some(list(parts))),
                ("finish_reason", finish_reason.map(text)),
            ]);
            out.list(names::OUTPUT_MESSAGES, [message]);
        }
    }

    fn input(&mut self, context: &[ContextItem], out: &mut Attributes) {
        let (mut system, mut messages) = (Vec::new(), Vec::new());
        for item in context {
            let attribute = match item.role {
                ContextRole::ToolsOffered => continue,
                ContextRole::System => names::SYSTEM_INSTRUCTIONS,
                _ => names::INPUT_MESSAGES,
            };
            let Some(said) = self.take(&item.part, attribute) else { continue };
            let part = object([("type", Some(text("text"))), ("content", Some(text(said)))]);
            if item.role == ContextRole::System {
                system.push(part);
            } else {
                let role = Some(text(item.role.as_str()));
                messages.push(object([("role", role), ("parts", Some(list([part])))]));
            }
        }
        out.list(names::SYSTEM_INSTRUCTIONS, system);
        out.list(names::INPUT_MESSAGES, messages);
        let tools = self.take("tools", names::TOOL_DEFINITIONS);
        out.value(names::TOOL_DEFINITIONS, tools.map(text));
    }

    /// The text of a part, which is then carried by this attribute; none where it is no text or not
    /// here in the clear.
    fn take(&mut self, name: &str, attribute: &'static str) -> Option<String> {
        let at = self.parts.iter().position(|part| part.name.as_ref() == name)?;
        let said = std::str::from_utf8(self.bodies.get(at)?.bytes()?).ok()?.to_owned();
        self.elsewhere[at] = Some(attribute);
        Some(said)
    }
}
