//! The thread that reads the topics and commits offsets.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agent_audit_core::sink::SinkError;
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, Statistics, TopicPartitionList,
    config::{FromClientConfigAndContext as _, RDKafkaLogLevel},
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};

use super::{
    Shared,
    chain::Item,
    halted,
    quarantine::Quarantine,
    state::{Refusal, Refused},
    status::{Problem, ProblemKind, RelayStatus},
};
use crate::{config::refused, error::fault, producer::log, store::parse, topic::TopicRouter};

/// How long the thread waits for a message before it looks after other things.
const POLL: Duration = Duration::from_millis(50);

/// How often it does so under load.
const TICK: Duration = Duration::from_millis(50);

/// What the thread needs.
pub(super) struct Reading {
    pub(super) client: ClientConfig,
    pub(super) router: Arc<dyn TopicRouter>,
    pub(super) quarantine: Option<Quarantine>,
    /// Where it is noted which chains were halted.
    pub(super) halts: Option<PathBuf>,
    pub(super) commit_interval: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) stop: Arc<AtomicBool>,
}

/// What the client calls: partitions come and go, offsets are committed.
struct Context {
    shared: Arc<Shared>,
    halts: Option<PathBuf>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client reports an error");
    }

    fn stats(&self, statistics: Statistics) {
        let mut state = self.shared.state();
        for (name, topic) in statistics.topics {
            for (id, found) in topic.partitions {
                if let Some(partition) = state.partitions.get_mut(&(name.clone(), id))
                    && found.hi_offset >= 0
                {
                    partition.end = Some(found.hi_offset);
                }
            }
        }
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else { return };
        let gone: Vec<_> =
            list.elements().iter().map(|at| (at.topic().to_owned(), at.partition())).collect();
        // Whoever is next need not do again what is done; after a timeout they are at it already.
        if !consumer.assignment_lost() {
            commit(consumer, &self.shared, CommitMode::Sync, |place| gone.contains(place));
        }
        let mut state = self.shared.state();
        for (topic, partition) in &gone {
            tracing::info!(topic, partition, "a partition is given to another relay");
            state.revoke(topic, *partition);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // Another relay may have noted some since.
                let notes = self.halts.as_deref().map(halted::read).transpose();
                let mut state = self.shared.state();
                match notes {
                    Ok(Some(notes)) => state.recall_halts(notes),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "it cannot be read which chains were halted");
                    }
                }
                for at in list.elements() {
                    tracing::info!(
                        topic = at.topic(),
                        partition = at.partition(),
                        "a partition is read here"
                    );
                    state.assign(at.topic(), at.partition());
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "partitions could not be shared out"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => note_committed(&self.shared, offsets),
            Err(error) => {
                tracing::debug!(%error, "offsets were not committed, and are again later")
            }
        }
    }
}

/// Reads until it is told to stop; then waits for the sinks, commits and leaves the group.
pub(super) fn read(shared: &Arc<Shared>, mut reading: Reading) -> Result<RelayStatus, SinkError> {
    let context = Context { shared: Arc::clone(shared), halts: reading.halts.take() };
    let consumer = BaseConsumer::from_config_and_context(&reading.client, context);
    let consumer = consumer.map_err(|error| refused(&error))?;
    let topics = reading.router.topics();
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    consumer.subscribe(&names).map_err(|error| fault(&error, format!("subscribe to {names:?}")))?;
    let (mut ticked, mut committed) = (Instant::now(), Instant::now());
    let mut stopping: Option<Instant> = None;
    loop {
        match consumer.poll(POLL) {
            // What comes now is read again after the next start.
            Some(Ok(_)) if stopping.is_some() => {}
            Some(Ok(message)) => {
                receive(shared, &*reading.router, &message);
                shared.state().last_error = None;
                // At once: between two ticks a fast topic would bring far more than there is room for.
                balance(shared, &consumer);
            }
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                return Err(fault(&KafkaError::MessageConsumptionFatal(code), "read as a group"));
            }
            Some(Err(error)) => complain(shared, &error),
            None => {}
        }
        if ticked.elapsed() < TICK && stopping.is_none() {
            continue;
        }
        ticked = Instant::now();
        shared.state().give_up_gaps(ticked);
        keep(shared, reading.quarantine.as_mut());
        if stopping.is_none() && reading.stop.load(Ordering::Relaxed) {
            stopping = Some(ticked + reading.stop_timeout);
            if let Ok(all) = consumer.assignment() {
                let _ = consumer.pause(&all);
            }
        }
        if let Some(until) = stopping {
            if shared.state().is_idle() || ticked >= until {
                commit(&consumer, shared, CommitMode::Sync, |_| true);
                // The partitions are gone when the group is left.
                return Ok(shared.state().status());
            }
        } else {
            balance(shared, &consumer);
        }
        if committed.elapsed() >= reading.commit_interval {
            committed = ticked;
            commit(&consumer, shared, CommitMode::Async, |_| true);
        }
    }
}

