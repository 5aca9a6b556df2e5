//! How a call ended, read off what it returned.

use super::record::{RecordError, RecordOutput};
use crate::{
    attempt::{ModelOutcome, ReviewVerdict, ToolOutcome},
    content::Part,
    error::AuditError,
    event::{
        model::{ModelDecided, ModelStatus},
        tool::ToolStatus,
    },
};

/// How a tool call ended.
///
/// ```
/// use agent_audit_core::instrument::ToolObserved;
/// let observed = ToolObserved::ok().with_external("order", &"A-1");
/// assert!(observed.is_ok());
/// assert!(!observed.failed_if(true).is_ok());
/// ```
#[derive(Debug)]
pub struct ToolObserved {
    status: ToolStatus,
    code: Option<String>,
    parts: Vec<Part>,
    external: Vec<(&'static str, String)>,
    unrecordable: bool,
}

impl ToolObserved {
    /// It returned a value that is not recorded.
    #[must_use]
    pub fn ok() -> Self {
        Self::new(ToolStatus::Ok)
    }

    pub(super) fn returned<T: RecordOutput>(value: &T) -> Self {
        let mut observed = Self::ok();
        match value.json() {
            Ok(json) => observed.parts.push(Part::new("output", "application/json", json)),
            Err(_) => observed.unrecordable = true,
        }
        observed
    }

    pub(super) fn error<E: RecordError>(error: &E) -> Self {
        let mut observed = Self::new(ToolStatus::Error);
        observed.code = Some(error.code());
        observed.parts.push(Part::text("error", error.text()));
        observed
    }

    pub(super) fn panicked(message: Option<String>) -> Self {
        let mut observed = Self::new(ToolStatus::Panicked);
        observed.parts.extend(message.map(|message| Part::text("error", message)));
        observed
    }

    fn new(status: ToolStatus) -> Self {
        Self { status, code: None, parts: Vec::new(), external: Vec::new(), unrecordable: false }
    }

    /// Whether the call did what it should.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status.is_ok()
    }

    /// The value that was returned says that the call failed.
    #[must_use]
    pub fn failed_if(mut self, failed: bool) -> Self {
        if failed {
            self.status = ToolStatus::ToolError;
        }
        self
    }

    /// A thing outside that the call touched.
    #[must_use]
    pub fn with_external<V: ToString + ?Sized>(mut self, key: &'static str, value: &V) -> Self {
        self.external.push((key, value.to_string()));
        self
    }

    pub(super) fn into_outcome(self) -> ToolOutcome {
        let mut outcome = ToolOutcome::new(self.status);
        if let Some(code) = self.code {
            outcome = outcome.with_error_code(code);
        }
        for (key, value) in self.external {
            outcome = outcome.with_external_id(key, value);
        }
        if self.unrecordable {
            outcome = outcome.with_part(unrecordable_part());
        }
        self.parts.into_iter().fold(outcome, ToolOutcome::with_part)
    }
}

/// How a model call ended.
///
/// ```
/// use agent_audit_core::instrument::{ModelObserved, Probe};
/// let failed: Result<agent_audit_core::event::model::ModelDecided, String> = Err("busy".into());
/// let _: ModelObserved = Probe::new(&failed).model();
/// ```
#[derive(Debug)]
pub struct ModelObserved {
    kind: ModelKind,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum ModelKind {
    Decided(Box<ModelDecided>),
    Failed(ModelStatus, Option<String>),
}

impl ModelObserved {
    pub(super) fn decided(decided: ModelDecided, parts: Vec<Part>) -> Self {
        Self { kind: ModelKind::Decided(Box::new(decided)), parts }
    }

    pub(super) fn error<E: RecordError>(error: &E) -> Self {
        Self {
            kind: ModelKind::Failed(ModelStatus::Error, Some(error.code())),
            parts: vec![Part::text("error", error.text())],
        }
    }

    pub(super) fn panicked(message: Option<String>) -> Self {
        Self {
            kind: ModelKind::Failed(ModelStatus::Panicked, None),
            parts: message.map(|message| Part::text("error", message)).into_iter().collect(),
        }
    }

    pub(super) fn into_outcome(self) -> ModelOutcome {
        let outcome = match self.kind {
            ModelKind::Decided(decided) => ModelOutcome::decided(*decided),
            ModelKind::Failed(status, None) => ModelOutcome::failed(status),
            ModelKind::Failed(status, Some(code)) => {
                ModelOutcome::failed(status).with_error_code(code)
            }
        };
        self.parts.into_iter().fold(outcome, ModelOutcome::with_part)
    }
}

/// How a review ended.
///
/// ```
/// use agent_audit_core::instrument::{Probe, ReviewObserved};
/// let failed: Result<agent_audit_core::attempt::ReviewVerdict, String> = Err("no answer".into());
/// let _: ReviewObserved = Probe::new(&failed).review();
/// ```
#[derive(Debug)]
pub struct ReviewObserved(pub(super) ReviewKind);

#[derive(Debug)]
pub(super) enum ReviewKind {
    Verdict(Box<ReviewVerdict>),
    /// Nobody decided, for this reason.
    Dismissed(Option<String>),
}

/// Stands in for an output that has no JSON form, so that its absence is not silent.
fn unrecordable_part() -> Part {
    Part::text("output.unrecordable", "the returned value has no JSON form")
}

/// What withholds the result of a call whose output could not be recorded.
pub(super) fn unrecordable(observed: &ToolObserved) -> Option<AuditError> {
    observed.unrecordable.then(|| {
        AuditError::invalid(
            "the returned value has no JSON form: leave it out with `skip(return)`, or give it one",
        )
    })
}
