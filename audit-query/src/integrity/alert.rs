//! Telling somebody, when a run did not find everything intact.

use std::fmt;

use agent_audit_core::{
    id::TenantId,
    timestamp::Timestamp,
    verify::{Finding, Severity, Verdict},
};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{FindingCounts, WatchReport};

/// How many findings an alert names.
const NAMED: usize = 10;

/// What an alert says: no content, and of the tenants' data nothing but ids.
///
/// ```
/// use agent_audit_query::integrity::AlertMessage;
/// fn subject(message: &AlertMessage) -> String {
///     format!("{}: {} faults", message.name, message.findings_total.tampering)
/// }
/// # let _: fn(&AlertMessage) -> String = subject;
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertMessage {
    /// `agent-audit`.
    pub source: String,
    /// The name of the job.
    pub name: String,
    /// The number of the run; absent where it could not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u64>,
    /// When the run began.
    pub started_at: Timestamp,
    /// The answer.
    pub verdict: Verdict,
    /// How many findings there are.
    pub findings_total: FindingCounts,
    /// The first ones of those that count.
    pub findings: Vec<AlertFinding>,
    /// Why the run could not come to its end, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A finding in an alert: what, and where.
///
/// ```
/// use agent_audit_query::integrity::AlertFinding;
/// let finding: AlertFinding = serde_json::from_str(r#"{"kind":"tampered","sequence":7}"#)?;
/// assert_eq!(finding.sequence, Some(7));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertFinding {
    /// The kind of fault.
    pub kind: String,
    /// The tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// The chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_id: Option<String>,
    /// The first position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The store, or what else it was found in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

impl AlertMessage {
    pub(super) fn of(report: &WatchReport) -> Self {
        let counts = |finding: &&Finding| finding.severity <= Severity::Unsure;
        Self {
            source: "agent-audit".to_owned(),
            name: report.name.clone(),
            run: Some(report.run),
            started_at: report.started_at,
            verdict: report.verdict,
            findings_total: report.findings_total,
            findings: report.findings.iter().filter(counts).take(NAMED).map(finding).collect(),
            error: None,
        }
    }

    pub(super) fn of_failure(name: &str, started_at: Timestamp, error: &dyn fmt::Display) -> Self {
        Self {
            source: "agent-audit".to_owned(),
            name: name.to_owned(),
            run: None,
            started_at,
            verdict: Verdict::Unsure,
            findings_total: FindingCounts::default(),
            findings: Vec::new(),
            error: Some(error.to_string()),
        }
    }
}

fn finding(finding: &Finding) -> AlertFinding {
    let chain = finding.chain.as_ref();
    let tenant = chain.map(|chain| chain.tenant_id.to_string());
    AlertFinding {
        kind: finding.kind.as_str().to_owned(),
        tenant_id: tenant.or_else(|| tenant_of(&finding.detail)),
        chain_id: chain.map(|chain| chain.chain_id.to_string()),
        sequence: finding.sequence,
        place: finding.place.clone(),
    }
}

/// The tenant that a finding of the job names which is about no single chain.
fn tenant_of(detail: &str) -> Option<String> {
    let (tenant, _) = detail.strip_prefix("tenant ")?.split_once(": ")?;
    TenantId::new(tenant).ok().map(|tenant| tenant.to_string())
}

/// Who is told. [`Webhook`](super::Webhook) is one; a pager or a queue is written as easily.
///
/// `send` MUST end within a bounded time: the job waits for it.
///
/// ```
/// use agent_audit_query::integrity::{Alert, AlertMessage};
///
/// #[derive(Debug)]
/// struct Bell;
///
/// #[async_trait::async_trait]
/// impl Alert for Bell {
///     fn name(&self) -> &str {
///         "bell"
///     }
///     async fn send(&self, _: &AlertMessage) -> Result<(), String> {
///         Ok(())
///     }
/// }
/// assert_eq!(Bell.name(), "bell");
/// ```
#[async_trait]
pub trait Alert: Send + Sync + fmt::Debug {
    /// The name in reports, without a secret.
    fn name(&self) -> &str;

    /// Tells.
    ///
    /// # Errors
    /// Why nobody was told, without a secret. It becomes part of the report.
    async fn send(&self, message: &AlertMessage) -> Result<(), String>;
}

/// Whether somebody was told.
///
/// ```
/// use agent_audit_query::integrity::AlertOutcome;
/// let outcome: AlertOutcome = serde_json::from_str(r#"{"name":"bell","delivered":true}"#)?;
/// assert!(outcome.delivered && outcome.error.is_none());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertOutcome {
    /// Who.
    pub name: String,
    /// Whether they took it.
    pub delivered: bool,
    /// Why they did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl AlertOutcome {
    pub(super) async fn of(alert: &dyn Alert, message: &AlertMessage) -> Self {
        let error = alert.send(message).await.err();
        if let Some(error) = &error {
            tracing::error!(alert = alert.name(), %error, "an alert could not be delivered");
        }
        Self { name: alert.name().to_owned(), delivered: error.is_none(), error }
    }
}
