//! When the log cannot be written.

use super::*;

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
