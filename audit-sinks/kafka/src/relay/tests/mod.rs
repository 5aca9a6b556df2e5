//! The state without a cluster, and the work for sinks that are in memory.

mod halted;
mod room;
mod sinks;

use std::time::{Duration, Instant};

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    record::Record,
    sink::{Head, SinkInfo},
};

use super::{
    chain::Item,
    state::{Limits, Load, Settled, SinkState, State},
    status::ProblemKind,
};

const PLACE: (&str, i32) = ("t", 0);

/// The bytes of each event that is read.
const BYTES: usize = 1_000;

fn limits(quarantine: bool) -> Limits {
    Limits {
        max_buffered_bytes: 1 << 20,
        max_chains: 100,
        gap_timeout: Duration::from_secs(60),
        quarantine,
    }
}

fn state(quarantine: bool, sinks: &[SinkInfo]) -> State {
    let mut state = State::new(limits(quarantine), sinks.iter().map(SinkState::new).collect());
    state.assign(PLACE.0, PLACE.1);
    state
}

fn readable(name: &str) -> SinkInfo {
    SinkInfo::new(name, "test").with_readable_heads()
}

fn of(tenant: &str) -> TestChain {
    TestChain::of(TenantId::new(tenant).unwrap())
}

fn read(state: &mut State, offset: i64, chain: &TestChain, record: &Record) {
    let view = record.view().unwrap();
    let item = Item {
        sequence: view.sequence,
        previous: view.previous_event_hash,
        hash: record.event_hash(),
        record: record.clone(),
        offset,
        bytes: BYTES,
    };
    state.event(&(PLACE.0.to_owned(), PLACE.1), offset, chain.chain().clone(), item);
}

/// Reads the events at these positions, each an offset further.
fn read_all(
    state: &mut State,
    offset: i64,
    chain: &TestChain,
    positions: impl IntoIterator<Item = usize>,
) {
    for (offset, at) in (offset..).zip(positions) {
        read(state, offset, chain, &chain.records()[at]);
    }
}

fn committable(state: &State) -> Option<i64> {
    state.partitions[&(PLACE.0.to_owned(), PLACE.1)].committable()
}

fn bytes(state: &State) -> usize {
    state.partitions[&(PLACE.0.to_owned(), PLACE.1)].bytes
}

fn head(chain: &TestChain, at: usize) -> Option<Head> {
    Some(Head::new(at as u64, chain.records()[at].event_hash()))
}

/// The bytes of what waits for a missing event.
fn waiting(state: &State) -> usize {
    state.chains.values().map(|chain| chain.waiting_bytes).sum()
}

/// Writes what was refused to the quarantine, and says of which sink and position it was.
fn quarantine(state: &mut State) -> Vec<(Option<String>, u64, ProblemKind)> {
    let refusals: Vec<_> = state.refusals.drain(..).collect();
    state.quarantined(&refusals);
    let what = |refusal: &super::state::Refusal| {
        let problem = &refusal.problem;
        let position = problem.event.as_ref().map_or(u64::MAX, |(_, sequence)| *sequence);
        (problem.sink.clone(), position, problem.kind)
    };
    refusals.iter().map(what).collect()
}

/// Sends what a sink is to get, and has it stored.
fn deliver(state: &mut State, sink: usize) -> Vec<(u64, u64)> {
    let mut sent = Vec::new();
    while let Ok(loads) = state.next_loads(sink, Instant::now()) {
        for load in &loads {
            sent.push((load.segment.first(), load.segment.last()));
            state.settled(sink, load, Settled::Stored(load.segment.len()));
        }
    }
    sent
}

fn one_load(state: &mut State, sink: usize) -> Load {
    let mut loads = state.next_loads(sink, Instant::now()).unwrap();
    assert_eq!(loads.len(), 1);
    loads.remove(0)
}

/// A sink stores so many events of the next run, and refuses what follows.
fn refuse_after(state: &mut State, sink: usize, stored: usize) {
    let load = one_load(state, sink);
    state.settled(sink, &load, Settled::Stored(stored));
    let load = one_load(state, sink);
    state.settled(sink, &load, Settled::Refused("no".to_owned()));
}

#[test]
fn offsets_follow_the_slowest_sink() {
    let mut state = state(false, &[readable("a"), readable("b")]);
    let mut chain = TestChain::new();
    for (offset, record) in (0..).zip(chain.extend(5).records()) {
        read(&mut state, offset, &chain, record);
    }
    assert!(state.next_loads(0, Instant::now()).is_err(), "the heads are not known yet");
    state.met(0, 0, None);
    assert_eq!(deliver(&mut state, 0), [(0, 4)], "whatever the other one says, and when");
    assert_eq!(committable(&state), Some(0));
    state.met(1, 0, None);
    let load = one_load(&mut state, 1);
    state.settled(1, &load, Settled::Stored(3));
    assert_eq!(committable(&state), Some(3));
    assert_eq!(deliver(&mut state, 1), [(3, 4)]);
    assert_eq!(committable(&state), Some(5));
    assert!(state.is_idle());
    assert_eq!(state.status().relayed, 5);
}

