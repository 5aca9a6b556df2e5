//! The sinks that the environment names.

use std::{collections::BTreeSet, fmt};

use super::options::Role;
use crate::{
    error::{AuditError, AuditErrorKind},
    sink::{SinkError, SinkErrorKind},
    variables::Variables,
};

const REQUIRED: &str = "AGENT_AUDIT_SINKS";
const OPTIONAL: &str = "AGENT_AUDIT_OPTIONAL_SINKS";

/// A sink that the environment names; whoever knows the kinds makes it.
///
/// ```
/// use agent_audit_core::delivery::NamedSink;
/// // No sink is named here.
/// assert!(NamedSink::from_env()?.is_empty());
/// # Ok::<(), agent_audit_core::error::AuditError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSink {
    kind: String,
    role: Role,
}

impl NamedSink {
    /// What `AGENT_AUDIT_SINKS` and `AGENT_AUDIT_OPTIONAL_SINKS` name: kinds of sinks, separated by
    /// commas, as `sqlite,kafka`. The first are required, the second optional.
    ///
    /// # Errors
    /// [`Invalid`](AuditErrorKind::Invalid) where a kind is named twice, or a list has an empty place.
    pub fn from_env() -> Result<Vec<Self>, AuditError> {
        Variables::with_process(Self::from_variables)
    }

    pub(crate) fn from_variables(variables: Variables<'_>) -> Result<Vec<Self>, AuditError> {
        let mut seen = BTreeSet::new();
        let mut named = Vec::new();
        for (variable, role) in [(REQUIRED, Role::Required), (OPTIONAL, Role::Optional)] {
            let kinds = variables.read(variable, |text| {
                let mut kinds = Vec::new();
                for kind in text.split(',').map(str::trim) {
                    if kind.is_empty() {
                        return Err("expected kinds of sinks, as `sqlite,kafka`".to_owned());
                    }
                    if !seen.insert(kind.to_owned()) {
                        return Err(format!(
                            "expected each kind once, and `{kind}` is named twice"
                        ));
                    }
                    kinds.push(Self { kind: kind.to_owned(), role });
                }
                Ok(kinds)
            })?;
            named.extend(kinds.unwrap_or_default());
        }
        Ok(named)
    }

    /// The kind, as `sqlite`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Whether the log waits for it.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The error where nobody here knows the kind.
    #[must_use]
    pub fn unknown(&self, known: &[&str]) -> AuditError {
        let shown: String = self.kind.chars().take(64).collect();
        AuditError::invalid(format!(
            "the environment variable {} names the sink {shown:?}, and this program knows [{}]: \
             correct the name, or build the program with the feature of that sink",
            self.variable(),
            known.join(", ")
        ))
    }

    /// The error where it could not be made.
    #[must_use]
    pub fn failed(&self, error: SinkError) -> AuditError {
        let kind = match error.kind() {
            SinkErrorKind::Misconfigured | SinkErrorKind::Rejected => AuditErrorKind::Invalid,
            SinkErrorKind::PermissionDenied | SinkErrorKind::Unauthenticated => {
                AuditErrorKind::PermissionDenied
            }
            _ => AuditErrorKind::Unavailable,
        };
        let message = format!(
            "the sink `{}`, named in {}, cannot be set up: {error}",
            self.kind,
            self.variable()
        );
        AuditError::new(kind, message)
    }

    fn variable(&self) -> &'static str {
        match self.role {
            Role::Required => REQUIRED,
            Role::Optional => OPTIONAL,
        }
    }
}

impl fmt::Display for NamedSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn read(required: &str, optional: &str) -> Result<Vec<NamedSink>, AuditError> {
        let lookup = |name: &str| match name {
            REQUIRED => Some(OsString::from(required)),
            OPTIONAL => Some(OsString::from(optional)),
            _ => None,
        };
        NamedSink::from_variables(Variables::new(&lookup))
    }

    #[test]
    fn sinks_are_named_with_their_roles() {
        let named = read("sqlite, postgres", "otlp").unwrap();
        let named: Vec<_> = named.iter().map(|named| (named.kind(), named.role())).collect();
        let expected =
            [("sqlite", Role::Required), ("postgres", Role::Required), ("otlp", Role::Optional)];
        assert_eq!(named, expected);
        assert_eq!(read("", "").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_variable_and_the_way_out() {
        for (required, optional, part) in [
            ("sqlite,sqlite", "", "`sqlite` is named twice"),
            ("sqlite", "sqlite", "AGENT_AUDIT_OPTIONAL_SINKS"),
            ("sqlite,,kafka", "", "as `sqlite,kafka`"),
        ] {
            let text = read(required, optional).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
        let named = read("", "pigeon").unwrap().remove(0);
        let text = named.unknown(&["sqlite", "kafka"]).to_string();
        assert!(text.contains("AGENT_AUDIT_OPTIONAL_SINKS") && text.contains("pigeon"), "{text}");
        assert!(text.contains("[sqlite, kafka]") && text.contains("feature"), "{text}");
        let error = SinkError::new(SinkErrorKind::Misconfigured, "PGHOST is not set");
        let error = named.failed(error);
        assert_eq!(error.kind(), AuditErrorKind::Invalid);
        assert!(error.to_string().contains("PGHOST"), "{error}");
    }
}
