//! Order, batches, and faults of a sink that lives.

use super::*;

const RETRYABLE: [Part; 3] = [
    Part::Fail { applied: false, retryable: true },
    Part::Fail { applied: true, retryable: true },
    Part::PrefixBeyond,
];

#[test]
fn every_chain_arrives_whole_and_in_order_at_every_sink() {
    let mut world = World::new();
    world.write_all("abacab");
    let (one, two) = (Store::new(), Store::with(SinkInfo::new("other", "test")));
    let delivery = world.start(&[&one, &two]);
    world.write_all("cabba");
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&one);
    world.assert_complete(&two);
    assert!(one.lock().closed);
}

#[test]
fn batches_stay_within_the_limits_of_the_sink() {
    let mut world = World::new();
    world.write_all("aaaaaabbbbbbab");
    let sink = Store::with(SinkInfo::new("store", "test").with_max_batch(4, 1 << 20));
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    let calls = sink.lock().calls.clone();
    assert_eq!(calls.len(), 4, "{calls:?}");
    assert_eq!(calls[1], [("a".to_owned(), 4, 5), ("b".to_owned(), 0, 1)]);
}

#[test]
fn an_event_larger_than_a_batch_goes_alone() {
    let mut world = World::new();
    world.write_all("aab");
    let sink = Store::with(SinkInfo::new("store", "test").with_max_batch(100, 1));
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    assert_eq!(sink.lock().calls.len(), 3);
}

#[test]
fn a_failed_batch_comes_again_as_it_was() {
    let faults = [
        Act::Fail { applied: false, retryable: true },
        Act::Fail { applied: true, retryable: true },
        Act::Fail { applied: false, retryable: false },
        Act::Panic,
        Act::WrongCount,
        Act::Hang { applied: false },
        Act::Hang { applied: true },
    ];
    for fault in faults {
        let mut world = World::new();
        world.write_all("abab");
        let sink = Store::new().script([fault.clone(), fault.clone()]);
        let options = options().with_append_timeout(Duration::from_millis(20));
        let delivery = world.start_with(&[&sink], options);
        // More is written before the sink has recovered; the batch must not grow by it.
        sink.wait_until("a first call", |state| !state.calls.is_empty());
        world.write_all("ba");
        assert_eq!(delivery.close(FOREVER), [], "{fault:?}");
        world.assert_complete(&sink);
        let calls = sink.lock().calls.clone();
        if matches!(fault, Act::Hang { .. }) {
            // Who hangs may be one of the two, so each of them comes again by itself.
            let first: BTreeSet<_> = calls[0].iter().collect();
            let again: BTreeSet<_> = calls[1..3].iter().flatten().collect();
            assert_eq!((first, calls[1].len(), calls[2].len()), (again, 1, 1), "{fault:?}");
        } else {
            assert_eq!(calls[0], calls[1], "{fault:?}");
            assert_eq!(calls[0], calls[2], "{fault:?}");
        }
    }
}

#[test]
fn a_segment_with_an_unknown_outcome_comes_again_as_it_was() {
    for part in RETRYABLE {
        let mut world = World::new();
        world.write_all("aaabb");
        let sink = Store::new().tenant("a", part);
        let delivery = world.start(&[&sink]);
        sink.wait_until("a first call", |state| !state.calls.is_empty());
        // The backlog of `a` grows behind it, and the retries must not.
        for round in 2..8 {
            world.write_all("ab");
            wait(delivery.delivered(&chain("b"), round)).unwrap();
        }
        let before = sink.lock().calls.len();
        sink.wait_until("another retry", |state| state.calls.len() > before + 1);
        let calls: Vec<_> = sink.lock().calls.iter().flatten().cloned().collect();
        let retries: BTreeSet<_> = calls.iter().filter(|call| call.0 == "a").collect();
        assert_eq!(retries, BTreeSet::from([&("a".to_owned(), 0, 2)]), "{part:?}");
        sink.lock().tenants.clear();
        assert_eq!(delivery.close(FOREVER), [], "{part:?}");
        world.assert_complete(&sink);
    }
}

