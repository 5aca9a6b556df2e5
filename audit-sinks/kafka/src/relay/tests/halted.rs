//! A chain that one sink refuses is nothing to the others, whenever the relay meets it again.

use agent_audit_core::conformance::TestChain;

use super::*;
use crate::relay::halted::HaltNote;

/// Two sinks, and a chain of twelve events of which the first refuses event 5.
fn refused() -> (State, TestChain) {
    let state = state(true, &[readable("ill"), readable("sound")]);
    let mut chain = TestChain::new();
    chain.extend(12);
    (state, chain)
}

/// The relay meets the chain behind what was refused; the sinks answer in some order.
fn met_behind_it(state: &mut State, chain: &TestChain, order: [usize; 2]) {
    read_all(state, 0, chain, 8..10);
    for sink in order {
        state.met(sink, 0, head(chain, [4, 7][sink]));
    }
}

fn halted(state: &State) -> Vec<usize> {
    state.status().sinks.iter().map(|sink| sink.halted).collect()
}

#[test]
fn what_one_sink_lacks_the_others_do_not_wait_for() {
    for order in [[0, 1], [1, 0]] {
        one_sink_lacks_something(order);
    }
}

fn one_sink_lacks_something(order: [usize; 2]) {
    let (mut state, chain) = refused();
    met_behind_it(&mut state, &chain, order);
    assert_eq!(deliver(&mut state, 1), [(8, 9)], "at once");
    assert!(deliver(&mut state, 0).is_empty());
    let gaps = state.status().gaps;
    assert_eq!((gaps.len(), gaps[0].missing, gaps[0].waiting), (1, 5, 2));
    assert_eq!(gaps[0].sink.as_deref(), Some("ill"));
    assert_eq!(committable(&state), Some(0), "it may still come");

    state.give_up_gaps(Instant::now() + Duration::from_secs(61));
    let ill = |at| (Some("ill".to_owned()), at, ProblemKind::Gap);
    assert_eq!(quarantine(&mut state), [ill(8), ill(9)]);
    assert_eq!(halted(&state), [1, 0]);
    assert_eq!((committable(&state), bytes(&state)), (Some(2), 0));

    // From here on at once, and copies once.
    read_all(&mut state, 2, &chain, [10, 11, 10, 8]);
    assert_eq!(deliver(&mut state, 1), [(10, 11)]);
    assert_eq!(quarantine(&mut state), [ill(10), ill(11)]);
    assert_eq!(committable(&state), Some(6));
    assert_eq!(state.status().copies, 2);
    assert!(state.status().gaps.is_empty());
}

#[test]
fn what_all_sinks_lack_is_given_up_once() {
    let (mut state, chain) = refused();
    read_all(&mut state, 0, &chain, 8..10);
    state.met(0, 0, head(&chain, 4));
    let start = Instant::now();
    while Instant::now() == start {}
    state.met(1, 0, head(&chain, 4));
    let gaps = state.status().gaps;
    assert_eq!((gaps.len(), gaps[0].missing, &gaps[0].sink), (1, 5, &None));
    // At a moment at which the first has waited long enough, and the second has not.
    let since = state.chains[&0].lanes[0].gap_since.unwrap();
    state.give_up_gaps(since + Duration::from_secs(60));
    assert_eq!(quarantine(&mut state), [(None, 8, ProblemKind::Gap), (None, 9, ProblemKind::Gap)]);
    assert_eq!((committable(&state), bytes(&state)), (Some(2), 0));
}

#[test]
fn a_halt_that_was_noted_holds_at_once() {
    for order in [[0, 1], [1, 0]] {
        a_halt_was_noted(order);
    }
}

fn a_halt_was_noted(order: [usize; 2]) {
    let (mut state, chain) = refused();
    let note = |sink: &str, halted: Option<&str>| HaltNote {
        sink: sink.to_owned(),
        chain: chain.chain().clone(),
        halted: halted.map(str::to_owned),
    };
    let notes = [
        note("gone", Some("no sink of this relay")),
        note("sound", Some("once upon a time")),
        note("sound", None),
        note("ill", Some("too large")),
    ];
    state.recall_halts(notes);
    met_behind_it(&mut state, &chain, order);
    assert_eq!(deliver(&mut state, 1), [(8, 9)]);
    let messages: Vec<_> =
        state.refusals.iter().map(|refusal| refusal.problem.message.clone()).collect();
    assert_eq!(messages, ["too large", "too large"]);
    let ill = |at| (Some("ill".to_owned()), at, ProblemKind::Refused);
    assert_eq!(quarantine(&mut state), [ill(8), ill(9)]);
    assert_eq!((halted(&state), committable(&state)), (vec![1, 0], Some(2)));
}

