//! Required and optional sinks: who holds back the journal, and what is said when it lets go.

use super::*;

/// An optional sink that takes nothing, and answers so.
fn down(sink: &Store) {
    let outage = Act::Fail { applied: false, retryable: true };
    sink.lock().script.extend(vec![outage; 1_000_000]);
}

fn up(sink: &Store) {
    let mut state = sink.lock();
    state.script.clear();
    state.hanging.clear();
}

fn optional(info: SinkInfo) -> Arc<Store> {
    Store::with(SinkInfo { name: "optional".to_owned(), ..info })
}

fn with_gaps() -> Arc<Store> {
    optional(SinkInfo::new("", "test").with_gaps())
}

/// Bounds of which one is so small that it is reached at once.
fn bounded(events: u64, bytes: u64, age: Duration) -> DeliveryOptions {
    options().with_optional_bounds(events, bytes, age)
}

const LONG: Duration = Duration::from_secs(86_400);

fn tight() -> DeliveryOptions {
    bounded(10, u64::MAX, LONG)
}

/// Enough for several segments of the journal.
const MANY: usize = 120;

/// Lets go of what is over the bounds, and trims the journal.
fn trim(world: &World, delivery: &Delivery) {
    delivery.relieve();
    world.journal.trim(delivery.trimmable().unwrap()).unwrap();
}

/// Lets go until at most `left` entries are kept.
#[track_caller]
fn trim_to(world: &World, delivery: &Delivery, left: u64) {
    until("the journal lets go", || {
        trim(world, delivery);
        world.journal.next_index() - world.journal.first_index() <= left
    });
}

/// The sink has everything behind the holes; says how many events it has in them.
#[track_caller]
fn has_the_rest(world: &World, sink: &Store, holes: &[MissingEvents]) -> usize {
    assert!(!holes.is_empty());
    let mut stored = 0;
    for hole in holes {
        let tenant = hole.chain.tenant_id.as_str();
        let mut held = sink.lock().chains.get(tenant).cloned().unwrap_or_default();
        let behind = usize::try_from(hole.last).unwrap() + 1;
        held.resize(held.len().max(behind), Hash::ZERO);
        assert_eq!(held[behind..], world.written[tenant][behind..]);
        stored += held[..behind].iter().filter(|hash| **hash != Hash::ZERO).count();
    }
    stored
}

fn missing(delivery: &Delivery) -> Vec<MissingEvents> {
    delivery.health().pop().unwrap().missing
}

#[test]
fn an_optional_sink_that_is_down_does_not_hold_back_the_journal_beyond_any_of_its_bounds() {
    for options in
        [tight(), bounded(u64::MAX, 1, LONG), bounded(u64::MAX, u64::MAX, Duration::ZERO)]
    {
        let mut world = World::new();
        let (store, late) = (Store::new(), with_gaps());
        down(&late);
        let delivery = world.start_both(&store, &late, options);
        world.write_all(&"ab".repeat(MANY));
        wait(delivery.delivered(&chain("b"), 119)).unwrap();
        trim_to(&world, &delivery, 30);
        let first = world.journal.first_index();

        let health = delivery.health().remove(1);
        assert_eq!((health.role, health.state), (Role::Optional, SinkState::Retrying));
        let gone: Vec<_> = health.missing.iter().map(|m| (m.first, m.reason)).collect();
        assert_eq!(gone, [(0, MissingReason::Trimmed); 2]);
        assert!(health.halted.is_empty() && health.counters.missing >= first);

        // It goes on behind the hole, which is known and stays so.
        up(&late);
        assert_eq!(delivery.close(FOREVER), []);
        let declared = missing(&delivery);
        assert_eq!(has_the_rest(&world, &late, &declared), 0);
        assert_eq!(late.lock().faults, Vec::<String>::new());
        let delivery = world.start_both(&store, &late, tight());
        assert_eq!(missing(&delivery), declared);
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&store);
    }
}

#[test]
fn within_its_bounds_an_optional_sink_misses_nothing() {
    let mut world = World::new();
    let (store, late) = (Store::new(), with_gaps());
    down(&late);
    let delivery = world.start_both(&store, &late, bounded(10_000, u64::MAX, LONG));
    world.write_all(&"ab".repeat(MANY));
    wait(delivery.delivered(&chain("b"), 119)).unwrap();
    for _ in 0..10 {
        trim(&world, &delivery);
    }
    assert_eq!(world.journal.first_index(), 0);
    up(&late);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&late);
}

