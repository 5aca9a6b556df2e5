//! A chain that one sink refuses is nothing to the others, whichever relay goes on with it.

use std::{fs, path::Path, sync::Arc, time::Duration};

use agent_audit_core::{
    conformance::TestChain,
    memory::{Fault, MemorySink},
    sink::{Sink, SinkErrorKind},
};
use agent_audit_kafka::{RelayConfig, RelayStatus};

use crate::{
    cluster::{self, tenant},
    relay::{Running, committed, relay_config, until},
};

/// The positions of what is in the quarantine, each once: after a crash a line can be there twice.
fn quarantined(directory: &Path, topic: &str) -> Vec<u64> {
    let lines = fs::read_to_string(directory.join(format!("{topic}-0.ndjson"))).unwrap_or_default();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut positions: Vec<_> = lines
        .map(|line| {
            assert_eq!((line["sink"].as_str(), line["topic"].as_str()), (Some("ill"), Some(topic)));
            line["sequence"].as_u64().unwrap()
        })
        .collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
async fn a_chain_that_one_sink_refuses_goes_on_at_the_others_under_every_relay() {
    let (topic, group) =
        (cluster::topic(&cluster::brokers(), 1, cluster::ROOM).await, cluster::fresh("group"));
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ill, sound) = (MemorySink::named("ill"), MemorySink::named("sound"));
    let sinks = || -> Vec<Arc<dyn Sink>> { vec![Arc::new(ill.clone()), Arc::new(sound.clone())] };
    let config = |directory: &Path| -> RelayConfig {
        // Nothing here is waited for: that would be noticed.
        relay_config(&topic, &group)
            .with_quarantine(directory)
            .with_gap_timeout(Duration::from_secs(3_600))
    };
    let producer = cluster::sink(cluster::config(&topic));
    let (mut refused, mut taken) = (TestChain::of(tenant("acme")), TestChain::of(tenant("globex")));
    let mut passed = 0;
    let mut write = async |refused: &mut TestChain, taken: &mut TestChain| {
        cluster::store(&*producer, &refused.extend(4)).await;
        cluster::store(&*producer, &taken.extend(4)).await;
        passed += 8;
        passed
    };
    let all_passed = async |expected: i64| {
        until("everything to be committed", || {
            let sum = committed(&topic, &group, 1);
            async move { if sum == expected { Ok(()) } else { Err(sum) } }
        })
        .await;
    };
    let has = |sink: &MemorySink, chain: &TestChain| sink.records(chain.chain()).len();

    let first = Running::of(config(here.path()), sinks());
    let expected = write(&mut refused, &mut taken).await;
    all_passed(expected).await;
    let refusals =
        ill.faults().inject(Fault::before(SinkErrorKind::Rejected).tenant("acme").always());
    let expected = write(&mut refused, &mut taken).await;
    all_passed(expected).await;
    assert_eq!((has(&ill, &refused), has(&sound, &refused)), (4, 8));
    assert_eq!(quarantined(here.path(), &topic), [4, 5, 6, 7]);
    assert_eq!(first.monitor.status().sinks[0].halted, 1);

    // Another one beside it takes over, and finds what it has noted.
    let second = Running::of(config(here.path()), sinks());
    first.stop().await;
    second.until("the partition", |status| status.partitions.len() == 1).await;
    let asked = refusals.fired();
    let expected = write(&mut refused, &mut taken).await;
    all_passed(expected).await;
    let status = second.stop().await;
    assert_eq!((has(&ill, &refused), has(&sound, &refused)), (4, 12));
    assert_eq!(quarantined(here.path(), &topic), (4..12).collect::<Vec<_>>());
    assert_eq!((status.sinks[0].halted, status.sinks[1].halted), (1, 0));
    assert_eq!((status.gaps.len(), refusals.fired()), (0, asked), "it was known");

    // One on another machine does not find it. The sink gets what it lacks no more, the others do.
    let third = Running::of(config(elsewhere.path()), sinks());
    let before = write(&mut refused, &mut taken).await - 8;
    let there = |_: &RelayStatus| has(&sound, &refused) == 16 && has(&sound, &taken) == 16;
    third.until("the others to go on", there).await;
    third.until("what waits at one", |status| status.gaps.len() == 1).await;
    let status = third.stop().await;
    let lacking = (status.gaps[0].sink.as_deref(), status.gaps[0].missing);
    assert_eq!(lacking, (Some("ill"), 4));
    assert_eq!(committed(&topic, &group, 1), before, "and nothing is passed that belongs nowhere");
    let impatient = config(elsewhere.path()).with_gap_timeout(Duration::from_millis(200));
    let fourth = Running::of(impatient, sinks());
    all_passed(before + 8).await;
    let status = fourth.stop().await;
    assert_eq!(quarantined(elsewhere.path(), &topic), [12, 13, 14, 15]);
    assert_eq!((status.sinks[0].halted, status.sinks[1].halted), (1, 0));

    // It is mended, and the offsets are set back: a group of its own reads all once more.
    ill.faults().clear();
    let again = relay_config(&topic, &cluster::fresh("group")).with_quarantine(here.path());
    let last = Running::of(again, sinks());
    last.until("everything", |status| status.relayed == 32).await;
    let status = last.stop().await;
    assert_eq!((status.problems, status.sinks[0].halted), (0, 0), "{status:#?}");
    for sink in [&ill, &sound] {
        assert_eq!(sink.records(refused.chain()), refused.records());
        assert_eq!(sink.records(taken.chain()), taken.records());
    }
}
