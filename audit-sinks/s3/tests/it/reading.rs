//! What a reader finds in an archive that is sound.

use agent_audit_core::{
    conformance::TestChain,
    sink::{Sink, SinkErrorKind},
    verify::{Basis, Verdict, directory::RecordStore},
};
use agent_audit_s3::{ArchiveOptions, CreateOnce, S3Archive, S3Sink, S3Store};

use super::{
    place::{Place, key},
    records, store, tenant,
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_sound_archive_is_intact_and_complete() {
    let place = Place::new().await;
    let sink = place.sink().await;
    let mut chains = [TestChain::of(tenant("acme")), TestChain::of(tenant("acme"))];
    let mut stranger = TestChain::of(tenant("globex"));
    for events in [3, 9, 1] {
        for chain in &mut chains {
            store(&sink, &chain.extend(events)).await;
        }
        store(&sink, &stranger.extend(events)).await;
    }
    let archive = place.archive().await;
    assert_eq!(archive.tenants().await.unwrap(), [tenant("acme"), tenant("globex")]);
    assert_eq!(archive.chains(&tenant("acme")).await.unwrap().len(), 2);
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
    assert_eq!((report.findings.len(), report.objects), (0, 6));
    for chain in &report.chains {
        assert_eq!((chain.events, chain.covered, chain.basis), (13, 13, Basis::OwnCheckpoint));
    }
    for chain in &chains {
        for from in [0, 2, 3, 12, 13] {
            let expected = &chain.records()[usize::try_from(from).unwrap()..];
            assert_eq!(records(&archive, chain.chain(), from).await, expected);
        }
        let objects = archive.objects(chain.chain()).await.unwrap();
        let ranges: Vec<_> = objects.iter().map(|object| (object.first, object.last)).collect();
        assert_eq!(ranges, [(0, 2), (3, 11), (12, 12)]);
        assert!(objects.iter().all(|object| object.version.is_some()), "versions are pinned");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_archive_of_many_objects_is_read_page_by_page() {
    let place = Place::plain().await;
    let sink = place.sink().await;
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..1_100 {
        store(&sink, &chain.extend(1)).await;
    }
    let archive = place.archive().await;
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let head = place.sink().await.head(chain.chain()).await.unwrap().unwrap();
    assert_eq!(head.sequence, 1_099);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn the_verifier_of_a_log_reads_the_archive() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(20)).await;
    store(&place.sink().await, &chain.extend(5)).await;
    let archive = S3Store::new(place.config());
    // Within a runtime and without one.
    let read = |from| {
        let mut found = Vec::new();
        let each = &mut |record: agent_audit_core::verify::directory::StoredRecord<'_>| {
            found.push(record.bytes.to_vec());
        };
        archive.read(chain.chain(), from, each).unwrap();
        found
    };
    assert_eq!(archive.chains().unwrap(), [chain.chain().clone()]);
    let expected: Vec<_> = chain.records().iter().map(|record| record.to_bytes()).collect();
    assert_eq!(read(0), expected);
    assert_eq!(read(21), expected[21..]);
    std::thread::scope(|scope| assert_eq!(scope.spawn(|| read(0)).join().unwrap(), expected));
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_reader_without_the_key_does_not_vouch() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(4)).await;
    let mut config = place.config();
    config.manifest_key = None;
    let archive = S3Archive::open(config.clone()).await.unwrap();
    let error = archive.records(chain.chain(), 0).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{error}");
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Unsure);
    let trusting = config.with_trusted_key(key().verifying_key());
    let archive = S3Archive::open(trusting).await.unwrap();
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn unsigned_manifests_are_believed_by_who_says_so() {
    let place = Place::new().await;
    let mut config =
        place.config().with_unsigned_manifests().with_create_once(CreateOnce::Versions);
    config.manifest_key = None;
    let mut chain = TestChain::of(tenant("acme"));
    let sink = S3Sink::open(config.clone()).await.unwrap();
    store(&sink, &chain.extend(4)).await;
    store(&S3Sink::open(config.clone()).await.unwrap(), &chain.extend(4)).await;
    let archive = S3Archive::open(config).await.unwrap();
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Intact);
    assert_eq!(report.chains[0].basis, Basis::ChainOnly);
    // Who has a key demands its signature.
    let report = place.archive().await.verify(&tenant("acme"), &ArchiveOptions::default()).await;
    assert_eq!(report.unwrap().verdict(), Verdict::Unsure);
}

#[cfg(feature = "parquet")]
#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_chain_may_change_its_form() {
    use agent_audit_s3::ObjectFormat;
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    for format in [ObjectFormat::NdjsonZstd, ObjectFormat::Parquet, ObjectFormat::NdjsonZstd] {
        let sink = S3Sink::open(place.config().with_format(format)).await.unwrap();
        store(&sink, &chain.extend(10)).await;
    }
    let archive = place.archive().await;
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
    let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
    assert_eq!((report.verdict(), report.findings.len()), (Verdict::Intact, 0));
}
