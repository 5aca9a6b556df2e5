//! What a sink says it has, against what the journal has.

use super::*;

/// A sink and a journal that agree, and then the process ends.
fn delivered(tenants: &str) -> (World, Arc<Store>) {
    let mut world = World::new();
    let sink = Store::with_heads();
    world.write_all(tenants);
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    sink.lock().calls.clear();
    (world, sink)
}

fn halted(delivery: &Delivery) -> Vec<(String, u64, HaltReason)> {
    let halted = delivery.health().remove(0).halted;
    halted
        .into_iter()
        .map(|halted| (halted.chain.tenant_id.to_string(), halted.sequence, halted.reason))
        .collect()
}

#[test]
fn what_the_sink_has_is_not_sent_again() {
    let (mut world, sink) = delivered("aabab");
    std::fs::remove_file(world.cursor_path()).unwrap();
    world.write_all("a");
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    assert_eq!(sink.lock().calls, [[("a".to_owned(), 3, 3)]]);
}

#[test]
fn each_chain_is_asked_about_once() {
    let (mut world, sink) = delivered("ab");
    sink.lock().heads_asked = 0;
    let delivery = world.start(&[&sink]);
    for round in 1..5 {
        world.write_all("ab");
        wait(delivery.delivered(&chain("a"), round)).unwrap();
        wait(delivery.delivered(&chain("b"), round)).unwrap();
    }
    assert_eq!(sink.lock().heads_asked, 2);
    assert_eq!(delivery.close(FOREVER), []);
}

#[test]
fn a_head_far_into_the_backlog_is_found() {
    let mut world = World::new();
    let info = SinkInfo::new("store", "test").with_readable_heads().with_max_batch(2, 1 << 20);
    let sink = Store::with(info);
    world.write_all("aaaaaaaabbbaab");
    let held = world.written["a"][..7].to_vec();
    sink.lock().chains.insert("a".to_owned(), held);
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
    let first = sink.lock().calls.iter().flatten().filter(|c| c.0 == "a").map(|c| c.1).min();
    assert_eq!(first, Some(7));
}

#[test]
fn another_event_at_the_head_is_a_conflict() {
    // With the cursor kept, it is the next event alone that shows it.
    for (held, next, cursor) in [(1, "a", false), (3, "", false), (3, "a", false), (3, "a", true)] {
        let (mut world, sink) = delivered("aaab");
        if !cursor {
            std::fs::remove_file(world.cursor_path()).unwrap();
        }
        {
            let mut state = sink.lock();
            let chain = state.chains.get_mut("a").unwrap();
            chain.truncate(held);
            chain[held - 1] = Hash::from_bytes([9; 32]);
        }
        world.write_all(next);
        world.write_all("b");
        let delivery = world.start(&[&sink]);
        wait(delivery.delivered(&chain("b"), 1)).unwrap();
        wait(delivery.delivered(&chain("a"), 3)).unwrap_err();
        let sequence = u64::try_from(held).unwrap() - 1;
        assert_eq!(halted(&delivery), [("a".to_owned(), sequence, HaltReason::Conflict)]);
        assert_eq!(sink.len("a"), held, "nothing was added or overwritten");
        drop(delivery);
    }
}

#[test]
fn what_the_sink_lost_is_sent_again_while_the_journal_has_it() {
    for kept in [0, 1, 3] {
        let (mut world, sink) = delivered("aaaab");
        sink.lock().chains.get_mut("a").unwrap().truncate(kept);
        world.write_all("ab");
        let delivery = world.start(&[&sink]);
        assert_eq!(delivery.close(FOREVER), [], "{kept}");
        world.assert_complete(&sink);
    }
}

