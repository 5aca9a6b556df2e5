//! Who gives way where there is no room.

use super::*;

/// More than half of what there is room for.
const TOO_MANY: usize = (1 << 19) / BYTES + 1;

/// A tenant's chains, of each of which the first event is there and the second is missing.
fn gaps(
    state: &mut State,
    offset: &mut i64,
    tenant: &str,
    chains: usize,
    events: usize,
) -> Vec<TestChain> {
    let mut made = Vec::new();
    for _ in 0..chains {
        let mut chain = of(tenant);
        chain.extend(events + 2);
        let positions = std::iter::once(0).chain(2..events + 2);
        read_all(state, *offset, &chain, positions);
        *offset += i64::try_from(events).unwrap() + 1;
        made.push(chain);
    }
    made
}

/// Whose events were given up.
fn given_up(state: &State) -> Vec<String> {
    let tenants = state.refusals.iter().filter_map(|refusal| refusal.problem.event.as_ref());
    let mut tenants: Vec<_> = tenants.map(|(chain, _)| chain.tenant_id.to_string()).collect();
    tenants.dedup();
    tenants
}

#[test]
fn the_largest_gap_gives_way() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut offset = 0;
    let small = gaps(&mut state, &mut offset, "acme", 1, 3).remove(0);
    gaps(&mut state, &mut offset, "globex", 1, TOO_MANY);
    let late = gaps(&mut state, &mut offset, "initech", 1, 3).remove(0);
    state.give_up_gaps(Instant::now());
    assert_eq!(given_up(&state), ["globex"]);
    assert_eq!(waiting(&state), 6 * BYTES);
    deliver(&mut state, 0);
    for chain in [&small, &late] {
        read(&mut state, offset, chain, &chain.records()[1]);
        offset += 1;
        assert_eq!(deliver(&mut state, 0), [(1, 4)], "it was kept");
    }
}

#[test]
fn many_small_gaps_of_one_tenant_give_way_before_the_gap_of_another() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut offset = 0;
    let one = gaps(&mut state, &mut offset, "acme", 1, 50).remove(0);
    gaps(&mut state, &mut offset, "globex", TOO_MANY / 10, 10);
    state.give_up_gaps(Instant::now());
    assert_eq!(given_up(&state), ["globex"]);
    assert!(waiting(&state) > (1 << 19) - 11 * BYTES, "no more than needed");
    deliver(&mut state, 0);
    read(&mut state, offset, &one, &one.records()[1]);
    assert_eq!(deliver(&mut state, 0), [(1, 51)]);
}

#[test]
fn a_gap_that_was_given_up_and_healed_is_forgotten() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut chain = TestChain::new();
    chain.extend(8);
    read_all(&mut state, 0, &chain, [0, 2]);
    state.give_up_gaps(Instant::now() + Duration::from_secs(61));
    assert_eq!(quarantine(&mut state).len(), 1);
    // The next gap is another one.
    read_all(&mut state, 2, &chain, [1, 2, 3, 5]);
    assert!(state.refusals.is_empty(), "5 waits for 4");
    read_all(&mut state, 6, &chain, [4]);
    assert_eq!(deliver(&mut state, 0), [(0, 5)]);
    assert_eq!(committable(&state), Some(7));
}

#[test]
fn a_partition_that_rests_does_not_use_up_the_time_to_wait() {
    let mut state = state(true, &[SinkInfo::new("a", "test")]);
    let mut offset = 0;
    let chain = gaps(&mut state, &mut offset, "acme", 1, 2).remove(0);
    let place = (PLACE.0.to_owned(), PLACE.1);
    // Another tenant has filled it: what is missing may be the next message.
    state.partitions.get_mut(&place).unwrap().paused = true;
    let start = Instant::now();
    state.give_up_gaps(start + Duration::from_secs(100));
    state.partitions.get_mut(&place).unwrap().paused = false;
    state.give_up_gaps(start + Duration::from_secs(110));
    assert!(state.refusals.is_empty());
    read(&mut state, offset, &chain, &chain.records()[1]);
    assert_eq!(deliver(&mut state, 0), [(0, 3)]);
    gaps(&mut state, &mut offset, "acme", 1, 2);
    state.give_up_gaps(start + Duration::from_secs(1_000));
    assert_eq!(state.refusals.len(), 2, "the time runs again");
}

#[test]
fn very_many_events_behind_a_gap_are_taken_at_once() {
    let mut state = state(false, &[readable("a"), readable("b")]);
    state.limits.max_buffered_bytes = usize::MAX;
    let mut chain = TestChain::new();
    chain.extend(20_000);
    state.limits.max_chains = 1;
    read(&mut state, 0, &chain, &chain.records()[0]);
    state.met(0, 0, None);
    state.met(1, 0, None);
    read_all(&mut state, 1, &chain, (1..20_000).rev());
    for sink in [0, 1] {
        let sent = deliver(&mut state, sink);
        assert_eq!((sent[0].0, sent[sent.len() - 1].1), (0, 19_999));
    }
    assert_eq!((committable(&state), waiting(&state)), (Some(20_000), 0));
}
