//! What `#[audited]` records, and what it says where it cannot be used.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fmt, fs,
    panic::AssertUnwindSafe,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditErrorKind, AuditLog, AuditUnavailable, ModelResponse, Part, Receipt,
    ReviewCall, ReviewResponse, ReviewVerdict, audited,
    event::{
        model::{Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall, Usage},
        review::{ReviewDecision, Reviewer, ReviewerKind},
        tool::{DecisionLink, Effect, ToolStatus},
    },
    id::{CallId, EventId},
    memory::MemorySink,
};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;

/// A log, and the sink that holds what it recorded once it is closed.
struct Fixture {
    log: AuditLog,
    sink: MemorySink,
    session: AuditContext,
    _dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sink = MemorySink::new();
        let log = AuditLog::builder(dir.path()).with_sink(sink.clone()).open().unwrap();
        let session = log.session("acme", "session-1", "agent").unwrap();
        Self { log, sink, session, _dir: dir }
    }

    async fn run<F: Future>(&self, future: F) -> F::Output {
        self.session.scope(future).await
    }

    /// Everything that was recorded, checked.
    async fn recorded(self) -> MemorySink {
        assert!(self.log.close(Duration::from_secs(60)).await.unwrap().is_complete());
        self.sink.assert_chain_valid();
        self.sink.assert_no_orphans();
        self.sink
    }
}

/// An error of an application.
#[derive(Debug)]
enum Failed {
    Declined(u64),
    Unavailable(AuditUnavailable),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(cents) => write!(f, "declined {cents} cents"),
            Self::Unavailable(error) => error.fmt(f),
        }
    }
}

