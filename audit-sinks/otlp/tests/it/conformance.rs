//! The suite that every sink passes, against a real collector, over both protocols.

use std::sync::Arc;

use agent_audit_core::{
    conformance::{Capabilities, Fault, Harness},
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_otlp::OtlpSink;
use tonic::Code;

use crate::{
    collector::{Collector, Way},
    service::{Answer, Service, is_of},
};

const SECRET: &str = "Bearer canary-token";

struct Real(Way);

#[async_trait::async_trait]
impl Harness for Real {
    async fn sink(&self) -> Arc<dyn Sink> {
        let config = Collector::shared().config(self.0).with_header("authorization", SECRET);
        Arc::new(OtlpSink::new(config).unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        Collector::shared().records(chain).await
    }

    /// A collector can be asked nothing, and keeps no content.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default().without_conflicts().without_order().without_content()
    }

    fn credentials(&self) -> Vec<String> {
        vec![SECRET.to_owned(), "canary-words".to_owned()]
    }

    /// A service before the collector that fails whatever holds something of the chain.
    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        let ill = chain.clone();
        let answer = match fault {
            Fault::BeforeCommit => Answer::Fail(Code::Unavailable),
            Fault::AfterCommit => Answer::ForwardAndFail(Code::Unavailable),
            _ => return None,
        };
        let service = Service::start(self.0, move |request| {
            if is_of(request, &ill) { answer.clone() } else { Answer::Forward }
        });
        let config = service.await.config().with_header("authorization", SECRET);
        Some(Arc::new(OtlpSink::new(config).unwrap()))
    }
}

mod grpc {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_OTLP_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
        Real(Way::Grpc)
    );
}

mod http {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_OTLP_HTTP: servers/with otlp -- cargo test -- --include-ignored"]
        Real(Way::Http)
    );
}
