//! What a manifest says of itself, held against what is there.

use agent_audit_core::verify::FindingKind;

use super::scene::{Scene, among, assert_verdict, completed, only, resign};
use crate::{
    Filter,
    export::{Claim, ExportCompleteness, ExportVerdict, Manifest},
};

#[test]
fn a_manifest_that_does_not_count_what_is_there_is_named() {
    let scene = Scene::new();
    type Change = (&'static str, fn(&mut Manifest));
    let changes: [Change; 6] = [
        ("does not count", |manifest| manifest.counts.parts += 1),
        ("does not count", |manifest| manifest.counts.evidence += 1),
        ("acme/chain-a", |manifest| manifest.chains[0].runs += 1),
        ("acme/chain-b", |manifest| manifest.chains[1].first = Some(1)),
        ("not sorted", |manifest| manifest.chains.reverse()),
        ("not `chain`", |manifest| manifest.order = "time".to_owned()),
    ];
    for (names, change) in changes {
        let out = scene.whole();
        resign(&out, &scene.key, change);
        let report = scene.verify(&out);
        assert_verdict(&report, ExportVerdict::Tampered);
        among(&report, FindingKind::Tampered, &[names, "manifest.json"]);
    }
}

#[test]
fn an_export_cannot_claim_more_than_its_question_allows() {
    let scene = Scene::new();
    let (out, _) = scene.export(|exporter| exporter.with_filter(completed()));
    resign(&out, &scene.key, |manifest| manifest.completeness = Claim::Positions);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::Tampered, &["claims a completeness", "manifest.json"]);
}

#[test]
fn a_chain_that_is_claimed_whole_and_has_nothing_in_the_export_is_named() {
    let scene = Scene::new();
    let out = scene.whole();
    let mut all = super::scene::lines(&out);
    all.truncate(40);
    super::scene::write_lines(&out, &all);
    super::scene::edit(&out.join("proofs.ndjson"), |text| {
        text.lines().take(2).map(|line| format!("{line}\n")).collect()
    });
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    only(&report, FindingKind::Missing, &["acme/chain-b: records 0 to 6 are left out"]);
}

#[test]
fn a_chain_that_was_asked_for_and_is_not_there_is_not_passed_over() {
    let scene = Scene::new();
    let filter = Filter::new().chain("chain-b".parse().unwrap()).chain("chain-x".parse().unwrap());
    let (out, _) = scene.export(|exporter| exporter.with_filter(filter));
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    only(&report, FindingKind::ChainMissing, &["acme/chain-x", "has no event of it"]);
}

#[test]
fn a_chain_that_other_checkpoints_name_is_not_passed_over() {
    let scene = Scene::new();
    let log = scene.path("log");
    std::fs::create_dir(&log).unwrap();
    let chains = [&scene.chains[0], &scene.chains[1], &super::scene::Chain::new("acme", "chain-c")];
    let lines = chains.into_iter().zip([36, 7, 1]).map(|(chain, size)| {
        let note = serde_json::to_string(&chain.checkpoint(size, &scene.log_key)).unwrap();
        let id = &chain.chain.chain_id;
        format!("{{\"chain_id\":\"{id}\",\"note\":{note},\"tenant_id\":\"acme\"}}\n")
    });
    std::fs::write(log.join("000001.ndjson"), lines.collect::<String>()).unwrap();
    let options = crate::export::VerifyOptions::default()
        .with_log_keys([scene.log_key.verifying_key()])
        .with_checkpoints(log);
    let report = crate::export::verify(&scene.whole(), options).unwrap();
    assert_verdict(&report, ExportVerdict::Unsure);
    only(&report, FindingKind::ChainMissing, &["acme/chain-c", "began later, or was left out"]);
    assert_eq!(report.completeness, ExportCompleteness::Proven, "of the chains that are there");
}
