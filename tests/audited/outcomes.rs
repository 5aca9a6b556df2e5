//! Every way in which a call can end.

use super::*;

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
