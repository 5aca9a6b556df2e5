//! Asking a ledger: what each kind of question takes, by the number of events.
//!
//! `servers/with postgres -- cargo bench -p agent-audit-postgres --features query --bench query` makes a
//! tenant's ledger of 100,000 events and one of 1,000,000 (or as `AUDIT_BENCH_EVENTS=100000,300000`
//! says) beside another tenant's of a tenth, over the last 50 days, with about 20 events a session, and
//! prints the median and the 99th hundredth of 300 questions of each kind. The questions are asked by a
//! reader's login, over one connection without TLS.
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
use agent_audit_postgres::{PostgresConfig, PostgresEvents, PostgresSink, PostgresStore, ROLES};
use agent_audit_query::{Cursor, Filter, Found, Ledger, Order, Request};
use agent_audit_test_support::{servers::required, sessions::Sessions};
use tokio_postgres::{Client, Config, NoTls};

const QUESTIONS: usize = 300;
const CHAINS: usize = 4;
const PASSWORD: &str = "of-the-benchmark";
/// How far the events go back, in nanoseconds.
const SPAN: u64 = 50 * 86_400_000_000_000;

fn main() {
    let sizes = std::env::var("AUDIT_BENCH_EVENTS").unwrap_or("100000,1000000".to_owned());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for size in sizes.split(',') {
        runtime.block_on(measure(size.trim().parse().unwrap()));
    }
}

/// An empty database with the tables, and the URL of a login in it.
async fn create(name: &str) -> (Client, impl Fn(&str) -> PostgresConfig) {
    let url = required("AUDIT_TEST_POSTGRES");
    let server: Config = url.parse().unwrap();
    let admin = connect(&server).await;
    for sql in [
        format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
        format!("CREATE DATABASE {name} ENCODING 'UTF8'"),
    ] {
        admin.batch_execute(&sql).await.unwrap();
    }
    let (address, _) = url.rsplit_once('/').unwrap();
    let admin_url = format!("{address}/{name}?sslmode=disable");
    let mut config = server.clone();
    let admin = connect(config.dbname(name)).await;
    admin.batch_execute(ROLES).await.unwrap();
    PostgresStore::new(PostgresConfig::new(admin_url)).unwrap().migrate().await.unwrap();
    admin
        .batch_execute(&format!(
            "DO $$ BEGIN
                CREATE ROLE audit_bench_writer LOGIN PASSWORD '{PASSWORD}' IN ROLE audit_writer;
             EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             DO $$ BEGIN
                CREATE ROLE audit_bench_reader LOGIN PASSWORD '{PASSWORD}' IN ROLE audit_reader;
             EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             INSERT INTO agent_audit.audit_access VALUES ('audit_bench_reader', 'acme');"
        ))
        .await
        .unwrap();
    let (_, host) = address.rsplit_once('@').unwrap();
    let (host, name) = (host.to_owned(), name.to_owned());
    let of = move |login: &str| {
        let url = format!("postgres://{login}:{PASSWORD}@{host}/{name}?sslmode=disable");
        PostgresConfig::new(url).with_connections(1)
    };
    (admin, of)
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn measure(events: usize) {
    let (admin, config) = create("audit_bench_query").await;
    let tenant: TenantId = "acme".parse().unwrap();
    let sink = PostgresSink::new(config("audit_bench_writer")).unwrap();
    let now = u64::try_from(Timestamp::now().as_nanos_i64()).unwrap();
    let (first, step) = (now - SPAN, SPAN / u64::try_from(events).unwrap());
    let mut sessions = Sessions::new(tenant.clone(), CHAINS, first, step);
    let mut others = Sessions::new("globex".parse().unwrap(), 1, first, step * 10);
    let start = Instant::now();
    let mut loaded = 0;
    while loaded < events {
        let mut segments = sessions.next((events - loaded).div_ceil(CHAINS).min(2_500));
        loaded += segments.iter().map(|segment| segment.len()).sum::<usize>();
        segments.extend(others.next(1_000));
        let ack = sink.append(&Batch::new(segments)).await.unwrap();
        assert!(ack.outcomes.iter().all(|it| matches!(it, SegmentOutcome::Accepted)), "{ack:?}");
    }
    sink.close().await.unwrap();
    // As autovacuum does in time.
    admin.batch_execute("VACUUM ANALYZE").await.unwrap();
    let size = "SELECT pg_database_size(current_database())";
    let size: i64 = admin.query_one(size, &[]).await.unwrap().get(0);
    println!(
        "{loaded} events, {} MB, made and stored in {:.0} s",
        size >> 20,
        start.elapsed().as_secs_f64()
    );
    let store = PostgresEvents::new(config("audit_bench_reader")).unwrap();
    let ledger = Ledger::new(Arc::new(store), tenant);
    let samples = samples(&ledger, loaded, first, step).await;
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
async fn samples(ledger: &Ledger, events: usize, first: u64, step: u64) -> Vec<Found> {
    let mut samples = Vec::new();
    for at in 0..QUESTIONS {
        let at = u64::try_from(at * events / QUESTIONS).unwrap();
        let time = i64::try_from(first + at * step).unwrap();
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