#[test]
fn what_both_have_lost_halts_the_chain() {
    let (mut world, sink) = delivered("a");
    // Enough for the first segments of the journal to go.
    world.write_all(&"ab".repeat(40));
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.journal.trim(delivery.trimmable().unwrap()).unwrap();
    assert!(world.journal.first_index() > 20);
    sink.lock().chains.get_mut("a").unwrap().truncate(3);

    world.write_all("ab");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 40)).unwrap();
    let error = wait(delivery.delivered(&chain("a"), 41)).unwrap_err();
    assert!(error.to_string().contains("no longer holds event 3"), "{error}");
    assert_eq!(halted(&delivery), [("a".to_owned(), 3, HaltReason::Corrupt)]);
    assert_eq!(sink.lock().faults, Vec::<String>::new());
}

#[test]
fn a_new_sink_on_a_trimmed_journal_is_not_given_half_a_chain() {
    let (mut world, sink) = delivered("a");
    world.write_all(&"a".repeat(80));
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.journal.trim(delivery.trimmable().unwrap()).unwrap();
    world.write_all("b");

    let late = Store::with(SinkInfo::new("late", "test").with_readable_heads());
    let delivery = world.start(&[&late]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    wait(delivery.delivered(&chain("a"), 80)).unwrap_err();
    assert_eq!(halted(&delivery), [("a".to_owned(), 0, HaltReason::Corrupt)]);
    assert_eq!(late.len("a"), 0);
}

#[test]
fn a_sink_with_more_than_the_journal_is_a_conflict() {
    let (mut world, sink) = delivered("aab");
    std::fs::remove_file(world.cursor_path()).unwrap();
    sink.lock().chains.get_mut("a").unwrap().push(Hash::from_bytes([5; 32]));
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("a"), 5)).unwrap_err();
    assert_eq!(halted(&delivery), [("a".to_owned(), 2, HaltReason::Conflict)]);
    world.write_all("b");
    wait(delivery.delivered(&chain("b"), 1)).unwrap();
}

#[test]
fn a_head_that_cannot_be_read_delays_its_chain_alone() {
    let mut world = World::new();
    let sink = Store::with_heads();
    sink.lock().headless.insert("a".to_owned());
    world.write_all("aabb");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 1)).unwrap();
    world.write_all("ab");
    wait(delivery.delivered(&chain("b"), 2)).unwrap();
    assert_eq!(sink.len("a"), 0);
    sink.lock().headless.clear();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn a_sink_that_answers_for_no_chain_is_not_working() {
    for (locked, state) in [(true, SinkState::Blocked), (false, SinkState::Retrying)] {
        // Nothing is known of the second chain: it has no say.
        let (mut world, sink) = delivered("ab");
        {
            let mut store = sink.lock();
            store.heads_asked = 0;
            store.locked = locked;
            store.headless.insert("a".to_owned());
        }
        world.write_all("a");
        let delivery = world.start(&[&sink]);
        // Whoever asks again has taken up the first answer.
        sink.wait_until("it is asked again", |state| state.heads_asked > 1);
        let health = delivery.health().remove(0);
        assert_eq!((health.state, health.lagging), (state, 1), "{health:?}");
        assert!(health.last_error.is_some(), "{health:?}");

        sink.lock().locked = false;
        sink.lock().headless.clear();
        wait(delivery.delivered(&chain("a"), 1)).unwrap();
        world.write_all("b");
        wait(delivery.delivered(&chain("b"), 1)).unwrap();
        let health = delivery.health().remove(0);
        assert_eq!((health.state, health.last_error), (SinkState::Working, None));
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_journal_with_a_hole_halts_the_chain_behind_what_is_before_it() {
    for heads in [true, false] {
        let mut world = World::new();
        let sink = if heads { Store::with_heads() } else { Store::new() };
        world.write_all("aab");
        world.heads.get_mut("a").unwrap().0 += 1;
        world.write_all("ab");
        let delivery = world.start(&[&sink]);
        wait(delivery.delivered(&chain("b"), 1)).unwrap();
        wait(delivery.delivered(&chain("a"), 1)).unwrap();
        wait(delivery.delivered(&chain("a"), 3)).unwrap_err();
        assert_eq!(halted(&delivery), [("a".to_owned(), 2, HaltReason::Corrupt)]);
        assert_eq!((sink.len("a"), sink.lock().faults.len()), (2, 0));
    }
}
