//! Outages between the sink and the emulator, through a real log.

use std::{net::SocketAddr, sync::Arc};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_kinesis::KinesisSink;
use agent_audit_test_support::outages::{OutageHarness, Promise, inherited};

use crate::stream::{Stream, guarded_emulator, impatient};

struct Emulated(Stream);

impl Emulated {
    async fn new() -> Self {
        let at = guarded_emulator();
        Self(match inherited().as_deref().and_then(|names| names.split_once(' ')) {
            Some((name, bucket)) => Stream::known(name, bucket, at),
            None => Stream::create(at).await,
        })
    }
}

#[async_trait::async_trait]
impl OutageHarness for Emulated {
    fn upstream(&self) -> SocketAddr {
        self.0.at
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        let config = impatient(self.0.config_through(through));
        Arc::new(KinesisSink::connect(config).await.unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let arrived = self.0.everything().await.into_iter();
        arrived.filter(|r| r.chain == *chain).map(|r| r.record).collect()
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
        Some(Arc::new(KinesisSink::connect(config).await.unwrap()))
    }

    fn handed_down(&self) -> String {
        format!("{} {}", self.0.name, self.0.bucket)
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
    Emulated::new().await
);