impl From<AuditUnavailable> for Failed {
    fn from(error: AuditUnavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl Failed {
    fn unavailable(self) -> AuditUnavailable {
        match self {
            Self::Unavailable(error) => error,
            Self::Declined(_) => panic!("{self}"),
        }
    }
}

#[derive(Debug, Serialize, PartialEq)]
struct Refund {
    id: String,
    cents: u64,
}

/// Not serialisable, and it counts its uses.
#[derive(Default, Clone)]
struct Bank(Arc<AtomicUsize>);

impl Bank {
    fn pay(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn paid(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[audited(
    tool,
    name = "refund",
    version = "2",
    effect = destructive,
    skip(bank),
    sensitive(card),
    external(refund = output.id, cents = output.cents),
    error_if = |refund| refund.cents == 0
)]
async fn refund(bank: &Bank, card: &str, order: (u8, &str), cents: u64) -> Result<Refund, Failed> {
    tokio::task::yield_now().await;
    if cents > 100 {
        return Err(Failed::Declined(cents));
    }
    bank.pay();
    Ok(Refund { id: format!("R-{}-{}", order.0, card.len()), cents })
}

#[tokio::test]
async fn a_success_is_recorded_with_inputs_output_and_external_ids() {
    let fixture = Fixture::new();
    let bank = Bank::default();
    let returned = fixture.run(refund(&bank, "4111", (7, "A"), 40)).await.unwrap();
    assert_eq!(returned, Refund { id: "R-7-4".into(), cents: 40 });

    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.status(), Some(&ToolStatus::Ok));
    let attempted = call.attempted();
    assert_eq!(attempted.tool_name, "refund");
    assert_eq!(attempted.tool_version.as_deref(), Some("2"));
    assert_eq!(attempted.effect, Some(Effect::Destructive));
    assert_eq!(attempted.omitted_inputs, ["bank"]);
    // The sensitive one stands alone, and nowhere else.
    assert_eq!(call.input(), json!({"order": [7, "A"], "cents": 40}));
    assert_eq!(call.attempt().content_json("input.card"), json!("4111"));
    assert_eq!(call.output(), json!({"id": "R-7-4", "cents": 40}));
    let external: Vec<_> = call
        .completed()
        .unwrap()
        .external_ids
        .iter()
        .map(|id| (id.key.as_str(), id.value.as_str()))
        .collect();
    assert_eq!(external, [("refund", "R-7-4"), ("cents", "40")]);
}

#[tokio::test]
async fn an_error_is_recorded_with_its_text_and_type() {
    let fixture = Fixture::new();
    let bank = Bank::default();
    let error = fixture.run(refund(&bank, "4111", (7, "A"), 200)).await.unwrap_err();
    assert_eq!(error.to_string(), "declined 200 cents");

    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.status(), Some(&ToolStatus::Error));
    assert_eq!(call.error(), Some("declined 200 cents"));
    let completed = call.completed().unwrap();
    assert_eq!(completed.error_code.as_deref(), Some("Failed"));
    assert!(completed.external_ids.is_empty());
    assert!(call.completion().unwrap().content("output").is_none());
}

#[tokio::test]
async fn an_error_is_told_by_its_type_and_not_by_its_spelling() {
    type Hidden = Result<u8, Failed>;

    #[audited(tool)]
    async fn hidden() -> Hidden {
        Err(Failed::Declined(1))
    }

    let fixture = Fixture::new();
    fixture.run(hidden()).await.unwrap_err();
    assert_eq!(fixture.recorded().await.tools().only().status(), Some(&ToolStatus::Error));
}

#[tokio::test]
async fn error_if_turns_a_success_into_a_tool_error() {
    let fixture = Fixture::new();
    let returned = fixture.run(refund(&Bank::default(), "4111", (7, "A"), 0)).await.unwrap();
    assert_eq!(returned.cents, 0, "the caller gets what the tool returned");

    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.status(), Some(&ToolStatus::ToolError));
    assert_eq!(call.output(), json!({"id": "R-7-4", "cents": 0}));
    assert!(call.completed().unwrap().external_ids.is_empty());
}

#[tokio::test]
async fn a_panic_is_recorded_and_goes_on() {
    #[audited(tool)]
    async fn breaks(after: bool) -> Result<(), Failed> {
        if after {
            tokio::task::yield_now().await;
        }
        panic!("broken: {after}");
    }

    for after in [false, true] {
        let fixture = Fixture::new();
        let session = fixture.session.clone();
        let task = tokio::spawn(async move { session.scope(breaks(after)).await });
        let panic = task.await.unwrap_err().into_panic();
        let message = format!("broken: {after}");
        assert_eq!(panic.downcast_ref::<String>(), Some(&message));

        let sink = fixture.recorded().await;
        let call = sink.tools().only();
        assert_eq!(call.status(), Some(&ToolStatus::Panicked));
        assert_eq!(call.error(), Some(&*message));
    }
}

#[tokio::test]
async fn a_panic_in_the_reading_of_the_outcome_is_recorded_too() {
    #[audited(tool, external(first = output[3]))]
    async fn short() -> Result<Vec<u8>, Failed> {
        Ok(vec![1])
    }

    let fixture = Fixture::new();
    let session = fixture.session.clone();
    assert!(tokio::spawn(async move { session.scope(short()).await }).await.is_err());
    assert_eq!(fixture.recorded().await.tools().only().status(), Some(&ToolStatus::Panicked));
}

#[tokio::test]
async fn a_future_dropped_at_any_await_is_recorded_as_cancelled() {
    #[audited(tool, skip(reached, never))]
    async fn waits(steps: usize, reached: &Notify, never: &Notify) -> Result<(), Failed> {
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        reached.notify_one();
        never.notified().await;
        Ok(())
    }

    for steps in 0..4 {
        let fixture = Fixture::new();
        let (reached, never) = (Notify::new(), Notify::new());
        let mut call = Box::pin(fixture.run(waits(steps, &reached, &never)));
        tokio::select! {
            _ = &mut call => panic!("it never ends"),
            () = reached.notified() => drop(call),
        }
        let sink = fixture.recorded().await;
        assert_eq!(sink.tools().only().status(), Some(&ToolStatus::Cancelled));
    }
}

#[tokio::test]
async fn wherever_it_is_dropped_there_is_no_act_without_intent_and_no_intent_without_outcome() {
    for polls in 1..40 {
        let fixture = Fixture::new();
        let bank = Bank::default();
        let mut call = Box::pin(fixture.run(refund(&bank, "4111", (7, "A"), 40)));
        for _ in 0..polls {
            if std::future::poll_fn(|task| Poll::Ready(call.as_mut().poll(task))).await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(call);
        let report = fixture.log.close(Duration::from_secs(60)).await.unwrap();
        assert!(report.is_complete());
        fixture.sink.tools().unresolved().assert_none();
        assert!(fixture.sink.tools().count() >= bank.paid(), "an act without an intent");
    }
}

#[tokio::test]
async fn a_future_that_is_never_polled_records_nothing() {
    let fixture = Fixture::new();
    let bank = Bank::default();
    drop(fixture.run(refund(&bank, "4111", (7, "A"), 40)));
    assert_eq!(bank.paid(), 0);
    fixture.log.close(Duration::from_secs(60)).await.unwrap();
    assert!(fixture.sink.is_empty());
}

// When the log cannot be written.

#[tokio::test]
async fn without_a_context_nothing_runs() {
    let bank = Bank::default();
    let error = refund(&bank, "4111", (7, "A"), 40).await.unwrap_err().unavailable();
    assert_eq!(error.kind(), AuditErrorKind::NoContext);
    assert!(!error.after_action());
    assert_eq!(bank.paid(), 0);
}

#[tokio::test]
async fn under_deny_the_body_does_not_run_when_the_log_is_unavailable() {
    #[audited(tool, skip(bank))]
    fn blocking(bank: &Bank) -> Result<(), Failed> {
        bank.pay();
        Ok(())
    }

    let fixture = Fixture::new();
    fixture.log.close(Duration::from_secs(60)).await.unwrap();
    let bank = Bank::default();
    let error = fixture.run(refund(&bank, "4111", (7, "A"), 40)).await.unwrap_err().unavailable();
    assert_eq!(error.kind(), AuditErrorKind::Closed);
    assert!(!error.after_action());
    let error = fixture.session.run(|| blocking(&bank)).unwrap_err().unavailable();
    assert!(!error.after_action());
    assert_eq!(bank.paid(), 0, "the body provably did not run");
}

#[tokio::test]
async fn under_deny_a_result_whose_outcome_is_not_recorded_is_withheld() {
    #[audited(tool, skip(bank, log))]
    async fn closes(bank: &Bank, log: &AuditLog) -> Result<&'static str, Failed> {
        bank.pay();
        log.close(Duration::from_secs(60)).await.unwrap();
        Ok("secret")
    }

    let fixture = Fixture::new();
    let bank = Bank::default();
    let error = fixture.run(closes(&bank, &fixture.log)).await.unwrap_err().unavailable();
    assert!(error.after_action());
    assert_eq!(bank.paid(), 1);
}

#[tokio::test]
async fn under_proceed_the_body_runs_in_any_case() {
    #[audited(tool, skip(bank, log), on_audit_error = proceed)]
    async fn closes(bank: &Bank, log: Option<&AuditLog>) -> &'static str {
        bank.pay();
        if let Some(log) = log {
            log.close(Duration::from_secs(60)).await.unwrap();
        }
        "done"
    }
    #[audited(tool, on_audit_error = proceed)]
    fn add(a: u8, b: u8) -> u8 {
        a + b
    }

    let bank = Bank::default();
    assert_eq!(closes(&bank, None).await, "done", "without a context");
    assert_eq!(add(1, 2), 3);

    let fixture = Fixture::new();
    assert_eq!(fixture.run(closes(&bank, None)).await, "done", "recorded");
    assert_eq!(fixture.run(closes(&bank, Some(&fixture.log))).await, "done", "outcome lost");
    assert_eq!(fixture.run(closes(&bank, None)).await, "done", "intent lost");
    assert_eq!(bank.paid(), 4);
    let done = fixture.sink.tools().with_status(ToolStatus::Ok).only();
    assert_eq!(done.output(), json!("done"));
}

#[tokio::test]
async fn what_has_no_json_form_is_not_left_out_silently() {
    type Odd = std::collections::BTreeMap<(u8, u8), u8>;

    #[audited(tool, skip(bank))]
    fn takes(bank: &Bank, odd: Odd) -> Result<usize, Failed> {
        bank.pay();
        Ok(odd.len())
    }
    #[audited(tool)]
    fn returns() -> Result<Odd, Failed> {
        Ok(Odd::from([((1, 2), 3)]))
    }
    #[audited(tool, on_audit_error = proceed)]
    async fn both(odd: Odd) -> Odd {
        odd
    }

    let odd = || Odd::from([((1, 2), 3)]);
    let fixture = Fixture::new();
    let bank = Bank::default();
    let error = fixture.session.run(|| takes(&bank, odd())).unwrap_err().unavailable();
    assert_eq!((error.kind(), error.after_action()), (AuditErrorKind::Invalid, false));
    assert_eq!(bank.paid(), 0);
    let error = fixture.session.run(returns).unwrap_err().unavailable();
    assert_eq!((error.kind(), error.after_action()), (AuditErrorKind::Invalid, true));
    assert_eq!(fixture.run(both(odd())).await, odd());

    let sink = fixture.recorded().await;
    sink.tools().named("takes").assert_none();
    let returned = sink.tools().named("returns").only();
    let reason = returned.completion().unwrap().content_text("output.unrecordable");
    assert_eq!(reason, "the returned value has no JSON form");
    let both = sink.tools().named("both").only();
    assert_eq!(both.attempt().content_text("input.unrecordable"), "`odd` has no JSON form");
    assert_eq!(both.input(), json!({}));
}

// Inputs.

#[tokio::test]
async fn patterns_are_recorded_whole_and_by_position() {
    #[audited(tool, skip(arg2))]
    fn patterns((a, mut b): (u8, u8), c: u8, _: u16, [d]: [u8; 1]) -> Result<u8, Failed> {
        b += a;
        Ok(b + c + d)
    }

    let fixture = Fixture::new();
    assert_eq!(fixture.session.run(|| patterns((1, 2), 3, 4, [5])).unwrap(), 11);
    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.input(), json!({"arg0": [1, 2], "c": 3, "arg3": [5]}));
    assert_eq!(call.attempted().omitted_inputs, ["arg2"]);
}

