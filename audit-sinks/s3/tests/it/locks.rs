//! What the bucket refuses: the reason to keep an archive there.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    sink::{Sink, SinkErrorKind},
};
use agent_audit_s3::{Lock, S3Sink};
use aws_sdk_s3::{
    Client,
    error::ProvideErrorMetadata,
    primitives::{ByteStream, DateTime},
    types::{
        ObjectLockLegalHold, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention,
        ObjectLockRetentionMode,
    },
};

use super::{
    failure,
    place::{Place, User, client},
    store,
};

const DAY: u64 = 86_400;

async fn delete(client: &Client, place: &Place, key: &str, version: &str, bypass: bool) -> bool {
    let delete = client.delete_object().bucket(&place.bucket).key(key).version_id(version);
    let done = delete.bypass_governance_retention(bypass).send().await;
    if let Err(error) = &done {
        assert_eq!(error.code(), Some("AccessDenied"), "{error:?}");
    }
    done.is_ok()
}

async fn retain(
    client: &Client,
    place: &Place,
    key: &str,
    version: &str,
    (mode, until): (ObjectLockRetentionMode, i64),
    bypass: bool,
) -> bool {
    let retention =
        ObjectLockRetention::builder().mode(mode).retain_until_date(DateTime::from_secs(until));
    let change = client.put_object_retention().bucket(&place.bucket).key(key).version_id(version);
    let change = change.retention(retention.build()).bypass_governance_retention(bypass);
    change.send().await.is_ok()
}

async fn until(place: &Place, key: &str) -> (Option<ObjectLockMode>, i64) {
    let head = place.client.head_object().bucket(&place.bucket).key(key).send().await.unwrap();
    let until = head.object_lock_retain_until_date().map_or(0, DateTime::secs);
    (head.object_lock_mode().cloned(), until)
}

