//! The suite over sinks that are wrong: it must fail, and say what is wrong.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_audit_core::{
    record::Record,
    sink::{Batch, BatchAck, ChainRef, Head, Sink, SinkError, SinkErrorKind, SinkInfo},
};
use agent_audit_test_support::outages::{CASES, OutageHarness, Promise};
use async_trait::async_trait;

use crate::{
    framed::{Flaw, FramedSink},
    outages::{Framed, Headless},
};

/// Goes through a case; what it said when it failed.
async fn failure(case: &'static str, harness: impl OutageHarness + 'static) -> Option<String> {
    failure_with(case, harness, "nobody is started").await
}

/// Goes through a case with a writing process.
async fn failure_with(
    case: &'static str,
    harness: impl OutageHarness + 'static,
    writer: &'static str,
) -> Option<String> {
    let case = CASES.iter().find(|known| known.name == case).expect("a case of that name");
    let run = tokio::spawn(async move { case.run(&harness, writer).await });
    let panic = run.await.err()?.into_panic();
    Some(match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a panic has a message")).to_owned(),
    })
}

async fn expect(case: &'static str, harness: impl OutageHarness + 'static, words: &str) {
    let said = failure(case, harness).await.expect("the case fails");
    assert!(said.contains(words), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_dropped_is_missed() {
    let harness = Framed::start(Flaw::DropsABatch).await;
    expect("connections_are_refused", harness, "fewer events than were written").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_appended_again_is_seen() {
    let harness = Headless::start(Flaw::AppendsAgain).await;
    expect("answers_are_lost_after_the_commit", harness, "twice").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_append_again_is_not_blamed() {
    let harness = Lenient { inner: Headless::start(Flaw::AppendsAgain).await, content: true };
    assert_eq!(failure("answers_are_lost_after_the_commit", harness).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_changed_is_seen() {
    let harness = Framed::start(Flaw::ChangesAByte).await;
    expect("connections_are_reset_at_once", harness, "other bytes in the store").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_lost_is_seen_unless_none_is_kept() {
    let harness = Framed::start(Flaw::LosesContent).await;
    expect("connections_are_refused", harness, "the content of event").await;
    let inner = Headless::start(Flaw::LosesContent).await;
    let harness = Lenient { inner, content: false };
    assert_eq!(failure("connections_are_refused", harness).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_order_is_seen() {
    let harness = Framed::start(Flaw::SwapsTwo).await;
    expect("connections_are_refused", harness, "is due").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_gives_up_leaves_events_behind() {
    let harness = Faulty { inner: Framed::start(Flaw::None).await, fault: Fault::GivesUp };
    expect("connections_are_reset_at_once", harness, "given up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_acknowledges_what_it_could_not_send_is_seen() {
    let harness = Faulty { inner: Framed::start(Flaw::None).await, fault: Fault::Lies };
    expect("connections_are_refused", harness, "waited in vain for a sign of trouble").await;
    // Where nobody has to notice trouble, the store has less than the journal.
    let harness = Faulty { inner: Framed::start(Flaw::None).await, fault: Fault::Lies };
    let said = failure("connections_are_reset_in_mid_request", harness).await.unwrap();
    assert!(said.contains("fewer events than were written") || said.contains("is due"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_that_looks_like_a_passing_fault_is_seen() {
    let harness = Faulty { inner: Framed::start(Flaw::None).await, fault: Fault::Retries };
    expect(
        "credentials_are_wrong_for_a_while",
        harness,
        "waited in vain for a sink that is blocked",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_does_wrong_with_a_killed_writer_is_seen() {
    let harness = Framed::start(Flaw::SwapsTwo).await;
    let case = "the_writer_is_killed_while_connections_are_refused";
    let said = failure_with(case, harness, "outages::with_heads::outage_writer").await.unwrap();
    assert!(said.contains("is due"), "{said}");

    let harness = Headless::start(Flaw::AppendsAgain).await;
    let case = "the_writer_is_killed_while_answers_are_lost_after_the_commit";
    let said = failure_with(case, harness, "outages::without_heads::outage_writer").await.unwrap();
    assert!(said.contains("twice"), "{said}");
}

/// A store that may hold an event again, or does not keep content.
struct Lenient {
    inner: Headless,
    content: bool,
}

#[async_trait]
impl OutageHarness for Lenient {
    fn upstream(&self) -> SocketAddr {
        self.inner.upstream()
    }
    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        self.inner.sink(through).await
    }
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.inner.read_back(chain).await
    }
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }
    fn keeps_content(&self) -> bool {
        self.content
    }
}

/// What a client does wrong, on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It takes a broken connection for a refusal for good.
    GivesUp,
    /// It acknowledges what it has no answer for.
    Lies,
    /// It takes a wrong password for a passing fault.
    Retries,
}

struct Faulty {
    inner: Framed,
    fault: Fault,
}

#[async_trait]
impl OutageHarness for Faulty {
    fn upstream(&self) -> SocketAddr {
        self.inner.upstream()
    }
    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(FaultySink(FramedSink::new(through), self.fault))
    }
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        self.inner.read_back(chain).await
    }
    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn Sink>> {
        let sink = FramedSink::new(through).with_wrong_password();
        Some(Arc::new(FaultySink(sink, self.fault)))
    }
    fn patience(&self) -> Duration {
        Duration::from_secs(10)
    }
}

#[derive(Debug)]
struct FaultySink(FramedSink, Fault);

impl FaultySink {
    fn pass(&self, error: SinkError) -> SinkError {
        match self.1 {
            Fault::GivesUp => SinkError::new(SinkErrorKind::Rejected, "the connection broke"),
            Fault::Retries => error.with_retryable(true),
            Fault::Lies => error,
        }
    }
}

#[async_trait]
impl Sink for FaultySink {
    fn info(&self) -> &SinkInfo {
        self.0.info()
    }
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        match self.0.append(batch).await {
            Err(error) if error.kind() == SinkErrorKind::Unavailable && self.1 == Fault::Lies => {
                Ok(BatchAck::accepted(batch.segments().len()))
            }
            Err(error) if self.1 == Fault::GivesUp => {
                let failed = |_| agent_audit_core::sink::SegmentOutcome::Failed {
                    error: SinkError::new(SinkErrorKind::Rejected, error.to_string()),
                };
                Ok(BatchAck::new(batch.segments().iter().map(failed).collect()))
            }
            answer => answer.map_err(|error| self.pass(error)),
        }
    }
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        self.0.head(chain).await.map_err(|error| self.pass(error))
    }
    async fn check(&self) -> Result<(), SinkError> {
        self.0.check().await
    }
    async fn close(&self) -> Result<(), SinkError> {
        self.0.close().await
    }
}
