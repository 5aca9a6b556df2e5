//! Exports as Parquet.

use std::fs;

use agent_audit_core::verify::FindingKind;

use super::scene::{Scene, among, assert_verdict, faults, resign};
use crate::export::{ExportVerdict, Exporter, Format};

fn parquet(exporter: Exporter<'_>) -> Exporter<'_> {
    exporter.with_content().with_format(Format::Parquet)
}

#[test]
fn events_are_rows_and_proved_like_lines() {
    let scene = Scene::new();
    let (out, exported) = scene.export(parquet);
    assert!(exported.manifest.files.iter().any(|file| file.name == "events-000001.parquet"));
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.events, report.covered), (47, 43));
    let (out, _) = scene.export(|exporter| exporter.with_format(Format::Parquet));
    assert_verdict(&scene.verify(&out), ExportVerdict::Intact);
}

#[test]
fn files_are_bounded_and_a_missing_one_is_named() {
    let scene = Scene::new();
    let (out, exported) = scene.export(|exporter| parquet(exporter).with_file_bytes(30_000));
    let files = exported.manifest.files.iter().filter(|file| file.events.is_some()).count();
    assert!(files > 1, "{files} files");
    assert_verdict(&scene.verify(&out), ExportVerdict::Intact);
    fs::remove_file(out.join("events-000002.parquet")).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Missing, &["the file is missing", "events-000002.parquet"]);
    among(&report, FindingKind::Missing, &["the proofs speak of them"]);
}

#[test]
fn a_row_that_was_changed_is_named() {
    let scene = Scene::new();
    // The rows of another chain of the same length, under proofs of this one.
    let (out, _) = scene.export(parquet);
    let mut forged = Scene::new();
    forged.chains[0] = scene.chains[0].rewritten(20, |event| {
        event.session_id = "another".parse().unwrap();
    });
    forged.chains[1] = scene.chains[1].clone();
    let (other, _) = forged.export(parquet);
    let name = "events-000001.parquet";
    fs::copy(other.join(name), out.join(name)).unwrap();
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["acme/chain-a: records 0 to 35 were rewritten"]);
}

#[test]
fn a_file_that_was_cut_or_is_no_parquet_is_named() {
    let scene = Scene::new();
    let (out, _) = scene.export(parquet);
    let path = out.join("events-000001.parquet");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Truncated, &["the file was cut", "events-000001.parquet"]);
    among(&report, FindingKind::Missing, &["acme/chain-a: records 0 to 35 are missing"]);
    fs::write(&path, vec![7; bytes.len()]).unwrap();
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["cannot be read", "events-000001.parquet row 0"]);
    assert!(faults(&report).len() >= 2);
}
