//! What was acknowledged is there after the server was killed.

use std::sync::Arc;

use agent_audit_clickhouse::ClickHouseSink;
use agent_audit_core::{
    conformance::TestChain,
    sink::{Batch, SegmentOutcome, Sink},
};
use agent_audit_test_support::servers::Instance;
use tokio::task::block_in_place;

use super::database::Database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a ClickHouse of its own: servers/clickhouse install, cargo test -- --include-ignored"]
async fn a_server_that_is_killed_in_the_middle_keeps_what_it_acknowledged() {
    let server = block_in_place(|| Instance::start("clickhouse"));
    let database = Database::at(server.variable("AUDIT_TEST_CLICKHOUSE").to_owned());
    database.store().migrate().await.unwrap();
    let config = database.config().with_timeout(std::time::Duration::from_secs(5));
    let sink: Arc<dyn Sink> = Arc::new(ClickHouseSink::with_config(config).unwrap());
    let mut chain = TestChain::new();
    let mut acknowledged = 0;
    for _ in 0..4 {
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let (writing, mut growing) = (Arc::clone(&sink), chain.clone());
        // Writes until it meets a fault, and tells of each acknowledgement.
        let writer = tokio::spawn(async move {
            loop {
                let segment = growing.extend(7);
                let ack = writing.append(&Batch::new(vec![segment.clone()])).await.unwrap();
                if !matches!(ack.outcomes[..], [SegmentOutcome::Accepted]) {
                    return (growing, segment);
                }
                let _ = sender.send(segment.last() + 1);
            }
        });
        for _ in 0..5 {
            acknowledged = told.recv().await.unwrap();
        }
        block_in_place(|| server.kill());
        let (grown, unknown) = writer.await.unwrap();
        while let Ok(more) = told.try_recv() {
            acknowledged = more;
        }
        block_in_place(|| server.restart());
        chain = grown;
        let stored = database.records(chain.chain()).await;
        assert!(stored.len() as u64 >= acknowledged, "acknowledged and lost");
        assert_eq!(stored, chain.records()[..stored.len()], "a prefix, without a hole");
        // What was in flight is made good.
        super::store(&*sink, &unknown).await;
        assert_eq!(database.records(chain.chain()).await, chain.records());
    }
    drop(database);
}
