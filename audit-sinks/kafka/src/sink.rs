//! The sink: each event is a message, and a batch is acknowledged when the cluster has all of it.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_audit_core::{
    hash::Hash,
    record::Record,
    sink::{
        Batch, BatchAck, ChainRef, Head, Segment, SegmentOutcome, Sink, SinkError, SinkErrorKind,
        SinkInfo,
    },
};
use rdkafka::{
    ClientConfig,
    config::FromClientConfigAndContext as _,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use crate::{
    config::{KafkaConfig, refused},
    encoding::Encoding,
    error::{Meaning, fault},
    producer::{Context, Producer, Reports, Slot},
    topic::TopicRouter,
};

/// The header with the tenant's id.
pub const HEADER_TENANT: &str = "audit-tenant";
/// The header with the type of the event.
pub const HEADER_EVENT_TYPE: &str = "audit-event-type";
/// The header with the event hash, 64 hexadecimal digits.
pub const HEADER_EVENT_HASH: &str = "audit-event-hash";
/// The header with the version of the event's schema.
pub const HEADER_SCHEMA_VERSION: &str = "audit-schema-version";
/// The header with the encoding of the value, `json` or `protobuf`.
pub const HEADER_ENCODING: &str = "audit-encoding";

/// How much longer than a message may take a batch is waited for: the client looks for messages
/// that are late once in a second.
const GRACE: Duration = Duration::from_secs(3);

/// Writes events to Kafka, one message each.
///
/// No connection is made before the first call. A call that is cancelled may still be carried out;
/// the same segment again becomes messages that the reader drops.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_kafka::{KafkaConfig, KafkaSink};
/// let sink = KafkaSink::new(KafkaConfig::new("localhost:9092"))?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("kafka", "kafka"));
/// assert!(!sink.info().readable_heads, "a log of messages has no index of chains");
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
pub struct KafkaSink {
    info: SinkInfo,
    client: ClientConfig,
    encoding: Encoding,
    message_timeout: Duration,
    router: Arc<dyn TopicRouter>,
    /// Made at the first call, and again when it has become useless.
    producer: Mutex<Option<Arc<Producer>>>,
}

impl fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client's set-up holds the password.
        f.debug_struct("KafkaSink")
            .field("info", &self.info)
            .field("encoding", &self.encoding)
            .field("router", &self.router)
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    /// A sink as configured.
    ///
    /// # Errors
    /// [`SinkError`] where the set-up cannot be right, as a topic that cannot be one, or a property
    /// that the client does not know.
    pub fn new(config: KafkaConfig) -> Result<Self, SinkError> {
        let router = config.router()?;
        Self::with_router(config, router)
    }

    /// A sink with a router of the user's own, in place of [`KafkaConfig::topic`].
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// ```
    /// use agent_audit_kafka::{KafkaConfig, KafkaSink, TopicTemplate};
    /// let router = TopicTemplate::new("audit-{tenant}")?;
    /// let sink = KafkaSink::with_router(KafkaConfig::new("localhost:9092"), router)?;
    /// assert!(format!("{sink:?}").contains("audit-"));
    /// # Ok::<(), agent_audit_core::sink::SinkError>(())
    /// ```
    pub fn with_router(
        config: KafkaConfig,
        router: impl TopicRouter + 'static,
    ) -> Result<Self, SinkError> {
        let sink = Self {
            info: SinkInfo::new(config.name.clone(), "kafka"),
            client: config.producer()?,
            encoding: config.encoding,
            message_timeout: config.message_timeout(),
            router: Arc::new(router),
            producer: Mutex::default(),
        };
        // What the client does not take is found now, and not with the first event.
        sink.producer()?;
        Ok(sink)
    }

    /// A sink as the environment says: see [`KafkaConfig::from_env`].
    ///
    /// # Errors
    /// As [`KafkaConfig::from_env`] and [`new`](Self::new).
    ///
    /// ```
    /// // Nothing is set here.
    /// assert!(agent_audit_kafka::KafkaSink::from_env().is_err());
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Self::new(KafkaConfig::from_env()?)
    }

    fn producer(&self) -> Result<Arc<Producer>, SinkError> {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(producer) = &*kept {
            return Ok(Arc::clone(producer));
        }
        let made = Producer::from_config_and_context(&self.client, Context::default());
        let made = Arc::new(made.map_err(|error| refused(&error))?);
        *kept = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Lets go of the producer, if it is still this one.
    fn replace(&self, useless: &Arc<Producer>) {
        let mut kept = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, useless)) {
            *kept = None;
        }
    }

    /// Hands the messages of a segment to the client; says where that ended early, and why.
    async fn send(
        &self,
        producer: &Producer,
        reports: &Arc<Reports>,
        at: usize,
        segment: &Segment,
        until: Instant,
    ) -> Option<(usize, SinkError)> {
        let chain = segment.chain();
        let topic = self.router.topic(chain);
        let key = chain.to_string();
        for (index, (sequence, hash, record)) in segment.iter().enumerate() {
            let doing = || format!("append event {sequence} of {chain} to topic {topic}");
            let Some((value, headers)) = self.message(hash, record) else {
                let error = SinkError::new(SinkErrorKind::Rejected, doing() + ": it is no event");
                return Some((index, error));
            };
            let slot = Box::new(Slot { reports: Arc::clone(reports), segment: at, index });
            let mut message =
                BaseRecord::with_opaque_to(&topic, slot).key(&key).payload(&value).headers(headers);
            reports.one_more();
            while let Err((error, back)) = producer.send(message) {
                message = back;
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                // The queue is bounded, so a large batch waits for its own beginning.
                let waited = code == Code::QueueFull
                    && timeout_at(until, wait_for_room(reports)).await.is_ok();
                if !waited {
                    reports.one_less();
                    let fatal = producer.client().fatal_error().map(|(code, _)| code);
                    let code = fatal.filter(|_| is_echo(code)).unwrap_or(code);
                    let mut meaning = Meaning::of(code);
                    // It was never handed over.
                    meaning.definite = true;
                    return Some((index, meaning.of_chain(doing(), Some(code))));
                }
            }
        }
        None
    }

    fn message(&self, hash: &Hash, record: &Record) -> Option<(Vec<u8>, OwnedHeaders)> {
        let view = record.view().ok()?;
        let value = self.encoding.encode_known(record, &view, hash).ok()?;
        let mut hex = [0; 64];
        hash.write_hex(&mut hex);
        let header = |key: &'static str, value: &[u8], headers: OwnedHeaders| {
            headers.insert(Header { key, value: Some(value) })
        };
        let headers = OwnedHeaders::new_with_capacity(5);
        let headers = header(HEADER_TENANT, view.tenant_id.as_bytes(), headers);
        let headers = header(HEADER_EVENT_TYPE, view.event_type.as_bytes(), headers);
        let headers = header(HEADER_EVENT_HASH, &hex, headers);
        let headers = header(HEADER_SCHEMA_VERSION, view.schema_version.as_bytes(), headers);
        let headers = header(HEADER_ENCODING, self.encoding.as_str().as_bytes(), headers);
        Some((value, headers))
    }

    /// What became of a segment, by its first failure.
    fn outcome(
        &self,
        producer: &Producer,
        segment: &Segment,
        index: usize,
        error: impl FnOnce(Option<Code>) -> SinkError,
    ) -> SegmentOutcome {
        match segment.first().checked_add(index as u64) {
            Some(failed) if failed > segment.first() => {
                SegmentOutcome::Prefix { through: failed - 1 }
            }
            _ => SegmentOutcome::Failed { error: error(producer.client().context().trouble()) },
        }
    }
}

