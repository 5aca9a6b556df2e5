//! Attacks on the files of an export, by somebody without a key.

use std::fs;

use agent_audit_core::verify::FindingKind;

use super::scene::{Scene, among, assert_verdict, edit, faults, only};
use crate::export::{ExportCompleteness, ExportVerdict, VerifyOptions, is_export, verify};

#[test]
fn a_missing_file_is_named_with_the_records_that_were_in_it() {
    let scene = Scene::new();
    let out = scene.in_files();
    fs::remove_file(out.join("events-000002.ndjson")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    assert_eq!(report.completeness, ExportCompleteness::Broken);
    among(&report, FindingKind::Missing, &["the file is missing", "events-000002.ndjson"]);
    among(&report, FindingKind::Missing, &["acme/chain-a: records ", "are missing: the proofs"]);
    assert_eq!(faults(&report).len(), 2);
}

#[test]
fn a_file_that_was_put_in_is_named() {
    let scene = Scene::new();
    let out = scene.whole();
    fs::copy(out.join("events-000001.ndjson"), out.join("events-000002.ndjson")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::Foreign, &["was put in", "events-000002.ndjson"]);
}

#[test]
fn a_file_that_was_cut_is_named_with_the_records_that_went() {
    let scene = Scene::new();
    let out = scene.whole();
    let path = out.join("events-000001.ndjson");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Truncated, &["the file was cut", "events-000001.ndjson"]);
    among(&report, FindingKind::Truncated, &["does not end", "line 47"]);
    among(&report, FindingKind::Missing, &["acme/chain-b: record 6 is missing"]);
    // Cut between two lines.
    let end = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    fs::write(&path, &bytes[..=end]).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    assert_eq!(faults(&report).len(), 2);
}

#[test]
fn a_file_that_was_renamed_is_named_and_read() {
    let scene = Scene::new();
    let out = scene.in_files();
    fs::rename(out.join("events-000002.ndjson"), out.join("events-2.ndjson")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    let names = ["was renamed", "events-2.ndjson", "[in events-000002.ndjson]"];
    only(&report, FindingKind::Tampered, &names);
    assert_eq!(report.events, 47);
}

#[test]
fn files_that_changed_their_names_are_named() {
    let scene = Scene::new();
    let out = scene.in_files();
    let [one, two, other] =
        ["events-000001.ndjson", "events-000002.ndjson", "x"].map(|name| out.join(name));
    fs::rename(&one, &other).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&other, &two).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["was renamed", "[in events-000001.ndjson]"]);
    among(&report, FindingKind::Tampered, &["was renamed", "[in events-000002.ndjson]"]);
    assert_eq!(faults(&report).len(), 2);
}

#[test]
fn a_link_is_no_file_of_an_export() {
    let scene = Scene::new();
    let out = scene.whole();
    let path = out.join("events-000001.ndjson");
    fs::rename(&path, scene.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(scene.path("elsewhere"), &path).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Missing, &["the file is missing", "events-000001.ndjson"]);
}

#[test]
fn every_file_is_under_the_signature() {
    let scene = Scene::new();
    for name in ["events-000001.ndjson", "proofs.ndjson", "checkpoints.ndjson", "manifest.json"] {
        let out = scene.whole();
        edit(&out.join(name), |text| text.replacen("chain-a", "chain-b", 1));
        let report = scene.verify(&out);
        assert_verdict(&report, ExportVerdict::Tampered);
        among(&report, FindingKind::Tampered, &[name]);
    }
    let out = scene.whole();
    edit(&out.join("manifest.json"), |text| text.replacen("\"shelf\"", "\"other\"", 1));
    only(&scene.verify(&out), FindingKind::BadSignature, &["not the one that was signed"]);
    let out = scene.whole();
    edit(&out.join("manifest.note"), |text| text.replacen("sha256", "sha255", 1));
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::BadSignature, &["manifest.json"]);
}

#[test]
fn a_proof_and_a_checkpoint_that_are_missing_are_named() {
    let scene = Scene::new();
    let out = scene.whole();
    fs::remove_file(out.join("checkpoints.ndjson")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Missing, &["acme/chain-a: the checkpoint", "checkpoints.ndjson"]);
    assert_eq!(report.covered, 0, "nothing is covered without a checkpoint");

    let out = scene.whole();
    edit(&out.join("proofs.ndjson"), |text| {
        text.lines().skip(1).map(|l| format!("{l}\n")).collect()
    });
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["acme/chain-a: record 0", "no proof", "line 1"]);
    among(&report, FindingKind::Missing, &["acme/chain-a: records 0 to 35", "left out"]);
}

#[test]
fn what_is_left_of_an_export_that_was_killed_is_never_taken_for_one() {
    let scene = Scene::new();
    let out = scene.whole();
    fs::remove_file(out.join("manifest.note")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    only(&report, FindingKind::Missing, &["never finished", "manifest.note"]);

    fs::rename(out.join("manifest.json"), out.join("manifest.json.partial")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Missing, &["never finished", "manifest.json"]);

    fs::remove_file(out.join("manifest.json.partial")).unwrap();
    fs::rename(out.join("events-000001.ndjson"), out.join("events-000001.ndjson.partial")).unwrap();
    assert!(is_export(&out));
    assert_verdict(&scene.verify(&out), ExportVerdict::Incomplete);

    fs::remove_file(out.join("events-000001.ndjson.partial")).unwrap();
    assert!(!is_export(&out), "only proofs and checkpoints");
    let error = verify(&out, VerifyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("is no export"), "{error}");
}

#[test]
fn a_format_of_later_is_not_judged() {
    let scene = Scene::new();
    let out = scene.whole();
    edit(&out.join("manifest.json"), |text| text.replacen("\"format\":1", "\"format\":2", 1));
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    among(&report, FindingKind::UnknownSchema, &["format 2", "manifest.json"]);
}