#[test]
fn a_sink_that_hangs_lets_go_too() {
    for applied in [false, true] {
        let mut world = World::new();
        let (store, late) = (Store::new(), with_gaps());
        late.lock().hanging.extend([("a".to_owned(), applied), ("b".to_owned(), applied)]);
        let options = tight().with_append_timeout(Duration::from_millis(60));
        let delivery = world.start_both(&store, &late, options);
        world.write_all(&"ab".repeat(MANY));
        wait(delivery.delivered(&chain("b"), 119)).unwrap();
        trim_to(&world, &delivery, 30);
        up(&late);
        assert_eq!(delivery.close(FOREVER), []);
        // What was stored and never acknowledged is declared as missing all the same.
        let stored = has_the_rest(&world, &late, &missing(&delivery));
        assert_eq!(stored > 0, applied);
        assert_eq!(late.lock().faults, Vec::<String>::new());
        world.assert_complete(&store);
    }
}

#[test]
fn an_optional_sink_that_refuses_holes_is_halted_until_it_has_been_given_what_it_missed() {
    for reopened in [false, true] {
        let mut world = World::new();
        let store = Store::new();
        let late = optional(SinkInfo::new("", "test").with_readable_heads().with_gaps());
        late.lock().holes = false;
        down(&late);
        let mut delivery = world.start_both(&store, &late, tight());
        world.write_all(&"a".repeat(MANY));
        wait(delivery.delivered(&chain("a"), 119)).unwrap();
        trim_to(&world, &delivery, 30);
        up(&late);
        until("it is halted", || delivery.health()[1].halted.len() == 1);
        let halted = delivery.health().remove(1).halted.remove(0);
        assert_eq!((halted.sequence, halted.reason), (0, HaltReason::Trimmed));
        assert!(halted.message.contains("another store"), "{}", halted.message);
        // Others go on.
        world.write_all("ab");
        until("the other chain arrives", || late.len("b") == 1);
        assert_eq!(late.len("a"), 0);
        let hole = missing(&delivery).remove(0);
        assert_eq!((hole.first, late.len("a")), (0, 0));

        // A retry before the backfill changes nothing.
        let asked = late.lock().heads_asked;
        delivery.retry("optional", &chain("a")).unwrap();
        late.wait_until("it was asked", |state| state.heads_asked > asked);
        until("it is halted again", || delivery.health()[1].halted.len() == 1);
        assert_eq!(missing(&delivery)[0].last, hole.last);

        let given = usize::try_from(hole.last).unwrap() + 1;
        let copied = world.written["a"][..given].to_vec();
        late.lock().chains.insert("a".to_owned(), copied);
        if reopened {
            delivery.close(Duration::ZERO);
            drop(delivery);
            delivery = world.start_both(&store, &late, tight());
        } else {
            delivery.retry("optional", &chain("a")).unwrap();
        }
        until("it has everything", || late.len("a") == world.written["a"].len());
        until("nothing is missing", || missing(&delivery).is_empty());
        assert_eq!(delivery.close(FOREVER), []);
        world.assert_complete(&late);
    }
}

#[test]
fn of_a_sink_that_cannot_say_what_it_holds_a_retry_is_the_word_that_it_was_given_it() {
    let mut world = World::new();
    let (store, late) = (Store::new(), optional(SinkInfo::new("", "test")));
    down(&late);
    let delivery = world.start_both(&store, &late, tight());
    world.write_all(&"a".repeat(MANY));
    wait(delivery.delivered(&chain("a"), 119)).unwrap();
    trim_to(&world, &delivery, 30);
    until("it is halted", || delivery.health()[1].halted.len() == 1);
    up(&late);
    drop(delivery);
    // Not of its own accord, at no opening.
    let delivery = world.start_both(&store, &late, tight());
    until("it is halted again", || delivery.health()[1].halted.len() == 1);
    let given = usize::try_from(missing(&delivery)[0].last).unwrap() + 1;
    let copied = world.written["a"][..given].to_vec();
    late.lock().chains.insert("a".to_owned(), copied);
    delivery.retry("optional", &chain("a")).unwrap();
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(missing(&delivery), []);
    world.assert_complete(&late);
}

#[test]
fn nobody_waits_for_an_optional_sink() {
    let mut world = World::new();
    let (store, late) = (Store::new(), with_gaps());
    down(&late);
    let delivery = world.start_both(&store, &late, options());
    world.write_all("abab");
    wait(delivery.delivered(&chain("a"), 1)).unwrap();
    wait(delivery.delivered(&chain("b"), 1)).unwrap();
    // A close that waited would not end within the life of this test.
    let left = delivery.close(LONG);
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].sink.as_str(), left[0].role), ("optional", Role::Optional));
    assert_eq!((left[0].events, left[0].chains), (4, 2));
    up(&late);
    assert_eq!(world.start_both(&store, &late, options()).close(FOREVER), []);
    world.assert_complete(&late);
}

