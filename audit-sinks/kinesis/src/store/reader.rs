//! Reading a stream: every shard, parents before their children, from where the last reader was.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use agent_audit_aws::{
    Received,
    internal::{Fault, Unreadable, chain_key, read},
};
use agent_audit_core::sink::{SinkError, SinkErrorKind};
use aws_sdk_kinesis::types::{Record as StreamRecord, Shard, ShardIteratorType};
use serde::{Deserialize, Serialize};

use super::{Access, access::LONGEST_KEY};
use crate::{config::KinesisConfig, error};

/// How far a reader has come in each shard: the sequence number of the last record it handed out.
///
/// ```
/// use agent_audit_kinesis::Positions;
/// let positions: Positions = serde_json::from_str(r#"{"shardId-000000000000":"4959"}"#)?;
/// assert_eq!(positions.in_shard("shardId-000000000000"), Some("4959"));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Positions(BTreeMap<String, String>);

impl Positions {
    /// The position in a shard, where something of it was handed out.
    #[must_use]
    pub fn in_shard(&self, shard: &str) -> Option<&str> {
        self.0.get(shard).map(String::as_str)
    }
}

/// A record of the stream.
///
/// ```
/// use agent_audit_kinesis::KinesisRecord;
/// /// What an operator is told.
/// fn complaint(record: &KinesisRecord) -> Option<String> {
///     let error = record.received.as_ref().err()?;
///     Some(format!("{} of {}: {error}", record.position, record.shard))
/// }
/// # let _ = complaint;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct KinesisRecord {
    /// Where it is.
    pub shard: String,
    /// Its sequence number there.
    pub position: String,
    /// The event, or why it is none: a stranger's record, or a large event whose object is gone or
    /// was changed.
    pub received: Result<Received, SinkError>,
}

/// Reads a stream from its oldest record, or from where an earlier reader was.
///
/// A stream holds each event at least once, and after a fault one can stand before another that
/// precedes it in its chain: [`Arrivals`](crate::Arrivals) puts them in order, each once. Store what
/// was handed out, then [`positions`](Self::positions); while something waits in `Arrivals`, do not
/// store newer positions.
///
/// ```no_run
/// use agent_audit_kinesis::{Arrival, Arrivals, KinesisConfig, KinesisReader};
/// # async fn run() -> Result<(), agent_audit_core::sink::SinkError> {
/// let mut reader = KinesisReader::connect(KinesisConfig::new("audit-events")).await?;
/// let mut arrivals = Arrivals::new();
/// for record in reader.receive().await? {
///     if let Arrival::Next(events) = arrivals.take(record.received?) {
///         // store them
///         assert!(!events.is_empty());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct KinesisReader {
    access: Access,
    positions: Positions,
    shards: BTreeMap<String, Progress>,
    /// The shards have to be asked for: nothing is known, or one has come to its end.
    stale: bool,
}

impl fmt::Debug for KinesisReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stream = &self.access.config.stream;
        f.debug_struct("KinesisReader").field("stream", stream).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default)]
struct Progress {
    parents: BTreeSet<String>,
    iterator: Option<String>,
    /// It is closed, and all of it was read.
    ended: bool,
    /// The last answer left nothing behind.
    caught_up: bool,
}

/// How a call left a shard.
#[derive(Debug, Default)]
struct End {
    iterator: Option<String>,
    ended: bool,
    caught_up: bool,
    lost: bool,
}

impl KinesisReader {
    /// A reader of the stream of a configuration, from the oldest record.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be one.
    pub async fn connect(config: KinesisConfig) -> Result<Self, SinkError> {
        let access = Access::new(config).await?;
        let (positions, shards) = (Positions::default(), BTreeMap::new());
        Ok(Self { access, positions, shards, stale: true })
    }

    /// Goes on from where an earlier reader was.
    #[must_use]
    pub fn resume(mut self, positions: Positions) -> Self {
        self.positions = positions;
        self.shards.clear();
        self.stale = true;
        self
    }