#[tokio::test]
async fn input_stands_in_for_the_parameters_and_skip_return_for_the_output() {
    #[audited(tool, input = json!({"len": secret.len()}), skip(return))]
    async fn digest(secret: String, bank: Bank) -> Result<Bank, Failed> {
        drop(secret);
        Ok(bank)
    }

    let fixture = Fixture::new();
    fixture.run(digest("four".into(), Bank::default())).await.unwrap();
    let sink = fixture.recorded().await;
    let call = sink.tools().only();
    assert_eq!(call.input(), json!({"len": 4}));
    assert_eq!(call.status(), Some(&ToolStatus::Ok));
    assert!(call.completion().unwrap().content("output").is_none());
}

#[tokio::test]
async fn inputs_are_recorded_as_they_were() {
    #[audited(tool)]
    async fn drains(list: &mut Vec<u8>) -> Result<usize, Failed> {
        Ok(list.drain(..).count())
    }

    let fixture = Fixture::new();
    fixture.run(drains(&mut vec![1, 2])).await.unwrap();
    assert_eq!(fixture.recorded().await.tools().only().input(), json!({"list": [1, 2]}));
}

// Shapes.

struct Desk {
    greeting: String,
}

#[async_trait::async_trait]
trait Greeter {
    async fn greet(&self, name: &str, (times, _): (u8, u8)) -> Result<String, Failed>;
}

