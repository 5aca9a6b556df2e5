//! The whole way: a log, its events in the tables, and the verifier over both.

use std::time::Duration;

use agent_audit_core::{
    content::Part,
    event::{
        Other,
        session::{SessionEnded, SessionOutcome, SessionStarted},
    },
    log::{AuditLog, Draft},
    verify::{
        FindingKind, Report, Verdict,
        directory::{VerifyOptions, verify_directory},
    },
};

use super::database::Database;

fn verify(database: &Database, dir: &std::path::Path) -> Report {
    let mut options = VerifyOptions::default();
    options.stores = database.reader().record_stores().unwrap();
    verify_directory(dir, options).unwrap()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn the_verifier_finds_a_true_ledger_intact_and_names_what_was_edited() {
    let database = Database::own().await;
    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::builder(dir.path()).with_sink(database.sink()).open().unwrap();
    for tenant in ["acme", "globex"] {
        let context = log.session(tenant, "s-1", "agent").unwrap();
        context.start(SessionStarted::new()).await.unwrap();
        for at in 0..150 {
            let draft = Draft::new(Other::custom("note").unwrap());
            context
                .record(draft.with_part(Part::text("note", format!("note {at}"))))
                .await
                .unwrap();
        }
        context.end(SessionEnded::new(SessionOutcome::Completed)).await.unwrap();
    }
    log.close(Duration::from_secs(60)).await.unwrap();

    let report = verify(&database, dir.path());
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
    assert!(report.tenants == 2 && report.events > 300, "{report:?}");

    let attacker = database.admin().await;
    attacker.batch_execute("SET session_replication_role = replica").await.unwrap();
    for (edit, kind) in [
        ("UPDATE agent_audit.audit_events SET agent_id = 'forged'", FindingKind::ColumnMismatch),
        ("UPDATE agent_audit.audit_content SET bytes = 'forged'", FindingKind::ContentMismatch),
        ("DELETE FROM agent_audit.audit_events", FindingKind::Missing),
    ] {
        let own = "event_id = (SELECT event_id FROM agent_audit.audit_events \
                   WHERE tenant_id = 'acme' AND sequence = 40)";
        assert_eq!(
            attacker.execute(&format!("{edit} WHERE {own}"), &[]).await.unwrap(),
            1,
            "{edit}"
        );
        let report = verify(&database, dir.path());
        assert_eq!(report.verdict(), Verdict::Tampered);
        let found: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
        assert!(found.contains(&kind), "{edit}: {found:?}");
    }
}