#[test]
fn what_is_behind_a_prefix_follows() {
    let mut world = World::new();
    world.write_all("aaaaaaaab");
    let sink = Store::new().script([Act::First(Part::Prefix), Act::First(Part::Prefix)]);
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    let calls = sink.lock().calls.clone();
    assert_eq!(calls[1], [("a".to_owned(), 4, 7)]);
    assert_eq!(calls[2], [("a".to_owned(), 6, 7)]);
}

#[test]
fn a_conflict_halts_one_chain_and_no_other() {
    let mut world = World::new();
    let sink = Store::new();
    world.write_all("ab");
    sink.lock().chains.insert("a".to_owned(), vec![Hash::from_bytes([7; 32])]);
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    let refused = wait(delivery.delivered(&chain("a"), 0)).unwrap_err();
    assert_eq!(refused.kind(), AuditErrorKind::Undelivered);
    assert!(refused.to_string().contains("a/chain-1"), "{refused}");
    world.write_all("abab");
    wait(delivery.delivered(&chain("b"), 2)).unwrap();

    let health = delivery.health().remove(0);
    assert_eq!((health.state, health.lagging), (SinkState::Working, 0));
    assert_eq!(health.halted.len(), 1);
    assert_eq!((&health.halted[0].chain, health.halted[0].sequence), (&chain("a"), 0));
    assert_eq!(health.halted[0].reason, HaltReason::Conflict);

    let left = delivery.close(FOREVER);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].events, left[0].chains), (3, 1));
    assert_eq!(delivery.trimmable(), Some(0), "the events of the halted chain are kept");
    let sent = sink.lock().calls.iter().flatten().filter(|call| call.0 == "a").count();
    assert_eq!(sent, 1, "it is not tried again");
    assert_eq!(sink.lock().chains["a"], [Hash::from_bytes([7; 32])]);
    assert_eq!(sink.len("b"), 3);
}