#[async_trait::async_trait]
impl Greeter for Desk {
    #[audited(tool, name = "greet", external(len = output.len(), own = self.greeting.len()))]
    async fn greet(&self, name: &str, (times, _): (u8, u8)) -> Result<String, Failed> {
        tokio::task::yield_now().await;
        if name.is_empty() {
            return Err(Failed::Declined(0));
        }
        Ok(format!("{}, {name}!", self.greeting).repeat(usize::from(times)))
    }
}

#[tokio::test]
async fn async_trait_methods_are_recorded_when_they_run() {
    let fixture = Fixture::new();
    let desk: Box<dyn Greeter> = Box::new(Desk { greeting: "Hi".into() });
    drop(desk.greet("never polled", (1, 0)));
    assert_eq!(fixture.run(desk.greet("Al", (2, 0))).await.unwrap(), "Hi, Al!Hi, Al!");
    fixture.run(desk.greet("", (1, 0))).await.unwrap_err();

    let sink = fixture.recorded().await;
    sink.tools().assert_count(2);
    let greeted = sink.tools().with_status(ToolStatus::Ok).only();
    assert_eq!(greeted.input(), json!({"name": "Al", "arg1": [2, 0]}));
    let external = &greeted.completed().unwrap().external_ids;
    assert_eq!((external[0].value.as_str(), external[1].value.as_str()), ("14", "2"));
    assert_eq!(sink.tools().with_status(ToolStatus::Error).only().input()["name"], json!(""));
}