#[test]
fn a_halt_is_noted_and_a_sink_that_was_mended_goes_on() {
    let (mut state, chain) = refused();
    read_all(&mut state, 0, &chain, 4..8);
    state.met(0, 0, head(&chain, 4));
    state.met(1, 0, head(&chain, 4));
    assert_eq!(deliver(&mut state, 1), [(4, 4), (5, 7)]);
    refuse_after(&mut state, 0, 1);
    let noted = state.halt_notes.clone();
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].sink.as_str(), noted[0].halted.as_deref()), ("ill", Some("no")));

    // It is mended, and the offsets are set back.
    let (mut state, _) = refused();
    state.recall_halts(noted);
    read_all(&mut state, 0, &chain, 4..12);
    state.met(1, 0, head(&chain, 7));
    state.met(0, 0, head(&chain, 4));
    assert_eq!(deliver(&mut state, 0), [(4, 4), (5, 11)]);
    assert_eq!(deliver(&mut state, 1), [(4, 7), (8, 11)]);
    assert_eq!((halted(&state), committable(&state)), (vec![0, 0], Some(8)));
    let notes: Vec<_> = state.halt_notes.iter().map(|note| note.halted.clone()).collect();
    assert_eq!(notes, [None], "the next relay is told");
    assert!(state.refusals.is_empty());
}

#[test]
fn a_chain_that_was_forgotten_is_halted_where_it_was() {
    for (quarantined, infos) in [
        (true, [readable("ill"), readable("sound")]),
        (false, [readable("ill"), readable("sound")]),
        (true, [SinkInfo::new("ill", "test"), readable("sound")]),
    ] {
        let mut state = state(quarantined, &infos);
        let mut chain = TestChain::new();
        chain.extend(12);
        read_all(&mut state, 0, &chain, 0..8);
        state.met(0, 0, None);
        state.met(1, 0, None);
        refuse_after(&mut state, 0, 5);
        deliver(&mut state, 1);
        quarantine(&mut state);
        // Others come by, until it is forgotten.
        let mut offset = 8;
        while state.chains.contains_key(&0) {
            let mut other = TestChain::new();
            let id = u64::try_from(offset - 7).unwrap();
            read(&mut state, offset, &other.clone(), &other.extend(1).records()[0]);
            for sink in [0, 1] {
                state.met(sink, id, None);
                deliver(&mut state, sink);
            }
            offset += 1;
        }
        let id = u64::try_from(offset - 7).unwrap();
        read_all(&mut state, offset, &chain, 8..12);
        state.met(0, id, head(&chain, 4));
        state.met(1, id, head(&chain, 7));
        assert_eq!(deliver(&mut state, 1), [(8, 11)]);
        assert!(deliver(&mut state, 0).is_empty());
        assert!(state.status().gaps.is_empty(), "nothing is waited for");
        assert_eq!(halted(&state), [1, 0]);
        let refused = quarantine(&mut state);
        assert_eq!(refused.len(), if quarantined { 4 } else { 0 });
        let passed = if quarantined { offset + 4 } else { 5 };
        assert_eq!(committable(&state), Some(passed));
    }
}

#[test]
fn what_is_not_linked_at_one_sink_is_refused_there_although_another_takes_it() {
    // One sink has another branch. The other answers first, and takes what is read.
    for order in [[0, 1], [1, 0]] {
        let (mut state, chain) = refused();
        let mut fork = chain.fork(5);
        fork.extend(3);
        read_all(&mut state, 0, &chain, [9, 8, 8]);
        for sink in order {
            state.met(sink, 0, head([&fork, &chain][sink], 7));
        }
        assert_eq!(deliver(&mut state, 1), [(8, 9)]);
        assert!(deliver(&mut state, 0).is_empty());
        let ill = |at, kind| (Some("ill".to_owned()), at, kind);
        let refused = quarantine(&mut state);
        assert!(refused.contains(&ill(8, ProblemKind::Unlinked)), "{order:?}: {refused:?}");
        state.give_up_gaps(Instant::now() + Duration::from_secs(61));
        assert_eq!(quarantine(&mut state), [ill(9, ProblemKind::Gap)]);
        assert_eq!((committable(&state), bytes(&state)), (Some(3), 0));
    }
}

#[test]
fn a_sink_that_does_not_answer_delays_no_other() {
    let mut state = state(false, &[readable("away"), readable("here"), SinkInfo::new("c", "test")]);
    let mut chain = TestChain::new();
    chain.extend(3);
    read_all(&mut state, 0, &chain, 0..3);
    state.met(1, 0, None);
    assert_eq!(deliver(&mut state, 1), [(0, 2)]);
    assert_eq!(deliver(&mut state, 2), [(0, 2)]);
    assert_eq!(committable(&state), Some(0));
    state.met(0, 0, head(&chain, 0));
    assert_eq!(deliver(&mut state, 0), [(0, 0), (1, 2)]);
    assert_eq!(committable(&state), Some(3));
}

#[test]
fn what_two_sinks_have_of_a_chain_may_differ() {
    // The relay died while the first sink was slower, and one message stands before its turn.
    let (mut state, chain) = refused();
    read_all(&mut state, 0, &chain, [3, 4, 6, 5, 6, 7, 8, 9, 6]);
    state.met(0, 0, head(&chain, 4));
    state.met(1, 0, head(&chain, 7));
    assert_eq!(deliver(&mut state, 0), [(3, 4), (5, 9)]);
    let sent = deliver(&mut state, 1);
    assert!(sent.contains(&(8, 9)) && sent.iter().all(|(_, last)| *last <= 7 || *last == 9));
    assert_eq!((committable(&state), bytes(&state)), (Some(9), 0));
    assert!(state.refusals.is_empty());
}
