//! The contract of sinks, as a user who may write and do nothing else.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
    time::Duration,
};

use agent_audit_core::{
    conformance::{Capabilities, Fault, Harness, lose_answers},
    id::TenantId,
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_kafka::{Encoding, KafkaConfig, KafkaSink, Ledger, TopicReader, TopicRouter};

use crate::cluster;

struct Cluster {
    topic: String,
    config: KafkaConfig,
    credentials: Vec<String>,
    found: Mutex<(TopicReader, Ledger)>,
}

impl Cluster {
    async fn new(encoding: Encoding) -> Self {
        let brokers = cluster::brokers();
        let topic = cluster::topic(&brokers, 3, cluster::ROOM).await;
        let (mut config, mut credentials) = (cluster::config(&topic), Vec::new());
        // A user's own server may have no such listener.
        if let Ok(address) = std::env::var("AUDIT_TEST_KAFKA_SASL") {
            let password = "writer-secret".to_owned();
            credentials.push(password.clone());
            config.brokers = address;
            config = config.with_sasl("PLAIN", "writer", password.into());
        }
        let reader = TopicReader::open(&KafkaConfig::new(brokers), &[&topic]).unwrap();
        let found = Mutex::new((reader, Ledger::default()));
        Self { topic, config: config.with_encoding(encoding), credentials, found }
    }
}

#[async_trait::async_trait]
impl Harness for Cluster {
    async fn sink(&self) -> Arc<dyn Sink> {
        cluster::sink(self.config.clone())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut found = self.found.lock().unwrap();
        let (reader, ledger) = &mut *found;
        reader
            .read_to_end(&mut |message| {
                let (chain, record) = message.unwrap();
                ledger.take(&chain, record);
            })
            .unwrap();
        ledger.records(chain)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().without_conflicts().without_order()
    }

    fn credentials(&self) -> Vec<String> {
        self.credentials.clone()
    }

    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        if fault == Fault::AfterCommit {
            return Some(lose_answers(self.sink().await));
        }
        let router = Astray { ill: chain.tenant_id.clone(), topic: self.topic.clone() };
        let config = self.config.clone().with_message_timeout(Duration::from_secs(5));
        Some(Arc::new(KafkaSink::with_router(config, router).unwrap()))
    }
}

/// One tenant's topic is not there.
#[derive(Debug)]
struct Astray {
    ill: TenantId,
    topic: String,
}

impl TopicRouter for Astray {
    fn topic<'a>(&'a self, chain: &'a ChainRef) -> Cow<'a, str> {
        if chain.tenant_id == self.ill { "audit-nowhere".into() } else { (&*self.topic).into() }
    }
    fn topics(&self) -> Vec<String> {
        vec![self.topic.clone()]
    }
}

mod json {
    use super::{Cluster, Encoding};
    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
        Cluster::new(Encoding::Json).await
    );
}

mod protobuf {
    use super::{Cluster, Encoding};
    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
        Cluster::new(Encoding::Protobuf).await
    );
}
