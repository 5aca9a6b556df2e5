//! A sink whose credentials are exchanged while a log works with it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use agent_audit_core::sink::{Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkInfo};
use async_trait::async_trait;

/// Two sinks of the same name, of which one is asked.
#[derive(Debug)]
pub(super) struct Switch {
    right: Arc<dyn Sink>,
    wrong: Arc<dyn Sink>,
    is_wrong: AtomicBool,
}

impl Switch {
    pub(super) fn new(right: Arc<dyn Sink>, wrong: Arc<dyn Sink>) -> Arc<Self> {
        Arc::new(Self { right, wrong, is_wrong: AtomicBool::new(false) })
    }

    /// Asks the other one from here on.
    pub(super) fn set(&self, is_wrong: bool) {
        self.is_wrong.store(is_wrong, Ordering::Release);
    }

    fn now(&self) -> &dyn Sink {
        if self.is_wrong.load(Ordering::Acquire) { &*self.wrong } else { &*self.right }
    }
}

// A method that is not passed on would be that of no sink.
#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Sink for Switch {
    fn info(&self) -> &SinkInfo {
        self.right.info()
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        self.now().append(batch).await
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        self.now().head(chain).await
    }

    async fn check(&self) -> Result<(), SinkError> {
        self.now().check().await
    }

    async fn close(&self) -> Result<(), SinkError> {
        self.wrong.close().await?;
        self.right.close().await
    }
}
