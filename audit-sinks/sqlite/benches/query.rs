//! Asking a ledger: what each kind of question takes, by the number of events.
//!
//! `cargo bench -p agent-audit-sqlite --features query --bench query` makes one tenant's ledger of
//! 100,000 events and one of 1,000,000 (or as `AUDIT_BENCH_EVENTS=100000,300000` says), with about 20
//! events a session, and prints the median and the 99th hundredth of 300 questions of each kind.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agent_audit_core::{
    id::{EventId, SessionId, TenantId},
    sink::{Batch, SegmentOutcome, Sink},
    timestamp::Timestamp,
};
use agent_audit_query::{Cursor, Filter, Found, Ledger, Order, Request};
use agent_audit_sqlite::{SqliteEvents, SqliteSink};
use agent_audit_test_support::sessions::Sessions;

const QUESTIONS: usize = 300;
const CHAINS: usize = 4;
/// 2026-01-01, and a quarter of a second from event to event.
const START: u64 = 1_767_225_600_000_000_000;
const STEP: u64 = 250_000_000;

fn main() {
    let sizes = std::env::var("AUDIT_BENCH_EVENTS").unwrap_or("100000,1000000".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for size in sizes.split(',') {
        runtime.block_on(measure(size.trim().parse().unwrap()));
    }
}

async fn measure(events: usize) {
    let dir = tempfile::tempdir().unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let sink = SqliteSink::open(dir.path()).unwrap();
    let mut sessions = Sessions::new(tenant.clone(), CHAINS, START, STEP);
    let start = Instant::now();
    let mut loaded = 0;
    while loaded < events {
        let segments = sessions.next((events - loaded).div_ceil(CHAINS).min(5_000));
        loaded += segments.iter().map(|segment| segment.len()).sum::<usize>();
        let ack = sink.append(&Batch::new(segments)).await.unwrap();
        assert!(ack.outcomes.iter().all(|it| matches!(it, SegmentOutcome::Accepted)), "{ack:?}");
    }
    sink.close().await.unwrap();
    let size = std::fs::metadata(dir.path().join("acme.sqlite3")).unwrap().len();
    println!(
        "{loaded} events, {} MB, made and stored in {:.0} s",
        size >> 20,
        start.elapsed().as_secs_f64()
    );
    let ledger = Ledger::new(Arc::new(SqliteEvents::open(dir.path()).unwrap()), tenant);
    let samples = samples(&ledger, loaded).await;
    println!("{:34} {:>10} {:>10} {:>8}", "question", "median", "p99", "events");
    let ask = Ask { ledger: &ledger, samples: &samples };
    let session = |found: &Found| found.session_id().parse::<SessionId>().unwrap();
    ask.events("one session", |it| (Filter::new().session(session(it)), 1_000, Order::Time)).await;
    ask.content("one session with content", |it| Filter::new().session(session(it))).await;
    ask.one("one event by id").await;
    ask.events("children of one event", |it| {
        (Filter::new().parent(it.event_id()), 1_000, Order::Time)
    })
    .await;
    ask.children("children of 20 events", 20).await;
    ask.events("calls under an approval", |it| {
        (Filter::new().approval(it.event_id()), 1_000, Order::Time)
    })
    .await;
    ask.events("one review", |it| {
        let number = it.session_id().trim_matches(|c: char| !c.is_ascii_digit());
        let number: usize = number.parse().unwrap();
        (Filter::new().review(&format!("review-{number}")), 1_000, Order::Time)
    })
    .await;
    ask.pages("page of 50 by time", Filter::new(), Order::Time).await;
    ask.pages("page of 50 by chain", Filter::new(), Order::Chain).await;
    ask.pages("page of 50 of a tool", Filter::new().tool("refund"), Order::Time).await;
    ask.pages("page of 50 of a model", Filter::new().model("gpt-5-2026-01"), Order::Time).await;
    ask.pages("page of 50 of a reviewer", Filter::new().reviewer("reviewer-7"), Order::Time).await;
    ask.pages("page of 50 of a type", Filter::new().event_type("review.decided"), Order::Time)
        .await;
    ask.pages("page of 50 of all reviews", Filter::new().family("review."), Order::Time).await;
    ask.events("50 of an hour", |it| {
        let from = u64::try_from(it.timestamp()).unwrap();
        let hour = Filter::new().since(Timestamp::from_nanos(from));
        (hour.before(Timestamp::from_nanos(from + 3_600_000_000_000)), 50, Order::Time)
    })
    .await;
    ask.events("50 of an hour, by chain", |it| {
        let from = u64::try_from(it.timestamp()).unwrap();
        let hour = Filter::new().since(Timestamp::from_nanos(from));
        (hour.before(Timestamp::from_nanos(from + 3_600_000_000_000)), 50, Order::Chain)
    })
    .await;
    ask.events("a thing outside", |it| {
        let number = it.session_id().trim_matches(|c: char| !c.is_ascii_digit());
        let number: usize = number.parse().unwrap();
        (Filter::new().external("order", format!("A-{}", number / 3)), 1_000, Order::Time)
    })
    .await;
    ask.sessions("50 sessions").await;
}

/// Events from all over the ledger.
async fn samples(ledger: &Ledger, events: usize) -> Vec<Found> {
    let mut samples = Vec::new();
    for at in 0..QUESTIONS {
        let at = u64::try_from(at * events / QUESTIONS).unwrap();
        let time = i64::try_from(START + at * STEP).unwrap();
        let request = Request::after(Cursor::new(time - 1, "", 0), 1);
        samples.extend(ledger.events(&Filter::new(), &request).await.unwrap().events);
    }
    // Not one after the other, which would find its pages in memory.
    let count = samples.len();
    (0..count).map(|at| samples[at * 7_919 % count].clone()).collect()
}

struct Ask<'a> {
    ledger: &'a Ledger,
    samples: &'a [Found],
}

