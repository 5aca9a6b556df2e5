//! Asking: the same answers as from the records themselves, from what was verified alone.

use std::sync::Arc;

use agent_audit_core::conformance::TestChain;
use agent_audit_query::{
    EventStore, Filter, Ledger, Order, QueryErrorKind, Request, Select,
    conformance::{Input, assert_same_answers},
};
use agent_audit_s3::{S3Config, S3Events, S3Sink};
use agent_audit_test_support::proxy::Proxy;

use super::{
    place::{Place, key},
    store, tenant,
};

async fn events(place: &Place) -> S3Events {
    S3Events::temporary(place.config()).await.unwrap()
}

/// How many events the tenant `acme` has, or why it is not told.
async fn count(events: &S3Events, filter: Filter) -> Result<usize, agent_audit_query::QueryError> {
    let select = Select::new(filter, Order::Time, 10_000).content();
    Ok(events.select(&tenant("acme"), &select).await?.len())
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn every_question_is_answered_as_by_the_records() {
    let (place, input) = (Place::new().await, Input::new("").await);
    input.load(&place.sink().await).await;
    let store = Arc::new(events(&place).await);
    assert_same_answers(&input, Arc::clone(&store) as Arc<dyn EventStore>).await;
    assert_eq!(store.tenants().await.unwrap(), input.reference().tenants().await.unwrap());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn only_what_is_new_is_fetched_also_by_the_next_process() {
    let (place, dir) = (Place::plain().await, tempfile::tempdir().unwrap());
    let sink = place.sink().await;
    let mut chains = [TestChain::of(tenant("acme")), TestChain::of(tenant("acme"))];
    for chain in &mut chains {
        store(&sink, &chain.extend(4)).await;
        store(&sink, &chain.extend(4)).await;
    }
    let open = async || S3Events::open(place.config(), dir.path().join("copy")).await.unwrap();
    let first = open().await;
    assert_eq!(count(&first, Filter::new()).await.unwrap(), 16);
    // What was fetched is not needed again, but for the manifest that the next one follows.
    let (objects, manifests) = (place.keys(".ndjson.zst").await, place.keys(".manifest").await);
    for key in objects {
        place.delete(&key).await;
    }
    for chain in &chains {
        let of_chain = format!("/{}/", chain.chain().chain_id);
        let oldest = manifests.iter().filter(|key| key.contains(&of_chain)).max().unwrap();
        place.delete(oldest).await;
    }
    store(&sink, &chains[1].extend(3)).await;
    assert_eq!(count(&first, Filter::new()).await.unwrap(), 19);
    let second = open().await;
    assert_eq!(count(&second, Filter::new()).await.unwrap(), 19);
    store(&sink, &chains[0].extend(1)).await;
    assert_eq!(count(&second, Filter::new()).await.unwrap(), 20);
    assert_eq!(count(&first, Filter::new()).await.unwrap(), 20);
    let ledger = Ledger::new(Arc::new(first), tenant("acme"));
    let page = ledger.events(&Filter::new(), &Request::first(100).content()).await.unwrap();
    for chain in &chains {
        let of_chain =
            page.events.iter().filter(|e| e.chain_id() == chain.chain().chain_id.as_str());
        let records: Vec<_> = of_chain.map(|event| event.record().clone()).collect();
        assert!(records == chain.records());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_copy_that_is_not_what_it_says_is_made_again() {
    let (place, dir) = (Place::plain().await, tempfile::tempdir().unwrap());
    let mut chain = TestChain::of(tenant("acme"));
    store(&place.sink().await, &chain.extend(6)).await;
    store(&place.sink().await, &chain.extend(6)).await;
    let path = dir.path().join("copy");
    let ask = async || {
        let events = S3Events::open(place.config(), &path).await.unwrap();
        count(&events, Filter::new()).await.unwrap()
    };
    assert_eq!(ask().await, 12);
    for (file, text) in
        [("acme.sqlite3.copied.json", Some("{")), ("acme.sqlite3.copied.json", None)]
    {
        match text {
            Some(text) => std::fs::write(path.join(file), text).unwrap(),
            None => std::fs::remove_file(path.join(file)).unwrap(),
        }
        assert_eq!(ask().await, 12);
    }
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.to_string_lossy().contains(".sqlite3")
            && !entry.ends_with("acme.sqlite3.copied.json")
        {
            std::fs::remove_file(entry).unwrap();
        }
    }
    assert_eq!(ask().await, 12);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn what_is_not_as_it_should_be_is_named_and_nothing_is_answered_without_it() {
    type Tamper = fn(&mut Vec<u8>);
    let flip: Tamper = |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    for (end, at) in [(".ndjson.zst", 0), (".ndjson.zst", 2), (".manifest", 0), (".manifest", 1)] {
        let place = Place::plain().await;
        let mut chain = TestChain::of(tenant("acme"));
        for _ in 0..3 {
            store(&place.sink().await, &chain.extend(4)).await;
        }
        let mut other = TestChain::of(tenant("globex"));
        store(&place.sink().await, &other.extend(4)).await;
        let keys = place.keys(end).await;
        let key = keys.iter().filter(|key| key.contains("/acme/")).nth(at).unwrap();
        let mut body = place.read(key).await;
        flip(&mut body);
        place.write(key, body).await;
        let events = events(&place).await;
        for _ in 0..2 {
            let error = count(&events, Filter::new()).await.unwrap_err();
            assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
        // It is one tenant's alone.
        let select = Select::new(Filter::new(), Order::Time, 10);
        assert_eq!(events.select(&tenant("globex"), &select).await.unwrap().len(), 4);
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn what_nobody_vouches_for_is_not_copied() {
    let place = Place::new().await;
    let forger =
        place.config().with_manifest_key(&agent_audit_core::key::SigningKey::from_seed(&[9; 32]));
    let mut chain = TestChain::of(tenant("acme"));
    store(&S3Sink::open(forger).await.unwrap(), &chain.extend(4)).await;
    let error = count(&events(&place).await, Filter::new()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    let mut config = place.config();
    config.manifest_key = None;
    let trusting = config.with_trusted_key(key().verifying_key());
    let mut chain = TestChain::of(tenant("initech"));
    store(&place.sink().await, &chain.extend(4)).await;
    let events = S3Events::temporary(trusting).await.unwrap();
    let select = Select::new(Filter::new(), Order::Time, 10);
    assert_eq!(events.select(&tenant("initech"), &select).await.unwrap().len(), 4);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_archive_that_lost_what_was_read_of_it_is_an_error() {
    let place = Place::plain().await;
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..2 {
        store(&place.sink().await, &chain.extend(4)).await;
    }
    let events = events(&place).await;
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 8);
    let newest = place.keys(".manifest").await.into_iter().min().unwrap();
    let body = place.read(&newest).await;
    place.delete(&newest).await;
    let error = count(&events, Filter::new()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&newest), "{error}");
    place.write(&newest, body).await;
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 8);
    for key in place.keys("").await {
        place.delete(&key).await;
    }
    let error = count(&events, Filter::new()).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_question_of_some_chains_or_positions_fetches_those_alone() {
    let place = Place::plain().await;
    let mut chains = [TestChain::of(tenant("acme")), TestChain::of(tenant("acme"))];
    for chain in &mut chains {
        for _ in 0..3 {
            store(&place.sink().await, &chain.extend(4)).await;
        }
    }
    // What is not fetched is not missed.
    let [read, broken] = [&chains[0], &chains[1]].map(|chain| chain.chain().chain_id.clone());
    let objects = place.keys(".ndjson.zst").await;
    let of = |chain: &agent_audit_core::id::ChainId| -> Vec<String> {
        objects.iter().filter(|key| key.contains(chain.as_str())).cloned().collect()
    };
    place.delete(&of(&broken)[0]).await;
    place.delete(&of(&read)[2]).await;
    let events = events(&place).await;
    let some = Filter::new().chain(read.clone());
    assert_eq!(count(&events, some.clone().to_sequence(5)).await.unwrap(), 5);
    assert_eq!(count(&events, some.clone().to_sequence(8)).await.unwrap(), 8);
    for filter in [some, Filter::new().to_sequence(8), Filter::new().chain(broken), Filter::new()] {
        let error = count(&events, filter).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn what_is_known_is_passed_over_however_much_it_is() {
    let place = Place::plain().await;
    let sink = place.sink().await;
    let chain = |id: &str| {
        let id = agent_audit_core::id::ChainId::new(id).unwrap();
        TestChain::at(agent_audit_core::chain::ChainRef::new(tenant("acme"), id))
    };
    let mut chains = [chain("a"), chain("a-b"), chain("b")];
    for _ in 0..1_050 {
        store(&sink, &chains[0].extend(1)).await;
    }
    for chain in &mut chains[1..] {
        store(&sink, &chain.extend(2)).await;
    }
    let events = events(&place).await;
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 1_054);
    assert_eq!(events.chains(&tenant("acme")).await.unwrap().len(), 3);
    for chain in &mut chains {
        store(&sink, &chain.extend(2)).await;
    }
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 1_060);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn a_directory_is_the_copy_of_one_archive() {
    let (place, dir) = (Place::plain().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("copy");
    S3Events::open(place.config(), &path).await.unwrap();
    let other = S3Config::new("another")
        .with_endpoint("http://127.0.0.1:1")
        .with_credentials("AKIDEXAMPLE", "s3cret");
    let error = S3Events::open(other.clone(), &path).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid, "{error}");
    assert!(error.to_string().contains("another archive"), "{error}");
    std::fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    let error = S3Events::open(other.clone(), dir.path()).await.unwrap_err();
    assert!(error.to_string().contains("something else"), "{error}");
    let origin = std::fs::read_to_string(path.join("archive.json")).unwrap();
    std::fs::write(path.join("archive.json"), origin.replace("1", "9")).unwrap();
    let error = S3Events::open(place.config(), &path).await.unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::UnknownVersion, "{error}");
    // A temporary one goes.
    let events = S3Events::temporary(other).await.unwrap();
    let shown = format!("{events:?}");
    let path = shown.split("directory: \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(std::path::Path::new(&path).is_dir() && !shown.contains("s3cret"), "{shown}");
    drop(events);
    assert!(!std::path::Path::new(&path).exists());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
async fn an_archive_that_goes_away_is_unavailable_and_asked_again() {
    use agent_audit_test_support::proxy::Behaviour;
    let place = Place::plain().await;
    let mut chain = TestChain::of(tenant("acme"));
    for _ in 0..20 {
        store(&place.sink().await, &chain.extend(4)).await;
    }
    let proxy = Proxy::start(place.url.strip_prefix("http://").unwrap().parse().unwrap());
    let config = place.config().with_endpoint(format!("http://{}", proxy.address()));
    let secret = config.credentials.as_ref().unwrap().secret_access_key.clone();
    let events = S3Events::temporary(config).await.unwrap();
    // Before anything, and in the middle of the objects.
    for behaviour in [Behaviour::Refuse, Behaviour::ResetAfterCommit { after: 3_000 }] {
        proxy.set(behaviour);
        let error = count(&events, Filter::new()).await.unwrap_err();
        assert_eq!(error.kind(), QueryErrorKind::Unavailable, "{error}");
        use secrecy::ExposeSecret as _;
        assert!(!format!("{error} {error:?}").contains(secret.expose_secret()));
    }
    proxy.set(Behaviour::Pass);
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 80);
    proxy.set(Behaviour::Refuse);
    let error = count(&events, Filter::new()).await.unwrap_err();
    assert_eq!(
        error.kind(),
        QueryErrorKind::Unavailable,
        "no older answer is given for the present one: {error}"
    );
    // But to who says that it may be older.
    proxy.set(Behaviour::Pass);
    let events = events.with_max_age(std::time::Duration::from_secs(86_400));
    assert_eq!(count(&events, Filter::new()).await.unwrap(), 80);
    proxy.set(Behaviour::Refuse);
    assert_eq!(count(&events, Filter::new().to_sequence(8)).await.unwrap(), 8);
}
