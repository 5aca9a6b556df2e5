//! What a model's answer and a reviewer's say about themselves.

use crate::{attempt::ReviewVerdict, content::Part, event::model::ModelDecided};

/// The answer of a model, as the type that a model call returns.
///
/// `#[audited(model)]` records what it says about itself: which model answered, what it decided, at
/// which cost, and the raw output.
///
/// ```
/// use agent_audit_core::{
///     content::Part,
///     event::model::{Decision, DecisionKind, ModelDecided, ModelStatus, Usage},
///     instrument::ModelResponse,
/// };
///
/// struct Answer { model: String, text: String, tokens: u64 }
///
/// impl ModelResponse for Answer {
///     fn decided(&self) -> ModelDecided {
///         ModelDecided::new("acme-ai", "large", ModelStatus::Ok)
///             .with_served_model(&*self.model)
///             .with_usage(Usage::new().with_output_tokens(self.tokens))
///             .with_decision(Decision::new(DecisionKind::Content))
///     }
///     fn parts(&self) -> Vec<Part> {
///         vec![Part::text("output", &*self.text)]
///     }
/// }
///
/// let answer = Answer { model: "large-7".into(), text: "yes".into(), tokens: 1 };
/// assert_eq!(answer.decided().served_model.as_deref(), Some("large-7"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what the model decided",
    label = "`#[audited(model)]` records what this says about the decision",
    note = "implement `ModelResponse` for `{Self}`, or return a type that does"
)]
pub trait ModelResponse {
    /// What the model decided, and what is known about the call.
    fn decided(&self) -> ModelDecided;

    /// The content that goes with it: `output`, `reasoning`, the context as the model saw it.
    fn parts(&self) -> Vec<Part>;
}

impl ModelResponse for ModelDecided {
    fn decided(&self) -> ModelDecided {
        self.clone()
    }

    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }
}

impl<T: ModelResponse + ?Sized> ModelResponse for Box<T> {
    fn decided(&self) -> ModelDecided {
        (**self).decided()
    }

    fn parts(&self) -> Vec<Part> {
        (**self).parts()
    }
}

/// The answer of a reviewer, as the type that a review returns.
///
/// ```
/// use agent_audit_core::{
///     attempt::ReviewVerdict,
///     event::review::{ReviewDecision, Reviewer, ReviewerKind},
///     instrument::ReviewResponse,
/// };
///
/// struct Answer { yes: bool }
///
/// impl ReviewResponse for Answer {
///     fn verdict(&self) -> ReviewVerdict {
///         let decision = if self.yes { ReviewDecision::Approve } else { ReviewDecision::Reject };
///         ReviewVerdict::new(decision, Reviewer::new("reviewer-7", ReviewerKind::Human))
///     }
/// }
///
/// let _: ReviewVerdict = Answer { yes: false }.verdict();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say what the reviewer decided",
    label = "`#[audited(review)]` records what this says about the decision",
    note = "implement `ReviewResponse` for `{Self}`, or return a `ReviewVerdict`"
)]
pub trait ReviewResponse {
    /// Who decided what.
    fn verdict(&self) -> ReviewVerdict;
}

impl ReviewResponse for ReviewVerdict {
    fn verdict(&self) -> ReviewVerdict {
        self.clone()
    }
}

impl<T: ReviewResponse + ?Sized> ReviewResponse for Box<T> {
    fn verdict(&self) -> ReviewVerdict {
        (**self).verdict()
    }
}
