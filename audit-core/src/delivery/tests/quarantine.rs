//! Events that a sink refuses for good: halted there, or kept aside.

use super::*;

fn refusing(sink: &Store, tenant: &str, sequence: u64, applied: bool) {
    sink.lock().refused.insert((tenant.to_owned(), sequence), applied);
}

fn aside() -> DeliveryOptions {
    options().with_on_rejected(OnRejected::Quarantine)
}

fn kept(delivery: &Delivery) -> Vec<(String, u64)> {
    let kept = delivery.health().remove(0).quarantined.into_iter();
    kept.map(|event| (event.chain.tenant_id.to_string(), event.sequence)).collect()
}

fn holes(delivery: &Delivery) -> Vec<(String, u64, u64, MissingReason)> {
    let holes = delivery.health().remove(0).missing.into_iter();
    holes.map(|h| (h.chain.tenant_id.to_string(), h.first, h.last, h.reason)).collect()
}

#[test]
fn a_refused_event_halts_its_chain_behind_what_is_before_it() {
    for (applied, calls) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let sink = Store::new();
        refusing(&sink, "a", 3, applied);
        sink.lock().refuses_calls = calls;
        world.write_all("aabaaabaab");
        let delivery = world.start(&[&sink]);
        wait(delivery.delivered(&chain("a"), 2)).unwrap();
        wait(delivery.delivered(&chain("b"), 2)).unwrap();
        let refused = wait(delivery.delivered(&chain("a"), 3)).unwrap_err();
        assert_eq!(refused.kind(), AuditErrorKind::Undelivered);
        let health = delivery.health().remove(0);
        assert_eq!(health.halted.len(), 1);
        assert_eq!((health.halted[0].sequence, health.halted[0].reason), (3, HaltReason::Rejected));
        assert_eq!((health.state, health.quarantined.len()), (SinkState::Working, 0));
        world.write_all("bab");
        wait(delivery.delivered(&chain("b"), 4)).unwrap();
        assert!(delivery.trimmable().unwrap() <= 4, "the journal keeps the event");

        // Mended, and told so: it goes on without an opening.
        sink.lock().refused.clear();
        delivery.retry("store", &chain("a")).unwrap();
        wait(delivery.delivered(&chain("a"), 6)).unwrap();
        assert_eq!(delivery.health()[0].halted, []);
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_retry_of_what_is_not_mended_halts_again_and_of_what_is_not_halted_is_an_error() {
    let mut world = World::new();
    let sink = Store::new();
    refusing(&sink, "a", 0, false);
    world.write_all("ab");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("a"), 0)).unwrap_err();
    let calls = sink.lock().calls.len();
    delivery.retry("store", &chain("a")).unwrap();
    sink.wait_until("it was tried", |state| state.calls.len() > calls);
    until("it is halted again", || delivery.health()[0].halted.len() == 1);
    for (sink, tenant) in [("store", "b"), ("store", "unheard-of"), ("stroe", "a")] {
        let error = delivery.retry(sink, &chain(tenant)).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Invalid, "{error}");
    }
}

#[test]
fn a_refused_event_is_kept_aside_and_its_chain_goes_on() {
    for (applied, calls) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut world = World::new();
        let sink = Store::with_gaps();
        refusing(&sink, "a", 3, applied);
        sink.lock().refuses_calls = calls;
        world.write_all("aabaaabaab");
        let delivery = world.start_with(&[&sink], aside());
        wait(delivery.delivered(&chain("a"), 5)).unwrap();
        wait(delivery.delivered(&chain("b"), 2)).unwrap();
        let refused = wait(delivery.delivered(&chain("a"), 3)).unwrap_err();
        assert_eq!(refused.kind(), AuditErrorKind::Undelivered);
        assert!(refused.to_string().contains("quarantine"), "{refused}");
        assert_eq!(kept(&delivery), [("a".to_owned(), 3)]);
        assert_eq!(holes(&delivery), [("a".to_owned(), 3, 3, MissingReason::Quarantined)]);
        assert_eq!(delivery.health()[0].counters.quarantined, 1);

        // The whole record is in the file.
        let event = delivery.health().remove(0).quarantined.remove(0);
        let (read, record) = read_quarantined(&event.path).unwrap();
        assert_eq!(read, event);
        assert_eq!(record.event_hash(), world.written["a"][3]);
        assert_eq!(delivery.close(FOREVER), [], "nothing of it holds back the log");
        assert_eq!(delivery.trimmable(), Some(10));

        // It is known to the next process, where it can be released once the sink is mended.
        let delivery = world.start_with(&[&sink], aside());
        assert_eq!(kept(&delivery), [("a".to_owned(), 3)]);
        let refused = wait(delivery.release("store", &chain("a"), 3)).unwrap_err();
        assert_eq!(refused.kind(), AuditErrorKind::Undelivered);
        assert_eq!(kept(&delivery), [("a".to_owned(), 3)]);
        wait(delivery.delivered(&chain("a"), 3)).unwrap_err();
        sink.lock().refused.clear();
        wait(delivery.release("store", &chain("a"), 3)).unwrap();
        assert!(kept(&delivery).is_empty() && holes(&delivery).is_empty());
        assert!(!event.path.exists());
        wait(delivery.delivered(&chain("a"), 3)).unwrap();
        let error = wait(delivery.release("store", &chain("a"), 3)).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Invalid);
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&sink);
    }
}