#[tokio::test]
async fn blocking_functions_and_their_panics_are_recorded() {
    #[audited(tool)]
    fn halve(n: u32) -> Result<u32, Failed> {
        assert!(n.is_multiple_of(2), "odd");
        Ok(n / 2)
    }

    let fixture = Fixture::new();
    assert_eq!(fixture.session.run(|| halve(4)).unwrap(), 2);
    let panic = std::panic::catch_unwind(AssertUnwindSafe(|| fixture.session.run(|| halve(3))));
    assert_eq!(*panic.unwrap_err().downcast_ref::<&str>().unwrap(), "odd");

    let sink = fixture.recorded().await;
    assert_eq!(sink.tools().with_status(ToolStatus::Ok).only().output(), json!(2));
    assert_eq!(sink.tools().with_status(ToolStatus::Panicked).only().error(), Some("odd"));
}

#[tokio::test]
async fn generic_functions_are_recorded_for_each_type() {
    #[audited(tool)]
    async fn echo<T: Serialize + Clone>(value: &T) -> Result<impl Serialize + use<'_, T>, Failed> {
        Ok(vec![value.clone()])
    }

    let fixture = Fixture::new();
    fixture.run(echo(&1)).await.map(drop).unwrap();
    fixture.run(echo(&"a")).await.map(drop).unwrap();
    let sink = fixture.recorded().await;
    let outputs: Vec<_> = sink.tools().iter().map(agent_audit::memory::ToolCall::output).collect();
    assert_eq!(outputs, [json!([1]), json!(["a"])]);
}

// Causes.

#[derive(Clone)]
struct Answer {
    text: &'static str,
    calls: Vec<&'static str>,
}

impl ModelResponse for Answer {
    fn decided(&self) -> ModelDecided {
        let calls = self.calls.iter().map(|id| SelectedCall::new(CallId::new(id).unwrap(), "t"));
        ModelDecided::new("", "", ModelStatus::Ok)
            .with_served_model("large-7")
            .with_usage(Usage::new().with_output_tokens(2u64))
            .with_decision(Decision::new(DecisionKind::Tools).with_tool_calls(calls))
    }

    fn parts(&self) -> Vec<Part> {
        vec![Part::text("output", self.text)]
    }
}

#[audited(model, name = "large", provider = "acme-ai", skip(client))]
async fn ask(client: &Bank, prompt: &str) -> Result<Answer, Failed> {
    client.pay();
    match prompt {
        "" => Err(Failed::Declined(1)),
        _ => Ok(Answer { text: "yes", calls: vec!["call_1"] }),
    }
}

