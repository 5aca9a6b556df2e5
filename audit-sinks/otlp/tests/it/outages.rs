//! Outages between the sink and a real collector, through a real log, over both protocols.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_otlp::{OtlpConfig, OtlpSink};
use agent_audit_test_support::{
    outages::{OutageHarness, Promise, WhenFull},
    servers::Instance,
};

use crate::collector::{Collector, Way};

struct Real {
    way: Way,
    collector: Collector,
    own: Option<Instance>,
}

impl Real {
    fn shared(way: Way) -> Self {
        Self { way, collector: Collector::shared(), own: None }
    }

    /// The receiver that asks for a token: it stands for all in this suite.
    fn config(&self, through: SocketAddr, token: &str) -> OtlpConfig {
        self.way
            .config(&format!("http://{through}"))
            .with_header("authorization", format!("Bearer {token}"))
            .with_timeout(Duration::from_secs(1))
    }
}

#[async_trait::async_trait]
impl OutageHarness for Real {
    fn upstream(&self) -> SocketAddr {
        let base = match self.way {
            Way::Grpc => &self.collector.auth_grpc,
            Way::Http => &self.collector.auth_http,
        };
        base.trim_start_matches("http://").parse().unwrap()
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(OtlpSink::new(self.config(through, &self.collector.token)).unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.collector.arrived(chain).await
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn keeps_content(&self) -> bool {
        false
    }

    /// The preface and settings of HTTP/2.
    fn handshake_bytes(&self) -> u64 {
        512
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(OtlpSink::new(self.config(through, "of-nobody")).unwrap()))
    }

    /// A collector passes on what it takes, and keeps nothing; the file of this one is for the tests.
    fn when_full(&self) -> WhenFull {
        WhenFull::Never
    }

    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let own = tokio::task::spawn_blocking(|| Instance::start("otlp")).await.unwrap();
        let collector = Collector::of(&own);
        Some(Box::new(Self { way: self.way, collector, own: Some(own) }))
    }

    fn server(&self) -> Option<&Instance> {
        self.own.as_ref()
    }
}

mod grpc {
    use super::{Real, Way};

    agent_audit_test_support::outage_suite!(
        #[ignore = "needs AUDIT_TEST_OTLP_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
        Real::shared(Way::Grpc)
    );
}

mod http {
    use super::{Real, Way};

    agent_audit_test_support::outage_suite!(
        #[ignore = "needs AUDIT_TEST_OTLP_HTTP: servers/with otlp -- cargo test -- --include-ignored"]
        Real::shared(Way::Http)
    );
}