impl Ask<'_> {
    async fn each(&self, name: &str, mut one: impl AsyncFnMut(&Found) -> usize) {
        let mut times = Vec::new();
        let mut found = 0;
        for sample in self.samples {
            let start = Instant::now();
            found += one(sample).await;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        let at = |part: usize| micros(times[(times.len() * part / 100).min(times.len() - 1)]);
        println!("{name:34} {:>7} us {:>7} us {:>8}", at(50), at(99), found / self.samples.len());
    }

    async fn events(&self, name: &str, of: impl Fn(&Found) -> (Filter, usize, Order)) {
        self.each(name, async |sample| {
            let (filter, limit, order) = of(sample);
            let request = Request::first(limit).order(order);
            self.ledger.events(&filter, &request).await.unwrap().events.len()
        })
        .await;
    }

    async fn content(&self, name: &str, of: impl Fn(&Found) -> Filter) {
        self.each(name, async |sample| {
            let request = Request::first(1_000).content();
            self.ledger.events(&of(sample), &request).await.unwrap().events.len()
        })
        .await;
    }

    async fn one(&self, name: &str) {
        self.each(name, async |sample| {
            self.ledger.event(sample.event_id(), false).await.unwrap();
            1
        })
        .await;
    }

    async fn children(&self, name: &str, parents: usize) {
        let ids: Vec<EventId> = self.samples.iter().map(Found::event_id).collect();
        let mut at = 0;
        self.each(name, async |_| {
            at = (at + parents) % (ids.len() - parents);
            let filter = ids[at..at + parents].iter().fold(Filter::new(), |it, id| it.parent(*id));
            self.ledger.events(&filter, &Request::first(1_000)).await.unwrap().events.len()
        })
        .await;
    }

    /// A page from somewhere, in either direction.
    async fn pages(&self, name: &str, filter: Filter, order: Order) {
        let mut forwards = true;
        self.each(name, async |sample| {
            forwards = !forwards;
            let place = sample.place().clone();
            let request =
                if forwards { Request::after(place, 50) } else { Request::before(place, 50) };
            self.ledger.events(&filter, &request.order(order)).await.unwrap().events.len()
        })
        .await;
    }

    async fn sessions(&self, name: &str) {
        self.each(name, async |sample| {
            let after: SessionId = sample.session_id().parse().unwrap();
            self.ledger.sessions(&Filter::new(), Some(&after), 50).await.unwrap().len()
        })
        .await;
    }
}

fn micros(time: Duration) -> u128 {
    time.as_micros()
}
