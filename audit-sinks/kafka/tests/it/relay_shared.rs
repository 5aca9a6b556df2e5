//! Relays of one group share the partitions, and take over from each other.

use std::{collections::HashSet, sync::Arc};

use agent_audit_core::{conformance::TestChain, sink::Sink};
use agent_audit_sqlite::{SqliteSink, SqliteStore};

use crate::{
    cluster,
    relay::{Running, committed, relay_config, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn two_relays_share_the_partitions_and_one_takes_over() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 6, cluster::ROOM).await, cluster::fresh("group"));
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let sink: Arc<dyn Sink> = Arc::new(SqliteSink::open(dir.path()).unwrap());
        Running::of(relay_config(&topic, &group), vec![sink])
    };
    let mut chains: Vec<_> = (0..30).map(|_| TestChain::new()).collect();
    let producer = cluster::sink(cluster::config(&topic));
    let first = start();
    let mut write = async |times: usize| {
        for _ in 0..times {
            for chain in &mut chains {
                cluster::store(&*producer, &chain.extend(5)).await;
            }
        }
    };
    write(2).await;
    first.until("the first to have all", |status| status.partitions.len() == 6).await;
    let second = start();
    write(2).await;
    until("both to have some", || {
        let (one, two) = (first.monitor.status(), second.monitor.status());
        let places = |status: &agent_audit_kafka::RelayStatus| -> HashSet<i32> {
            status.partitions.iter().map(|at| at.partition).collect()
        };
        let (a, b) = (places(&one), places(&two));
        let shared = a.len() == 3 && b.len() == 3 && a.is_disjoint(&b);
        async move { if shared { Ok(()) } else { Err((one, two)) } }
    })
    .await;
    write(2).await;
    first.until("the first to work", |status| status.relayed > 0).await;
    second.until("the second to work", |status| status.relayed > 0).await;
    first.stop().await;
    write(2).await;
    second.until("the second to have all", |status| status.partitions.len() == 6).await;
    until("everything to be committed", || {
        let sum = committed(&topic, &group, 6);
        async move { if sum == 30 * 40 { Ok(()) } else { Err(sum) } }
    })
    .await;
    let status = second.stop().await;
    assert_eq!(status.problems, 0, "{status:#?}");
    let store = SqliteStore::open_read_only(dir.path()).unwrap();
    for chain in &chains {
        let stored: Vec<_> =
            store.records(chain.chain(), 0).unwrap().map(|item| item.unwrap().1).collect();
        assert_eq!(stored, chain.records());
    }
}
