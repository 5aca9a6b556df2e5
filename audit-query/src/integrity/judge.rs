//! What has been read of a chain, judged: what is at fault, and what of it is known from here on.

use agent_audit_core::{
    timestamp::Timestamp,
    verify::{ChainState, Finding, FindingKind, Severity},
};

use super::{
    ChainEntry, Standing,
    chain::{Chain, Checked, Counts, Pass},
    ends::Ends,
    memory::ChainMemory,
};

impl Chain<'_> {
    pub(super) fn judge(
        &self,
        mut pass: Pass,
        absent: Vec<(usize, Finding)>,
        whole: bool,
    ) -> Checked {
        let mut findings = std::mem::take(&mut pass.findings);
        let disputed = self.differences(&pass, &mut findings);
        self.probes(&mut pass, &mut findings);
        for (at, finding) in absent {
            pass.outcomes[at].state = None;
            findings.push(finding);
        }
        self.times(&pass, &mut findings);
        let mut counts = Counts::default();
        for outcome in &mut pass.outcomes {
            let report = &mut outcome.report;
            if outcome.from > 0 {
                // Half a story: what began before is not known here, and what just began is at work.
                report.findings.retain(|finding| {
                    !matches!(
                        finding.kind,
                        FindingKind::UnresolvedAttempt | FindingKind::OpenReview
                    )
                });
            }
            findings.append(&mut report.findings);
            counts.add(Counts {
                records: outcome.records,
                bytes: outcome.bytes,
                parts: report.parts,
                erased: report.erased,
                purged: report.purged,
                sealed: report.sealed,
                checkpoints: report.checkpoints_checked,
            });
        }
        let mut memory = self.advance(&pass, &disputed);
        let ends = Ends {
            chain: self.chain,
            against: self.against,
            before: self.before,
            vouched_for: pass.vouched_for,
        };
        findings.extend(ends.judge(&pass.outcomes, self.stores, &mut memory));
        findings.extend(self.vouched(&pass, &mut memory));
        let whole = whole || pass.outcomes.iter().any(|outcome| outcome.from == 0);
        let from = pass.outcomes.iter().max_by_key(|outcome| outcome.end).map_or(0, |o| o.from);
        Checked { memory, findings, whole, from, counts }
    }

    /// Where copies differ and neither is at fault by itself; returns which copies are in dispute.
    fn differences(&self, pass: &Pass, findings: &mut Vec<Finding>) -> Vec<usize> {
        let mut disputed = Vec::new();
        for difference in &pass.differences {
            let named = |copy: usize| {
                pass.outcomes[copy].report.findings.iter().any(|finding| {
                    finding.severity == Severity::Tampering && finding.is_at(difference.first)
                })
            };
            if named(difference.one) || named(difference.other) {
                continue;
            }
            disputed.extend([difference.one, difference.other]);
            let (one, other) =
                (self.stores[difference.one].name(), self.stores[difference.other].name());
            let verb = if difference.first == difference.last { "is" } else { "are" };
            let detail = format!(
                "{verb} not the same in {one} and in {other}, and each fits its own history: two \
                 readers are shown two histories"
            );
            let finding = Finding::new(FindingKind::Forked, detail)
                .in_chain(self.chain)
                .at(difference.first, difference.last);
            findings.push(finding.in_place(format!("{one}, {other}")));
        }
        disputed
    }

    /// Whether head and root of the tenant's checkpoint are of one history.
    fn probes(&self, pass: &mut Pass, findings: &mut Vec<Finding>) {
        let Some(known) = self.before.known.as_ref().filter(|known| known.size > 0) else { return };
        for outcome in &mut pass.outcomes {
            let Some(hash) = outcome.probed.filter(|hash| *hash != known.head) else { continue };
            if outcome.state.is_none() {
                continue;
            }
            let last = known.size - 1;
            let detail = format!(
                "fits the root that the tenant's checkpoint states of the chain and not the head, \
                 {}: it has the event hash {hash}; root and head are of two histories",
                known.head
            );
            let finding = Finding::new(FindingKind::Forked, detail).in_chain(self.chain);
            findings.push(finding.at(last, last).in_place("tenant checkpoints"));
            outcome.state = None;
        }
    }

    fn times(&self, pass: &Pass, findings: &mut Vec<Finding>) {
        let date = |nanos: i64| Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(0));
        for (outcome, store) in pass.outcomes.iter().zip(self.stores) {
            let before = self.before.copies.get(store.name()).map_or(i64::MIN, |copy| copy.last_at);
            if let Some(first) = outcome.first.filter(|row| outcome.from > 0 && row.at < before) {
                let detail = format!(
                    "is dated {}, before the record in front of it ({}): the writer's clock went back",
                    date(first.at),
                    date(before)
                );
                let finding = Finding::new(FindingKind::ClockRegression, detail);
                let finding = finding.in_chain(self.chain).at(first.sequence, first.sequence);
                findings.push(finding.in_place(store.name()));
            }
        }
        if let (Some(late), Some(signed_at)) = (pass.late, self.signed_at) {
            let more = match late.count {
                1 => String::new(),
                count => format!(" ({} more records are like it)", count - 1),
            };
            let detail = format!(
                "is dated {}, and the tenant checkpoint of {signed_at} does not cover it: it came \
                 late, or was dated back{more}",
                date(late.at)
            );
            let finding = Finding::new(FindingKind::ClockRegression, detail);
            let finding = finding.in_chain(self.chain).at(late.first, late.first);
            findings.push(finding.in_place(self.stores[late.copy].name()));
        }
    }

    /// What is known from here on: nothing is forgotten, and what has a fault does not count.
    fn advance(&self, pass: &Pass, disputed: &[usize]) -> ChainMemory {
        let mut memory = self.before.clone();
        memory.since.get_or_insert(self.against.now);
        let mut furthest: Option<(&ChainState, Standing)> = None;
        for (at, (outcome, store)) in pass.outcomes.iter().zip(self.stores).enumerate() {
            let Some(state) = outcome.state.as_ref().filter(|_| !disputed.contains(&at)) else {
                continue;
            };
            let copy = memory.copies.entry(store.name().to_owned()).or_default();
            if state.size() < copy.size() {
                continue;
            }
            if let Some(last) = outcome.last {
                (copy.last_at, copy.closed) = (last.at, last.closes);
            }
            copy.state = Some(state.clone());
            let standing = if copy.closed { Standing::Closed } else { Standing::Open };
            if furthest.is_none_or(|(other, _)| other.size() < state.size()) {
                furthest = Some((state, standing));
            }
        }
        if let Some((state, standing)) = furthest
            && state.size() >= self.known_size()
        {
            let (root, head) = (state.tree().root(), *state.head());
            let chain = self.chain.chain_id.clone();
            memory.known = Some(ChainEntry::new(chain, state.size(), root, head, standing));
        }
        memory
    }

    /// Where the writers' checkpoints are given, a chain that none of them covers is nobody's.
    fn vouched(&self, pass: &Pass, memory: &mut ChainMemory) -> Option<Finding> {
        self.against.writers?;
        let covered = pass.outcomes.iter().map(|o| o.report.coverage.separate_checkpoint).max();
        memory.vouched = memory.vouched.max(covered.unwrap_or(0));
        let end = pass.outcomes.iter().map(|outcome| outcome.end).max().unwrap_or(0);
        let age = |since: Timestamp| self.against.now.as_nanos().saturating_sub(since.as_nanos());
        let last = pass.outcomes.iter().filter_map(|outcome| outcome.last).map(|row| row.at).min();
        let last = last.and_then(|at| u64::try_from(at).ok()).map(Timestamp::from_nanos);
        let old = memory.since.into_iter().chain(last).any(|since| age(since) > self.against.grace);
        if memory.vouched > 0 || end == 0 || !old {
            return None;
        }
        let detail = format!(
            "no checkpoint of a writer covers any of its {end} records: it can have been written by \
             anybody with access to a store"
        );
        Some(Finding::new(FindingKind::NotVouched, detail).in_chain(self.chain))
    }
}