/// Reports make room; where there are none yet, a moment passes.
async fn wait_for_room(reports: &Reports) {
    let _ = tokio::time::timeout(Duration::from_millis(10), reports.progress()).await;
}

#[async_trait::async_trait]
impl Sink for KafkaSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let producer = self.producer()?;
        let reports = Reports::new();
        let until = Instant::now() + self.message_timeout;
        let mut stops: Vec<Option<(usize, SinkError)>> = Vec::new();
        let mut broken: HashSet<&ChainRef> = HashSet::new();
        for (at, segment) in batch.segments().iter().enumerate() {
            let stop = if broken.contains(segment.chain()) {
                Some((0, behind(segment)))
            } else {
                self.send(&producer, &reports, at, segment, until).await
            };
            if stop.is_some() {
                broken.insert(segment.chain());
            }
            stops.push(stop);
        }
        reports.one_less();
        let complete =
            timeout_at(Instant::now() + self.message_timeout + GRACE, reports.complete());
        // The client answers for every message within its timeout; if it does not, it is stuck.
        let stuck = complete.await.is_err();
        // A producer that met a fatal error gives back all it has and takes nothing more.
        let fatal = producer.client().fatal_error().map(|(code, _)| code);
        if stuck || fatal.is_some() {
            self.replace(&producer);
        }
        if stuck {
            let message = "append: the client does not report what became of the messages";
            return Err(SinkError::new(SinkErrorKind::Timeout, message).with_maybe_applied());
        }

        let mut outcomes = Vec::with_capacity(batch.segments().len());
        broken.clear();
        for (at, (segment, stop)) in batch.segments().iter().zip(stops).enumerate() {
            let failure = reports.failure(at);
            let chain = segment.chain();
            let outcome = match (failure, stop) {
                _ if broken.contains(chain) => {
                    SegmentOutcome::Failed { error: behind(segment).with_maybe_applied() }
                }
                (Some((index, code)), stop) if stop.as_ref().is_none_or(|(at, _)| index < *at) => {
                    let (topic, first) = (self.router.topic(chain), segment.first());
                    let doing = format!("append from event {first} of {chain} to topic {topic}");
                    self.outcome(&producer, segment, index, |trouble| {
                        let code = fatal.filter(|_| is_echo(code)).unwrap_or(code);
                        let meaning = Meaning::of(code);
                        // That nobody could be reached in time is said by why.
                        match trouble.filter(|_| meaning.kind == SinkErrorKind::Timeout) {
                            Some(why) => {
                                let meaning = Meaning { definite: false, ..Meaning::of(why) };
                                meaning.of_chain(doing, Some(why))
                            }
                            None => meaning.of_chain(doing, Some(code)),
                        }
                    })
                }
                (_, Some((index, error))) => self.outcome(&producer, segment, index, |_| error),
                (_, None) => SegmentOutcome::Accepted,
            };
            if !matches!(outcome, SegmentOutcome::Accepted) {
                broken.insert(chain);
            }
            outcomes.push(outcome);
        }
        // Who is not let in is not let in with any chain: that is a fault of the sink as a whole.
        let shut_out = |outcome: &SegmentOutcome| {
            matches!(outcome, SegmentOutcome::Failed { error }
                if error.kind() == SinkErrorKind::Unauthenticated)
        };
        if !outcomes.is_empty() && outcomes.iter().all(shut_out) {
            let code = Code::Authentication;
            return Err(Meaning::of(code).error("append", Some(code)));
        }
        Ok(BatchAck::new(outcomes))
    }

    /// Always `None`: only reading all of a partition could tell.
    async fn head(&self, _: &ChainRef) -> Result<Option<Head>, SinkError> {
        Ok(None)
    }

    /// Asks for the topics that the router names. Where it names none, for the cluster.
    async fn check(&self) -> Result<(), SinkError> {
        let producer = self.producer()?;
        let limit = self.message_timeout.min(Duration::from_secs(10));
        let topics: Vec<Option<String>> = {
            let mut topics = self.router.topics();
            topics.retain(|topic| !topic.starts_with('^'));
            match topics.is_empty() {
                true => vec![None],
                false => topics.into_iter().map(Some).collect(),
            }
        };
        let asked = spawn_blocking(move || {
            topics.iter().try_for_each(|topic| ask(&producer, topic.as_deref(), limit))
        });
        asked.await.unwrap_or_else(|_| {
            Err(SinkError::new(SinkErrorKind::Other, "check: the work was stopped"))
        })
    }

    /// Lets go of the connections. A later call makes them anew.
    async fn close(&self) -> Result<(), SinkError> {
        let producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Waits for the client's threads.
        let _ = spawn_blocking(move || drop(producer)).await;
        Ok(())
    }
}

fn ask(producer: &Producer, topic: Option<&str>, limit: Duration) -> Result<(), SinkError> {
    let doing = || match topic {
        Some(topic) => format!("check topic {topic}"),
        None => "check the cluster".to_owned(),
    };
    match producer.client().fetch_metadata(topic, limit) {
        Ok(metadata) => {
            let error = metadata.topics().iter().filter(|_| topic.is_some()).find_map(|topic| {
                topic.error().map(|error| KafkaError::MetadataFetch(error.into()))
            });
            error.map_or(Ok(()), |error| Err(fault(&error, doing())))
        }
        Err(error) => Err(match producer.client().context().trouble() {
            Some(why) => Meaning { definite: true, ..Meaning::of(why) }.error(doing(), Some(why)),
            None => fault(&error, doing()),
        }),
    }
}

/// Whether a message failed only because the producer had met a fatal error before.
fn is_echo(code: Code) -> bool {
    matches!(code, Code::Fatal | Code::PurgeQueue | Code::PurgeInflight)
}

fn behind(segment: &Segment) -> SinkError {
    let chain = segment.chain();
    SinkError::new(
        SinkErrorKind::Unavailable,
        format!("append to {chain}: events before {} failed", segment.first()),
    )
}