    /// How far this reader has come.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        &self.positions
    }

    /// Whether the last [`receive`](Self::receive) left nothing behind that was in the stream then.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        !self.stale && self.shards.values().all(|shard| shard.ended || shard.caught_up)
    }

    /// The next records, of every shard whose parents were read. None is no fault: ask again after a
    /// second, because a shard answers five times a second at most.
    ///
    /// # Errors
    /// [`SinkError`] where the stream, or the object of a large event, cannot be read at present.
    /// Nothing is passed over.
    ///
    /// # Cancel safety
    /// What was read and not handed out comes again.
    pub async fn receive(&mut self) -> Result<Vec<KinesisRecord>, SinkError> {
        if self.stale {
            self.list_shards().await?;
        }
        let mut records = Vec::new();
        let mut positions = self.positions.clone();
        let mut read = Vec::new();
        let mut fault = None;
        for id in self.readable() {
            match self.read_shard(&id, &mut positions, &mut records).await {
                Ok(end) => read.push((id, end)),
                // What was read of it is handed out, and it goes on behind that.
                Err(why) => {
                    read.push((id, End { lost: true, ..End::default() }));
                    fault = Some(why);
                    break;
                }
            }
        }
        // From here on nothing waits, so that either all of it has happened or nothing.
        for (id, end) in read {
            // Where a shard ends others begin, and one that cannot be read may be gone.
            self.stale |= end.ended || end.lost;
            if let Some(shard) = self.shards.get_mut(&id) {
                shard.iterator = end.iterator;
                shard.ended = end.ended;
                shard.caught_up = end.caught_up;
            }
        }
        self.positions = positions;
        match fault {
            Some(fault) if records.is_empty() => Err(fault.into()),
            // The fault is met again by the next call.
            _ => Ok(records),
        }
    }

    /// Shards whose parents have been read to the end, or are gone.
    fn readable(&self) -> Vec<String> {
        let read = |id: &String| self.shards.get(id).is_none_or(|parent| parent.ended);
        let ready = self.shards.iter().filter(|(_, s)| !s.ended && s.parents.iter().all(read));
        ready.map(|(id, _)| id.clone()).collect()
    }

    async fn list_shards(&mut self) -> Result<(), Fault> {
        let doing = error::reading(&self.access.config.stream);
        let mut listed = BTreeMap::new();
        let mut next = None;
        loop {
            let list = self.access.client.list_shards();
            // A page that follows is known by its token alone.
            let list = match next {
                Some(token) => list.next_token(token),
                None => list.set_stream_name(self.access.name()).set_stream_arn(self.access.arn()),
            };
            let answer = list.send().await.map_err(|error| Fault::of(&error, &doing).untried())?;
            for shard in answer.shards() {
                let Shard { shard_id, parent_shard_id, adjacent_parent_shard_id, .. } = shard;
                let mut known = self.shards.get(shard_id).cloned().unwrap_or_default();
                known.parents.extend(parent_shard_id.clone());
                known.parents.extend(adjacent_parent_shard_id.clone());
                listed.insert(shard_id.clone(), known);
            }
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        // A shard that is gone took its records with it.
        self.shards = listed;
        self.stale = false;
        Ok(())
    }

    async fn read_shard(
        &self,
        id: &str,
        positions: &mut Positions,
        records: &mut Vec<KinesisRecord>,
    ) -> Result<End, Fault> {
        let doing = error::reading(&self.access.config.stream);
        let iterator = match self.shards.get(id).and_then(|shard| shard.iterator.clone()) {
            Some(iterator) => iterator,
            None => self.iterator(id, positions).await?,
        };
        let get = self.access.client.get_records().shard_iterator(iterator);
        let answer = match get.set_stream_arn(self.access.arn()).send().await {
            Ok(answer) => answer,
            // Five minutes have passed: the next call starts from the position.
            Err(error)
                if error.as_service_error().is_some_and(|e| e.is_expired_iterator_exception()) =>
            {
                return Ok(End::default());
            }
            Err(error) => return Err(Fault::of(&error, &doing).untried()),
        };
        for record in answer.records() {
            let received = match self.open(record).await {
                Ok(received) => Ok(received),
                Err(Unreadable::Never(what)) => {
                    let at = format!("{what}, at {} of {id}", record.sequence_number());
                    Err(SinkError::new(SinkErrorKind::Corrupt, at))
                }
                Err(Unreadable::Now(fault)) => return Err(fault),
            };
            let position = record.sequence_number().to_owned();
            positions.0.insert(id.to_owned(), position.clone());
            records.push(KinesisRecord { shard: id.to_owned(), position, received });
        }
        Ok(End {
            caught_up: answer.millis_behind_latest().is_none_or(|behind| behind == 0),
            ended: answer.next_shard_iterator.is_none(),
            iterator: answer.next_shard_iterator,
            lost: false,
        })
    }

    async fn iterator(&self, id: &str, positions: &Positions) -> Result<String, Fault> {
        let doing = error::reading(&self.access.config.stream);
        let get = self.access.client.get_shard_iterator().shard_id(id);
        let get = get.set_stream_name(self.access.name()).set_stream_arn(self.access.arn());
        let get = match positions.in_shard(id) {
            Some(position) => get
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(position),
            None => get.shard_iterator_type(ShardIteratorType::TrimHorizon),
        };
        let answer = get.send().await.map_err(|error| Fault::of(&error, &doing).untried())?;
        answer.shard_iterator.ok_or_else(|| {
            Fault::new(SinkErrorKind::Other, format!("{doing}: no iterator for {id}"))
        })
    }

    async fn open(&self, record: &StreamRecord) -> Result<Received, Unreadable> {
        let text = std::str::from_utf8(record.data().as_ref())
            .map_err(|_| Unreadable::Never("a record is not text".to_owned()))?;
        let received = read(text, self.access.claims.as_ref()).await?;
        if record.partition_key() == Some(&*chain_key(&received.chain, LONGEST_KEY)) {
            Ok(received)
        } else {
            Err(Unreadable::Never("a record does not stand under its chain's key".to_owned()))
        }
    }
}
