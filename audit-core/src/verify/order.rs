//! Order: holes, records that come late, copies, and second histories.

use crate::hash::Hash;

use super::{
    Finding, FindingKind, Severity,
    links::Court,
    memory::{MAX_FINDINGS, tag},
};

/// Positions that were passed over; records for them may still come, in the wrong place.
#[derive(Debug, Clone, Copy)]
struct Hole {
    from: u64,
    to: u64,
    /// The hash of the record before, where it is known.
    before: Option<Hash>,
    /// What the record behind keeps of the last one.
    after: Hash,
}

/// A second history that branches off.
#[derive(Debug, Clone, Copy)]
struct Branch {
    first: u64,
    next: u64,
    head: Hash,
}

/// Neighbouring records with the same fault: one finding.
#[derive(Debug, Clone, Copy)]
struct Run {
    kind: FindingKind,
    first: u64,
    last: u64,
    /// The record that they follow in the store.
    behind: u64,
    /// Whether they were compared with the record that had the position first.
    same: bool,
}

/// What a record behind its place turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// The only one for its position.
    Moved,
    /// One more for a position that is taken.
    Extra,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Order {
    holes: Vec<Hole>,
    branch: Option<Branch>,
    run: Option<Run>,
}

impl Order {
    /// Notes that the positions `from` to `to` were passed over.
    pub(super) fn hole(
        &mut self,
        court: &mut Court<'_>,
        (from, to): (u64, u64),
        before: Option<Hash>,
        after: Hash,
        head: Severity,
    ) {
        if self.holes.len() >= MAX_FINDINGS {
            let oldest = self.holes.remove(0);
            missing(court, oldest, head);
        }
        self.holes.push(Hole { from, to, before, after });
    }

    /// Whether the record goes on with a second history, and not with the first.
    pub(super) fn branches(&mut self, sequence: u64, previous: &Hash, hash: Hash) -> bool {
        match &mut self.branch {
            Some(branch) if branch.next == sequence && branch.head == *previous => {
                branch.next += 1;
                branch.head = hash;
                true
            }
            _ => false,
        }
    }

    /// Takes a record whose position lies before `next`.
    pub(super) fn late(
        &mut self,
        court: &mut Court<'_>,
        sequence: u64,
        previous: Hash,
        hash: Hash,
        next: u64,
    ) -> Late {
        let behind = next - 1;
        let inside = |hole: &Hole| (hole.from..=hole.to).contains(&sequence);
        if let Some(at) = self.holes.iter().position(inside) {
            let hole = self.holes.swap_remove(at);
            if sequence == hole.from && hole.before.is_some_and(|before| before != previous) {
                court.body_changed(sequence.saturating_sub(1));
            }
            if sequence == hole.to && hole.after != hash {
                court.body_changed(sequence);
            }
            if sequence > hole.from {
                self.holes.push(Hole { to: sequence - 1, after: previous, ..hole });
            }
            if sequence < hole.to {
                self.holes.push(Hole { from: sequence + 1, before: Some(hash), ..hole });
            }
            self.extend(court, FindingKind::Reordered, sequence, behind, true);
            return Late::Moved;
        }
        match court.recent.find(sequence).map(|seen| seen.tag == tag(&hash)) {
            Some(false) => {
                self.end_branch(court);
                self.branch = Some(Branch { first: sequence, next: sequence + 1, head: hash });
            }
            Some(true) => self.extend(court, FindingKind::Duplicated, sequence, behind, true),
            None => self.extend(court, FindingKind::Duplicated, sequence, behind, false),
        }
        Late::Extra
    }

    /// The end of the longest history.
    pub(super) fn branch_end(&self) -> u64 {
        self.branch.map_or(0, |branch| branch.next)
    }

    pub(super) fn finish(mut self, court: &mut Court<'_>, head: Severity) {
        self.end_run(court);
        self.end_branch(court);
        self.holes.sort_unstable_by_key(|hole| hole.from);
        for hole in self.holes {
            missing(court, hole, head);
        }
    }

    fn extend(
        &mut self,
        court: &mut Court<'_>,
        kind: FindingKind,
        sequence: u64,
        behind: u64,
        same: bool,
    ) {
        match &mut self.run {
            Some(run)
                if run.kind == kind
                    && run.last + 1 == sequence
                    && run.behind == behind
                    && run.same == same =>
            {
                run.last = sequence;
            }
            _ => {
                self.end_run(court);
                self.run = Some(Run { kind, first: sequence, last: sequence, behind, same });
            }
        }
    }

    fn end_run(&mut self, court: &mut Court<'_>) {
        let Some(run) = self.run.take() else { return };
        let one = run.first == run.last;
        let (is, its) = if one { ("is", "its") } else { ("are", "their") };
        let behind = run.behind;
        let detail = match (run.kind, run.same) {
            (FindingKind::Reordered, _) => {
                format!("{is} stored out of order, behind record {behind}")
            }
            (_, true) => format!("{is} stored twice, again behind record {behind}"),
            (_, false) => format!(
                "{is} stored twice, again behind record {behind}, too far from {its} first place \
                 to compare"
            ),
        };
        let id = if one { court.recent.event_id(run.first) } else { None };
        court.findings.add(Finding::new(run.kind, detail).at(run.first, run.last).of_event(id));
    }

    fn end_branch(&mut self, court: &mut Court<'_>) {
        let Some(branch) = self.branch.take() else { return };
        let last = branch.next - 1;
        let detail = if branch.first == last {
            "exists twice with different content: two histories of the chain branch off here"
        } else {
            "exist twice with different content: two histories of the chain branch off at the first"
        };
        court.findings.add(Finding::new(FindingKind::Forked, detail).at(branch.first, last));
    }
}

fn missing(court: &mut Court<'_>, hole: Hole, head: Severity) {
    let is = if hole.from == hole.to { "is" } else { "are" };
    let next = hole.to.saturating_add(1);
    let (kind, severity, detail) = if hole.from == 0 {
        let way_out = if head == Severity::Tampering {
            ""
        } else {
            "; the journal no longer holds them: name the store that does"
        };
        (
            FindingKind::HeadMissing,
            head,
            format!("{is} missing: the chain begins with record {next} here{way_out}"),
        )
    } else {
        (
            FindingKind::Missing,
            Severity::Tampering,
            format!("{is} missing: record {next} comes straight after record {}", hole.from - 1),
        )
    };
    let finding = Finding::new(kind, detail).at(hole.from, hole.to).with_severity(severity);
    court.findings.add(finding);
}
