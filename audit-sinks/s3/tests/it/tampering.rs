//! Whatever is done to an archive, its reader names it.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    key::SigningKey,
    sink::{Sink, SinkErrorKind},
    verify::{FindingKind, Severity, Verdict, directory::RecordStore},
};
use agent_audit_s3::{
    ArchiveFindingKind as Kind, ArchiveOptions, ArchiveReport, Lock, S3Archive, S3Sink, S3Store,
};

use super::{failure, place::Place, records, store, tenant};

/// A chain of three objects of four events, in a bucket that lets its owner do everything.
async fn archived(place: &Place) -> TestChain {
    let sink = place.sink().await;
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..3 {
        store(&sink, &chain.extend(4)).await;
    }
    chain
}

async fn verify(place: &Place) -> ArchiveReport {
    let archive = place.archive().await;
    archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap()
}

fn kinds(report: &ArchiveReport) -> Vec<Kind> {
    report.findings.iter().map(|finding| finding.kind).collect()
}

fn chain_kinds(report: &ArchiveReport) -> Vec<FindingKind> {
    let findings = report.chains.iter().flat_map(|chain| &chain.findings);
    let serious = findings.filter(|f| matches!(f.severity, Severity::Tampering | Severity::Unsure));
    serious.map(|finding| finding.kind).collect()
}

/// Event objects, and manifests, oldest first.
async fn objects(place: &Place) -> (Vec<String>, Vec<String>) {
    let mut manifests = place.keys(".manifest").await;
    manifests.reverse();
    (place.keys(".zst").await, manifests)
}

