//! The producer and what it says: delivery reports of batches, and trouble with the cluster.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::{ProducerContext, ThreadedProducer},
};
use tokio::sync::Notify;

pub(crate) type Producer = ThreadedProducer<Context>;

/// What is said outside of delivery reports.
#[derive(Debug, Default)]
pub(crate) struct Context {
    trouble: Mutex<Option<Code>>,
    /// How many messages were acknowledged.
    acknowledged: AtomicU64,
}

impl Context {
    /// What the cluster or the client last complained of, unless it acknowledged something since.
    pub(crate) fn trouble(&self) -> Option<Code> {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That no broker can be reached is only the echo of why.
        let echo = matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure);
        if trouble.is_none_or(|known| known == Code::AllBrokersDown || !echo) {
            *trouble = Some(code);
        }
        tracing::debug!(%code, reason, "the Kafka client reports an error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<Slot>;

    fn delivery(&self, result: &DeliveryResult<'_>, slot: Box<Slot>) {
        match result {
            Ok(_) => {
                let before = self.acknowledged.fetch_add(1, Ordering::Relaxed);
                if before.is_multiple_of(256) || slot.reports.last() {
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
                slot.reports.failed(slot.segment, slot.index, code);
            }
        }
        slot.reports.one_less();
    }
}

/// What librdkafka logs goes where the program's own lines go.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

/// The place of a message in its batch.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) reports: Arc<Reports>,
    pub(crate) segment: usize,
    pub(crate) index: usize,
}

/// The delivery reports of one batch.
#[derive(Debug)]
pub(crate) struct Reports {
    /// Messages without a report, and one while more may come.
    left: AtomicUsize,
    /// The first failure of each segment that has one.
    failures: Mutex<HashMap<usize, (usize, Code)>>,
    progress: Notify,
}

impl Reports {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(1),
            failures: Mutex::default(),
            progress: Notify::new(),
        })
    }

    pub(crate) fn one_more(&self) {
        self.left.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn one_less(&self) {
        let left = self.left.fetch_sub(1, Ordering::AcqRel) - 1;
        // Now and then, so that one who waits for room in the queue wakes up.
        if left == 0 || left.is_multiple_of(64) {
            self.progress.notify_one();
        }
    }

    fn last(&self) -> bool {
        self.left.load(Ordering::Relaxed) <= 1
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.left.load(Ordering::Acquire) == 0
    }

    /// Resolves after some reports have come.
    pub(crate) async fn progress(&self) {
        self.progress.notified().await;
    }

    pub(crate) async fn complete(&self) {
        while !self.is_complete() {
            self.progress.notified().await;
        }
    }

    pub(crate) fn failed(&self, segment: usize, index: usize, code: Code) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let first = failures.entry(segment).or_insert((index, code));
        if index < first.0 {
            *first = (index, code);
        }
    }

    pub(crate) fn failure(&self, segment: usize) -> Option<(usize, Code)> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).get(&segment).copied()
    }
}
