//! What is told of a sink: through the API, and through `tracing`.

use std::{fmt::Write as _, sync::OnceLock};

use tracing::{
    Event as TraceEvent, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::*;

#[test]
fn what_waits_is_counted_in_events_and_bytes_and_its_oldest_is_known() {
    let mut world = World::new();
    let sink = Store::new();
    sink.lock().script.extend(vec![Act::Fail { applied: false, retryable: true }; 1_000_000]);
    let delivery = world.start(&[&sink]);
    let idle = delivery.health().remove(0);
    assert_eq!((idle.events_waiting, idle.bytes_waiting, idle.oldest_waiting), (0, 0, None));
    assert_eq!((idle.circuit, idle.role), (Circuit::Closed, Role::Required));
    assert_eq!(idle.last_acknowledged, None);

    world.write_all("aabab");
    until("it fails", || delivery.health()[0].failures > 2);
    let failing = delivery.health().remove(0);
    assert_eq!(failing.events_waiting, 5);
    assert_eq!(failing.state, SinkState::Retrying);
    assert_ne!(failing.circuit, Circuit::Closed);
    assert!(failing.bytes_waiting > 1_000, "{failing:?}");
    let later = crate::timestamp::Timestamp::now();
    assert!(failing.oldest_waiting.is_some_and(|at| at <= later));
    assert!(failing.counters.failures > 2 && failing.counters.retries > 1);
    assert!(failing.counters.duplicates > 1);
    assert_eq!((failing.counters.events, failing.counters.batches), (0, 0));

    sink.lock().script.clear();
    wait(delivery.delivered(&chain("b"), 1)).unwrap();
    until("the rest follows", || delivery.health()[0].events_waiting == 0);
    let mended = delivery.health().remove(0);
    assert_eq!((mended.bytes_waiting, mended.oldest_waiting), (0, None));
    assert_eq!((mended.state, mended.circuit), (SinkState::Working, Circuit::Closed));
    assert_eq!(mended.counters.events, 5);
    assert!(mended.counters.batches >= 1 && mended.counters.bytes > 1_000);
    assert!(mended.last_acknowledged.is_some());
}

#[test]
fn a_chain_that_is_halted_counts_as_waiting() {
    let mut world = World::new();
    let sink = Store::new().tenant("a", Part::Fail { applied: false, retryable: false });
    let delivery = world.start(&[&sink]);
    world.write_all("aab");
    wait(delivery.delivered(&chain("b"), 0)).unwrap();
    wait(delivery.delivered(&chain("a"), 1)).unwrap_err();
    until("all has been looked at", || delivery.health()[0].waiting == 0);
    let health = delivery.health().remove(0);
    assert_eq!((health.events_waiting, health.halted.len()), (2, 1));
    assert!(health.oldest_waiting.is_some() && health.bytes_waiting > 0);
}

#[test]
fn a_sink_that_is_being_tried_is_half_open() {
    let mut world = World::new();
    let sink = Store::new().script([Act::Fail { applied: false, retryable: true }]);
    world.write("a");
    sink.lock().script.push_back(Act::Hang { applied: false });
    let delivery = world.start(&[&sink]);
    sink.wait_until("it is tried", |state| state.under_way == 1);
    let health = delivery.health().remove(0);
    assert_eq!((health.circuit, health.state), (Circuit::HalfOpen, SinkState::Retrying));
}

#[test]
fn each_change_of_state_is_told_once_and_without_payload() {
    let mut world = World::new();
    let sink = Store::with(SinkInfo::new("told-of", "test"));
    let lines = || Told::lines("told-of");
    world.write_all("ab");
    let outage = |retryable| vec![Act::Fail { applied: false, retryable }; 1_000_000];
    sink.lock().script.extend(outage(true));
    Told::listen();
    let delivery = world.start(&[&sink]);
    sink.wait_until("many retries", |state| state.calls.len() > 10);
    assert_eq!(lines().len(), 1, "{:?}", lines());
    sink.lock().script = outage(false).into();
    until("it is blocked", || delivery.health()[0].state == SinkState::Blocked);
    let calls = sink.lock().calls.len();
    sink.wait_until("more retries", |state| state.calls.len() > calls + 10);
    sink.lock().script.clear();
    wait(delivery.delivered(&chain("a"), 0)).unwrap();
    until("it works", || lines().len() >= 3);
    assert_eq!(delivery.close(FOREVER), []);
    let told = lines();
    let changes: Vec<_> =
        told.iter().map(|line| (field(line, "from"), field(line, "to"))).collect();
    let expected = [
        ("working", "retrying"),
        ("retrying", "blocked"),
        ("blocked", "working"),
        ("working", "closed"),
    ];
    assert_eq!(changes, expected.map(|(from, to)| (from.to_owned(), to.to_owned())), "{told:?}");
    assert_eq!(field(&told[0], "circuit"), "open");
    assert!(told[0].contains("error=sink failed: scripted"), "{told:?}");
    for line in told {
        assert!(!line.contains("payload") && !line.contains("canonical"), "{line}");
    }
}

fn field(line: &str, name: &str) -> String {
    let start = line.find(&format!("{name}=")).unwrap() + name.len() + 1;
    line[start..].split('|').next().unwrap().to_owned()
}

/// Keeps what delivery tells of its sinks.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<String>>);

static TOLD: OnceLock<&'static Told> = OnceLock::new();

impl Told {
    fn listen() {
        TOLD.get_or_init(|| {
            let told: &'static Told = Box::leak(Box::default());
            tracing::subscriber::set_global_default(Listener(told)).unwrap();
            told
        });
    }

    fn lines(sink: &str) -> Vec<String> {
        let told = TOLD.get().unwrap().0.lock().unwrap();
        let wanted = format!("sink={sink}|");
        told.iter().filter(|line| line.contains(&wanted)).cloned().collect()
    }
}

struct Listener(&'static Told);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().contains("delivery")
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &TraceEvent<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, "{}={value}|", field.name()).unwrap();
    }
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{}={value:?}|", field.name()).unwrap();
    }
}
