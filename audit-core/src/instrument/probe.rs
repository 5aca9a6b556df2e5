//! Reading an outcome off a returned value, by its type.
//!
//! The methods for a `Result` are inherent and their bounds stand on the methods, so that a `Result`
//! whose parts cannot be recorded is an error and never falls through to [`ProbePlain`], which
//! would record an `Err` as a success. Where a function returns a bare type parameter, its type is
//! not known when the function is compiled, and it counts as a plain value.

use super::{
    outcome::{ModelObserved, ReviewKind, ReviewObserved, ToolObserved},
    record::{RecordError, RecordOutput},
    response::{ModelResponse, ReviewResponse},
};

/// A returned value on its way to an outcome.
///
/// ```
/// use agent_audit_core::instrument::{Probe, ProbePlain as _};
/// assert!(Probe::new(&3).tool().is_ok());
/// assert!(!Probe::new(&Err::<(), _>("declined")).tool().is_ok());
/// ```
#[derive(Debug)]
pub struct Probe<'a, R>(&'a R);

impl<'a, R> Probe<'a, R> {
    /// Looks at a value.
    #[must_use]
    pub fn new(returned: &'a R) -> Self {
        Self(returned)
    }
}

impl<'a, T, E> Probe<'a, Result<T, E>> {
    /// The value of a success.
    #[must_use]
    pub fn success(&self) -> Option<&'a T> {
        self.0.as_ref().ok()
    }

    /// The outcome of a tool.
    #[must_use]
    pub fn tool(&self) -> ToolObserved
    where
        T: RecordOutput,
        E: RecordError,
    {
        match self.0 {
            Ok(value) => ToolObserved::returned(value),
            Err(error) => ToolObserved::error(error),
        }
    }

    /// The outcome of a tool, without what it returned.
    #[must_use]
    pub fn tool_without_output(&self) -> ToolObserved
    where
        E: RecordError,
    {
        match self.0 {
            Ok(_) => ToolObserved::ok(),
            Err(error) => ToolObserved::error(error),
        }
    }

    /// The outcome of a model call.
    #[must_use]
    pub fn model(&self) -> ModelObserved
    where
        T: ModelResponse,
        E: RecordError,
    {
        match self.0 {
            Ok(value) => ModelObserved::decided(value.decided(), value.parts()),
            Err(error) => ModelObserved::error(error),
        }
    }

    /// The outcome of a model call, without its content.
    #[must_use]
    pub fn model_without_output(&self) -> ModelObserved
    where
        T: ModelResponse,
        E: RecordError,
    {
        match self.0 {
            Ok(value) => ModelObserved::decided(value.decided(), Vec::new()),
            Err(error) => ModelObserved::error(error),
        }
    }

    /// The outcome of a review.
    #[must_use]
    pub fn review(&self) -> ReviewObserved
    where
        T: ReviewResponse,
        E: RecordError,
    {
        ReviewObserved(match self.0 {
            Ok(value) => ReviewKind::Verdict(Box::new(value.verdict())),
            Err(error) => ReviewKind::Dismissed(Some(error.text())),
        })
    }
}

/// The same for a value that is no `Result`.
///
/// ```
/// use agent_audit_core::instrument::{Probe, ProbePlain as _};
/// assert_eq!(Probe::new(&3).success(), Some(&3));
/// ```
pub trait ProbePlain<'a> {
    /// The type of the value.
    type Value: 'a;

    /// The value.
    fn success(&self) -> Option<&'a Self::Value>;

    /// The outcome of a tool.
    fn tool(&self) -> ToolObserved
    where
        Self::Value: RecordOutput;

    /// The outcome of a tool, without what it returned.
    fn tool_without_output(&self) -> ToolObserved;

    /// The outcome of a model call.
    fn model(&self) -> ModelObserved
    where
        Self::Value: ModelResponse;

    /// The outcome of a model call, without its content.
    fn model_without_output(&self) -> ModelObserved
    where
        Self::Value: ModelResponse;

    /// The outcome of a review.
    fn review(&self) -> ReviewObserved
    where
        Self::Value: ReviewResponse;
}

impl<'a, R> ProbePlain<'a> for Probe<'a, R> {
    type Value = R;

    fn success(&self) -> Option<&'a R> {
        Some(self.0)
    }

    fn tool(&self) -> ToolObserved
    where
        R: RecordOutput,
    {
        ToolObserved::returned(self.0)
    }

    fn tool_without_output(&self) -> ToolObserved {
        ToolObserved::ok()
    }

    fn model(&self) -> ModelObserved
    where
        R: ModelResponse,
    {
        ModelObserved::decided(self.0.decided(), self.0.parts())
    }

    fn model_without_output(&self) -> ModelObserved
    where
        R: ModelResponse,
    {
        ModelObserved::decided(self.0.decided(), Vec::new())
    }

    fn review(&self) -> ReviewObserved
    where
        R: ReviewResponse,
    {
        ReviewObserved(ReviewKind::Verdict(Box::new(self.0.verdict())))
    }
}

/// Never a value: it tells the compiler what a body evaluates to.
///
/// ```
/// assert_eq!(agent_audit_core::instrument::never::<u8>(), None);
/// ```
#[must_use]
pub const fn never<R>() -> Option<R> {
    None
}

/// Asks `error_if` about a value; a function, so that a closure needs no annotation.
///
/// ```
/// assert!(agent_audit_core::instrument::test("no", |answer| answer == "no"));
/// ```
pub fn test<T: ?Sized>(output: &T, failed: impl FnOnce(&T) -> bool) -> bool {
    failed(output)
}
