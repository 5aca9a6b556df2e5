//! Outages between the sink and the emulator, through a real log.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_sqs::SqsSink;
use agent_audit_test_support::outages::{OutageHarness, Promise, inherited};

use crate::queue::{Queue, guarded_emulator, impatient};

/// A queue, and the store of the consumer that empties it.
struct Emulated(Queue, tokio::sync::Mutex<HashMap<ChainRef, Vec<Record>>>);

impl Emulated {
    async fn new() -> Self {
        let at = guarded_emulator();
        let queue = match inherited().as_deref().and_then(|names| names.split_once(' ')) {
            Some((name, bucket)) => Queue::known(name, bucket, at),
            None => Queue::create(at).await,
        };
        Self(queue, Default::default())
    }
}

#[async_trait::async_trait]
impl OutageHarness for Emulated {
    fn upstream(&self) -> SocketAddr {
        self.0.at
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        let config = impatient(self.0.config_through(through));
        Arc::new(SqsSink::connect(config).await.unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut store = self.1.lock().await;
        for received in self.0.drain().await {
            store.entry(received.chain).or_default().push(received.record);
        }
        store.get(chain).cloned().unwrap_or_default()
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    /// A request of one event has more than the usual bytes: text in JSON in JSON.
    fn handshake_bytes(&self) -> u64 {
        16 << 10
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        let mut config = impatient(self.0.config_through(through));
        config.aws = config.aws.with_credentials("AKIANOBODY", "secret-of-nobody");
        Some(Arc::new(SqsSink::connect(config).await.unwrap()))
    }

    fn handed_down(&self) -> String {
        format!("{} {}", self.0.name, self.0.bucket)
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
    Emulated::new().await
);