async fn first_error(archive: &S3Archive, chain: &TestChain) -> SinkErrorKind {
    let mut records = archive.records(chain.chain(), 0);
    loop {
        match records.next().await.expect("the reader must not end without an error") {
            Ok(_) => {}
            Err(error) => return error.kind(),
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_missing_object_is_named() {
    let place = Place::plain().await;
    let chain = archived(&place).await;
    let (events, _) = objects(&place).await;
    place.delete(&events[1]).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(kinds(&report), [Kind::ObjectMissing]);
    assert_eq!(report.findings[0].key, events[1]);
    assert!(report.findings[0].to_string().contains("events 4 to 7"), "{}", report.findings[0]);
    assert_eq!(chain_kinds(&report), [FindingKind::Missing]);
    assert_eq!(first_error(&place.archive().await, &chain).await, SinkErrorKind::Corrupt);
    // The verifier of a log reads on, and is told at the end.
    let mut seen = 0;
    let error = S3Store::new(place.config()).read(chain.chain(), 0, &mut |_| seen += 1);
    assert_eq!(seen, 8);
    assert!(error.unwrap_err().to_string().contains("is gone"));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_swapped_object_is_named() {
    let place = Place::plain().await;
    let chain = archived(&place).await;
    let (events, _) = objects(&place).await;
    place.write(&events[1], place.read(&events[0]).await).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(kinds(&report), [Kind::ObjectChanged]);
    assert_eq!(report.findings[0].key, events[1]);
    assert_eq!(first_error(&place.archive().await, &chain).await, SinkErrorKind::Corrupt);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_changed_object_is_named_with_its_record() {
    let place = Place::plain().await;
    archived(&place).await;
    let (events, _) = objects(&place).await;
    // Everything that is not signed is made to fit: the forger writes a whole new object.
    let forger = Place::plain().await;
    let mut forged =
        TestChain::at(place.archive().await.chains(&tenant("acme")).await.unwrap().remove(0));
    store(&forger.sink().await, &forged.extend(4)).await;
    let body = forger.read(&objects(&forger).await.0[0]).await;
    place.write(&events[0], body).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(kinds(&report), [Kind::ObjectChanged]);
    assert!(chain_kinds(&report).contains(&FindingKind::Tampered), "{:?}", chain_kinds(&report));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_edited_manifest_is_named() {
    for (from, to) in [("bytes ", "bytes 1"), ("version -", "version x"), ("\nhead ", "\nhaed ")] {
        let place = Place::plain().await;
        let chain = archived(&place).await;
        let (_, manifests) = objects(&place).await;
        let text = String::from_utf8(place.read(&manifests[2]).await).unwrap();
        assert!(text.contains(from));
        place.write(&manifests[2], text.replacen(from, to, 1).into_bytes()).await;
        let report = verify(&place).await;
        assert_eq!(report.verdict(), Verdict::Tampered);
        assert!(kinds(&report).contains(&Kind::ManifestChanged), "{from}: {:?}", report.findings);
        assert_eq!(first_error(&place.archive().await, &chain).await, SinkErrorKind::Corrupt);
        // A writer does not build on it.
        let mut chain = chain;
        let error = failure(&place.sink().await, &chain.extend(1)).await;
        assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{error}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_manifest_of_another_tenant_or_key_is_named() {
    let place = Place::plain().await;
    let chain = archived(&place).await;
    let (_, manifests) = objects(&place).await;
    // Somebody writes the last object and manifest anew, with a key of their own.
    let forger = Place::plain().await;
    let config = forger.config().with_manifest_key(&SigningKey::from_seed(&[9; 32]));
    let sink = S3Sink::open(config).await.unwrap();
    for at in 0..3 {
        store(&sink, &chain.segment(at * 4..=at * 4 + 3)).await;
    }
    place.write(&manifests[2], forger.read(&manifests[2]).await).await;
    let report = verify(&place).await;
    assert_eq!(kinds(&report), [Kind::NotVouched, Kind::ManifestChanged], "{:?}", report.findings);

    // A whole folder is copied to another tenant.
    let place = Place::plain().await;
    archived(&place).await;
    for key in place.keys("").await {
        place.write(&key.replacen("audit/acme/", "audit/globex/", 1), place.read(&key).await).await;
    }
    let archive = place.archive().await;
    let report = archive.verify(&tenant("globex"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert!(kinds(&report).contains(&Kind::ManifestChanged), "{:?}", report.findings);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_missing_manifest_is_named() {
    let place = Place::plain().await;
    archived(&place).await;
    let (events, manifests) = objects(&place).await;
    place.delete(&manifests[1]).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(kinds(&report), [Kind::ManifestMissing, Kind::Unlisted], "{:?}", report.findings);
    assert_eq!(report.findings[1].key, events[1]);
    assert_eq!(chain_kinds(&report), [FindingKind::Missing]);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_cut_archive_is_shown_by_a_checkpoint_kept_apart_alone() {
    let place = Place::plain().await;
    let chain = archived(&place).await;
    let last = place.archive().await.objects(chain.chain()).await.unwrap().remove(2);
    let (events, manifests) = objects(&place).await;
    // The manifest alone: the object that is left behind makes the reader ask.
    place.delete(&manifests[2]).await;
    let report = verify(&place).await;
    assert_eq!((report.verdict(), kinds(&report)), (Verdict::Unsure, vec![Kind::Pending]));
    // Both: the archive alone cannot tell.
    place.delete(&events[2]).await;
    assert_eq!(verify(&place).await.verdict(), Verdict::Intact);
    let options =
        ArchiveOptions::default().with_checkpoint(chain.chain().clone(), last.manifest.clone());
    let archive = place.archive().await;
    let report = archive.verify(&tenant("acme"), &options).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert!(chain_kinds(&report).contains(&FindingKind::Truncated), "{:?}", chain_kinds(&report));
    // The whole chain.
    for key in place.keys("").await {
        place.delete(&key).await;
    }
    let report = archive.verify(&tenant("acme"), &options).await.unwrap();
    assert_ne!(report.verdict(), Verdict::Intact, "{:?}", report.chains);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_overwrite_attempt_is_found_out_and_comes_to_nothing() {
    let place = Place::new().await;
    let chain = archived(&place).await;
    let (events, manifests) = objects(&place).await;
    place.write(&events[1], b"other events".to_vec()).await;
    place.write(&manifests[2], b"another manifest".to_vec()).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    let found: Vec<_> =
        report.findings.iter().map(|finding| (finding.kind, finding.key.as_str())).collect();
    let expected =
        [(Kind::Overwritten, manifests[2].as_str()), (Kind::Overwritten, events[1].as_str())];
    assert_eq!(found, expected, "{:?}", report.findings);
    assert_eq!(chain_kinds(&report), []);
    // What was written first is what is read, and what a writer builds on.
    let archive = place.archive().await;
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let head = place.sink().await.head(chain.chain()).await.unwrap().unwrap();
    assert_eq!(head.sequence, 11);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_deletion_without_a_version_hides_nothing() {
    let place = Place::new().await;
    let mut chain = archived(&place).await;
    let (events, manifests) = objects(&place).await;
    place.delete(&events[2]).await;
    place.delete(&manifests[2]).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Tampered);
    assert_eq!(kinds(&report), [Kind::Hidden, Kind::Hidden], "{:?}", report.findings);
    assert_eq!(records(&place.archive().await, chain.chain(), 0).await, chain.records());
    store(&place.sink().await, &chain.extend(2)).await;
    assert_eq!(records(&place.archive().await, chain.chain(), 0).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_object_without_the_lock_that_is_demanded_is_named() {
    let place = Place::new().await;
    archived(&place).await;
    let demand = async |lock| {
        let archive = S3Archive::open(place.config().with_lock(lock)).await.unwrap();
        archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap()
    };
    let report = demand(Lock::compliance(Duration::from_secs(3_600))).await;
    assert_eq!(report.verdict(), Verdict::Unsure);
    assert_eq!(kinds(&report), [Kind::Unlocked; 6], "objects and manifests");
    let report = demand(Lock::governance(Duration::from_secs(7_200))).await;
    assert_eq!(kinds(&report), [Kind::Unlocked; 6], "the retention is too short");
    let report = demand(Lock::governance(Duration::from_secs(3_600))).await;
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
    let archive = S3Archive::open(place.config().with_legal_hold()).await.unwrap();
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(kinds(&report), [Kind::Unlocked; 6], "no legal hold");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn what_does_not_belong_there_is_named() {
    let place = Place::new().await;
    archived(&place).await;
    place.write("audit/acme/readme.txt", b"hello".to_vec()).await;
    let (_, manifests) = objects(&place).await;
    let folder = manifests[0].rsplit_once('/').unwrap().0.to_owned();
    place.write(&format!("{folder}/notes.txt"), b"hello".to_vec()).await;
    let report = verify(&place).await;
    assert_eq!(report.verdict(), Verdict::Intact, "the records are whole");
    assert_eq!(kinds(&report), [Kind::Foreign, Kind::Foreign], "{:?}", report.findings);
}
