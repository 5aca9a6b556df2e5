//! Reading the topics back: each event once, whatever was sent twice.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::{Duration, Instant},
};

use agent_audit_core::{
    id::{ChainId, TenantId},
    record::Record,
    sink::{ChainRef, SinkError, SinkErrorKind},
};
use rdkafka::{
    ClientContext, Message as _, Offset, TopicPartitionList,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    message::BorrowedMessage,
};

use crate::{
    config::{KafkaConfig, invalid, refused},
    encoding::decode,
    error::fault,
    producer::log,
};

/// Reads topics from their beginning, without a consumer group and without leaving a trace.
///
/// Calls block. See [`Ledger`] for events in the order of their chains, each once.
///
/// ```no_run
/// use agent_audit_kafka::{KafkaConfig, Ledger, TopicReader};
/// let mut reader = TopicReader::open(&KafkaConfig::new("localhost:9092"), &["agent-audit"])?;
/// let mut ledger = Ledger::default();
/// reader.read_to_end(&mut |message| {
///     if let Ok((chain, record)) = message {
///         ledger.take(&chain, record);
///     }
/// })?;
/// println!("{} chains", ledger.chains().count());
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
pub struct TopicReader {
    consumer: BaseConsumer<Quiet>,
    /// The next offset to read of each partition.
    positions: BTreeMap<(String, i32), i64>,
    limit: Duration,
}

impl fmt::Debug for TopicReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicReader").field("positions", &self.positions).finish_non_exhaustive()
    }
}

/// A message that is not an event: where it is, and why it is none. It shows nothing of it.
///
/// ```
/// fn report(message: &agent_audit_kafka::NotAnEvent) -> String {
///     format!("{}[{}]@{}: {}", message.topic, message.partition, message.offset, message.reason)
/// }
/// # let _ = report;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotAnEvent {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// Why.
    pub reason: &'static str,
}

impl TopicReader {
    /// A reader of these topics.
    ///
    /// # Errors
    /// [`SinkError`] where the cluster cannot be asked, or does not have one of them.
    pub fn open(config: &KafkaConfig, topics: &[&str]) -> Result<Self, SinkError> {
        let mut client = config.client()?;
        client
            .set("enable.partition.eof", "false")
            .set("enable.auto.commit", "false")
            // No group is joined; the client wants a name all the same.
            .set("group.id", "agent-audit-reader")
            .set("fetch.wait.max.ms", "50")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = BaseConsumer::from_config_and_context(&client, Quiet);
        let consumer = consumer.map_err(|error| refused(&error))?;
        let limit = config.message_timeout();
        let mut positions = BTreeMap::new();
        for topic in topics {
            let doing = || format!("look for topic {topic}");
            let metadata = consumer.fetch_metadata(Some(topic), limit);
            let metadata = metadata.map_err(|error| fault(&error, doing()))?;
            let found = metadata.topics().iter().filter(|found| found.error().is_none());
            let before = positions.len();
            for partition in found.flat_map(|found| found.partitions()) {
                positions.insert(((*topic).to_owned(), partition.id()), 0);
            }
            if positions.len() == before {
                return Err(invalid(format!("{}: it does not exist", doing())));
            }
        }
        Ok(Self { consumer, positions, limit })
    }

