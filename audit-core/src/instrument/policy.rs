//! What a caller gets when the log cannot be written.

use crate::error::AuditUnavailable;

/// A returned type that can say that the audit log is unavailable.
///
/// Every `Result` can whose error implements `From<AuditUnavailable>`, `Box<dyn Error + Send +
/// Sync>` and `anyhow::Error` among them.
///
/// ```
/// use agent_audit_core::{context::AuditContext, error::AuditUnavailable, instrument::Deny};
/// let unavailable = AuditUnavailable::from(AuditContext::current().unwrap_err());
/// let denied: Result<u8, Box<dyn std::error::Error>> = Deny::denied(unavailable);
/// assert!(denied.is_err());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot say that the audit log is unavailable",
    label = "under `on_audit_error = deny`, the default, the caller has to be told",
    note = "return a `Result` whose error implements `From<AuditUnavailable>`",
    note = "or say `on_audit_error = proceed`: the function then runs even when nothing records it"
)]
pub trait Deny {
    /// The value that a caller gets in place of a result.
    fn denied(reason: AuditUnavailable) -> Self;
}

#[diagnostic::do_not_recommend]
impl<T, E: From<AuditUnavailable>> Deny for Result<T, E> {
    fn denied(reason: AuditUnavailable) -> Self {
        Err(reason.into())
    }
}

/// What to do when the log cannot be written, for a function that returns `R`.
///
/// ```
/// use agent_audit_core::{error::AuditUnavailable, instrument::Policy};
/// let _: Policy<Result<(), AuditUnavailable>> = Policy::deny();
/// let _: Policy<u32> = Policy::proceed();
/// ```
pub struct Policy<R>(pub(super) Option<fn(AuditUnavailable) -> R>);

impl<R> Policy<R> {
    /// Nothing happens unrecorded: the body does not run, or its result is withheld.
    #[must_use]
    pub fn deny() -> Self
    where
        R: Deny,
    {
        Self(Some(R::denied))
    }

    /// The body runs and its result is returned, recorded or not.
    #[must_use]
    pub fn proceed() -> Self {
        Self(None)
    }
}

impl<R> std::fmt::Debug for Policy<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Policy::deny" } else { "Policy::proceed" })
    }
}
