//! Outages and deaths: nothing is called intact that was not read, and nothing is forgotten.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use agent_audit_core::{
    id::{ChainId, SessionId, TenantId},
    verify::{FindingKind::StoreUnreadable, Verdict},
};

use super::{World, assert_intact, files, kinds, sentences, store};
use crate::{
    EventStore, Filter, Found, QueryError, QueryErrorKind, Select, SessionSummary,
    integrity::{Watch, WatchErrorKind},
};

/// What a store does when its calls are used up.
#[derive(Debug, Clone, Copy)]
enum Then {
    Fails,
    Hangs,
}

/// A store that answers so many calls, and then no more.
#[derive(Debug)]
struct Flaky {
    inner: Arc<dyn EventStore>,
    left: AtomicUsize,
    then: Then,
}

impl Flaky {
    async fn call(&self) -> Result<(), QueryError> {
        let taken =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match (taken, self.then) {
            (Ok(_), _) => Ok(()),
            (Err(_), Then::Fails) => {
                Err(QueryError::new(QueryErrorKind::Unavailable, "the connection broke"))
            }
            (Err(_), Then::Hangs) => std::future::pending().await,
        }
    }
}

#[async_trait::async_trait]
impl EventStore for Flaky {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        self.call().await?;
        self.inner.tenants().await
    }

    async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        self.call().await?;
        self.inner.chains(tenant).await
    }

    async fn select(&self, tenant: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        self.call().await?;
        self.inner.select(tenant, select).await
    }

    async fn sessions(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Option<&SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        self.inner.sessions(tenant, filter, after, limit).await
    }
}

fn flaky(world: &World, calls: usize, then: Then) -> Arc<dyn EventStore> {
    let inner = store("hot", &world.hot);
    Arc::new(Flaky { inner, left: AtomicUsize::new(calls), then })
}

fn watch_with(world: &World, hot: Arc<dyn EventStore>) -> Watch {
    Watch::builder(world.path("integrity"))
        .with_store(hot)
        .with_checkpoint_dir(world.path("kept"))
        .with_signing_key(world.key.clone())
        .with_clock(world.clock.clone())
        .open()
        .unwrap()
}

/// Whatever call a store fails at: could not tell, never intact, and what was known stays known.
#[test]
fn a_store_that_disappears_at_any_moment_is_could_not_tell() {
    for whole in [false, true] {
        let mut ended = false;
        for calls in 0..60 {
            let world = World::new();
            let chain = world.chain("acme");
            let run = |hot| {
                let mut watch = watch_with(&world, hot);
                pollster::block_on(watch.run()).unwrap()
            };
            if !whole {
                assert_eq!(run(store("hot", &world.hot)).exit_code(), 0);
            }
            let before = if whole { None } else { world.known(&chain) };
            world.write("acme", 150);
            let outcome = run(flaky(&world, calls, Then::Fails));
            if outcome.report.verdict == Verdict::Intact {
                assert!(calls > 3, "it was not asked");
                assert_eq!(outcome.report.findings, []);
                ended = true;
                break;
            }
            assert_eq!(outcome.exit_code(), 2, "{calls}: {}", sentences(&outcome));
            assert!(kinds(&outcome).iter().all(|kind| *kind == StoreUnreadable), "{calls}");
            if !whole {
                assert!(world.known(&chain) >= before, "{calls}: nothing is forgotten");
            }
            let outcome = run(store("hot", &world.hot));
            assert_eq!(outcome.exit_code(), 0, "{calls}: {}", sentences(&outcome));
            assert_eq!(world.known(&chain), Some(171), "{calls}");
        }
        assert!(ended, "a run has fewer calls than that");
    }
}

/// Of two stores one is away: the other is verified, and the whole is could not tell.
#[test]
fn one_of_two_stores_away() {
    let world = World::new();
    world.run_intact();
    world.write("acme", 2);
    let mut watch = Watch::builder(world.path("integrity"))
        .with_store(flaky(&world, 0, Then::Fails))
        .with_store(store("cold", &world.cold))
        .with_checkpoint_dir(world.path("kept"))
        .with_signing_key(world.key.clone())
        .with_clock(world.clock.clone())
        .open()
        .unwrap();
    let outcome = pollster::block_on(watch.run()).unwrap();
    assert_eq!(outcome.exit_code(), 2, "{}", sentences(&outcome));
    let places: Vec<_> = outcome.report.findings.iter().map(|f| f.place.as_deref()).collect();
    assert!(places.iter().all(|place| *place == Some("hot")), "{}", sentences(&outcome));
    assert!(outcome.report.counts.chains == 2, "{:?}", outcome.report.counts);
    drop(watch);
    world.archive();
    world.run_intact();
}