#[test]
fn copies_are_dropped_and_what_is_early_waits() {
    let mut state = state(false, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    chain.extend(5);
    for (offset, at) in [0, 1, 3, 4, 1, 2, 3, 4].into_iter().enumerate() {
        read(&mut state, i64::try_from(offset).unwrap(), &chain, &chain.records()[at]);
        if at == 4 && offset == 3 {
            assert_eq!(deliver(&mut state, 0), [(0, 1)]);
            assert_eq!(committable(&state), Some(2), "3 and 4 wait for 2");
            assert_eq!(state.status().gaps[0].missing, 2);
        }
    }
    assert_eq!(deliver(&mut state, 0), [(2, 4)]);
    assert_eq!(committable(&state), Some(8));
    let status = state.status();
    assert_eq!((status.copies, status.relayed, status.problems), (3, 5, 0));
    assert!(status.gaps.is_empty());
    assert_eq!((bytes(&state), waiting(&state)), (0, 0));
}

#[test]
fn a_fork_is_a_problem_and_the_chain_goes_on() {
    for quarantine in [false, true] {
        let mut state = state(quarantine, &[SinkInfo::new("a", "test")]);
        let mut chain = TestChain::new();
        chain.extend(4);
        let mut fork = chain.fork(1);
        fork.extend(2);
        for (offset, (from, at)) in
            [(&chain, 0), (&chain, 1), (&fork, 1), (&fork, 2), (&chain, 2), (&chain, 3)]
                .into_iter()
                .enumerate()
        {
            read(&mut state, i64::try_from(offset).unwrap(), &chain, &from.records()[at]);
        }
        assert_eq!(deliver(&mut state, 0), [(0, 3)]);
        let kinds: Vec<_> =
            state.status().latest_problems.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, [ProblemKind::Conflict, ProblemKind::Unlinked]);
        assert_eq!(committable(&state), Some(2), "the fork is nowhere yet");
        if quarantine {
            let refusals: Vec<_> = state.refusals.drain(..).collect();
            state.quarantined(&refusals);
            assert_eq!(committable(&state), Some(6));
        }
    }
}

#[test]
fn a_refusal_halts_the_chain_at_that_sink_alone() {
    let mut state = state(true, &[SinkInfo::new("a", "test"), SinkInfo::new("b", "test")]);
    let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
    for (offset, record) in (0..).zip(ill.extend(3).records()) {
        read(&mut state, offset, &ill, record);
    }
    refuse_after(&mut state, 0, 1);
    assert_eq!(state.refusals.len(), 2, "the refused event and the one behind it");
    for (offset, record) in (3..).zip(sound.extend(2).records()) {
        read(&mut state, offset, &sound, record);
    }
    read(&mut state, 5, &ill, &ill.clone().extend(1).records()[0]);
    assert_eq!(deliver(&mut state, 0), [(0, 1)], "of the sound one");
    assert_eq!(deliver(&mut state, 1), [(0, 3), (0, 1)]);
    assert_eq!(state.refusals.len(), 3);
    assert_eq!(committable(&state), Some(1));
    let refusals: Vec<_> = state.refusals.drain(..).collect();
    state.quarantined(&refusals);
    assert_eq!(committable(&state), Some(6));
    assert_eq!(state.status().sinks[0].halted, 1);
    assert_eq!(state.status().sinks[1].halted, 0);
    assert_eq!(bytes(&state), 0);
}

