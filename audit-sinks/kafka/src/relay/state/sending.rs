//! What a sink gets next, and what becomes of it.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Instant,
};

use agent_audit_core::sink::{Segment, SinkError, SinkErrorKind};

use super::{SinkState, State};
use crate::relay::{calls::Calls, chain::Chain, lane::Doubt};

/// After so many failures in a row a batch is taken apart: it may be one chain and not the sink.
const PATIENCE: u32 = 3;

/// So many chains are tried at a time to find out, each by itself.
const PROBES: usize = 4;

/// So many chains that may be at fault are sent beside the batches, each by itself.
const ASIDE: usize = 8;

/// What a sink is to be sent.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Chains with something to send, in order of arrival; those that may share a batch.
    ready: VecDeque<u64>,
    /// Those that are sent by themselves.
    apart: VecDeque<u64>,
    /// Chains that failed, and when they are tried again.
    delayed: BTreeSet<(Instant, u64)>,
    /// How many chains are on their way, in a batch and beside it.
    in_batch: usize,
    aside: usize,
    /// The whole sink is left alone until then.
    rests_until: Option<Instant>,
    /// Failures of whole calls in a row.
    failures: u32,
    /// It is not known whether the sink is at fault or a chain.
    suspect: bool,
}

/// What a sink is asked to store of one chain.
#[derive(Debug)]
pub(in crate::relay) struct Load {
    pub(in crate::relay) chain: u64,
    pub(in crate::relay) segment: Segment,
    /// Its first event in the chain's queue.
    pub(in crate::relay) ticket: u64,
    /// The sink has had events at these positions: it compares them with what it holds.
    pub(in crate::relay) old: bool,
    /// It is sent by itself, beside the batches.
    pub(in crate::relay) aside: bool,
}

/// What became of a load.
#[derive(Debug)]
pub(in crate::relay) enum Settled {
    /// So many events from its beginning are stored. All of them, where it is as many.
    Stored(usize),
    /// Something of it is refused: so many from its beginning are tried by themselves. Where the
    /// sink has named the event behind them, with the reason: if it does not take them, they are
    /// refused together with that event.
    Fewer(usize, Option<String>),
    /// Its first event is refused for good.
    Refused(String),
    /// It is tried again then.
    Again(Instant, String),
    /// It is tried again at once, by itself.
    Apart(String),
}

impl State {
    /// Lets a sink know that a chain has something for it.
    pub(super) fn offer(&mut self, sink: usize, id: u64) {
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let lane = &mut chain.lanes[sink];
        if lane.busy || lane.queue.is_empty() {
            return;
        }
        lane.busy = true;
        self.sinks[sink].sending.queue(id, lane.apart);
    }

    /// What to send to a sink next; none where there is nothing, and then when to look again.
    pub(in crate::relay) fn next_loads(
        &mut self,
        sink: usize,
        now: Instant,
    ) -> Result<Vec<Load>, Option<Instant>> {
        let (state, chains) = (&mut self.sinks[sink], &mut self.chains);
        let line = &mut state.sending;
        if let Some(until) = line.rests_until {
            if now < until {
                return Err(Some(until));
            }
            line.rests_until = None;
        }
        while let Some((due, id)) = line.delayed.first().copied().filter(|(due, _)| *due <= now) {
            line.delayed.remove(&(due, id));
            let apart = chains.get(&id).is_some_and(|chain| chain.lanes[sink].apart);
            line.queue(id, apart);
        }
        let mut broken = Vec::new();
        let loads = if line.suspect {
            let mut loads = Vec::new();
            if line.in_batch + line.aside < PROBES {
                loads = state.collect(sink, chains, false, 1, &mut broken);
                if loads.is_empty() {
                    loads = state.collect(sink, chains, true, 1, &mut broken);
                }
            }
            state.send_aside(loads)
        } else {
            let mut loads = Vec::new();
            if line.in_batch == 0 {
                loads = state.collect(sink, chains, false, usize::MAX, &mut broken);
                state.sending.in_batch = loads.len();
            }
            if loads.is_empty() && state.sending.aside < ASIDE {
                loads = state.collect(sink, chains, true, 1, &mut broken);
                loads = state.send_aside(loads);
            }
            loads
        };
        let wake = self.sinks[sink].sending.delayed.first().map(|(due, _)| *due);
        for (id, why) in broken {
            if let Some(chain) = self.chains.get_mut(&id) {
                chain.lanes[sink].busy = false;
            }
            self.halt(sink, id, &why);
        }
        if loads.is_empty() { Err(wake) } else { Ok(loads) }
    }

    /// Takes up what became of a load.
    pub(in crate::relay) fn settled(&mut self, sink: usize, load: &Load, settled: Settled) {
        let id = load.chain;
        let state = &mut self.sinks[sink];
        let on_way =
            if load.aside { &mut state.sending.aside } else { &mut state.sending.in_batch };
        *on_way = on_way.saturating_sub(1);
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let lane = &mut chain.lanes[sink];
        let ours = lane.queue.front().is_some_and(|(ticket, _)| *ticket == load.ticket);
        if !ours {
            return;
        }
        let effects = match settled {
            Settled::Stored(events) => {
                lane.rest();
                lane.failures = 0;
                lane.apart = false;
                state.acknowledged += events as u64;
                let effects = chain.stored(sink, events);
                if !load.old {
                    self.note_progress(sink, id);
                }
                effects
            }
            Settled::Fewer(events, why) => {
                lane.rest();
                lane.again = Some(events);
                lane.doubt = why.map(|why| Doubt { events: events + 1, why });
                return self.offer(sink, id);
            }
            Settled::Refused(why) => {
                let doubt = lane.doubt.take();
                lane.rest();
                let (events, why) = doubt.map_or((1, why), |doubt| (doubt.events, doubt.why));
                state.last_error = Some(why.clone());
                if !load.old {
                    return self.halt(sink, id, &why);
                }
                chain.refused(sink, events, &why)
            }
            Settled::Again(due, error) => {
                lane.failures = lane.failures.saturating_add(1);
                lane.comes_again(load);
                state.last_error = Some(error);
                state.sending.delayed.insert((due, id));
                return;
            }
            Settled::Apart(error) => {
                lane.apart = true;
                lane.comes_again(load);
                state.last_error = Some(error);
                state.sending.queue(id, true);
                return;
            }
        };
        self.follow(id, effects);
    }

