//! What follows from what.

use super::*;

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