#[test]
fn without_a_quarantine_offsets_stay_before_what_was_refused() {
    let mut state = state(false, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    for (offset, record) in (0..).zip(chain.extend(3).records()) {
        read(&mut state, offset, &chain, record);
    }
    refuse_after(&mut state, 0, 1);
    assert!(state.is_idle(), "nothing is held of it");
    assert_eq!(committable(&state), Some(1));
    assert_eq!(bytes(&state), 0);
}

#[test]
fn a_failure_comes_again_when_it_is_due() {
    let mut state = state(false, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    chain.extend(3);
    for (offset, at) in [(0, 0), (1, 1)] {
        read(&mut state, offset, &chain, &chain.records()[at]);
    }
    let now = Instant::now();
    let load = one_load(&mut state, 0);
    let due = now + Duration::from_secs(60);
    state.settled(0, &load, Settled::Again(due, "later".to_owned()));
    assert_eq!(state.next_loads(0, now).unwrap_err(), Some(due));
    // What came since does not make another segment of it.
    read(&mut state, 2, &chain, &chain.records()[2]);
    let again = state.next_loads(0, due).unwrap();
    assert_eq!(again[0].segment, load.segment);
    state.settled(0, &again[0], Settled::Stored(2));
    assert_eq!(deliver(&mut state, 0), [(2, 2)]);
}

#[test]
fn events_that_the_sinks_have_are_put_to_them_to_compare() {
    let mut state = state(false, &[readable("a")]);
    let mut chain = TestChain::new();
    let segment = chain.extend(6);
    for (offset, record) in (0..).zip(segment.records()) {
        read(&mut state, offset, &chain, record);
    }
    state.met(0, 0, head(&chain, 3));
    assert_eq!(deliver(&mut state, 0), [(0, 3), (4, 5)]);
    assert_eq!(committable(&state), Some(6));
}

#[test]
fn a_forged_old_event_does_not_stop_its_chain() {
    let mut state = state(true, &[readable("a")]);
    let mut chain = TestChain::new();
    chain.extend(6);
    let forged = chain.fork(2).extend(1).records()[0].clone();
    read(&mut state, 0, &chain, &forged);
    read(&mut state, 1, &chain, &chain.records()[4]);
    state.met(0, 0, head(&chain, 3));
    let load = one_load(&mut state, 0);
    assert!(load.old);
    state.settled(0, &load, Settled::Refused("it holds another event".to_owned()));
    assert_eq!(deliver(&mut state, 0), [(4, 4)]);
    assert_eq!(state.refusals.len(), 1);
}

#[test]
fn a_gap_that_others_fill_is_over() {
    let mut state = state(false, &[readable("a")]);
    let mut chain = TestChain::new();
    chain.extend(6);
    read(&mut state, 0, &chain, &chain.records()[4]);
    state.met(0, 0, head(&chain, 1));
    assert_eq!(state.status().gaps.len(), 1);
    assert!(deliver(&mut state, 0).is_empty());
    state.met(0, 0, head(&chain, 3));
    assert_eq!(deliver(&mut state, 0), [(4, 4)]);
    assert!(state.status().gaps.is_empty());
}

#[test]
fn a_gap_that_nobody_fills_is_quarantined_and_heals_when_all_comes_again() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    chain.extend(5);
    for (offset, at) in [0, 2, 3].into_iter().enumerate() {
        read(&mut state, i64::try_from(offset).unwrap(), &chain, &chain.records()[at]);
    }
    let later = Instant::now() + Duration::from_secs(61);
    state.give_up_gaps(later);
    assert_eq!(state.refusals.len(), 2);
    assert!(state.refusals.iter().all(|refusal| refusal.problem.kind == ProblemKind::Gap));
    read(&mut state, 3, &chain, &chain.records()[4]);
    assert_eq!(state.refusals.len(), 3, "nobody waits any more");
    for (offset, at) in (4..).zip(1..5) {
        read(&mut state, offset, &chain, &chain.records()[at]);
    }
    assert_eq!(deliver(&mut state, 0), [(0, 4)]);
}

#[test]
fn a_gap_holds_no_more_than_half_of_what_there_is_room_for() {
    let mut state = state(false, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    chain.extend(1_000);
    read(&mut state, 0, &chain, &chain.records()[0]);
    for (offset, at) in (1..).zip(2..1_000) {
        read(&mut state, offset, &chain, &chain.records()[at]);
        state.give_up_gaps(Instant::now());
        assert!(bytes(&state) <= (1 << 19) + 2 * BYTES);
    }
    deliver(&mut state, 0);
    assert_eq!(committable(&state), Some(1), "what was let go of is read again after a restart");
}

#[test]
fn a_partition_that_goes_takes_everything_with_it() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    for (offset, record) in (0..).zip(chain.extend(3).records()) {
        read(&mut state, offset, &chain, record);
    }
    let load = one_load(&mut state, 0);
    state.revoke("t", 0);
    // The answer comes when the partition is somebody else's, or here again.
    state.assign("t", 0);
    state.settled(0, &load, Settled::Stored(3));
    assert_eq!(committable(&state), None);
    assert!(state.is_idle() && state.chains.is_empty());
}

#[test]
fn chains_at_rest_are_forgotten_when_there_are_too_many() {
    let mut state = state(false, &[SinkInfo::new("a", "test")]);
    for offset in 0..250 {
        let mut chain = TestChain::new();
        read(&mut state, offset, &chain.clone(), &chain.extend(1).records()[0]);
        deliver(&mut state, 0);
        assert!(state.chains.len() <= 101);
    }
    assert_eq!(committable(&state), Some(250));
    assert_eq!(state.partitions[&("t".to_owned(), 0)].chains.len(), state.chains.len());
}