    /// A sink gets no more of a chain.
    fn halt(&mut self, sink: usize, id: u64, why: &str) {
        self.note_halt(sink, id, why);
        let Some(chain) = self.chains.get_mut(&id) else { return };
        let effects = chain.halt(sink, why);
        self.follow(id, effects);
    }

    /// A sink has answered a call, whatever it said of the chains. What is sent aside says nothing
    /// about batches, except where it was sent to find out.
    pub(in crate::relay) fn works(&mut self, sink: usize, loads: &[Load]) {
        let line = &mut self.sinks[sink].sending;
        if loads.iter().any(|load| load.aside) && !line.suspect {
            return;
        }
        line.suspect = false;
        line.rests_until = None;
        if std::mem::take(&mut line.failures) > 0 {
            tracing::info!(sink = %self.sinks[sink].name, "a sink takes events again");
        }
    }

    /// A call failed, and so did the sink, as far as can be told. After some failures its chains are
    /// tried each by itself.
    pub(in crate::relay) fn fails(
        &mut self,
        sink: usize,
        loads: &[Load],
        error: &SinkError,
        calls: Calls,
    ) {
        let state = &mut self.sinks[sink];
        let line = &mut state.sending;
        line.failures = line.failures.saturating_add(1);
        line.suspect |= line.failures >= PATIENCE || error.kind() == SinkErrorKind::Timeout;
        let until = Instant::now() + calls.delay(line.failures, error);
        line.rests_until = Some(until);
        if line.failures.is_power_of_two() {
            let (sink, failures) = (&state.name, line.failures);
            tracing::warn!(%sink, failures, %error, "a sink does not take events");
        }
        let suspect = line.suspect;
        state.last_error = Some(error.to_string());
        for load in loads {
            if let Some(chain) = self.chains.get_mut(&load.chain) {
                chain.lanes[sink].apart |= suspect;
            }
            self.settled(sink, load, Settled::Again(until, error.to_string()));
        }
    }

    /// Whether the sink works as far as is known, so that a chain that fails does so by itself.
    pub(in crate::relay) fn is_trusted(&self, sink: usize) -> bool {
        !self.sinks[sink].sending.suspect
    }

    /// Whether no chain fails at a sink at present.
    pub(in crate::relay) fn is_sound(&self, sink: usize) -> bool {
        let sound = |chain: &Chain| {
            let lane = &chain.lanes[sink];
            lane.failures == 0 && lane.head_failures == 0 && !lane.is_stopped()
        };
        self.sinks[sink].sending.delayed.is_empty() && self.chains.values().all(sound)
    }

    /// How often a chain has failed in a row at a sink, and whether something of it is in doubt.
    pub(in crate::relay) fn record_of(&self, sink: usize, id: u64) -> (u32, bool) {
        let lane = self.chains.get(&id).map(|chain| &chain.lanes[sink]);
        lane.map_or((0, false), |lane| (lane.failures, lane.doubt.is_some()))
    }

    pub(super) fn failures(&self, sink: usize) -> u32 {
        self.sinks[sink].sending.failures
    }
}

impl SinkState {
    /// Takes what is ready, as much as belongs into a batch.
    fn collect(
        &mut self,
        sink: usize,
        chains: &mut HashMap<u64, Chain>,
        apart: bool,
        most: usize,
        broken: &mut Vec<(u64, String)>,
    ) -> Vec<Load> {
        let line = if apart { &mut self.sending.apart } else { &mut self.sending.ready };
        let (mut events, mut bytes) = (0, 0);
        let mut loads = Vec::new();
        while loads.len() < most && events < self.max_events && bytes < self.max_bytes {
            let Some(id) = line.front().copied() else { break };
            let Some(chain) = chains.get_mut(&id) else {
                line.pop_front();
                continue;
            };
            if chain.lanes[sink].queue.is_empty() {
                chain.lanes[sink].busy = false;
                line.pop_front();
                continue;
            }
            let room = (self.max_events - events, self.max_bytes - bytes);
            let Some(load) = chain.load(id, sink, room, loads.is_empty()) else { break };
            line.pop_front();
            match load {
                Ok((load, size)) => {
                    events += load.segment.len();
                    bytes += size;
                    loads.push(load);
                }
                Err(why) => broken.push((id, why)),
            }
        }
        loads
    }

    fn send_aside(&mut self, mut loads: Vec<Load>) -> Vec<Load> {
        for load in &mut loads {
            load.aside = true;
        }
        self.sending.aside += loads.len();
        loads
    }
}

impl Line {
    fn queue(&mut self, id: u64, apart: bool) {
        if apart { self.apart.push_back(id) } else { self.ready.push_back(id) }
    }
}
