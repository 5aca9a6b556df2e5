//! Which chains a sink is to be asked about, and what follows from its answer.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use agent_audit_core::sink::{ChainRef, Head, SinkError};

use super::State;
use crate::relay::calls::{Calls, is_final};

/// How often a sink is asked about a chain with a gap: another relay may have filled it.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// After so many failures without an answer between them the sink is at fault, and not a chain.
const PATIENCE: u32 = 16;

/// The chains that a sink is to be asked about.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// For the first time, in order of arrival.
    fresh: VecDeque<u64>,
    /// Once more, and when.
    again: BTreeSet<(Instant, u64)>,
    /// Failures since the last answer.
    failures: u32,
    /// Only chains that are new are asked about until then.
    rests_until: Option<Instant>,
}

impl State {
    /// Asks all sinks about a chain that is new here.
    pub(super) fn ask_all(&mut self, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        for (sink, lane) in self.sinks.iter_mut().zip(&mut chain.lanes) {
            if lane.is_unknown() {
                lane.asked = true;
                sink.asking.fresh.push_back(id);
            }
        }
    }

    /// Asks those sinks once more that lack something of a chain.
    pub(super) fn ask_again(&mut self, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        for (sink, lane) in self.sinks.iter_mut().zip(&mut chain.lanes) {
            if sink.readable_heads && !lane.early.is_empty() && !lane.asked {
                lane.asked = true;
                sink.asking.again.insert((Instant::now() + LOOK_AGAIN, id));
            }
        }
    }

    /// The chain that a sink is to be asked about next; none where there is none, and then when to
    /// look again.
    pub(in crate::relay) fn next_question(
        &mut self,
        sink: usize,
        now: Instant,
    ) -> Result<(u64, ChainRef), Option<Instant>> {
        loop {
            let line = &mut self.sinks[sink].asking;
            let id = match line.fresh.pop_front() {
                Some(id) => id,
                None => {
                    let Some((due, id)) = line.again.first().copied() else { return Err(None) };
                    let due = line.rests_until.map_or(due, |until| due.max(until));
                    if due > now {
                        return Err(Some(due));
                    }
                    line.again.pop_first();
                    id
                }
            };
            let Some(chain) = self.chains.get_mut(&id) else { continue };
            let lane = &mut chain.lanes[sink];
            if lane.is_unknown() || !lane.early.is_empty() {
                return Ok((id, chain.chain.clone()));
            }
            lane.asked = false;
        }
    }

    /// Takes the answer of a sink about a chain.
    pub(in crate::relay) fn answered(
        &mut self,
        sink: usize,
        id: u64,
        answer: Result<Option<Head>, SinkError>,
        calls: Calls,
    ) {
        let now = Instant::now();
        let unknown = self.chains.get(&id).is_some_and(|chain| chain.lanes[sink].is_unknown());
        let line = &mut self.sinks[sink].asking;
        let error = match answer {
            Ok(head) => {
                line.failures = 0;
                line.rests_until = None;
                return self.met(sink, id, head);
            }
            Err(error) if unknown && is_final(&error) => {
                return self.never_met(sink, id, &error.to_string());
            }
            Err(error) => error,
        };
        line.failures = line.failures.saturating_add(1);
        if line.failures > PATIENCE {
            line.rests_until = Some(now + calls.delay(line.failures - PATIENCE, &error));
        }
        let failures = line.failures;
        if failures.is_power_of_two() {
            let sink = &self.sinks[sink].name;
            tracing::warn!(%sink, failures, %error, "a sink cannot be asked for a head");
        }
        let Some(chain) = self.chains.get_mut(&id) else { return };
        self.sinks[sink].last_error = Some(error.to_string());
        let lane = &mut chain.lanes[sink];
        lane.head_failures = lane.head_failures.saturating_add(1);
        let due = now + calls.delay(lane.head_failures, &error);
        self.sinks[sink].asking.again.insert((due, id));
    }

    /// Takes what a sink holds of a chain.
    pub(in crate::relay) fn met(&mut self, sink: usize, id: u64, head: Option<Head>) {
        let rules = self.rules();
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let halted = self.halts.get(&(sink, chain.chain.clone())).cloned();
        chain.lanes[sink].asked = false;
        chain.lanes[sink].head_failures = 0;
        let effects = chain.meet(sink, head, halted, rules);
        self.follow(id, effects);
    }

    /// A sink that will never say what it holds of a chain gets nothing of it.
    fn never_met(&mut self, sink: usize, id: u64, why: &str) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        chain.lanes[sink].asked = false;
        self.sinks[sink].last_error = Some(why.to_owned());
        let effects = chain.halt(sink, why);
        self.follow(id, effects);
    }
}