#[tokio::test]
async fn a_model_call_is_recorded_by_what_its_answer_says() {
    let fixture = Fixture::new();
    let bank = Bank::default();
    fixture.run(ask(&bank, "may I?")).await.unwrap();
    fixture.run(ask(&bank, "")).await.map(drop).unwrap_err();

    let sink = fixture.recorded().await;
    let answered = sink.models().with_status(ModelStatus::Ok).only();
    let decided = answered.decided().unwrap();
    assert_eq!((decided.provider.as_str(), answered.requested_model()), ("acme-ai", "large"));
    assert_eq!(decided.served_model.as_deref(), Some("large-7"));
    assert_eq!(answered.output_text(), "yes");
    let request = answered.request().unwrap();
    assert_eq!(request.content_json("input"), json!({"prompt": "may I?"}));
    assert_eq!(answered.requested().unwrap().omitted_inputs, ["client"]);
    assert!(request.content("omitted_inputs").is_none(), "a name is no content");
    let failed = sink.models().with_status(ModelStatus::Error).only();
    assert_eq!(failed.error(), Some("declined 1 cents"));
    assert_eq!(failed.decided().unwrap().error_code.as_deref(), Some("Failed"));
}

#[tokio::test]
async fn a_tool_finds_its_decision_by_call_id_then_by_scope() {
    #[audited(tool, parent = call)]
    async fn by_call(call: &CallId) -> Result<(), Failed> {
        let _ = call;
        Ok(())
    }
    #[audited(tool)]
    async fn by_scope() -> Result<(), Failed> {
        Ok(())
    }

    let fixture = Fixture::new();
    let call = CallId::new("call_1").unwrap();
    fixture
        .run(async {
            ask(&Bank::default(), "first").await.unwrap();
            // A later decision, which did not select the call.
            #[audited(model, name = "small")]
            async fn other() -> Result<Answer, Failed> {
                Ok(Answer { text: "no", calls: vec![] })
            }
            other().await.unwrap();
            by_call(&call).await.unwrap();
            by_scope().await.unwrap();
        })
        .await;

    let sink = fixture.recorded().await;
    let by_call = sink.tools().named("by_call").only();
    assert_eq!(by_call.attempted().decision_link, Some(DecisionLink::CallId));
    assert_eq!(by_call.attempted().call_id.as_ref().unwrap().as_str(), "call_1");
    assert_eq!(by_call.decision().unwrap().requested_model(), "large");
    let by_scope = sink.tools().named("by_scope").only();
    assert_eq!(by_scope.attempted().decision_link, Some(DecisionLink::Scope));
    assert_eq!(by_scope.decision().unwrap().requested_model(), "small");
}

/// The future of a call is in the future of every call around it.
#[test]
fn the_size_of_a_future_grows_with_the_depth_of_calls_and_not_faster() {
    #[audited(tool)]
    async fn innermost() -> Result<(), Failed> {
        let held = [1u8; 1000];
        tokio::task::yield_now().await;
        assert_eq!(held[0], 1);
        Ok(())
    }
    #[audited(tool)]
    async fn middle() -> Result<(), Failed> {
        innermost().await
    }
    #[audited(tool)]
    async fn outer() -> Result<(), Failed> {
        middle().await
    }

    let sizes = [size_of_val(&innermost()), size_of_val(&middle()), size_of_val(&outer())];
    assert!(sizes[2] < 4 * sizes[0], "{sizes:?}");
}

#[tokio::test]
async fn a_nested_call_comes_from_the_call_around_it() {
    #[audited(tool)]
    async fn inner(n: u8) -> Result<u8, Failed> {
        Ok(n)
    }
    #[audited(tool)]
    fn inner_blocking(n: u8) -> Result<u8, Failed> {
        Ok(n)
    }
    #[audited(tool)]
    async fn outer() -> Result<u8, Failed> {
        Ok(inner(1).await? + inner_blocking(2)?)
    }

    let fixture = Fixture::new();
    assert_eq!(fixture.run(outer()).await.unwrap(), 3);
    fixture.run(inner(3)).await.unwrap();

    let sink = fixture.recorded().await;
    let outer = sink.tools().named("outer").only();
    let below = |name| {
        sink.tools().named(name).filter("below", |call| {
            call.attempt().parent().is_some_and(|parent| parent.id() == outer.attempt().id())
        })
    };
    assert_eq!(below("inner").only().output(), json!(1));
    assert_eq!(below("inner_blocking").only().output(), json!(2));
    sink.tools().named("inner").assert_count(2);
}

