//! The fault of one tenant, and the others that go on beside it.

use super::*;
use crate::delivery::aside::MOST_ASIDE;

/// A timeout that a test would not survive.
fn never() -> DeliveryOptions {
    options().with_append_timeout(Duration::from_secs(86_400))
}

/// A sink at which `tenants` have failed once, so that each is sent by itself.
fn lagging(world: &mut World, tenants: &str) -> (Arc<Store>, Delivery) {
    let sink = Store::new();
    for tenant in tenants.chars() {
        sink.lock()
            .tenants
            .insert(tenant.to_string(), Part::Fail { applied: false, retryable: true });
    }
    world.write_all(tenants);
    let delivery = world.start_with(&[&sink], never());
    until("they lag", || delivery.health()[0].lagging == tenants.len());
    (sink, delivery)
}

#[test]
fn a_chain_on_which_the_sink_hangs_delays_no_other() {
    for applied in [false, true] {
        let mut world = World::new();
        let (sink, delivery) = lagging(&mut world, "a");
        {
            let mut state = sink.lock();
            state.hanging.insert("a".to_owned(), applied);
            state.tenants.clear();
        }
        sink.wait_until("a call hangs", |state| state.under_way == 1);
        for round in 0..20 {
            world.write_all("abc");
            wait(delivery.delivered(&chain("b"), round)).unwrap();
            wait(delivery.delivered(&chain("c"), round)).unwrap();
        }
        // All that while that one call was under way.
        assert_eq!(sink.lock().under_way, 1);
        assert_eq!(delivery.health()[0].state, SinkState::Working);
        drop(delivery);

        sink.lock().hanging.clear();
        let delivery = world.start(&[&sink]);
        assert_eq!(delivery.close(FOREVER), [], "{applied}");
        world.assert_complete(&sink);
    }
}

#[test]
fn another_chain_that_lags_is_not_delayed_either() {
    let mut world = World::new();
    let (sink, delivery) = lagging(&mut world, "abc");
    {
        let mut state = sink.lock();
        state.hanging.insert("a".to_owned(), false);
        state.tenants.clear();
    }
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    wait(delivery.delivered(&chain("c"), 0)).unwrap();
    world.write_all("abcabc");
    wait(delivery.delivered(&chain("c"), 2)).unwrap();
    assert_eq!(sink.len("a"), 0);
}

#[test]
fn a_call_that_hangs_on_one_tenant_is_taken_apart_and_it_is_alone_from_then_on() {
    for applied in [false, true] {
        let mut world = World::new();
        let sink = Store::new();
        sink.lock().hanging.insert("a".to_owned(), applied);
        world.write_all("abcabc");
        let options = options().with_append_timeout(Duration::from_millis(50));
        let delivery = world.start_with(&[&sink], options);
        for round in 0..20 {
            wait(delivery.delivered(&chain("b"), round)).unwrap();
            wait(delivery.delivered(&chain("c"), round)).unwrap();
            world.write_all("abc");
        }
        let calls = sink.lock().calls.clone();
        let shared = |call: &&Vec<(String, u64, u64)>| {
            call.len() > 1 && call.iter().any(|(tenant, ..)| tenant == "a")
        };
        assert_eq!(calls.iter().filter(shared).count(), 1, "{applied} {calls:?}");
        sink.lock().hanging.clear();
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_head_that_is_never_told_delays_its_chain_alone() {
    let mut world = World::new();
    let sink = Store::with_heads();
    sink.lock().mute.insert("a".to_owned());
    world.write_all("aabb");
    let options = options().with_append_timeout(Duration::from_millis(300));
    let delivery = world.start_with(&[&sink], options);
    for round in 0..20 {
        wait(delivery.delivered(&chain("b"), round)).unwrap();
        world.write_all("ab");
    }
    assert_eq!(sink.len("a"), 0);
    sink.lock().mute.clear();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn however_many_hang_there_is_a_bound_and_the_others_go_on() {
    let mut world = World::new();
    let many = "abcdefghijklmnopqrst";
    let (sink, delivery) = lagging(&mut world, many);
    {
        let mut state = sink.lock();
        state.tenants.clear();
        state.hanging.extend(many.chars().map(|tenant| (tenant.to_string(), false)));
    }
    sink.wait_until("all places are taken", |state| state.under_way == MOST_ASIDE);
    for round in 0..20 {
        world.write_all("axyz");
        wait(delivery.delivered(&chain("z"), round)).unwrap();
    }
    assert_eq!(sink.lock().most_under_way, MOST_ASIDE);
    drop(delivery);
    sink.lock().hanging.clear();
    assert_eq!(world.start(&[&sink]).close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn a_chain_that_has_caught_up_goes_with_the_others_again() {
    let mut world = World::new();
    let (sink, delivery) = lagging(&mut world, "a");
    world.write_all("ababab");
    sink.lock().tenants.clear();
    wait(delivery.delivered(&chain("a"), 3)).unwrap();
    until("it has rejoined", || delivery.health()[0].lagging == 0);
    // A batch that waits collects both.
    sink.lock().script.push_back(Act::Fail { applied: false, retryable: true });
    let before = sink.lock().calls.len();
    world.write("b");
    sink.wait_until("it failed", |state| state.calls.len() > before);
    world.write_all("ab");
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}