fn receive(shared: &Shared, router: &dyn TopicRouter, message: &BorrowedMessage<'_>) {
    let place = (message.topic().to_owned(), message.partition());
    let bytes = message.key_len() + message.payload_len() + 256;
    let stray = |kind, event, why: &str| {
        let problem = Problem {
            kind,
            topic: place.0.clone(),
            partition: place.1,
            offset: message.offset(),
            event,
            sink: None,
            message: why.to_owned(),
        };
        let content = Refused::Raw {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        };
        shared.state().stray(problem, content, bytes);
    };
    let (chain, record) = match parse(message.key(), message.payload()) {
        Ok(event) => event,
        Err(why) => return stray(ProblemKind::Malformed, None, why),
    };
    let Ok(view) = record.view() else {
        return stray(ProblemKind::Malformed, None, "its event is not canonical");
    };
    let (sequence, previous) = (view.sequence, view.previous_event_hash);
    if *router.topic(&chain) != *message.topic() {
        let why = "it is in a topic that its tenant's events do not go to";
        return stray(ProblemKind::Misplaced, Some((chain, sequence)), why);
    }
    let hash = record.event_hash();
    let item = Item { sequence, previous, hash, record, offset: message.offset(), bytes };
    shared.state().event(&place, message.offset(), chain, item);
    shared.wake_all();
}

/// Writes to the quarantine what waits for it.
fn keep(shared: &Shared, quarantine: Option<&mut Quarantine>) {
    let Some(quarantine) = quarantine else { return };
    let (refusals, notes) = {
        let mut state = shared.state();
        let refusals: Vec<Refusal> = state.refusals.drain(..).collect();
        (refusals, std::mem::take(&mut state.halt_notes))
    };
    if refusals.is_empty() && notes.is_empty() {
        return;
    }
    match quarantine.keep(&refusals, &notes) {
        Ok(()) => shared.state().quarantined(&refusals),
        Err(error) => {
            tracing::error!(%error, "the quarantine cannot be written to");
            let mut state = shared.state();
            state.last_error = Some(format!("the quarantine cannot be written to: {error}"));
            for refusal in refusals.into_iter().rev() {
                state.refusals.push_front(refusal);
            }
            state.halt_notes.splice(..0, notes);
        }
    }
}

/// Rests partitions of which too much is held, and goes on with those that have room again.
fn balance(shared: &Shared, consumer: &BaseConsumer<Context>) {
    let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
    {
        let mut state = shared.state();
        let share = state.share();
        for partition in state.partitions.values_mut() {
            let list = match partition.paused {
                false if partition.bytes > share => &mut pause,
                true if partition.bytes <= share / 2 => &mut resume,
                _ => continue,
            };
            list.add_partition(&partition.topic, partition.partition);
            partition.paused = !partition.paused;
        }
    }
    if pause.count() > 0 {
        let _ = consumer.pause(&pause);
    }
    if resume.count() > 0 {
        let _ = consumer.resume(&resume);
    }
}

fn commit(
    consumer: &BaseConsumer<Context>,
    shared: &Shared,
    mode: CommitMode,
    wanted: impl Fn(&(String, i32)) -> bool,
) {
    let mut list = TopicPartitionList::new();
    for (place, partition) in &shared.state().partitions {
        if let Some(offset) = partition.to_commit().filter(|_| wanted(place)) {
            let _ = list.add_partition_offset(&place.0, place.1, Offset::Offset(offset));
        }
    }
    if list.count() == 0 {
        return;
    }
    match consumer.commit(&list, mode) {
        Ok(()) if matches!(mode, CommitMode::Sync) => note_committed(shared, &list),
        Ok(()) => {}
        Err(error) => {
            tracing::warn!(%error, "offsets were not committed; what was read is read again")
        }
    }
}

fn note_committed(shared: &Shared, offsets: &TopicPartitionList) {
    let mut state = shared.state();
    for at in offsets.elements() {
        let place = (at.topic().to_owned(), at.partition());
        if let (Some(partition), Offset::Offset(offset)) =
            (state.partitions.get_mut(&place), at.offset())
        {
            partition.committed = partition.committed.max(Some(offset));
        }
    }
}

fn complain(shared: &Shared, error: &KafkaError) {
    let Some(code) = error.rdkafka_error_code() else { return };
    if matches!(code, Code::PartitionEOF) {
        return;
    }
    let error = fault(error, "read").to_string();
    let mut state = shared.state();
    if state.last_error.as_ref() != Some(&error) {
        tracing::warn!(error, "the topics cannot be read at present");
    }
    state.last_error = Some(error);
}