fn now() -> i64 {
    DateTime::from(std::time::SystemTime::now()).secs()
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_locked_object_cannot_be_deleted_shortened_or_downgraded() {
    let place = Place::new().await;
    let config = place.config().with_lock(Lock::compliance(Duration::from_secs(DAY)));
    let sink = S3Sink::open(config).await.unwrap();
    let before = now();
    store(&sink, &TestChain::new().extend(5)).await;
    let versions = place.versions().await;
    assert_eq!(versions.len(), 2, "an object and its manifest: {versions:?}");
    for (key, version) in &versions {
        let (mode, locked_until) = until(&place, key).await;
        assert_eq!(mode, Some(ObjectLockMode::Compliance));
        let day = i64::try_from(DAY).unwrap();
        assert!((before + day..=now() + day).contains(&locked_until), "{key}");
        // The owner of the bucket, who may do everything that can be permitted.
        let admin = &place.client;
        for bypass in [false, true] {
            assert!(!delete(admin, &place, key, version, bypass).await, "{key}");
            let shorter = (ObjectLockRetentionMode::Compliance, locked_until - 60);
            assert!(!retain(admin, &place, key, version, shorter, bypass).await, "{key}");
            let weaker = (ObjectLockRetentionMode::Governance, locked_until);
            assert!(!retain(admin, &place, key, version, weaker, bypass).await, "{key}");
        }
        assert_eq!(until(&place, key).await, (mode, locked_until));
    }
    assert_eq!(place.versions().await, versions);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn governance_is_ended_by_nobody_without_the_permission() {
    let place = Place::new().await;
    let sink = S3Sink::open(place.config_of(User::Writer)).await.unwrap();
    store(&sink, &TestChain::new().extend(5)).await;
    let (key, version) = place.versions().await.remove(0);
    for user in [User::Writer, User::Reader] {
        let client = client(&place.url, user.keys());
        for bypass in [false, true] {
            assert!(!delete(&client, &place, &key, &version, bypass).await, "{user:?}");
            let shorter = (ObjectLockRetentionMode::Governance, now() + 60);
            assert!(!retain(&client, &place, &key, &version, shorter, bypass).await, "{user:?}");
        }
    }
    assert!(!delete(&place.client, &place, &key, &version, false).await, "it has to be asked for");
    assert!(delete(&place.client, &place, &key, &version, true).await, "and permitted");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_legal_hold_keeps_an_object_until_it_is_taken_off() {
    let place = Place::new().await;
    let mut config = place.config().with_legal_hold();
    config.lock = None;
    store(&S3Sink::open(config).await.unwrap(), &TestChain::new().extend(5)).await;
    let (key, version) = place.versions().await.remove(0);
    assert!(!delete(&place.client, &place, &key, &version, true).await);
    let writer = client(&place.url, User::Reader.keys());
    let off = ObjectLockLegalHold::builder().status(ObjectLockLegalHoldStatus::Off).build();
    let take_off = |client: &Client| {
        let request = client.put_object_legal_hold().bucket(&place.bucket).key(&key);
        request.version_id(&version).legal_hold(off.clone()).send()
    };
    assert!(take_off(&writer).await.is_err(), "not by somebody who may only read");
    take_off(&place.client).await.unwrap();
    assert!(delete(&place.client, &place, &key, &version, false).await);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_wrong_key_is_refused() {
    let place = Place::new().await;
    let (id, secret) = User::Admin.keys();
    for (id, secret) in [(id.as_str(), "wrong-secret"), ("nobody", secret.as_str())] {
        let sink = S3Sink::open(place.anonymous().with_credentials(id, secret)).await.unwrap();
        let segment = TestChain::new().extend(3);
        let mut errors = vec![failure(&sink, &segment).await];
        errors.push(sink.check().await.unwrap_err());
        errors.push(sink.head(segment.chain()).await.unwrap_err());
        for error in errors {
            assert_eq!(error.kind(), SinkErrorKind::Unauthenticated, "{error}");
            assert!(!error.is_retryable() && !error.maybe_applied());
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(secret) && !shown.contains(id), "{shown}");
        }
    }
    assert!(place.versions().await.is_empty());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_wrong_checksum_is_refused() {
    let place = Place::new().await;
    let put = place.client.put_object().bucket(&place.bucket).key("k");
    let put = put.body(ByteStream::from_static(b"damaged on its way"));
    // SHA-256 of nothing.
    let error = put.checksum_sha256("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=").send().await;
    assert_eq!(error.unwrap_err().code(), Some("BadDigest"));
    assert!(place.versions().await.is_empty());
    // Every object of the archive carries its own, and the server keeps it.
    store(&place.sink().await, &TestChain::new().extend(3)).await;
    for (key, _) in place.versions().await {
        let head = place.client.head_object().bucket(&place.bucket).key(&key);
        let head = head.checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled).send().await;
        assert_eq!(head.unwrap().checksum_sha256().map(str::len), Some(44), "{key}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn check_says_what_is_to_be_mended() {
    let place = Place::new().await;
    place.sink().await.check().await.unwrap();
    S3Sink::open(place.config_of(User::Writer)).await.unwrap().check().await.unwrap();
    let uploads = place.client.list_multipart_uploads().bucket(&place.bucket).send().await.unwrap();
    assert!(uploads.uploads().is_empty(), "nothing is left behind");

    let reader = S3Sink::open(place.config_of(User::Reader)).await.unwrap();
    assert_eq!(reader.check().await.unwrap_err().kind(), SinkErrorKind::PermissionDenied);

    let mut config = place.config();
    config.bucket = "no-such-bucket".to_owned();
    let error = S3Sink::open(config).await.unwrap().check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}");

    let plain = Place::plain().await;
    let config = plain.config().with_lock(Lock::compliance(Duration::from_secs(DAY)));
    let sink = S3Sink::open(config).await.unwrap();
    let error = sink.check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
    assert!(error.to_string().contains("enable Object Lock"), "{error}");
    let error = failure(&sink, &TestChain::new().extend(1)).await;
    assert!(!error.is_retryable(), "nothing is stored without its lock: {error}");
    assert!(plain.versions().await.is_empty());

    let nobody = place.config().with_endpoint("http://127.0.0.1:9");
    let error = S3Sink::open(nobody).await.unwrap().check().await.unwrap_err();
    assert_eq!(error.kind(), SinkErrorKind::Unavailable);
}
