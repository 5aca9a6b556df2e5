//! The policies of this crate, `policies/writer.json` and `policies/reader.json`, as a server with
//! policies enforces them.

use agent_audit_core::{
    conformance::TestChain,
    sink::{SegmentOutcome, Sink},
    verify::Verdict,
};
use agent_audit_s3::{ArchiveFindingKind, ArchiveOptions, S3Archive, S3Sink};
use aws_sdk_s3::primitives::ByteStream;

use super::{
    append,
    place::{Place, User, client},
    records, store, tenant,
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_writer_writes_and_can_neither_read_events_nor_delete() {
    let place = Place::new().await;
    let open = async || S3Sink::open(place.config_of(User::Writer)).await.unwrap();
    let mut chain = TestChain::new();
    let first = chain.extend(5);
    store(&open().await, &first).await;
    store(&open().await, &chain.extend(5)).await;
    store(&open().await, &first).await;
    let head = open().await.head(chain.chain()).await.unwrap().unwrap();
    assert_eq!((head.sequence, head.event_hash), (9, chain.segment(9..=9).hashes()[0]));
    let outcomes = append(&open().await, &[&chain.fork(7).extend(4)]).await;
    // Where exactly it forked stands in an object that the writer may not read.
    assert!(matches!(outcomes[..], [SegmentOutcome::Conflict { sequence: 9 }]), "{outcomes:?}");

    let writer = client(&place.url, User::Writer.keys());
    let event = place.keys(".zst").await.remove(0);
    let manifest = place.keys(".manifest").await.remove(0);
    assert!(writer.get_object().bucket(&place.bucket).key(&event).send().await.is_err());
    assert!(writer.get_object().bucket(&place.bucket).key(&manifest).send().await.is_ok());
    for key in [&event, &manifest] {
        assert!(writer.delete_object().bucket(&place.bucket).key(key).send().await.is_err());
    }
    assert_eq!(records(&place.archive().await, chain.chain(), 0).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_reader_verifies_and_can_neither_write_nor_delete() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(9)).await;
    let archive = S3Archive::open(place.config_of(User::Reader)).await.unwrap();
    assert_eq!(archive.tenants().await.unwrap(), [tenant("acme")]);
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);

    let reader = client(&place.url, User::Reader.keys());
    for key in place.keys("").await {
        let body = ByteStream::from_static(b"x");
        assert!(
            reader.put_object().bucket(&place.bucket).key(&key).body(body).send().await.is_err()
        );
        assert!(reader.delete_object().bucket(&place.bucket).key(&key).send().await.is_err());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_writer_that_may_not_read_goes_on_behind_an_object_without_a_manifest() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    let sink = S3Sink::open(place.config_of(User::Writer)).await.unwrap();
    store(&sink, &chain.extend(3)).await;
    let segment = chain.extend(4);
    // As a writer leaves it that is killed between the object and the manifest.
    let other = Place::new().await;
    let helper = other.sink().await;
    store(&helper, &chain.segment(0..=2)).await;
    store(&helper, &segment).await;
    let key = other.keys("-00000000000000000006.ndjson.zst").await.remove(0);
    place.write(&key, other.read(&key).await).await;

    let sink = S3Sink::open(place.config_of(User::Writer)).await.unwrap();
    store(&sink, &segment).await;
    let archive = place.archive().await;
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
    let kinds: Vec<_> = report.findings.iter().map(|finding| finding.kind).collect();
    assert_eq!(kinds, [ArchiveFindingKind::WrittenTwice], "{:?}", report.findings);
}

#[test]
fn the_documentation_shows_the_policies_that_are_tested() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sinks/s3.md");
    let documentation = std::fs::read_to_string(root).unwrap();
    for policy in
        [include_str!("../../policies/writer.json"), include_str!("../../policies/reader.json")]
    {
        assert!(documentation.contains(policy.trim()));
    }
}