#[test]
fn a_sink_that_refuses_holes_halts_the_chain_all_the_same() {
    for sink in [Store::new(), Store::with_heads()] {
        let mut world = World::new();
        refusing(&sink, "a", 1, false);
        world.write_all("aaab");
        let delivery = world.start_with(&[&sink], aside());
        wait(delivery.delivered(&chain("b"), 0)).unwrap();
        wait(delivery.delivered(&chain("a"), 2)).unwrap_err();
        let health = delivery.health().remove(0);
        assert_eq!((health.halted[0].sequence, health.quarantined.len()), (1, 0));
        assert_eq!(sink.len("a"), 1);
    }
}

#[test]
fn a_sink_that_refuses_too_much_is_not_emptied_into_quarantine() {
    let mut world = World::new();
    let sink = Store::with_gaps();
    for sequence in 0..5 {
        refusing(&sink, "a", sequence, false);
    }
    world.write_all("aaaaaab");
    let delivery = world.start_with(&[&sink], aside().with_quarantine_max_events(3));
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    wait(delivery.delivered(&chain("a"), 5)).unwrap_err();
    let health = delivery.health().remove(0);
    assert_eq!((health.quarantined.len(), health.halted[0].sequence), (3, 3));
    drop(delivery);
    sink.lock().refused.clear();
    let delivery = world.start_with(&[&sink], aside());
    for sequence in 0..3 {
        wait(delivery.release("store", &chain("a"), sequence)).unwrap();
    }
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn an_event_that_cannot_be_kept_aside_halts_its_chain() {
    let mut world = World::new();
    let sink = Store::with_gaps();
    refusing(&sink, "a", 1, false);
    let delivery = world.start_with(&[&sink], aside());
    // A file in the place of the directory.
    std::fs::write(world.layout.quarantine(), b"").unwrap();
    world.write_all("aaab");
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    wait(delivery.delivered(&chain("a"), 2)).unwrap_err();
    let health = delivery.health().remove(0);
    assert_eq!((health.halted[0].sequence, health.quarantined.len()), (1, 0));
    std::fs::remove_file(world.layout.quarantine()).unwrap();
    delivery.retry("store", &chain("a")).unwrap();
    wait(delivery.delivered(&chain("a"), 2)).unwrap();
    assert_eq!(kept(&delivery), [("a".to_owned(), 1)]);
    sink.lock().refused.clear();
    wait(delivery.release("store", &chain("a"), 1)).unwrap();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn a_process_that_dies_between_the_file_and_the_cursor_keeps_the_event_once() {
    let mut world = World::new();
    let sink = Store::with_gaps();
    refusing(&sink, "a", 1, false);
    world.write_all("aaab");
    let delivery = world.start_with(&[&sink], aside());
    wait(delivery.delivered(&chain("a"), 2)).unwrap();
    drop(delivery);
    std::fs::remove_file(world.cursor_path()).unwrap();
    let delivery = world.start_with(&[&sink], aside());
    assert_eq!(kept(&delivery), [("a".to_owned(), 1)]);
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(holes(&delivery), [("a".to_owned(), 1, 1, MissingReason::Quarantined)]);
    assert_eq!(kept(&delivery).len(), 1);
}
