//! Asking the tables: what each kind of question takes, by the size of a tenant's ledger.
//!
//! `servers/with clickhouse -- cargo bench -p agent-audit-clickhouse --features query --bench query`
//! loads 100,000 and 1,000,000 events of one tenant in 20 chains (`AUDIT_BENCH_EVENTS=100000,…` for
//! other sizes) and prints the median and the 99th of a hundred for each question, in milliseconds.
//! The events are copies of the sessions of the query suite, with ids, names, times and places of
//! their own; a session has about 20 events. Each answer is checked as a ledger checks it.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a measurement")]

mod multiply;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseEvents, ClickHouseSink, ClickHouseStore};
use agent_audit_core::{
    id::{ChainId, SessionId, TenantId},
    record::Record,
    sink::{Batch, SegmentOutcome, Sink},
};
use agent_audit_query::{
    Cursor, EventStore, Filter, Found, Ledger, Order, Request, Select, conformance::Input,
};
use clickhouse::{Client, Compression};
use multiply::Multiplier;

const CHAINS: usize = 20;
const ROUNDS: usize = 200;

fn main() {
    let Ok(url) = std::env::var("AUDIT_TEST_CLICKHOUSE") else {
        println!("AUDIT_TEST_CLICKHOUSE is not set: servers/with clickhouse -- cargo bench …");
        return;
    };
    let sizes = std::env::var("AUDIT_BENCH_EVENTS").unwrap_or_else(|_| "100000,1000000".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for size in sizes.split(',') {
        runtime.block_on(measure(&url, size.trim().parse().unwrap()));
    }
}

async fn measure(url: &str, events: usize) {
    let name = format!("bench_{}", ChainId::random().to_string().replace('-', ""));
    let config = ClickHouseConfig::new(url).with_database(&name).with_max_batch(20_000, usize::MAX);
    ClickHouseStore::new(config.clone()).unwrap().migrate().await.unwrap();
    let tenant = TenantId::new("acme").unwrap();
    let sink = ClickHouseSink::with_config(config.clone()).unwrap();
    let sample = load(&sink, &tenant, events).await;

    let store = Arc::new(ClickHouseEvents::new(config).unwrap());
    let ledger = Ledger::new(store, tenant);
    println!("{:>24} {:>10} {:>10}", format!("{events} events"), "median ms", "p99 ms");
    let pick = |round: usize| &sample[round * 7_919 % sample.len()];
    let all = Request::first(1_000);
    print("session", async |at| {
        let session: SessionId = pick(at).session_id().parse().unwrap();
        let page = ledger.events(&Filter::new().session(session), &all).await.unwrap();
        assert!(!page.events.is_empty());
    })
    .await;
    print("session, with content", async |at| {
        let session: SessionId = pick(at).session_id().parse().unwrap();
        let request = all.clone().content();
        let page = ledger.events(&Filter::new().session(session), &request).await.unwrap();
        assert!(!page.events.is_empty());
    })
    .await;
    print("event by id", async |at| {
        ledger.event(pick(at).event_id(), false).await.unwrap();
    })
    .await;
    print("children of 1", async |at| {
        ledger.events(&Filter::new().parent(pick(at).event_id()), &all).await.unwrap();
    })
    .await;
    print("children of 20", async |at| {
        let parents = (0..20).map(|n| pick(at * 20 + n).event_id());
        let filter = parents.fold(Filter::new(), Filter::parent);
        ledger.events(&filter, &all).await.unwrap();
    })
    .await;
    let time = async |request: Request| {
        let page = ledger.events(&Filter::new(), &request).await.unwrap();
        assert_eq!(page.events.len(), 100);
    };
    print("first 100 by time", async |_| time(Request::first(100)).await).await;
    print("last 100 by time", async |_| time(Request::last(100)).await).await;
    let place = |at: usize| -> Cursor { pick(at).place().clone() };
    print("100 after a place", async |at| time(Request::after(place(at), 100)).await).await;
    print("100 of a tool, from a time", async |at| {
        let filter = Filter::new().tool("refund");
        ledger.events(&filter, &Request::after(place(at), 100)).await.unwrap();
    })
    .await;
    print("100 after, in a chain", async |at| {
        let filter = Filter::new().chain(pick(at).chain_id().parse().unwrap());
        let request = Request::after(place(at), 100).order(Order::Chain);
        ledger.events(&filter, &request).await.unwrap();
    })
    .await;
    print("100 sessions", async |_| {
        assert_eq!(ledger.sessions(&Filter::new(), None, 100).await.unwrap().len(), 100);
    })
    .await;
    print("chains", async |_| {
        assert_eq!(ledger.chains().await.unwrap().len(), CHAINS);
    })
    .await;
    drop_database(url, &name).await;
}

async fn print(question: &str, mut ask: impl AsyncFnMut(usize)) {
    ask(0).await;
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        ask(round).await;
        times.push(start.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    println!("{question:>24} {:>10.1} {:>10.1}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
}

/// Loads events, and gives some of them.
async fn load(sink: &ClickHouseSink, tenant: &TenantId, events: usize) -> Vec<Found> {
    let start = Instant::now();
    let mut many = Multiplier::new(tenant, sessions().await, CHAINS);
    let mut sample = Vec::new();
    let a_chain = 1_000.min(events / CHAINS);
    for _ in 0..events / a_chain / CHAINS {
        let segments = many.next(a_chain);
        for segment in &segments {
            let bare = |record: &Record| Record::new(record.event_bytes().to_vec(), Vec::new());
            sample
                .extend(segment.records().iter().step_by(53).map(|r| Found::new(bare(r)).unwrap()));
        }
        let ack = sink.append(&Batch::new(segments)).await.unwrap();
        assert!(ack.outcomes.iter().all(|o| matches!(o, SegmentOutcome::Accepted)), "{ack:?}");
    }
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let rate = events as f64 / start.elapsed().as_secs_f64();
    println!("loaded {events} events, {rate:.0} a second");
    sample
}

/// The sessions of the suite, each in the order of its events.
async fn sessions() -> Vec<Vec<Record>> {
    let input = Input::new("").await;
    let select = Select::new(Filter::new(), Order::Time, usize::MAX / 4).content();
    let found = input.reference().select(&input.tenants()[0], &select).await.unwrap();
    let mut sessions: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for found in found.into_iter().filter(|found| found.session_id().starts_with("session-")) {
        // What a sub-agent does belongs to the session that it was spawned in.
        let name = found.session_id().split('/').next().unwrap_or_default().to_owned();
        sessions.entry(name).or_default().push(found.into_record());
    }
    sessions.remove("session-odd");
    sessions.into_values().collect()
}

async fn drop_database(url: &str, name: &str) {
    let (credentials, host) = url.split_once("://").unwrap().1.rsplit_once('@').unwrap();
    let (user, password) = credentials.split_once(':').unwrap();
    let raw = Client::default()
        .with_url(format!("http://{host}"))
        .with_user(user)
        .with_password(password)
        .with_compression(Compression::None);
    raw.query(&format!("DROP DATABASE {name}")).execute().await.unwrap();
}