#[test]
fn a_right_that_is_missing_halts_no_chain_and_is_mended_at_the_sink() {
    let mut world = World::new();
    let sink = Store::new().tenant("a", Part::Denied);
    world.write_all("aba");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    sink.wait_until("it is tried again", |state| {
        state.calls.iter().flatten().filter(|call| call.0 == "a").count() > 1
    });
    let health = delivery.health().remove(0);
    assert_eq!((health.halted, health.lagging), (Vec::new(), 1));
    assert!(health.last_error.is_some());

    sink.lock().tenants.clear();
    wait(delivery.delivered(&chain("a"), 1)).unwrap();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn a_refused_chain_is_halted_and_tried_again_after_the_next_open() {
    let mut world = World::new();
    let sink = Store::new().tenant("a", Part::Fail { applied: false, retryable: false });
    world.write_all("aba");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    assert_eq!(delivery.close(FOREVER).len(), 1);
    assert_eq!(delivery.health()[0].halted[0].reason, HaltReason::Rejected);

    sink.lock().tenants.clear();
    world.write_all("ab");
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(delivery.health()[0].halted, []);
    world.assert_complete(&sink);
}

#[test]
fn a_failing_tenant_does_not_delay_the_others() {
    for part in RETRYABLE {
        let mut world = World::new();
        let sink = Store::new().tenant("a", part);
        let delivery = world.start(&[&sink]);
        for round in 0..20 {
            world.write_all("abc");
            wait(delivery.delivered(&chain("b"), round)).unwrap();
            wait(delivery.delivered(&chain("c"), round)).unwrap();
        }
        // All that while nothing of `a` was acknowledged.
        let health = delivery.health().remove(0);
        assert_eq!((health.lagging, health.waiting), (1, 0), "{part:?}");
        assert_eq!(health.state, SinkState::Working);
        assert!(part == Part::PrefixBeyond || health.last_error.is_some());
        assert_eq!(delivery.trimmable(), Some(0));
        let acknowledged = delivery.delivered(&chain("a"), 19);
        sink.lock().tenants.clear();
        wait(acknowledged).unwrap();
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_sink_that_needs_mending_is_blocked_and_goes_on_when_it_is_mended() {
    let mut world = World::new();
    world.write_all("ab");
    let sink = Store::new();
    sink.lock().script.extend(vec![Act::Fail { applied: false, retryable: false }; 10_000]);
    let delivery = world.start(&[&sink]);
    sink.wait_until("a retry", |state| state.calls.len() > 1);
    let health = delivery.health().remove(0);
    assert_eq!(health.state, SinkState::Blocked);
    assert_eq!(health.last_error.as_deref(), Some("sink failed: scripted"));
    assert_eq!(health.halted, []);
    sink.lock().script.clear();
    wait(delivery.delivered(&chain("a"), 0)).unwrap();
    let health = delivery.health().remove(0);
    assert_eq!((health.state, health.failures), (SinkState::Working, 0));
    assert_eq!(delivery.close(FOREVER), []);
}

#[test]
fn a_segment_that_fails_every_batch_it_is_in_does_not_stop_the_others() {
    for poison in ["b", "a"] {
        let mut world = World::new();
        world.write_all("aabbccb");
        let sink = Store::new();
        sink.lock().poison = Some(poison.to_owned());
        let delivery = world.start(&[&sink]);
        for other in ["a", "b", "c"].into_iter().filter(|tenant| *tenant != poison) {
            wait(delivery.delivered(&chain(other), 1)).unwrap();
        }
        // Alone in its batch it does not stop them either.
        world.write_all("ab");
        for other in ["c", "d"] {
            world.write(other);
        }
        wait(delivery.delivered(&chain("d"), 0)).unwrap();
        assert_eq!(sink.len(poison), 0);
        sink.lock().poison = None;
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_batch_never_holds_more_than_its_limit_in_catch_up() {
    let mut world = World::new();
    let info = SinkInfo::new("store", "test").with_max_batch(3, 1 << 20);
    let sink = Store::with(info)
        .tenant("a", RETRYABLE[0])
        .tenant("b", RETRYABLE[0])
        .tenant("c", Part::Prefix);
    let delivery = world.start(&[&sink]);
    for round in 0..8 {
        world.write_all("aabbccd");
        wait(delivery.delivered(&chain("d"), round)).unwrap();
    }
    sink.lock().tenants.clear();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn names_are_checked() {
    let world = World::new();
    let named = |name: &str| Store::with(SinkInfo::new(name, "test")) as Arc<dyn Sink>;
    let start = |sinks: Vec<Arc<dyn Sink>>| {
        let sinks = sinks.into_iter().map(|sink| (Role::Required, sink));
        world.try_start(sinks, options()).unwrap_err()
    };
    let error = start(vec![named("hot"), named("cold"), named("Hot")]);
    assert_eq!(error.kind(), AuditErrorKind::Invalid);
    assert!(error.to_string().contains("`Hot`"), "{error}");
    for name in ["", "a/b", "..", "ü", &"x".repeat(129)] {
        assert_eq!(start(vec![named(name)]).kind(), AuditErrorKind::Invalid, "{name}");
    }
}

#[test]
fn without_sinks_nothing_runs_and_nothing_is_trimmed() {
    let mut world = World::new();
    world.write_all("a");
    let delivery = world.start(&[]);
    assert_eq!(delivery.trimmable(), None);
    wait(delivery.delivered(&chain("a"), 0)).unwrap();
    assert_eq!(delivery.health(), []);
    assert_eq!(delivery.close(FOREVER), []);
    assert!(!world.layout.cursors().exists());
}

#[test]
fn only_what_is_acknowledged_and_stored_may_be_trimmed() {
    let mut world = World::new();
    let sink = Store::new().script([Act::Hang { applied: true }]);
    world.write_all("abab");
    let delivery = world.start(&[&sink]);
    sink.wait_until("a call", |state| state.calls.len() == 1);
    assert_eq!(delivery.trimmable(), Some(0), "applied, and not acknowledged");
    drop(delivery);
    assert_eq!(world.cursor().map_or(0, |cursor| cursor.trimmable()), 0);

    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(delivery.trimmable(), Some(4));
    assert_eq!(world.cursor().unwrap().trimmable(), 4);
}
