//! Who signed: the exporter, the log, somebody else.

use agent_audit_core::{
    key::SigningKey,
    verify::{Basis, FindingKind},
};

use super::scene::{Scene, among, assert_verdict, only, resign};
use crate::export::{ExportVerdict, VerifyOptions, verify};

#[test]
fn a_signature_of_another_key_is_not_believed() {
    let scene = Scene::new();
    let out = scene.whole();
    resign(&out, &SigningKey::from_seed(&[9; 32]), |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    only(
        &report,
        FindingKind::UnknownKey,
        &["not signed by a key that you trust", "manifest.note"],
    );
    assert_eq!((report.signer, report.signer_is_trusted), (None, false));
    // Who trusts no key is told what that is worth.
    let report = verify(&out, VerifyOptions::default()).unwrap();
    assert_verdict(&report, ExportVerdict::Intact);
    assert!(!report.signer_is_trusted);
    assert_eq!(report.basis, Basis::OwnKey);
    assert!(report.explanation().contains("give the exporter's key"));
    assert!(report.explanation().contains("give the key of the log"));
}

#[test]
fn a_manifest_that_names_another_key_than_the_one_that_signed_is_a_lie() {
    let scene = Scene::new();
    let out = scene.whole();
    let other = SigningKey::from_seed(&[9; 32]).verifying_key();
    resign(&out, &scene.key, |manifest| manifest.exporter.public_key = other);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::BadSignature, &["names another key"]);
}

#[test]
fn checkpoints_of_another_log_are_not_believed() {
    let mut scene = Scene::new();
    scene.log_key = SigningKey::from_seed(&[7; 32]);
    let out = scene.whole();
    scene.log_key = SigningKey::from_seed(&[1; 32]);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    among(&report, FindingKind::UnknownKey, &["acme/chain-a", "checkpoint of size 36", "line 1"]);
    among(&report, FindingKind::NotVouched, &["acme/chain-b"]);
    assert_eq!(report.covered, 0);
}

#[test]
fn the_key_of_the_log_is_no_key_of_an_exporter() {
    let scene = Scene::new();
    let out = scene.whole();
    resign(&out, &scene.log_key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    only(&report, FindingKind::UnknownKey, &["manifest.note"]);
}