#[test]
fn an_optional_sink_that_works_gets_everything_before_the_log_is_closed() {
    let mut world = World::new();
    let info = SinkInfo::new("", "test").with_max_batch(3, 1 << 20);
    let (store, late) = (Store::new(), optional(info));
    world.write_all(&"abc".repeat(30));
    let delivery = world.start_both(&store, &late, options());
    assert_eq!(delivery.close(LONG), []);
    world.assert_complete(&late);
}

#[test]
fn without_a_required_sink_the_journal_keeps_everything() {
    let mut world = World::new();
    let late = with_gaps();
    down(&late);
    let sinks = [(Role::Optional, Arc::clone(&late) as Arc<dyn Sink>)];
    let delivery = world.try_start(sinks, tight()).unwrap();
    world.write_all(&"ab".repeat(MANY));
    wait(delivery.delivered(&chain("a"), 119)).unwrap();
    delivery.relieve();
    assert_eq!(delivery.trimmable(), None);
    up(&late);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&late);
}

#[test]
fn a_sink_that_becomes_required_holds_the_journal_and_what_it_missed_stays_missing() {
    let mut world = World::new();
    let (store, late) = (Store::new(), optional(SinkInfo::new("", "test").with_readable_heads()));
    down(&late);
    let delivery = world.start_both(&store, &late, tight());
    world.write_all(&"a".repeat(MANY));
    wait(delivery.delivered(&chain("a"), 119)).unwrap();
    trim_to(&world, &delivery, 30);
    up(&late);
    drop(delivery);

    world.write_all("ab");
    let sinks = [(Role::Required, Arc::clone(&late) as Arc<dyn Sink>)];
    let delivery = world.try_start(sinks, tight()).unwrap();
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    let refused = wait(delivery.delivered(&chain("a"), 120)).unwrap_err();
    assert_eq!(refused.kind(), AuditErrorKind::Undelivered);
    assert!(refused.to_string().contains("let go"), "{refused}");
    // It is required now: the bounds are nothing to it.
    world.write_all(&"ab".repeat(MANY));
    wait(delivery.delivered(&chain("b"), 120)).unwrap();
    let first = world.journal.first_index();
    for _ in 0..10 {
        trim(&world, &delivery);
    }
    assert_eq!(world.journal.first_index(), first);
    let given = usize::try_from(missing(&delivery)[0].last).unwrap() + 1;
    let copied = world.written["a"][..given].to_vec();
    late.lock().chains.insert("a".to_owned(), copied);
    delivery.retry("optional", &chain("a")).unwrap();
    wait(delivery.delivered(&chain("a"), 240)).unwrap();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&late);
}

#[test]
fn a_sink_that_becomes_optional_no_longer_holds_the_journal() {
    let mut world = World::new();
    let (store, late) = (Store::new(), with_gaps());
    down(&late);
    let sinks = [&store, &late].map(|sink| (Role::Required, Arc::clone(sink) as Arc<dyn Sink>));
    let delivery = world.try_start(sinks, tight()).unwrap();
    world.write_all(&"ab".repeat(MANY));
    until("one has everything", || store.len("b") == MANY);
    for _ in 0..10 {
        trim(&world, &delivery);
    }
    assert_eq!((world.journal.first_index(), delivery.trimmable()), (0, Some(0)));
    drop(delivery);

    let delivery = world.start_both(&store, &late, tight());
    wait(delivery.delivered(&chain("b"), 119)).unwrap();
    trim_to(&world, &delivery, 30);
    up(&late);
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(missing(&delivery).len(), 2);
    world.assert_complete(&store);
}

#[test]
fn a_cursor_that_cannot_be_stored_lets_nothing_go() {
    let mut world = World::new();
    let (store, late) = (Store::new(), with_gaps());
    down(&late);
    let delivery = world.start_both(&store, &late, tight());
    // A directory in the place of the draft: every store fails.
    let path = world.layout.cursors().join("optional.new");
    std::fs::create_dir_all(&path).unwrap();
    world.write_all(&"ab".repeat(MANY));
    wait(delivery.delivered(&chain("b"), 119)).unwrap();
    until("it has let go", || {
        trim(&world, &delivery);
        !missing(&delivery).is_empty()
    });
    assert_eq!(world.journal.first_index(), 0, "not before that is on disk");
    std::fs::remove_dir(&path).unwrap();
    trim_to(&world, &delivery, 30);
}
