//! The end: deadlines, what is left, and those who wait.

use super::*;

#[test]
fn a_hung_sink_is_left_at_the_deadline_and_what_is_left_is_counted() {
    let mut world = World::new();
    let hung = Store::new();
    hung.lock().script.extend(vec![Act::Hang { applied: false }; 100]);
    let well = Store::with(SinkInfo::new("well", "test"));
    world.write_all("aabca");
    let delivery = world.start(&[&hung, &well]);
    let waiting = delivery.delivered(&chain("a"), 0);
    hung.wait_until("a call", |state| !state.calls.is_empty());
    let left = delivery.close(Duration::from_millis(50));
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].sink.as_str(), left[0].events, left[0].chains), ("store", 5, 3));
    assert!(hung.lock().closed, "it is closed all the same");
    world.assert_complete(&well);
    assert_eq!(wait(waiting).unwrap_err().kind(), AuditErrorKind::Undelivered);
    assert_eq!(delivery.health()[0].state, SinkState::Closed);
    assert_eq!(delivery.close(FOREVER), left, "closing again says the same");

    hung.lock().script.clear();
    let delivery = world.start(&[&hung]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&hung);
}

#[test]
fn lagging_and_waiting_events_are_both_counted() {
    let mut world = World::new();
    let sink = Store::new().tenant("a", Part::Fail { applied: false, retryable: true });
    world.write_all("aab");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    sink.lock().script.extend(vec![Act::Fail { applied: false, retryable: true }; 100_000]);
    world.write_all("abc");
    let left = delivery.close(Duration::from_millis(50));
    assert_eq!((left[0].events, left[0].chains), (5, 3));
}

#[test]
fn a_sink_that_blocks_the_thread_does_not_block_the_close() {
    #[derive(Debug)]
    struct Blocking(SinkInfo, Mutex<mpsc::Receiver<()>>);

    #[async_trait]
    impl Sink for Blocking {
        fn info(&self) -> &SinkInfo {
            &self.0
        }
        async fn append(&self, _: &Batch) -> Result<BatchAck, SinkError> {
            let _ = self.1.lock().unwrap().recv();
            Err(error(false, true))
        }
        async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
            Ok(None)
        }
        async fn check(&self) -> Result<(), SinkError> {
            Ok(())
        }
        async fn close(&self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    let mut world = World::new();
    world.write_all("ab");
    let (_release, blocked) = mpsc::channel();
    let sink = Arc::new(Blocking(SinkInfo::new("blocking", "test"), Mutex::new(blocked)));
    let delivery = world.try_start([(Role::Required, sink as Arc<dyn Sink>)], options()).unwrap();
    let waiting = delivery.delivered(&chain("a"), 0);
    let left = delivery.close(Duration::from_millis(20));
    assert_eq!((left[0].events, left[0].chains), (2, 2));
    wait(waiting).unwrap_err();
}

#[test]
fn who_waits_for_delivery_is_told_once_every_sink_has_it() {
    let mut world = World::new();
    let slow = Store::new().tenant("a", Part::Fail { applied: false, retryable: true });
    let quick = Store::with(SinkInfo::new("quick", "test"));
    let delivery = world.start(&[&slow, &quick]);
    // Before the event is written, and after.
    let early = delivery.delivered(&chain("a"), 0);
    world.write_all("ab");
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    quick.wait_until("the other sink has it", |state| state.chains.contains_key("a"));
    let mut early = Box::pin(early);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(early.as_mut().poll(&mut context).is_pending());
    slow.lock().tenants.clear();
    wait(early).unwrap();
    wait(delivery.delivered(&chain("a"), 0)).unwrap();
    let never = delivery.delivered(&chain("a"), 1);
    drop(delivery);
    assert_eq!(wait(never).unwrap_err().kind(), AuditErrorKind::Undelivered);
}

#[test]
fn who_stops_waiting_leaves_nothing_behind() {
    let world = World::new();
    let sink = Store::new();
    let delivery = world.start(&[&sink]);
    for _ in 0..10_000 {
        drop(delivery.delivered(&chain("a"), 0));
    }
    assert!(lock(&delivery.lanes[0].ledger).waiting() < 100);
}

#[test]
fn the_journal_may_be_closed_first() {
    let mut world = World::new();
    let sink = Store::new().tenant("a", Part::Fail { applied: true, retryable: true });
    world.write_all("aba");
    let delivery = world.start(&[&sink]);
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    world.journal.close();
    sink.lock().tenants.clear();
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}

#[test]
fn a_cursor_that_cannot_be_stored_trims_nothing() {
    let mut world = World::new();
    let sink = Store::new();
    world.write_all("aba");
    assert_eq!(world.start(&[&sink]).close(FOREVER), []);
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.trimmable(), Some(3));
    // A directory in the place of the draft: every further store fails.
    std::fs::create_dir_all(world.cursor_path().with_extension("new")).unwrap();
    world.write_all("ab");
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(delivery.trimmable(), Some(3));
    world.assert_complete(&sink);
}

#[test]
fn a_cursor_ahead_of_the_journal_is_not_believed() {
    let mut world = World::new();
    let sink = Store::new();
    world.write_all("ab");
    std::fs::create_dir_all(world.layout.cursors()).unwrap();
    let ahead = cursor::Cursor {
        position: 900,
        chains: vec![cursor::ChainCursor { chain: chain("a"), next: 700, from: None }],
        missing: Vec::new(),
    };
    cursor::store(&world.cursor_path(), &ahead).unwrap();
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    world.assert_complete(&sink);
}
