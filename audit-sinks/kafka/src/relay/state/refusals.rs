//! What becomes of messages that belong nowhere.

use agent_audit_core::{record::Record, sink::ChainRef};

use super::State;
use crate::relay::{chain::Rejection, status::Problem};

/// How many problems are kept to be shown.
const SHOWN_PROBLEMS: usize = 100;

/// A message on its way to the quarantine.
#[derive(Debug)]
pub(in crate::relay) struct Refusal {
    pub(in crate::relay) problem: Problem,
    pub(in crate::relay) content: Refused,
    bytes: usize,
}

/// What is kept of it.
#[derive(Debug)]
pub(in crate::relay) enum Refused {
    Event(Record),
    Raw { key: Option<Vec<u8>>, value: Option<Vec<u8>> },
}

impl State {
    /// Notes an event that belongs nowhere, or not in one sink.
    pub(super) fn reject(&mut self, place: &(String, i32), chain: &ChainRef, event: Rejection) {
        let problem = Problem {
            kind: event.kind,
            topic: place.0.clone(),
            partition: place.1,
            offset: event.offset,
            event: Some((chain.clone(), event.sequence)),
            sink: event.sink.map(|sink| self.sinks[sink].name.clone()),
            message: event.why,
        };
        self.refuse(problem, Refused::Event(event.record), event.bytes);
    }

    /// Notes a message that belongs nowhere: offsets stay before it, or before it is quarantined.
    pub(super) fn refuse(&mut self, problem: Problem, content: Refused, bytes: usize) {
        self.problems += 1;
        if self.problems.is_power_of_two() {
            tracing::warn!(problems = self.problems, kind = %problem.kind, "{problem}");
        }
        let place = (problem.topic.clone(), problem.partition);
        if self.latest.len() == SHOWN_PROBLEMS {
            self.latest.pop_front();
        }
        self.latest.push_back(problem.clone());
        let Some(partition) = self.partitions.get_mut(&place) else { return };
        if self.limits.quarantine {
            partition.open(problem.offset);
            partition.bytes += bytes;
            self.refusals.push_back(Refusal { problem, content, bytes });
        } else {
            partition.stick(problem.offset);
        }
    }

    /// These refusals are in the quarantine.
    pub(in crate::relay) fn quarantined(&mut self, refusals: &[Refusal]) {
        for Refusal { problem, bytes, .. } in refusals {
            self.done(&(problem.topic.clone(), problem.partition), problem.offset, *bytes);
        }
    }
}
