//! The sink: batches sorted by chain, several chains at a time, each segment an object.

use std::{collections::HashMap, sync::Arc};

use agent_audit_core::sink::{
    Batch, BatchAck, ChainRef, Head, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind,
    SinkInfo,
};
use futures_util::{StreamExt, stream};

use crate::{
    config::{ObjectFormat, S3Config},
    error::Fault,
    layout::Layout,
    store::{Chains, Grown, Shelf, connect},
};

/// Keeps each chain's events in objects that are written once, and a signed manifest of each.
///
/// A call that is cancelled may still have been carried out; the same segment again is accepted
/// once.
///
/// ```
/// use agent_audit_core::{key::SigningKey, sink::Sink};
/// use agent_audit_s3::{S3Config, S3Sink};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let config = S3Config::new("ledger")
///     .with_endpoint("http://localhost:9000")
///     .with_credentials("AKIDEXAMPLE", "secret")
///     .with_manifest_key(&SigningKey::generate()?);
/// let sink = S3Sink::open(config).await?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("s3", "s3"));
/// assert!(sink.info().readable_heads);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct S3Sink {
    info: SinkInfo,
    chains: Arc<Chains>,
    parallelism: usize,
}

impl S3Sink {
    /// A sink as configured. The bucket is not asked anything yet; [`check`](Sink::check) does that.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used: no bucket, no key to sign manifests
    /// with and no word that they may be unsigned, or a form of objects that this program was built
    /// without.
    pub async fn open(config: S3Config) -> Result<Self, SinkError> {
        let key = config.signing_key()?;
        if key.is_none() && !config.unsigned_manifests {
            let what = "the archive has no key to sign manifests with: give one with \
                        `with_manifest_key`, or allow unsigned ones with `with_unsigned_manifests`";
            return Err(SinkError::new(SinkErrorKind::Misconfigured, what));
        }
        if config.format == ObjectFormat::Parquet && cfg!(not(feature = "parquet")) {
            let what = "write Parquet: this program was built without the feature `parquet`";
            return Err(SinkError::new(SinkErrorKind::Misconfigured, what));
        }
        let shelf = Shelf {
            bucket: connect(&config).await?,
            layout: Layout::new(&config.prefix),
            believed: config.believed_keys()?,
            unsigned: config.unsigned_manifests,
        };
        let info = SinkInfo::new(config.name, "s3")
            .with_readable_heads()
            .with_max_batch(config.max_batch_events, config.max_batch_bytes);
        let chains = Chains::new(shelf, config.format, key, config.max_object_bytes);
        Ok(Self { info, chains: Arc::new(chains), parallelism: config.parallelism.max(1) })
    }
}

#[async_trait::async_trait]
impl Sink for S3Sink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let groups = by_chain(batch.segments()).into_iter();
        let work = groups.map(|group| append_chain(Arc::clone(&self.chains), group));
        let done: Vec<_> = stream::iter(work).buffer_unordered(self.parallelism).collect().await;
        let mut outcomes: Vec<(usize, SegmentOutcome)> = done.into_iter().flatten().collect();
        outcomes.sort_unstable_by_key(|(place, _)| *place);
        Ok(BatchAck::new(outcomes.into_iter().map(|(_, outcome)| outcome).collect()))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(self.chains.head(chain).await?)
    }

    /// Asks whether the bucket is there, has Object Lock where a lock is configured, can be listed,
    /// and takes an upload, which is begun and given up.
    async fn check(&self) -> Result<(), SinkError> {
        Ok(self.chains.shelf.bucket.check(self.chains.shelf.layout.root()).await?)
    }

    /// Forgets how far chains go. A later call reads it again.
    async fn close(&self) -> Result<(), SinkError> {
        self.chains.forget();
        Ok(())
    }
}

/// The segments of one chain, each with its place in the batch.
type Group = Vec<(usize, Segment)>;

fn by_chain(segments: &[Segment]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<&ChainRef, usize> = HashMap::new();
    for (at, segment) in segments.iter().enumerate() {
        let place = *places.entry(segment.chain()).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        // A segment shares its records, so that a copy costs nothing.
        groups[place].push((at, segment.clone()));
    }
    groups
}

async fn append_chain(chains: Arc<Chains>, group: Group) -> Vec<(usize, SegmentOutcome)> {
    let mut outcomes = Vec::with_capacity(group.len());
    let mut before: Option<Fault> = None;
    for (place, segment) in group {
        // What comes behind a segment that failed would be refused for its hole, and for good.
        let done = match &before {
            Some(fault) => Err(fault.clone()),
            None => chains.append(&segment).await,
        };
        let outcome = match done {
            Ok(Grown::Whole) => SegmentOutcome::Accepted,
            Ok(Grown::Conflict(sequence)) => SegmentOutcome::Conflict { sequence },
            Ok(Grown::Through(through)) => {
                let what = format!("append to chain {}: its events before failed", segment.chain());
                before = Some(Fault::new(SinkErrorKind::Unavailable, what));
                SegmentOutcome::Prefix { through }
            }
            Err(fault) => {
                if before.is_none() && SinkError::from(fault.clone()).is_retryable() {
                    before = Some(fault.clone());
                }
                SegmentOutcome::Failed { error: fault.into() }
            }
        };
        outcomes.push((place, outcome));
    }
    outcomes
}
