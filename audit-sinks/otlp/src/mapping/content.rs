//! Content: what the event commits to, and the content itself where the user asks for it.

use agent_audit_core::{
    content::{AbsentReason, ContentRef, PartBody},
    event::{
        Event, Payload,
        model::{ContextItem, ContextRole},
    },
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::{
    attributes::{Attributes, int, list, object, text},
    names,
};

/// One entry for each part, in order, and the attributes of the conventions for what they name.
/// Without bodies nothing but the commitments is told.
pub(super) fn attributes(event: &Event, bodies: &[PartBody], out: &mut Attributes) {
    let mut carried = Carried { event, bodies, elsewhere: vec![None; event.content.len()] };
    if !bodies.is_empty() {
        carried.conventions(out);
    }
    let parts = event.content.iter().enumerate();
    out.list(names::CONTENT, parts.map(|(at, part)| carried.entry(at, part)));
}

struct Carried<'a> {
    event: &'a Event,
    bodies: &'a [PartBody],
    /// The attribute that holds the text of a part, where it is not its entry.
    elsewhere: Vec<Option<&'static str>>,
}

impl Carried<'_> {
    fn entry(&self, at: usize, part: &ContentRef) -> Value {
        let mut fields = vec![
            ("name", Some(text(&part.name))),
            ("media_type", Some(text(&part.media_type))),
            ("bytes", Some(int(part.bytes))),
            ("commitment", Some(text(part.commitment.to_string()))),
            ("role", self.role(&part.name).map(text)),
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
        let context = match &self.event.payload {
            Payload::ModelRequested(payload) => &payload.context,
            Payload::ModelDecided(payload) => &payload.context,
            _ => return None,
        };
        context.iter().find(|item| item.part == part).map(|item| item.role.as_str())
    }

    /// The attributes that the conventions have for content.
    fn conventions(&mut self, out: &mut Attributes) {
        match &self.event.payload {
            Payload::ModelRequested(payload) => self.input(&payload.context, out),
            Payload::ModelDecided(payload) => {
                self.input(&payload.context, out);
                let said = self.take("output", names::OUTPUT_MESSAGES).map(|said| ("text", said));
                let thought =
                    self.take("reasoning", names::OUTPUT_MESSAGES).map(|said| ("reasoning", said));
                let parts: Vec<_> = thought
                    .into_iter()
                    .chain(said)
                    .map(|(kind, said)| {
                        object([("type", Some(text(kind))), ("content", Some(text(said)))])
                    })
                    .collect();
                if !parts.is_empty() {
                    let message = object([
                        ("role", Some(text("assistant"))),
                        ("parts", Some(list(parts))),
                        ("finish_reason", payload.finish_reason.as_ref().map(text)),
                    ]);
                    out.list(names::OUTPUT_MESSAGES, [message]);
                }
            }
            Payload::ToolAttempted(_) => {
                let input = self.take("input", names::TOOL_CALL_ARGUMENTS);
                out.value(names::TOOL_CALL_ARGUMENTS, input.map(text));
            }
            Payload::ToolCompleted(_) => {
                let output = self.take("output", names::TOOL_CALL_RESULT);
                out.value(names::TOOL_CALL_RESULT, output.map(text));
            }
            _ => {}
        }
    }

    fn input(&mut self, context: &[ContextItem], out: &mut Attributes) {
        let (mut system, mut messages) = (Vec::new(), Vec::new());
        for item in context {
            let instructs = item.role == ContextRole::System;
            let attribute = match (&item.role, instructs) {
                (ContextRole::ToolsOffered, _) => continue,
                (_, true) => names::SYSTEM_INSTRUCTIONS,
                (_, false) => names::INPUT_MESSAGES,
            };
            let Some(said) = self.take(&item.part, attribute) else { continue };
            let part = object([("type", Some(text("text"))), ("content", Some(text(said)))]);
            if instructs {
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
        let at = self.event.content.iter().position(|part| part.name == name)?;
        let said = std::str::from_utf8(self.bodies.get(at)?.bytes()?).ok()?.to_owned();
        self.elsewhere[at] = Some(attribute);
        Some(said)
    }
}