/// The process dies while it waits for a store, at any call: the next run completes.
#[test]
fn a_run_that_dies_at_any_moment_is_completed_by_the_next() {
    for calls in 0..14 {
        let world = World::new();
        let mut watch = watch_with(&world, store("hot", &world.hot));
        assert_eq!(pollster::block_on(watch.run()).unwrap().exit_code(), 0);
        drop(watch);
        world.write("acme", 150);
        world.write("initech", 2);
        let mut watch = watch_with(&world, flaky(&world, calls, Then::Hangs));
        {
            let run = pin!(watch.run());
            let mut context = Context::from_waker(Waker::noop());
            let _ = run.poll(&mut context);
        }
        drop(watch);
        for _ in 0..2 {
            let mut watch = watch_with(&world, store("hot", &world.hot));
            let outcome = pollster::block_on(watch.run()).unwrap();
            assert_eq!(outcome.exit_code(), 0, "{calls}: {}", sentences(&outcome));
            assert_eq!(outcome.report.findings, [], "{calls}");
        }
        assert_eq!(world.known(&world.chain("acme")), Some(171));
    }
}

/// The process dies between two files: each older copy of one file is one that it left.
#[test]
fn a_death_between_two_files_is_no_fault() {
    // The memory of a tenant behind its checkpoint; the progress behind the log of runs, with and
    // without the report; the index behind a new tenant.
    let behind: [&[&str]; 4] = [
        &["integrity/tenants"],
        &["integrity/run.json"],
        &["integrity/run.json", "integrity/reports"],
        &["integrity/tenants.json"],
    ];
    for old in behind {
        let world = World::new();
        let run = || {
            let mut watch = watch_with(&world, store("hot", &world.hot));
            pollster::block_on(watch.run()).unwrap()
        };
        assert_eq!(run().exit_code(), 0);
        let copy = files(&world.path("integrity"));
        world.write("acme", 3);
        world.write("initech", 2);
        assert_eq!(run().exit_code(), 0);
        for name in old {
            let path = world.path(name);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
            for (file, bytes) in copy.iter().filter(|(file, _)| file.starts_with(&path)) {
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, bytes).unwrap();
            }
        }
        let outcome = run();
        // A death comes before the run's report; a memory that is older than the last report is
        // not what a death leaves, and is said to be older.
        let expected = if old == ["integrity/tenants"] { 1 } else { 0 };
        assert_eq!(outcome.exit_code(), expected, "{old:?}: {}", sentences(&outcome));
        assert_eq!(run().exit_code(), 0, "{old:?}");
        assert_eq!(world.known(&world.chain("acme")), Some(24));
    }
}

/// A line that was not written whole was promised to nobody.
#[test]
fn a_torn_last_checkpoint_is_cut() {
    let world = World::new();
    world.run_intact();
    world.run_intact();
    let (path, before) = world.checkpoints("acme");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"{\"note\":\"agent-audit/tenant");
    std::fs::write(&path, &bytes).unwrap();
    world.run_intact();
    let (same, after) = world.checkpoints("acme");
    assert_eq!((same, after.len()), (path, before.len() + 1));
}

#[test]
fn two_jobs_do_not_share_a_directory() {
    let world = World::new();
    let watch = watch_with(&world, store("hot", &world.hot));
    let error = Watch::builder(world.path("integrity"))
        .with_store(store("hot", &world.hot))
        .open()
        .unwrap_err();
    assert_eq!(error.kind(), WatchErrorKind::InUse, "{error}");
    drop(watch);
    assert_intact(&world.run());
}

/// What the job keeps cannot be written: an error, and what was there stays.
#[test]
fn a_directory_that_is_gone_is_an_error_and_the_state_is_not_lost() {
    let world = World::new();
    let mut watch = watch_with(&world, store("hot", &world.hot));
    pollster::block_on(watch.run()).unwrap();
    let kept = world.path("kept");
    std::fs::rename(&kept, world.path("elsewhere")).unwrap();
    let error = pollster::block_on(watch.run()).unwrap_err();
    assert_eq!(error.kind(), WatchErrorKind::Io, "{error}");
    std::fs::rename(world.path("elsewhere"), &kept).unwrap();
    let outcome = pollster::block_on(watch.run()).unwrap();
    assert_eq!(outcome.exit_code(), 0, "{}", sentences(&outcome));
}
