//! What an exporter makes, a verifier finds intact.

use std::{fs, sync::Mutex};

use agent_audit_core::verify::{Basis, FindingKind};

use super::scene::{Scene, assert_verdict, completed, with_content};
use crate::{
    Filter,
    export::{
        Claim, ExportCompleteness, ExportVerdict, Exporter, Format, VerifyOptions, is_export,
        verify,
    },
};

#[test]
fn a_whole_tenant_is_exported_and_proved() {
    let scene = Scene::new();
    let (out, exported) = scene.export(with_content);
    let manifest = &exported.manifest;
    assert_eq!((manifest.counts.events, manifest.counts.uncovered), (47, 4));
    assert_eq!(manifest.completeness, Claim::Positions);
    assert_eq!(manifest.checkpoint_keys, [scene.log_key.verifying_key()]);
    let chain = &manifest.chains[0];
    assert_eq!((chain.events, chain.covered, chain.runs), (40, 36, 2));
    assert_eq!((chain.first, chain.last), (Some(0), Some(39)));

    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.events, report.covered, report.chains), (47, 43, 2));
    assert_eq!(report.parts, manifest.counts.parts);
    assert_eq!(report.completeness, ExportCompleteness::Proven);
    assert_eq!(report.basis, Basis::OwnCheckpoint);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!(report.findings[0].kind, FindingKind::UncoveredTail);
    let told = report.explanation();
    assert!(
        told.contains("4 of 47 events are not covered") && told.contains("nothing was left out")
    );
    assert!(is_export(&out) && !is_export(&scene.path("nowhere")));
}

#[test]
fn a_filter_is_exported_with_a_proof_for_each_event_and_no_claim() {
    let scene = Scene::new();
    let (out, exported) = scene.export(|exporter| exporter.with_filter(completed()));
    assert_eq!(exported.manifest.completeness, Claim::None);
    assert_eq!(exported.manifest.counts.events, 22);
    assert_eq!(exported.manifest.chains[0].runs, 19);
    let proofs = fs::read_to_string(out.join("proofs.ndjson")).unwrap();
    assert_eq!(proofs.lines().count(), 22);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!(report.completeness, ExportCompleteness::NotProvable);
    assert!(report.explanation().contains("cannot be shown"));
}

#[test]
fn positions_are_exported_with_one_proof_for_their_run() {
    let scene = Scene::new();
    let filter = Filter::new().chain("chain-a".parse().unwrap()).from_sequence(5).to_sequence(30);
    let (out, exported) = scene.export(|exporter| exporter.with_filter(filter));
    assert_eq!((exported.manifest.chains.len(), exported.manifest.chains[0].runs), (1, 1));
    assert_eq!(fs::read_to_string(out.join("proofs.ndjson")).unwrap().lines().count(), 1);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.events, report.completeness), (25, ExportCompleteness::Proven));
}

#[test]
fn every_range_of_positions_is_proved() {
    let scene = Scene::new();
    for (from, to) in [(0, 1), (1, 2), (15, 17), (35, 36), (36, 40), (34, 39), (0, 36), (7, 40)] {
        let filter = Filter::new().from_sequence(from).to_sequence(to);
        let (out, _) = scene.export(|exporter| exporter.with_filter(filter));
        let report = scene.verify(&out);
        if from == 36 {
            // Nothing of it is covered.
            assert_verdict(&report, ExportVerdict::Unsure);
            assert!(report.findings.iter().any(|f| f.kind == FindingKind::NotVouched));
        } else {
            assert_verdict(&report, ExportVerdict::Intact);
        }
    }
}

#[test]
fn files_have_a_bounded_size_and_no_content_where_none_was_asked_for() {
    let scene = Scene::new();
    let bytes = |report: &crate::export::Exported| report.bytes;
    let (out, with) = scene.export(|exporter| exporter.with_content().with_file_bytes(4_000));
    let files = with.manifest.files.iter().filter(|file| file.name.starts_with("events-"));
    let files: Vec<_> = files.collect();
    assert!(files.len() > 5, "{} files", files.len());
    assert!(files.iter().all(|file| file.bytes < 6_000));
    assert_verdict(&scene.verify(&out), ExportVerdict::Intact);
    let (out, without) = scene.export(|exporter| exporter);
    assert!(bytes(&without) < bytes(&with));
    for file in fs::read_dir(&out).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(!text.contains("order A-") && !text.contains("salt"));
    }
    assert_verdict(&scene.verify(&out), ExportVerdict::Intact);
}