#[tokio::test]
async fn a_review_is_recorded_by_its_verdict_and_dismissed_without_one() {
    struct Clicked(bool);
    impl ReviewResponse for Clicked {
        fn verdict(&self) -> ReviewVerdict {
            let decision = if self.0 { ReviewDecision::Approve } else { ReviewDecision::Reject };
            ReviewVerdict::new(decision, Reviewer::new("reviewer-7", ReviewerKind::Human))
                .with_rationale("in policy")
        }
    }
    #[audited(review, name = "refund", sensitive(card), skip(desk))]
    async fn review(cents: u64, card: &str, desk: &Bank) -> Result<Clicked, Failed> {
        let _ = (card, desk);
        match cents {
            0 => Err(Failed::Declined(0)),
            cents => Ok(Clicked(cents < 100)),
        }
    }
    #[audited(review)]
    fn policy(cents: u64) -> Result<ReviewVerdict, Failed> {
        let decision = if cents < 10 { ReviewDecision::Approve } else { ReviewDecision::Escalate };
        Ok(ReviewVerdict::new(decision, Reviewer::new("limits", ReviewerKind::Policy)))
    }

    let fixture = Fixture::new();
    let desk = Bank::default();
    fixture.run(review(40, "4111", &desk)).await.map(drop).unwrap();
    fixture.run(review(0, "4111", &desk)).await.map(drop).unwrap_err();
    fixture.session.run(|| policy(50)).map(drop).unwrap();

    let sink = fixture.recorded().await;
    let approved = sink.reviews().with_decision(ReviewDecision::Approve).only();
    assert_eq!(approved.action(), Some("refund"));
    assert_eq!(approved.reviewer().unwrap().reviewer_id, "reviewer-7");
    assert_eq!(approved.rationale(), Some("in policy"));
    let proposed = &approved.events()[0];
    assert_eq!(proposed.content_json("proposal"), json!({"cents": 40}));
    assert_eq!(proposed.content_json("proposal.card"), json!("4111"));
    assert_eq!(approved.proposed().unwrap().omitted_inputs, ["desk"]);
    let dismissed = sink.reviews().with_decision(ReviewDecision::Dismissed).only();
    assert_eq!(dismissed.reviewer().unwrap().kind, ReviewerKind::Policy);
    assert_eq!(dismissed.rationale(), Some("declined 0 cents"));
    sink.reviews().named("policy").with_decision(ReviewDecision::Escalate).assert_count(1);
}

#[tokio::test]
async fn what_is_presented_in_the_body_of_a_review_belongs_to_it() {
    fn verdict() -> ReviewVerdict {
        ReviewVerdict::new(ReviewDecision::Approve, Reviewer::new("pat", ReviewerKind::Human))
    }
    fn page(text: &str) -> Part {
        Part::text("shown", text)
    }
    #[audited(tool)]
    async fn look_up() -> Result<bool, Failed> {
        let shown = AuditContext::current().unwrap().present_review("pat", "web", page("x")).await;
        Ok(shown.is_err_and(|error| error.kind() == AuditErrorKind::Invalid))
    }
    #[audited(review)]
    async fn shown_twice() -> Result<ReviewVerdict, Failed> {
        let here = AuditContext::current().unwrap();
        assert!(look_up().await?, "a tool call inside a review is no review");
        here.present_review("pat", "web", page("first")).await.unwrap();
        here.branch().present_review("pat", "mail", page("again")).await.unwrap();
        Ok(verdict())
    }
    #[audited(review)]
    fn shown_blocking() -> Result<ReviewVerdict, Failed> {
        let here = AuditContext::current().unwrap();
        here.present_review_blocking("pat", "web", page("once")).unwrap();
        Ok(verdict())
    }
    #[audited(review)]
    async fn not_shown() -> Result<ReviewVerdict, Failed> {
        Ok(verdict())
    }

    let fixture = Fixture::new();
    fixture.run(shown_twice()).await.unwrap();
    fixture.session.run(shown_blocking).unwrap();
    fixture.run(not_shown()).await.unwrap();
    let outside = fixture.session.present_review("pat", "web", page("outside")).await.unwrap_err();
    assert_eq!(outside.kind(), AuditErrorKind::Invalid);

    let sink = fixture.recorded().await;
    for (name, texts) in [("shown_twice", &["first", "again"][..]), ("shown_blocking", &["once"])] {
        let review = sink.reviews().named(name).only();
        let presented = review.presented();
        let shown: Vec<_> = presented.iter().map(|entry| entry.content_text("shown")).collect();
        assert_eq!(shown, texts);
        let decided = review.decided().unwrap();
        assert_eq!(decided.presented_event_id, Some(presented[0].id()), "the first one counts");
        assert!(decided.decided_after_us.is_some());
    }
    let review = sink.reviews().named("not_shown").only();
    assert!(review.presented().is_empty());
    let decided = review.decided().unwrap();
    assert_eq!((decided.presented_event_id, decided.decided_after_us), (None, None));
}

