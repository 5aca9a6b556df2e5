//! One message of a chat.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::fields::{Fields, text};
use crate::{
    content::Part,
    event::model::{ContextRole, Decision, DecisionKind, SelectedCall},
    id::CallId,
};

/// A message, as far as it can be understood.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub(super) raw: &'a RawValue,
    fields: Fields<'a>,
}

/// A tool call that a message asks for.
#[derive(Debug)]
pub(super) struct Call<'a> {
    /// Absent where the message gives none, or one that cannot be a [`CallId`].
    pub(super) id: Option<CallId>,
    pub(super) name: Cow<'a, str>,
    /// The arguments as the model wrote them.
    pub(super) input: Cow<'a, str>,
    media_type: &'static str,
}

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const UNKNOWN: &str = "unknown";

impl<'a> Message<'a> {
    pub(super) fn read(raw: &'a RawValue) -> Self {
        Self { raw, fields: Fields::of(raw) }
    }

    pub(super) fn text(&self, field: &str) -> Option<Cow<'a, str>> {
        self.fields.text(field)
    }

    pub(super) fn is_assistant(&self) -> bool {
        self.text("role").as_deref() == Some("assistant")
    }

    /// Whether it is the result of a tool; `function` is the older word.
    pub(super) fn is_result(&self) -> bool {
        matches!(self.text("role").as_deref(), Some("tool" | "function"))
    }

    pub(super) fn role(&self) -> ContextRole {
        match self.text("role").as_deref() {
            Some("system" | "developer") => ContextRole::System,
            Some("tool" | "function") => ContextRole::Tool,
            Some(role) => ContextRole::from(role),
            None => ContextRole::Other(UNKNOWN.to_owned()),
        }
    }

    pub(super) fn tool_call_id(&self) -> Option<CallId> {
        self.text("tool_call_id").and_then(|id| CallId::new(id).ok())
    }

    /// Whether the text of the message begins with `Error:`.
    pub(super) fn says_error(&self) -> bool {
        let Some(content) = self.fields.field("content") else { return false };
        let begins = |text: &str| {
            let start = text.trim_start().as_bytes();
            start.get(..6).is_some_and(|start| start.eq_ignore_ascii_case(b"error:"))
        };
        match text(content) {
            Some(text) => begins(&text),
            None => {
                let parts: Vec<&RawValue> = serde_json::from_str(content.get()).unwrap_or_default();
                let first = parts.first().map(|raw| Fields::of(raw));
                first.and_then(|part| part.text("text")).is_some_and(|text| begins(&text))
            }
        }
    }

    /// The calls that the message asks for, in order.
    pub(super) fn calls(&self) -> Vec<Call<'a>> {
        let listed = self.fields.list("tool_calls").unwrap_or_default();
        let mut calls: Vec<_> = listed.into_iter().map(Call::read).collect();
        if let Some(function) = self.fields.object("function_call") {
            calls.push(Call::of_function(None, &function));
        }
        calls
    }

    /// What the message amounts to.
    pub(super) fn decision(&self, calls: &[(CallId, Call<'_>)]) -> Decision {
        if !calls.is_empty() {
            let calls = calls.iter().map(|(id, call)| SelectedCall::new(id.clone(), &*call.name));
            return Decision::new(DecisionKind::Tools).with_tool_calls(calls);
        }
        let refused = self.text("refusal").is_some_and(|text| !text.is_empty());
        let kind = if refused { DecisionKind::Refusal } else { DecisionKind::Content };
        Decision::new(kind)
    }

    /// The message as content.
    pub(super) fn part(&self, name: impl Into<String>) -> Part {
        Part::new(name, JSON, self.raw.get())
    }
}

impl<'a> Call<'a> {
    fn read(raw: &'a RawValue) -> Self {
        let fields = Fields::of(raw);
        let id = fields.text("id").and_then(|id| CallId::new(id).ok());
        match fields.object("custom") {
            Some(custom) => {
                let (input, _) = input(&custom, "input");
                Self { id, name: name(&custom), input, media_type: TEXT }
            }
            None => Self::of_function(id, &fields.object("function").unwrap_or_default()),
        }
    }

    fn of_function(id: Option<CallId>, function: &Fields<'a>) -> Self {
        let (input, media_type) = input(function, "arguments");
        Self { id, name: name(function), input, media_type }
    }

    /// The arguments as content.
    pub(super) fn part(&self) -> Part {
        Part::new("input", self.media_type, self.input.as_bytes())
    }
}

fn name<'a>(fields: &Fields<'a>) -> Cow<'a, str> {
    fields.text("name").filter(|name| !name.is_empty()).unwrap_or(Cow::Borrowed(UNKNOWN))
}

/// The exact arguments: text as text, anything else as it was written.
fn input<'a>(fields: &Fields<'a>, field: &str) -> (Cow<'a, str>, &'static str) {
    match fields.field(field) {
        Some(raw) => (text(raw).unwrap_or(Cow::Borrowed(raw.get())), JSON),
        None => (Cow::Borrowed(""), TEXT),
    }
}
