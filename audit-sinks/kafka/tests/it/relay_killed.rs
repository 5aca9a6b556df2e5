//! The relay is killed with SIGKILL in the middle, again and again.

use std::{
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use agent_audit_core::{
    conformance::TestChain,
    sink::Sink,
    verify::{ChainVerifier, Checkpoints, Report, Verdict},
};
use agent_audit_kafka::{KafkaConfig, Relay, RelayConfig};
use agent_audit_sqlite::{SqliteSink, SqliteStore};

use crate::{
    cluster,
    relay::{committed, until},
};

const ORDERS: &str = "AUDIT_RELAY_ORDERS";
const EVENTS: usize = 300;

/// The process that the test starts and kills; in every other process nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relay_process() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let [brokers, topic, group, dir] = orders.split(' ').collect::<Vec<_>>()[..] else {
        panic!("orders are four words: {orders}")
    };
    let config = RelayConfig::new(KafkaConfig::new(brokers).with_topic(topic), group)
        .with_commit_interval(Duration::from_millis(20))
        .with_session_timeout(Duration::from_secs(1));
    let sink: Arc<dyn Sink> = Arc::new(SqliteSink::open(dir).unwrap());
    Relay::new(config, vec![sink]).unwrap().run(std::future::pending()).await.unwrap();
}

fn rows(dir: &std::path::Path, chains: &[TestChain]) -> usize {
    let Ok(store) = SqliteStore::open_read_only(dir) else { return 0 };
    let rows = |chain: &TestChain| store.records(chain.chain(), 0).map_or(0, Iterator::count);
    chains.iter().map(rows).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn killed_again_and_again_the_store_has_every_event_once_and_verifies() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 3, cluster::ROOM).await, cluster::fresh("group"));
    let dir = tempfile::tempdir().unwrap();
    let mut chains: Vec<_> = (0..8).map(|_| TestChain::new()).collect();
    let producer = cluster::sink(cluster::config(&topic));
    for chain in &mut chains {
        for _ in 0..EVENTS / 50 {
            cluster::store(&*producer, &chain.extend(50)).await;
        }
    }
    let total = chains.len() * EVENTS;
    let orders = format!("{} {topic} {group} {}", cluster::brokers(), dir.path().display());
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["relay_killed::relay_process", "--exact", "--nocapture"])
            .env(ORDERS, &orders)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut kills = 0;
    for part in 1..=6 {
        let mut process = start();
        // Each time it has brought some more, and is in the middle of the next.
        let goal = total * part / 8;
        until("some progress", || {
            let rows = rows(dir.path(), &chains);
            async move { if rows >= goal { Ok(()) } else { Err(rows) } }
        })
        .await;
        process.kill().unwrap();
        process.wait().unwrap();
        kills += 1;
    }
    assert_eq!(kills, 6);
    let mut process = start();
    until("everything to be committed", || {
        let sum = committed(&topic, &group, 3);
        async move { if sum == i64::try_from(total).unwrap() { Ok(()) } else { Err(sum) } }
    })
    .await;
    process.kill().unwrap();
    process.wait().unwrap();

    let store = SqliteStore::open_read_only(dir.path()).unwrap();
    let mut reports = Vec::new();
    for chain in &chains {
        let stored: Vec<_> =
            store.records(chain.chain(), 0).unwrap().map(|item| item.unwrap().1).collect();
        assert_eq!(stored, chain.records());
        let mut verifier = ChainVerifier::new(chain.chain().clone(), Checkpoints::none());
        for record in &stored {
            verifier.push(&record.to_bytes());
        }
        reports.push(verifier.finish());
    }
    let report = Report::from_chains(reports);
    assert_ne!(report.verdict(), Verdict::Tampered, "{report:?}");
    assert_eq!(report.events, u64::try_from(total).unwrap());
}