#[test]
fn checkpoints_that_were_kept_apart_are_the_strongest_basis() {
    let scene = Scene::new();
    let out = scene.whole();
    let kept = scene.path("kept.ndjson");
    let line = |chain: usize, size| {
        let chain = &scene.chains[chain];
        let note = serde_json::to_string(&chain.checkpoint(size, &scene.log_key)).unwrap();
        format!(
            "{{\"chain_id\":\"{}\",\"note\":{note},\"tenant_id\":\"acme\"}}\n",
            chain.chain.chain_id
        )
    };
    let keys = || VerifyOptions::default().with_log_keys([scene.log_key.verifying_key()]);
    fs::write(&kept, line(0, 36) + &line(1, 7)).unwrap();
    let report = verify(&out, keys().with_checkpoints(&kept)).unwrap();
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!(report.basis, Basis::SeparateCheckpoint);
    // A larger one says that the chain went on: later, or the exporter left its end out.
    fs::write(&kept, line(0, 36) + &line(0, 40) + &line(1, 7)).unwrap();
    let report = verify(&out, keys().with_checkpoints(&kept)).unwrap();
    assert_verdict(&report, ExportVerdict::Intact);
    let mut told = report.findings.iter().map(ToString::to_string);
    assert!(told.any(|text| text.contains("had 40 records") && text.contains("reaches 36")));
    // An older one covers a beginning, and a chain without one is not vouched for.
    fs::write(&kept, line(0, 9)).unwrap();
    let report = verify(&out, keys().with_checkpoints(&kept)).unwrap();
    assert_verdict(&report, ExportVerdict::Unsure);
    assert_eq!(report.basis, Basis::OwnCheckpoint);
}

#[test]
fn the_caller_is_told_how_far_it_is() {
    let scene = Scene::new();
    let seen = Mutex::new(Vec::new());
    let tell = |progress| seen.lock().unwrap().push(progress);
    let (out, ledger, checkpoints) = (scene.out(), scene.ledger(), scene.checkpoints());
    let exporter = Exporter::new(&ledger, &scene.key, &checkpoints).with_progress(&tell);
    pollster::block_on(exporter.write(&out)).unwrap();
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.events, last.hashed), (47, 43));
    seen.lock().unwrap().clear();
    verify(&out, VerifyOptions::default().with_progress(&tell)).unwrap();
    let last = *seen.lock().unwrap().last().unwrap();
    assert_eq!((last.events, Some(last.bytes)), (47, last.total_bytes));
}

#[test]
fn an_export_of_nothing_is_not_intact() {
    let scene = Scene::new();
    let filter = Filter::new().tool("nuke");
    let (out, exported) = scene.export(|exporter| exporter.with_filter(filter));
    assert_eq!(exported.manifest.counts.events, 0);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    assert_eq!(report.findings[0].kind, FindingKind::NothingToVerify);
}

#[test]
fn without_proofs_the_word_of_the_exporter_is_all_there_is() {
    let scene = Scene::new();
    let (ledger, out) = (scene.ledger(), scene.out());
    pollster::block_on(Exporter::without_proofs(&ledger, &scene.key).write(&out)).unwrap();
    let report =
        verify(&out, VerifyOptions::default().with_exporter_keys([scene.key.verifying_key()]))
            .unwrap();
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.basis, report.covered), (Basis::ChainOnly, 0));
    assert!(report.explanation().contains("rests on the exporter's word"));
    // Who relies on the log's key gets no verdict from it.
    assert_verdict(&scene.verify(&out), ExportVerdict::Unsure);
}

#[test]
fn a_format_that_is_not_built_in_is_refused() {
    if cfg!(feature = "parquet") {
        return;
    }
    let scene = Scene::new();
    let out = scene.out();
    let error = scene
        .try_export(&out, &scene.checkpoints(), |exporter| exporter.with_format(Format::Parquet))
        .unwrap_err();
    assert!(error.to_string().contains("feature `parquet`"), "{error}");
    assert!(!out.exists());
}
