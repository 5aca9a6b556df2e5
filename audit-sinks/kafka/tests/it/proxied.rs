//! The outage suite: a real log, the sink, and a network that fails between it and a real Kafka.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_kafka::{KafkaConfig, TopicReader};
use agent_audit_test_support::{
    outages::{OutageHarness, Promise, inherited},
    servers::{Instance, required},
};

use crate::cluster;

struct Cluster {
    brokers: String,
    upstream: SocketAddr,
    listen: SocketAddr,
    topic: String,
    own: Option<Instance>,
}

impl Cluster {
    async fn shared() -> Self {
        let address = |name| required(name).parse().unwrap();
        let (upstream, listen) =
            (address("AUDIT_TEST_KAFKA_BEHIND"), address("AUDIT_TEST_KAFKA_PROXY"));
        Self::at(cluster::brokers(), upstream, listen, None).await
    }

    async fn at(
        brokers: String,
        upstream: SocketAddr,
        listen: SocketAddr,
        own: Option<Instance>,
    ) -> Self {
        let topic = match inherited() {
            Some(topic) => topic,
            None => cluster::topic(&brokers, 2, cluster::ROOM).await,
        };
        Self { brokers, upstream, listen, topic, own }
    }

    fn config(&self, through: SocketAddr, password: &str) -> KafkaConfig {
        KafkaConfig::new(through.to_string())
            .with_topic(&self.topic)
            .with_message_timeout(Duration::from_secs(2))
            .with_sasl("PLAIN", "writer", password.to_owned().into())
            .with_property("retry.backoff.ms", "20".to_owned().into())
            .with_property("reconnect.backoff.max.ms", "200".to_owned().into())
    }
}

#[async_trait::async_trait]
impl OutageHarness for Cluster {
    fn upstream(&self) -> SocketAddr {
        self.upstream
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        cluster::sink(self.config(through, "writer-secret"))
    }

    /// In the order of the topic, each copy too.
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let (brokers, topic, chain) = (self.brokers.clone(), self.topic.clone(), chain.clone());
        let read = move || {
            let mut found = Vec::new();
            let mut reader = TopicReader::open(&KafkaConfig::new(brokers), &[&topic]).unwrap();
            reader
                .read_to_end(&mut |message| {
                    let (of, record) = message.unwrap();
                    if of == chain {
                        found.push(record);
                    }
                })
                .unwrap();
            found
        };
        tokio::task::spawn_blocking(read).await.unwrap()
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn listen(&self) -> Option<SocketAddr> {
        Some(self.listen)
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        Some(cluster::sink(self.config(through, "wrong-secret")))
    }

    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let own = tokio::task::spawn_blocking(|| Instance::start("kafka")).await.unwrap();
        let address = |name: &str| own.variable(name).parse().unwrap();
        let (upstream, listen) =
            (address("AUDIT_TEST_KAFKA_BEHIND"), address("AUDIT_TEST_KAFKA_PROXY"));
        let brokers = own.variable("AUDIT_TEST_KAFKA").to_owned();
        Some(Box::new(Self::at(brokers, upstream, listen, Some(own)).await))
    }

    fn server(&self) -> Option<&Instance> {
        self.own.as_ref()
    }

    fn handed_down(&self) -> String {
        self.topic.clone()
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
    Cluster::shared().await
);
