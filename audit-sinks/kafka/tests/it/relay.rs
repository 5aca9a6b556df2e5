//! The relay: what it brings, what it refuses, and what it waits for.

use std::{fs, sync::Arc, time::Duration};

use agent_audit_core::{
    conformance::TestChain,
    memory::{Fault, MemorySink},
    record::Record,
    sink::{ChainRef, Sink, SinkErrorKind},
};
use agent_audit_kafka::{
    Encoding, KafkaConfig, ProblemKind, Relay, RelayConfig, RelayMonitor, RelayStatus,
};
use agent_audit_sqlite::{SqliteSink, SqliteStore};
use agent_audit_test_support::servers::required;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    producer::{FutureProducer, FutureRecord},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::cluster::{self, tenant};

pub(crate) fn relay_config(topic: &str, group: &str) -> RelayConfig {
    RelayConfig::new(cluster::config(topic), group)
        .with_commit_interval(Duration::from_millis(50))
        .with_session_timeout(Duration::from_secs(6))
        .with_retries(Duration::from_millis(5), Duration::from_millis(100))
}

/// A relay at work.
pub(crate) struct Running {
    pub(crate) monitor: RelayMonitor,
    stop: oneshot::Sender<()>,
    done: JoinHandle<RelayStatus>,
}

impl Running {
    pub(crate) fn start(relay: Relay) -> Self {
        let monitor = relay.monitor();
        let (stop, stopped) = oneshot::channel();
        let done =
            tokio::spawn(async move { relay.run(async { drop(stopped.await) }).await.unwrap() });
        Self { monitor, stop, done }
    }

    pub(crate) fn of(config: RelayConfig, sinks: Vec<Arc<dyn Sink>>) -> Self {
        Self::start(Relay::new(config, sinks).unwrap())
    }

    pub(crate) async fn until(&self, what: &str, reached: impl Fn(&RelayStatus) -> bool) {
        until(what, || {
            let status = self.monitor.status();
            let there = reached(&status);
            async move { if there { Ok(()) } else { Err(status) } }
        })
        .await;
    }

    pub(crate) async fn stop(self) -> RelayStatus {
        self.stop.send(()).unwrap();
        self.done.await.unwrap()
    }
}

/// Looks again and again, for two minutes.
pub(crate) async fn until<E: std::fmt::Debug, F: Future<Output = Result<(), E>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while let Err(state) = look().await {
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}: {state:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The offsets that a group has committed, of all partitions together.
pub(crate) fn committed(topic: &str, group: &str, partitions: i32) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster::brokers())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let found = consumer.committed_offsets(list, Duration::from_secs(20)).unwrap();
    found.elements().iter().filter_map(|at| at.offset().to_raw()).filter(|at| *at > 0).sum()
}

async fn send(topic: &str, key: &str, value: &[u8]) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster::brokers())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let record = FutureRecord::to(topic).key(key).payload(value);
    producer.send(record, Duration::from_secs(20)).await.unwrap();
}

async fn send_event(topic: &str, chain: &ChainRef, record: &Record) {
    send(topic, &chain.to_string(), &Encoding::Json.encode(record).unwrap()).await;
}

