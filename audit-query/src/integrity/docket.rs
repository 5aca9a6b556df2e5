//! The findings of a run: all are counted, and the most serious are kept.

use agent_audit_core::verify::{Finding, FindingKind, Severity, Verdict};
use serde::{Deserialize, Serialize};

/// How many findings of each severity are kept, the most serious first.
const KEPT: [usize; 4] = [1_000, 500, 200, 200];

/// How many findings of each severity a run had, also those that its report does not list.
///
/// ```
/// use agent_audit_query::integrity::FindingCounts;
/// assert_eq!(FindingCounts::default().tampering, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FindingCounts {
    /// What is not as it was written.
    pub tampering: u64,
    /// What could not be told.
    pub unsure: u64,
    /// What a person should look at.
    pub warning: u64,
    /// Facts that are no fault.
    pub state: u64,
}

impl FindingCounts {
    /// What they come to: one fault is enough.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match (self.tampering, self.unsure) {
            (0, 0) => Verdict::Intact,
            (0, _) => Verdict::Unsure,
            _ => Verdict::Tampered,
        }
    }
}

/// Findings while they come in.
#[derive(Debug, Default)]
pub(super) struct Docket {
    kept: [Vec<Finding>; 4],
    counts: FindingCounts,
}

impl Docket {
    /// Adds findings; those that say the same of several places become one.
    pub(super) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.add(finding);
        }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let (at, count) = match finding.severity {
            Severity::Tampering => (0, &mut self.counts.tampering),
            Severity::Unsure => (1, &mut self.counts.unsure),
            Severity::Warning => (2, &mut self.counts.warning),
            Severity::State => (3, &mut self.counts.state),
        };
        let kept = &mut self.kept[at];
        if let Some(same) = kept.iter_mut().rev().take(100).find(|other| is_same(other, &finding)) {
            match (&mut same.place, finding.place) {
                (Some(places), Some(place)) if !places.split(", ").any(|other| other == place) => {
                    places.push_str(", ");
                    places.push_str(&place);
                }
                _ => {}
            }
            return;
        }
        *count += 1;
        if kept.len() < KEPT[at] {
            kept.push(finding);
        }
    }

    pub(super) fn counts(&self) -> FindingCounts {
        self.counts
    }

    /// The findings, the most serious first; where some were not kept, the last one says so.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let FindingCounts { tampering, unsure, warning, state } = self.counts;
        let mut omitted = 0;
        for (mut kept, count) in self.kept.into_iter().zip([tampering, unsure, warning, state]) {
            omitted += count - u64::try_from(kept.len()).unwrap_or(count);
            kept.sort_by(|a, b| {
                let key = |f: &Finding| (f.sequence, f.last_sequence, f.kind);
                a.chain.cmp(&b.chain).then_with(|| key(a).cmp(&key(b)))
            });
            findings.append(&mut kept);
        }
        if omitted > 0 {
            let detail = format!("{omitted} more findings were counted and are not listed");
            findings.push(Finding::new(FindingKind::Omitted, detail));
        }
        findings
    }
}

/// Whether two findings differ in nothing but the place.
fn is_same(one: &Finding, other: &Finding) -> bool {
    one.kind == other.kind
        && one.chain == other.chain
        && (one.sequence, one.last_sequence) == (other.sequence, other.last_sequence)
        && one.detail == other.detail
}