    /// Reads what has not been read yet and is there now, in the order of each partition.
    ///
    /// # Errors
    /// [`SinkError`] where the cluster cannot be read.
    pub fn read_to_end(
        &mut self,
        each: &mut dyn FnMut(Result<(ChainRef, Record), NotAnEvent>),
    ) -> Result<(), SinkError> {
        let mut ends: HashMap<(String, i32), i64> = HashMap::new();
        let mut assignment = TopicPartitionList::new();
        for (place, position) in &mut self.positions {
            let (topic, partition) = place;
            let marks = self.consumer.fetch_watermarks(topic, *partition, self.limit);
            let (low, high) = marks.map_err(|error| fault(&error, format!("read {topic}")))?;
            // What is older than the topic keeps is not there any more.
            *position = low.max(*position);
            if *position < high {
                ends.insert(place.clone(), high);
                let added =
                    assignment.add_partition_offset(topic, *partition, Offset::Offset(*position));
                added.map_err(|error| fault(&error, format!("read {topic}")))?;
            }
        }
        self.consumer.assign(&assignment).map_err(|error| fault(&error, "read"))?;
        let mut heard = Instant::now();
        while !ends.is_empty() {
            match self.consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let place = (message.topic().to_owned(), message.partition());
                    let Some(end) = ends.get(&place) else { continue };
                    if message.offset() < *end {
                        each(event(&message));
                    }
                    if message.offset() + 1 >= *end {
                        ends.remove(&place);
                    }
                    self.positions.insert(place, message.offset() + 1);
                }
                Some(Err(error)) if heard.elapsed() > self.limit => {
                    return Err(fault(&error, "read"));
                }
                Some(Err(_)) | None => {
                    if heard.elapsed() > self.limit {
                        let message = "read: the cluster sends nothing more";
                        return Err(SinkError::new(SinkErrorKind::Timeout, message));
                    }
                }
            }
        }
        self.consumer.unassign().map_err(|error| fault(&error, "read"))
    }
}

/// The chain and the record in a message.
pub(crate) fn parse(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(ChainRef, Record), &'static str> {
    let record = decode(value.ok_or("it has no value")?).map_err(|error| error.reason())?;
    let view = record.view().map_err(|_| "its event is not canonical")?;
    if view.content().count() != record.parts().len() {
        return Err("it does not have a body for each part that its event names");
    }
    let names = (TenantId::new(view.tenant_id), ChainId::new(view.chain_id));
    let (Ok(tenant), Ok(chain)) = names else { return Err("its chain has no valid name") };
    let chain = ChainRef::new(tenant, chain);
    if key != Some(chain.to_string().as_bytes()) {
        return Err("its key is not the chain that its event names");
    }
    Ok((chain, record))
}

fn event(message: &BorrowedMessage<'_>) -> Result<(ChainRef, Record), NotAnEvent> {
    parse(message.key(), message.payload()).map_err(|reason| NotAnEvent {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        reason,
    })
}

/// Events of many chains, each once: the first at a position counts, and its copies are dropped.
///
/// It holds all that it was given.
///
/// ```
/// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record, sink::ChainRef};
/// use agent_audit_kafka::{Ledger, Taken};
/// let event = Event::example(ChainClosed::new("shutdown"));
/// let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
/// let record = Record::new(event.canonical_bytes()?, Vec::new());
///
/// let mut ledger = Ledger::default();
/// assert_eq!(ledger.take(&chain, record.clone()), Taken::Fresh);
/// assert_eq!(ledger.take(&chain, record.clone()), Taken::Copy);
/// assert_eq!(ledger.records(&chain), [record]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Ledger {
    chains: BTreeMap<ChainRef, BTreeMap<u64, Record>>,
}

/// What a [`Ledger`] did with an event.
///
/// ```
/// assert_ne!(agent_audit_kafka::Taken::Fresh, agent_audit_kafka::Taken::Copy);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Taken {
    /// It was the first at its position.
    Fresh,
    /// It was there.
    Copy,
    /// Another event is there, and stays.
    Conflict,
}

impl Ledger {
    /// Takes an event, unless there is one at its position.
    pub fn take(&mut self, chain: &ChainRef, record: Record) -> Taken {
        let Ok(sequence) = record.view().map(|view| view.sequence) else { return Taken::Conflict };
        let records = self.chains.entry(chain.clone()).or_default();
        match records.get(&sequence) {
            None => {
                records.insert(sequence, record);
                Taken::Fresh
            }
            Some(kept) if kept.event_bytes() == record.event_bytes() => Taken::Copy,
            Some(_) => Taken::Conflict,
        }
    }

    /// The chains, in order of their names.
    pub fn chains(&self) -> impl Iterator<Item = &ChainRef> {
        self.chains.keys()
    }

    /// What there is of a chain, in the order of positions.
    #[must_use]
    pub fn records(&self, chain: &ChainRef) -> Vec<Record> {
        self.chains.get(chain).map(|kept| kept.values().cloned().collect()).unwrap_or_default()
    }
}

/// Says nothing but what is worth a line in the program's own log.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client reports an error");
    }
}

impl ConsumerContext for Quiet {}
