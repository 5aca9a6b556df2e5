//! The sink: a batch of any number of tenants in one insert.

use agent_audit_core::sink::{Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkInfo};

use crate::{
    config::ClickHouseConfig,
    store::{self, Client},
};

/// Keeps all tenants' events in the tables of one database.
///
/// [`ClickHouseStore::migrate`](crate::ClickHouseStore::migrate) creates the tables; the sink itself
/// needs the rights of the role `audit_writer` in [`PERMISSIONS`](crate::PERMISSIONS). A call that is
/// cancelled may still be carried out; the same segment again is accepted once.
///
/// ```
/// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink};
/// use agent_audit_core::sink::Sink;
/// let config = ClickHouseConfig::new("http://localhost:8123").with_user("audit_writer", "secret");
/// let sink = ClickHouseSink::with_config(config)?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("clickhouse", "clickhouse"));
/// assert!(sink.info().readable_heads);
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
#[derive(Debug)]
pub struct ClickHouseSink {
    info: SinkInfo,
    config: ClickHouseConfig,
    client: Client,
}

impl ClickHouseSink {
    /// A sink as configured. The server is not asked for anything yet: see [`Sink::check`].
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used.
    ///
    /// ```
    /// use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseSink};
    /// let config = ClickHouseConfig::new("http://localhost:8123").with_database("a; DROP TABLE b");
    /// assert!(ClickHouseSink::with_config(config).is_err());
    /// ```
    pub fn with_config(config: ClickHouseConfig) -> Result<Self, SinkError> {
        let client = Client::new(&config)?;
        let info = SinkInfo::new(config.name.clone(), "clickhouse")
            .with_readable_heads()
            .with_max_batch(config.max_batch_events.max(1), config.max_batch_bytes.max(1));
        Ok(Self { info, config, client })
    }
}

#[async_trait::async_trait]
impl Sink for ClickHouseSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let outcomes = store::append(&self.client, &self.config, batch.segments()).await;
        Ok(BatchAck::new(outcomes))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(store::head(&self.client, chain).await?)
    }

    async fn check(&self) -> Result<(), SinkError> {
        store::check_version(&self.client).await?;
        Ok(store::may_insert(&self.client).await?)
    }

    /// There is nothing to close: every insert has been waited for, and connections close when they
    /// are idle.
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}
