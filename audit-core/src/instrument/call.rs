//! One call before it is recorded: its name, its inputs, and where it comes from.

use super::{
    approval::Approval,
    record::{Inputs, RecordInput},
};
use crate::{
    attempt::{ModelCall, Parent, ReviewCall, ToolCall},
    content::Part,
    error::AuditError,
    event::tool::Effect,
    id::EventId,
};

/// A call that is about to be recorded, on whichever plane.
///
/// ```
/// use agent_audit_core::instrument::{Call, Inputs};
/// let call = Call::new("refund", Inputs::new().record("order", "A-1")).with_version("2");
/// assert_eq!(call.name(), "refund");
/// ```
pub struct Call {
    name: String,
    version: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    effect: Option<Effect>,
    parent: Option<Parent>,
    approval: Option<EventId>,
    /// The JSON that stands in for the ordinary parameters.
    input: Option<Vec<u8>>,
    inputs: Inputs,
}

impl Call {
    /// A call by its name.
    pub fn new(name: impl Into<String>, inputs: Inputs) -> Self {
        Self {
            name: name.into(),
            version: None,
            provider: None,
            model: None,
            effect: None,
            parent: None,
            approval: None,
            input: None,
            inputs,
        }
    }

    /// The version of the tool.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Who runs the model.
    #[must_use]
    pub fn with_provider(mut self, provider: impl Into<String>) -> Self {
        self.provider = Some(provider.into());
        self
    }

    /// The model that is asked for.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// What the call can do to the world.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// What caused the call.
    #[must_use]
    pub fn with_parent(mut self, parent: impl Into<Parent>) -> Self {
        self.parent = Some(parent.into());
        self
    }

    /// The decision of a review that allows the call; none leaves that to the context.
    #[must_use]
    pub fn with_approval<A: Approval + ?Sized>(mut self, approval: &A) -> Self {
        self.approval = approval.decided();
        self
    }

    /// Records this value in place of the parameters.
    #[must_use]
    pub fn with_input<T: RecordInput + ?Sized>(mut self, value: &T) -> Self {
        match value.json() {
            Ok(json) => self.input = Some(json),
            Err(_) => self.inputs.unrecordable = Some("input"),
        }
        self
    }

    /// The name of the call.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What keeps the inputs out of the record, where something does.
    pub(super) fn fault(&self) -> Option<AuditError> {
        self.inputs.unrecordable.map(|input| {
            AuditError::invalid(format!(
                "the input `{input}` of `{}` has no JSON form: leave it out with `skip({input})`, \
                 or record something else with `input = …`",
                self.name
            ))
        })
    }

    pub(super) fn into_tool(mut self) -> ToolCall {
        let parts = self.parts("input");
        let mut call = ToolCall::new(self.name);
        if let Some(version) = self.version {
            call = call.with_version(version);
        }
        if let Some(effect) = self.effect {
            call = call.with_effect(effect);
        }
        if let Some(approval) = self.approval {
            call = call.with_approval(approval);
        }
        if let Some(parent) = self.parent {
            call = call.with_parent(parent);
        }
        call = self.inputs.omitted.into_iter().fold(call, ToolCall::with_omitted_input);
        parts.into_iter().fold(call, ToolCall::with_part)
    }

    pub(super) fn into_model(mut self) -> ModelCall {
        let parts = self.parts("input");
        let provider = self.provider.unwrap_or_else(|| "unknown".to_owned());
        let mut call = ModelCall::new(provider, self.model.unwrap_or(self.name));
        if let Some(parent) = self.parent {
            call = call.with_parent(parent);
        }
        call = self.inputs.omitted.into_iter().fold(call, ModelCall::with_omitted_input);
        parts.into_iter().fold(call, ModelCall::with_part)
    }

    pub(super) fn into_review(mut self) -> ReviewCall {
        let parts = self.parts("proposal");
        let mut call = ReviewCall::new(self.name);
        if let Some(parent) = self.parent {
            call = call.with_parent(parent);
        }
        call = self.inputs.omitted.into_iter().fold(call, ReviewCall::with_omitted_input);
        parts.into_iter().fold(call, ReviewCall::with_part)
    }

    /// The inputs as content: one part of that name, and one beside it for each that stands apart.
    fn parts(&mut self, name: &str) -> Vec<Part> {
        let bytes = match self.input.take() {
            Some(json) => json,
            None => {
                let mut object = std::mem::take(&mut self.inputs.members);
                object.insert(0, b'{');
                object.push(b'}');
                object
            }
        };
        let mut parts = vec![Part::new(name, JSON, bytes)];
        for (input, json) in std::mem::take(&mut self.inputs.apart) {
            parts.push(Part::new(format!("{name}.{input}"), JSON, json));
        }
        if let Some(input) = self.inputs.unrecordable {
            let reason = format!("`{input}` has no JSON form");
            parts.push(Part::text(format!("{name}.unrecordable"), reason));
        }
        parts
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("name", &self.name).finish_non_exhaustive()
    }
}

const JSON: &str = "application/json";