#[tokio::test]
async fn a_tool_names_the_review_that_allows_it() {
    #[audited(tool, skip(approval), approval = approval)]
    async fn pay(cents: u64, approval: Option<&Receipt>) -> Result<u64, Failed> {
        assert!(approval.is_none_or(|receipt| receipt.sequence > 0), "it can be used in the body");
        inner().await.map(|()| cents)
    }
    #[audited(tool, name = "pay", skip(decided), approval = decided)]
    fn pay_blocking(cents: u64, decided: EventId) -> Result<u64, Failed> {
        let _ = decided;
        Ok(cents)
    }
    #[audited(tool)]
    async fn inner() -> Result<(), Failed> {
        Ok(())
    }

    let fixture = Fixture::new();
    let mut decisions = Vec::new();
    for _ in 0..2 {
        let review = fixture.session.attempt_review(ReviewCall::new("pay")).await.unwrap();
        let pat = Reviewer::new("pat", ReviewerKind::Human);
        let verdict = ReviewVerdict::new(ReviewDecision::Approve, pat);
        decisions.push(review.complete(verdict).await.unwrap());
    }
    let [first, second] = &decisions[..] else { panic!("two reviews") };
    fixture.run(pay(1, Some(first))).await.unwrap();
    fixture.run(pay(2, None)).await.unwrap();
    let within = fixture.session.with_approval(first.event_id);
    within.scope(pay(3, None)).await.unwrap();
    within.scope(pay(4, Some(second))).await.unwrap();
    within.run(|| pay_blocking(5, second.event_id)).unwrap();

    let sink = fixture.recorded().await;
    let approvals =
        sink.tools().named("pay").into_iter().map(|call| {
            (call.input()["cents"].as_u64().unwrap(), call.attempted().approval_event_id)
        });
    let (first, second) = (Some(first.event_id), Some(second.event_id));
    let expected = [(1, first), (2, None), (3, first), (4, second), (5, second)];
    assert_eq!(approvals.collect::<Vec<_>>(), expected);
    let inner = sink.tools().named("inner");
    assert!(inner.iter().all(|call| call.attempted().approval_event_id.is_none()));
    inner.assert_count(4);
}

// Syntax.

/// The shapes that compile, the messages of those that do not, and a crate that knows the facade by
/// another name and serde not at all.
#[test]
fn syntax() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/macros/pass/*.rs");
    cases.compile_fail("tests/macros/ui/*.rs");
}

#[test]
fn a_renamed_dependency_without_serde_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/renamed");
    // Built from a copy, with the locked versions, so that the source tree stays as it is.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed");
    fs::create_dir_all(copy.join("src")).unwrap();
    fs::copy(fixture.join("src/main.rs"), copy.join("src/main.rs")).unwrap();
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let manifest = fs::read_to_string(fixture.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\"../../..\"") && !manifest.contains("serde ="));
    let here = format!("{:?}", root.display().to_string());
    fs::write(copy.join("Cargo.toml"), manifest.replace("\"../../..\"", &here)).unwrap();
    let run = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline"])
        .current_dir(&copy)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
