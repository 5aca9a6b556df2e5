//! How chains grow.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent_audit_core::{
    chain::ChainRef,
    conformance::TestChain,
    content::Part,
    hash::Hash,
    key::SigningKey,
    record::Record,
    sink::{Segment, SegmentOutcome, Sink, SinkErrorKind},
};
use agent_audit_s3::{ArchiveOptions, CreateOnce, S3Config, S3Sink};
use agent_audit_test_support::service::{Answer, Response, Service};

use super::{
    append, failure,
    place::{Place, key},
    records, store, tenant,
};

fn upstream(place: &Place) -> SocketAddr {
    place.url.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A server that refuses the writes that `refuse` says.
fn refusing(place: &Place, refuse: impl Fn(&str) -> bool + Send + Sync + 'static) -> Service {
    let server = upstream(place);
    Service::start(move |request| {
        if request.method == "PUT" && refuse(&request.target) {
            return Answer::Send(Response { status: 503, headers: Vec::new(), body: Vec::new() });
        }
        Answer::Send(request.forward(server))
    })
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_object_without_a_manifest_is_finished_by_the_next_writer() {
    for next_cut in [3, 6, 9] {
        let place = Place::new().await;
        let mut chain = TestChain::of(tenant("acme"));
        store(&place.sink().await, &chain.extend(2)).await;
        let service = refusing(&place, |target| target.contains("/chains/"));
        let dying = S3Sink::open(place.config().with_endpoint(service.url())).await.unwrap();
        chain.extend(8);
        let error = failure(&dying, &chain.segment(2..=6)).await;
        assert!(error.is_retryable(), "{error}");
        assert_eq!(records(&place.archive().await, chain.chain(), 0).await.len(), 2);
        let head = place.sink().await.head(chain.chain()).await.unwrap().unwrap();
        assert_eq!(head.sequence, 1, "what has no manifest does not count");

        store(&place.sink().await, &chain.segment(2..=next_cut)).await;
        store(&place.sink().await, &chain.segment(0..=9)).await;
        let archive = place.archive().await;
        assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
        let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
        assert_eq!(report.findings, [], "the object was taken over, not written again");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn two_writers_that_cut_differently_store_each_event_once() {
    for create_once in [CreateOnce::Conditional, CreateOnce::Versions] {
        let place = Place::new().await;
        let mut chain = TestChain::of(tenant("acme"));
        chain.extend(60);
        let mut tasks = Vec::new();
        for cut in [1u64, 2, 3, 5, 7, 60] {
            let config = place.config().with_create_once(create_once);
            let chain = chain.clone();
            tasks.push(tokio::spawn(async move {
                let sink = S3Sink::open(config).await.unwrap();
                let mut first = 0;
                let mut tries = 0;
                while first < 60 {
                    let last = (first + cut - 1).min(59);
                    match append(&sink, &[&chain.segment(first..=last)]).await.remove(0) {
                        SegmentOutcome::Accepted => first = last + 1,
                        SegmentOutcome::Failed { error } => {
                            assert!(error.is_retryable(), "{error}")
                        }
                        other => panic!("{other:?}"),
                    }
                    tries += 1;
                    assert!(tries < 500, "two writers must not stop each other for ever");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let archive = place.archive().await;
        assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
        let report = archive.verify(&tenant("acme"), &ArchiveOptions::default()).await.unwrap();
        assert_eq!(report.verdict().exit_code(), 0, "{:?}", report.findings);
        let objects = archive.objects(chain.chain()).await.unwrap();
        let mut next = 0;
        for object in objects {
            assert_eq!(object.first, next);
            next = object.last + 1;
        }
        assert_eq!(next, 60);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn two_forks_at_once_leave_the_first() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(3)).await;
    let forks: Vec<TestChain> = (1..=4)
        .map(|events| {
            let mut fork = chain.fork(3);
            fork.extend(events);
            fork
        })
        .collect();
    let tasks: Vec<_> = forks
        .iter()
        .map(|fork| {
            let (config, segment) =
                (place.config(), fork.segment(3..=fork.records().len() as u64 - 1));
            tokio::spawn(async move {
                let sink = S3Sink::open(config).await.unwrap();
                append(&sink, &[&segment]).await.remove(0)
            })
        })
        .collect();
    let mut accepted = Vec::new();
    for (task, fork) in tasks.into_iter().zip(&forks) {
        match task.await.unwrap() {
            SegmentOutcome::Accepted => accepted.push(fork),
            SegmentOutcome::Conflict { sequence: 3 } => {}
            // It began on the tip before, and is told at its next try.
            SegmentOutcome::Failed { error } => {
                assert_eq!(error.kind(), SinkErrorKind::Rejected, "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(accepted.len(), 1);
    assert_eq!(records(&place.archive().await, chain.chain(), 0).await, accepted[0].records());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_long_segment_becomes_several_objects_and_a_fault_leaves_a_prefix() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..6 {
        chain.extend_with(vec![Part::text("output", "x".repeat(1_000)).commit()]);
    }
    let puts = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&puts);
    // Object, manifest, object, manifest, and then nothing.
    let service = refusing(&place, move |_| counter.fetch_add(1, Ordering::Relaxed) >= 4);
    let small = |config: S3Config| config.with_max_object_bytes(2_000);
    let sink = S3Sink::open(small(place.config()).with_endpoint(service.url())).await.unwrap();
    let outcomes = append(&sink, &[&chain.segment(0..=5)]).await;
    assert!(matches!(outcomes[..], [SegmentOutcome::Prefix { through: 3 }]), "{outcomes:?}");
    let archive = place.archive().await;
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records()[..4]);
    store(&S3Sink::open(small(place.config())).await.unwrap(), &chain.segment(0..=5)).await;
    let objects = archive.objects(chain.chain()).await.unwrap();
    let ranges: Vec<_> = objects.iter().map(|object| (object.first, object.last)).collect();
    assert_eq!(ranges, [(0, 1), (2, 3), (4, 5)]);
    assert_eq!(records(&archive, chain.chain(), 3).await, chain.records()[3..]);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_chain_goes_over_many_days() {
    let place = Place::new().await;
    let mut template = TestChain::of(tenant("acme"));
    template.extend(6);
    let days = ["2026-02-28", "2026-02-28", "2026-03-01", "2026-12-31", "2027-01-01", "2031-07-09"];
    let (chain, all) = dated(&template, &days);
    for record in &all {
        // A fresh handle each time: as after a restart years later.
        let segment = Segment::new(chain.clone(), vec![record.clone()]).unwrap();
        store(&place.sink().await, &segment).await;
    }
    assert_eq!(records(&place.archive().await, &chain, 0).await, all);
    let keys = place.keys(".zst").await;
    for day in days {
        let folder =
            format!("audit/acme/{}/{chain_id}-", day.replace('-', "/"), chain_id = chain.chain_id);
        assert!(keys.iter().any(|key| key.starts_with(&folder)), "{folder} in {keys:?}");
    }
    // One object may hold the events of several days, and lies where the first is.
    let place = Place::new().await;
    store(&place.sink().await, &Segment::new(chain.clone(), all.clone()).unwrap()).await;
    assert_eq!(records(&place.archive().await, &chain, 0).await, all);
    let keys = place.keys(".zst").await;
    assert!(keys.len() == 1 && keys[0].starts_with("audit/acme/2026/02/28/"), "{keys:?}");
}

/// The same events on other days.
fn dated(template: &TestChain, days: &[&str]) -> (ChainRef, Vec<Record>) {
    let mut previous = Hash::ZERO;
    let dated = template.records().iter().zip(days).map(|(record, day)| {
        let mut event = record.event().unwrap();
        event.timestamp_utc = format!("{day}T23:59:59.999999999Z").parse().unwrap();
        event.previous_event_hash = previous;
        let record = Record::new(event.canonical_bytes().unwrap(), record.parts().to_vec());
        previous = record.event_hash();
        record
    });
    (template.chain().clone(), dated.collect())
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn tenants_and_chains_of_every_name_are_apart() {
    let place = Place::new().await;
    let sink = place.sink().await;
    let long = "L".repeat(128);
    let names =
        ["acme", "Acme", "acme.", "acme..", "acme-1", "acme_1", "2026", "chains", "0", &long];
    let mut chains = Vec::new();
    for name in names {
        for id in
            ["c", "C", "c-00000000000000000000", "c-00000000000000000000-00000000000000000002"]
        {
            let at = ChainRef::new(tenant(name), id.parse().unwrap());
            chains.push(TestChain::at(at));
        }
    }
    for events in [1, 2] {
        let segments: Vec<Segment> = chains.iter_mut().map(|chain| chain.extend(events)).collect();
        let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
        assert!(outcomes.iter().all(|o| matches!(o, SegmentOutcome::Accepted)), "{outcomes:?}");
    }
    let archive = place.archive().await;
    let found: BTreeSet<_> = archive.tenants().await.unwrap().into_iter().collect();
    assert_eq!(found, names.iter().map(|name| tenant(name)).collect());
    for chain in &chains {
        assert_eq!(records(&archive, chain.chain(), 0).await, chain.records(), "{}", chain.chain());
    }
    for name in names {
        assert_eq!(archive.chains(&tenant(name)).await.unwrap().len(), 4);
        let report = archive.verify(&tenant(name), &ArchiveOptions::default()).await.unwrap();
        assert_eq!(report.verdict().exit_code(), 0, "{name}: {:?}", report.findings);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_writer_with_a_new_key_goes_on_where_it_trusts_the_old_one() {
    let place = Place::new().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(3)).await;
    let new = SigningKey::from_seed(&[8; 32]);
    let config = place.config().with_manifest_key(&new);
    let segment = chain.extend(3);
    let error = failure(&S3Sink::open(config.clone()).await.unwrap(), &segment).await;
    assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("trusted keys"), "{error}");
    let config = config.with_trusted_key(key().verifying_key());
    store(&S3Sink::open(config).await.unwrap(), &segment).await;
    let mut reader = place.config().with_trusted_key(new.verifying_key());
    reader.manifest_key = None;
    reader = reader.with_trusted_key(key().verifying_key());
    let archive = agent_audit_s3::S3Archive::open(reader).await.unwrap();
    assert_eq!(records(&archive, chain.chain(), 0).await, chain.records());
}

#[tokio::test]
async fn a_sink_without_a_key_has_to_say_so() {
    let config =
        S3Config::new("ledger").with_endpoint("http://127.0.0.1:9").with_credentials("a", "b");
    let error = S3Sink::open(config.clone()).await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("with_manifest_key"), "{error}");
    assert!(S3Sink::open(config.with_unsigned_manifests()).await.is_ok());
}