fn stored(dir: &std::path::Path, chain: &ChainRef) -> Vec<Record> {
    let store = SqliteStore::open_read_only(dir).unwrap();
    store.records(chain, 0).unwrap().map(|item| item.unwrap().1).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn every_event_reaches_every_sink_and_offsets_follow() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 4, cluster::ROOM).await, cluster::fresh("group"));
    let mut chains: Vec<_> = (0..20).map(|_| TestChain::new()).collect();
    let producer = cluster::sink(cluster::config(&topic).with_encoding(Encoding::Protobuf));
    for _ in 0..4 {
        for chain in &mut chains {
            cluster::store(&*producer, &chain.extend(10)).await;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let memory = MemorySink::new();
    let sinks = || -> Vec<Arc<dyn Sink>> {
        vec![Arc::new(SqliteSink::open(dir.path()).unwrap()), Arc::new(memory.clone())]
    };
    let relay = Running::of(relay_config(&topic, &group), sinks());
    relay.until("all events", |status| status.relayed == 800).await;
    let status = relay.monitor.status();
    assert_eq!((status.partitions.len(), status.problems), (4, 0), "{status:#?}");
    relay.stop().await;
    assert_eq!(committed(&topic, &group, 4), 800);
    for chain in &chains {
        assert_eq!(stored(dir.path(), chain.chain()), chain.records());
        assert_eq!(memory.records(chain.chain()), chain.records());
    }

    // The next one goes on from there, with the heads that the stores tell.
    let relay = Running::of(relay_config(&topic, &group), sinks());
    for chain in &mut chains {
        cluster::store(&*producer, &chain.extend(3)).await;
    }
    relay.until("the rest", |status| status.relayed == 60).await;
    let status = relay.stop().await;
    assert_eq!((status.read, status.problems), (60, 0));
    assert_eq!(committed(&topic, &group, 4), 860);
    for chain in &chains {
        assert_eq!(stored(dir.path(), chain.chain()), chain.records());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn what_belongs_nowhere_is_quarantined_and_the_chains_go_on() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await, cluster::fresh("group"));
    let mut chain = TestChain::new();
    chain.extend(8);
    let mut fork = chain.fork(2);
    fork.extend(3);
    let name = chain.chain().clone();
    let event = async |record: &Record| send_event(&topic, &name, record).await;
    for at in [0, 1, 2] {
        event(&chain.records()[at]).await;
    }
    event(&chain.records()[1]).await; // a copy
    event(&fork.records()[2]).await; // a conflict
    event(&fork.records()[3]).await; // not linked
    event(&chain.records()[4]).await; // early
    event(&chain.records()[5]).await;
    send(&topic, "x", b"no event").await; // malformed
    send(&topic, "acme/other", &Encoding::Json.encode(&chain.records()[3]).unwrap()).await;
    event(&chain.records()[3]).await; // late
    for at in [4, 5, 6, 7] {
        event(&chain.records()[at]).await; // as after a retry
    }
    let dir = tempfile::tempdir().unwrap();
    let quarantine = dir.path().join("quarantine");
    let ledger = dir.path().join("ledger");
    let sink: Arc<dyn Sink> = Arc::new(SqliteSink::open(&ledger).unwrap());
    let config = relay_config(&topic, &group).with_quarantine(&quarantine);
    let relay = Running::of(config, vec![sink]);
    relay.until("all messages", |status| status.read == 15 && status.relayed == 8).await;
    let status = relay.stop().await;
    assert_eq!(stored(&ledger, chain.chain()), chain.records());
    assert_eq!(committed(&topic, &group, 1), 15);
    assert_eq!((status.copies, status.problems), (3, 4), "{status:#?}");
    // What is no event is known as such before the sinks have told where the chain is.
    let mut problems = status.latest_problems;
    problems.sort_by_key(|problem| problem.offset);
    let kinds: Vec<_> = problems.iter().map(|problem| problem.kind).collect();
    let expected = [
        ProblemKind::Conflict,
        ProblemKind::Unlinked,
        ProblemKind::Malformed,
        ProblemKind::Malformed,
    ];
    assert_eq!(kinds, expected);

    let kept = fs::read_to_string(quarantine.join(format!("{topic}-0.ndjson"))).unwrap();
    let mut lines: Vec<serde_json::Value> =
        kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.sort_by_key(|line| line["offset"].as_i64());
    let offsets: Vec<_> = lines.iter().map(|line| line["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [4, 5, 8, 9]);
    let record = Record::from_json_line(lines[0]["record"].to_string().as_bytes());
    assert_eq!(record.unwrap(), fork.records()[2]);
    assert_eq!(lines[2]["value_base64"], "bm8gZXZlbnQ=");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn without_a_quarantine_the_offset_stays_and_the_others_go_on() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await, cluster::fresh("group"));
    let mut chain = TestChain::new();
    let producer = cluster::sink(cluster::config(&topic));
    cluster::store(&*producer, &chain.extend(3)).await;
    send(&topic, "x", b"no event").await;
    cluster::store(&*producer, &chain.extend(3)).await;
    let memory = MemorySink::new();
    for _ in 0..2 {
        let relay = Running::of(relay_config(&topic, &group), vec![Arc::new(memory.clone())]);
        relay.until("all events", |status| status.problems == 1 && status.read >= 4).await;
        relay.until("the chain", |_| memory.records(chain.chain()) == chain.records()).await;
        let stuck = |status: &RelayStatus| status.partitions.first().and_then(|at| at.stuck_at);
        relay.until("the offset", |status| stuck(status) == Some(3)).await;
        relay.stop().await;
        assert_eq!(committed(&topic, &group, 1), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn one_tenants_event_in_anothers_topic_is_misplaced() {
    let (brokers, prefix, group) =
        (cluster::brokers(), cluster::fresh("of"), cluster::fresh("group"));
    let of = |name: &str| format!("{prefix}-{name}");
    for name in ["acme", "globex"] {
        cluster::create(&brokers, &of(name), 1, cluster::ROOM).await;
    }
    let (mut acme, mut globex) = (TestChain::of(tenant("acme")), TestChain::of(tenant("globex")));
    let producer = cluster::sink(cluster::config(&of("{tenant}")));
    cluster::store(&*producer, &globex.extend(3)).await;
    // Who may write to acme's topic writes the history of globex.
    let forged = TestChain::of(tenant("globex")).extend(1);
    send_event(&of("acme"), forged.chain(), &forged.records()[0]).await;
    cluster::store(&*producer, &acme.extend(3)).await;
    let memory = MemorySink::new();
    let dir = tempfile::tempdir().unwrap();
    let config = relay_config(&of("{tenant}"), &group).with_quarantine(dir.path());
    let relay = Running::of(config, vec![Arc::new(memory.clone())]);
    relay.until("both topics", |status| status.read == 7 && status.relayed == 6).await;
    let status = relay.stop().await;
    let problem = &status.latest_problems[0];
    assert_eq!((problem.kind, problem.topic.as_str()), (ProblemKind::Misplaced, &*of("acme")));
    assert_eq!(memory.records(acme.chain()), acme.records());
    assert_eq!(memory.records(globex.chain()), globex.records());
    assert!(memory.records(forged.chain()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_sink_that_fails_holds_back_the_offsets_and_little_memory() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 2, cluster::ROOM).await, cluster::fresh("group"));
    let mut chains: Vec<_> = (0..10).map(|_| TestChain::new()).collect();
    let producer = cluster::sink(cluster::config(&topic));
    for chain in &mut chains {
        cluster::store(&*producer, &chain.extend(200)).await;
    }
    let (ill, sound) = (MemorySink::named("ill"), MemorySink::named("sound"));
    ill.faults().inject(Fault::before(SinkErrorKind::Unavailable).always());
    let config = relay_config(&topic, &group).with_max_buffered_bytes(300_000);
    let relay = Running::of(config, vec![Arc::new(ill.clone()), Arc::new(sound.clone())]);
    let paused = |status: &RelayStatus| {
        status.partitions.len() == 2 && status.partitions.iter().all(|at| at.paused)
    };
    relay.until("both partitions to rest", paused).await;
    let status = relay.monitor.status();
    assert!(status.read < 2_000 && status.relayed == 0, "{status:#?}");
    let failing = |status: &RelayStatus| {
        let error = status.sinks[0].last_error.as_ref();
        status.sinks[0].failures > 2 && error.is_some_and(|error| error.contains("unavailable"))
    };
    relay.until("retries", failing).await;
    assert_eq!(committed(&topic, &group, 2), 0);
    ill.faults().clear();
    relay.until("all events", |status| status.relayed == 2_000).await;
    relay.stop().await;
    assert_eq!(committed(&topic, &group, 2), 2_000);
    for chain in &chains {
        assert_eq!(ill.records(chain.chain()), chain.records());
        assert_eq!(sound.records(chain.chain()), chain.records());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_tenant_that_a_sink_does_not_take_delays_nobody() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await, cluster::fresh("group"));
    let (mut ill, mut sound) = (TestChain::of(tenant("acme")), TestChain::of(tenant("globex")));
    let memory = MemorySink::new();
    memory.faults().inject(Fault::before(SinkErrorKind::Unavailable).tenant("acme").always());
    let relay = Running::of(relay_config(&topic, &group), vec![Arc::new(memory.clone())]);
    let producer = cluster::sink(cluster::config(&topic));
    cluster::store(&*producer, &ill.extend(5)).await;
    for _ in 0..5 {
        cluster::store(&*producer, &sound.extend(5)).await;
    }
    relay.until("the sound one", |_| memory.records(sound.chain()) == sound.records()).await;
    assert!(memory.records(ill.chain()).is_empty());
    memory.faults().clear();
    relay.until("the other one", |status| status.relayed == 30).await;
    assert_eq!(memory.records(ill.chain()), ill.records());
    relay.stop().await;
    assert_eq!(committed(&topic, &group, 1), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA_SASL: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_user_who_may_only_read_is_enough() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await, cluster::fresh("group"));
    let mut chain = TestChain::new();
    cluster::store(&*cluster::sink(cluster::config(&topic)), &chain.extend(5)).await;
    let memory = MemorySink::new();
    let kafka = KafkaConfig::new(required("AUDIT_TEST_KAFKA_SASL")).with_topic(&topic);
    let as_user = |user: &str| {
        let mut config = relay_config(&topic, &group);
        config.kafka = kafka.clone().with_sasl("PLAIN", user, format!("{user}-secret").into());
        Running::of(config, vec![Arc::new(memory.clone())])
    };
    let denied = as_user("nobody");
    let complaint = |status: &RelayStatus| {
        status.last_error.as_ref().is_some_and(|error| error.contains("permission denied"))
    };
    denied.until("a refusal", complaint).await;
    denied.stop().await;
    let relay = as_user("relay");
    relay.until("all events", |status| status.relayed == 5).await;
    relay.stop().await;
    assert_eq!(memory.records(chain.chain()), chain.records());
    assert_eq!(committed(&topic, &group, 1), 5);
}
