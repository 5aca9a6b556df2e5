//! Questions that signed indexes answer: nothing that matches can be left out.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use agent_audit_core::{
    event::tool::{Effect, ToolAttempted},
    id::TenantId,
    key::SigningKey,
    log::AuditLog,
    memory::MemorySink,
    verify::FindingKind,
};

use super::scene::{among, assert_verdict, edit, lines, only, resign, write_lines};
use crate::{
    Filter, Ledger,
    export::{
        Claim, ExportCompleteness, ExportReport, ExportVerdict, Exported, Exporter, LogCheckpoints,
        VerifyOptions, verify,
    },
    scan::Scanned,
};

/// A log of two writers with sessions that take turns.
struct Log {
    dir: tempfile::TempDir,
    sink: MemorySink,
    log_key: SigningKey,
    key: SigningKey,
}

impl Log {
    fn new() -> Self {
        let key = |seed| SigningKey::from_seed(&[seed; 32]);
        let dir = tempfile::tempdir().unwrap();
        let log = Self { dir, sink: MemorySink::new(), log_key: key(1), key: key(2) };
        for writer in ["one", "two"] {
            let opened = AuditLog::builder(log.dir.path().join(writer))
                .with_signing_key(log.log_key.clone())
                .with_checkpoint_dir(log.dir.path().join("checkpoints"))
                .with_checkpoint_every(16, Duration::from_secs(3_600))
                .with_sink(log.sink.clone())
                .open()
                .unwrap();
            let sessions = ["session-1", "session-2", "session-3"]
                .map(|name| opened.session("acme", format!("{writer}-{name}"), "agent").unwrap());
            for round in 0..20 {
                let attempt = ToolAttempted::new("refund").with_effect(Effect::ReadOnly);
                sessions[round % 3].record_blocking(attempt).unwrap();
            }
            assert!(opened.close_blocking(Duration::from_secs(60)).unwrap().is_complete());
        }
        log
    }

    fn export(&self, filter: Filter) -> (PathBuf, Exported) {
        let tenant: TenantId = "acme".parse().unwrap();
        let ledger =
            Ledger::new(Arc::new(Scanned::new("memory", self.sink.clone())), tenant.clone());
        let mut checkpoints = LogCheckpoints::trusting(tenant, [self.log_key.verifying_key()]);
        checkpoints.read(&self.dir.path().join("checkpoints")).unwrap();
        let out = self.dir.path().join(format!("export-{}", rand_name()));
        let exporter =
            Exporter::new(&ledger, &self.key, &checkpoints).with_filter(filter).with_content();
        let exported = pollster::block_on(exporter.write(&out)).unwrap();
        (out, exported)
    }

    fn verify(&self, out: &std::path::Path) -> ExportReport {
        let options = VerifyOptions::default()
            .with_exporter_keys([self.key.verifying_key()])
            .with_log_keys([self.log_key.verifying_key()]);
        verify(out, options).unwrap()
    }
}

fn rand_name() -> String {
    agent_audit_core::id::EventId::new().to_string()
}

fn session() -> Filter {
    Filter::new().session("one-session-2".parse().unwrap())
}

#[test]
fn all_events_of_a_session_are_proved_to_be_all() {
    let log = Log::new();
    let (out, exported) = log.export(session());
    assert_eq!(exported.manifest.completeness, Claim::Index);
    assert_eq!(exported.manifest.chains.len(), 2, "the other chain has none, which is proved too");
    assert!(exported.manifest.chains.iter().any(|chain| chain.events == 0));
    let report = log.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.events, report.completeness), (7, ExportCompleteness::Proven));
    assert!(report.explanation().contains("nothing was left out: of each chain"));

    for filter in [
        Filter::new().event_type("tool.attempted"),
        Filter::new().event_type("chain.opened").event_type("chain.closed"),
        session().event_type("tool.attempted"),
    ] {
        let (out, _) = log.export(filter);
        let report = log.verify(&out);
        assert_verdict(&report, ExportVerdict::Intact);
        assert_eq!(report.completeness, ExportCompleteness::Proven);
    }
    // A tool is in no index.
    let (out, exported) = log.export(session().tool("refund"));
    assert_eq!(exported.manifest.completeness, Claim::None);
    assert_eq!(log.verify(&out).completeness, ExportCompleteness::NotProvable);
}

/// The holder of the exporter's key leaves an event out, and everything else fits.
#[test]
fn an_event_that_the_exporter_leaves_out_is_named() {
    let log = Log::new();
    let (out, exported) = log.export(session());
    let at = exported.manifest.chains.iter().position(|chain| chain.events > 0).unwrap();
    let mut all = lines(&out);
    let gone = agent_audit_core::record::Record::from_json_line(all.remove(3).as_bytes()).unwrap();
    write_lines(&out, &all);
    edit(&out.join("proofs.ndjson"), |text| {
        let kept = text.lines().enumerate().filter(|(at, _)| *at != 3);
        kept.map(|(_, line)| format!("{line}\n")).collect()
    });
    resign(&out, &log.key, |manifest| {
        let chain = &mut manifest.chains[at];
        chain.events -= 1;
        chain.covered -= 1;
        chain.runs -= 1;
        manifest.counts.events -= 1;
        manifest.counts.covered -= 1;
    });
    let report = log.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    assert_eq!(report.completeness, ExportCompleteness::Broken);
    let record = format!("record {} ", gone.view().unwrap().sequence);
    only(&report, FindingKind::Missing, &[&record, "left out", "signed indexes"]);
}

#[test]
fn a_proof_of_completeness_that_is_missing_changed_or_of_something_else_is_named() {
    let log = Log::new();
    let (out, _) = log.export(session());
    let honest = fs::read_to_string(out.join("completeness.ndjson")).unwrap();

    edit(&out.join("completeness.ndjson"), |text| {
        text.lines().skip(1).map(|line| format!("{line}\n")).collect()
    });
    resign(&out, &log.key, |_| {});
    let report = log.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    only(&report, FindingKind::Missing, &["proof of completeness", "completeness.ndjson"]);

    let (other, _) = log.export(Filter::new().session("one-session-3".parse().unwrap()));
    fs::copy(other.join("completeness.ndjson"), out.join("completeness.ndjson")).unwrap();
    resign(&out, &log.key, |_| {});
    let report = log.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Foreign, &["of another question", "completeness.ndjson line 1"]);
    assert_eq!(report.completeness, ExportCompleteness::Unproven);

    // A position taken out of the proof itself.
    let forged = honest.replacen("\"positions\":[", "\"positions\":[0,", 1);
    fs::write(out.join("completeness.ndjson"), forged).unwrap();
    resign(&out, &log.key, |_| {});
    let report = log.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["does not hold", "completeness.ndjson line"]);

    // A claim that is not made any more is no promise.
    fs::remove_file(out.join("completeness.ndjson")).unwrap();
    resign(&out, &log.key, |manifest| manifest.completeness = Claim::None);
    let report = log.verify(&out);
    assert_eq!(report.completeness, ExportCompleteness::NotProvable);
}
