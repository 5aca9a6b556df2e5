//! The suite itself, over sinks that are right: it must pass.

use std::{net::SocketAddr, sync::Arc};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_test_support::outages::OutageHarness;
use async_trait::async_trait;

use crate::framed::{Flaw, FramedSink, Server};

/// A store in this process, reached over TCP.
pub(crate) struct Framed(Server);

impl Framed {
    pub(crate) async fn start(flaw: Flaw) -> Self {
        Self(Server::start(flaw).await)
    }
}

#[async_trait]
impl OutageHarness for Framed {
    fn upstream(&self) -> SocketAddr {
        self.0.address
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(FramedSink::new(through))
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.0.shelf.read(chain)
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        Some(Arc::new(FramedSink::new(through).with_wrong_password()))
    }
}

/// The same, and what comes again is sent again.
pub(crate) struct Headless(Framed);

impl Headless {
    pub(crate) async fn start(flaw: Flaw) -> Self {
        Self(Framed::start(flaw).await)
    }
}

#[async_trait]
impl OutageHarness for Headless {
    fn upstream(&self) -> SocketAddr {
        self.0.upstream()
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(FramedSink::new(through).without_heads())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.0.read_back(chain).await
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        let sink = FramedSink::new(through).with_wrong_password();
        Some(Arc::new(sink.without_heads()))
    }
}

mod with_heads {
    use super::*;
    agent_audit_test_support::outage_suite!(Framed::start(Flaw::None).await);
}

mod without_heads {
    use super::*;
    agent_audit_test_support::outage_suite!(Headless::start(Flaw::None).await);
}
