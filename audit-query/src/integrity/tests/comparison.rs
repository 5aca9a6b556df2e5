//! Stores against each other: one that lags, one that lacks, one that has more, one that is not sound.

use agent_audit_core::{
    event::{Event, Other},
    record::Record,
    verify::{
        FindingKind::{ChainMissing, Duplicated, Lagging, Missing, Tampered},
        Severity,
    },
};

use super::{
    super::{Standing, rows::Rows},
    GRACE, MINUTE, World, append, assert_intact, found, kinds, sentences, store,
};
use crate::{EventStore, Filter, Found, QueryError, QueryErrorKind, Select, SessionSummary};

/// A store that merely lags is said to lag, and lacks what it lacks when the grace is over.
#[test]
fn a_store_that_lags_is_no_fault_until_the_grace_is_over() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    world.write("acme", 5);
    world.write("new", 2);
    let outcome = world.run_intact();
    let lagging: Vec<_> = outcome.report.findings.iter().filter(|f| f.kind == Lagging).collect();
    assert_eq!(lagging.len(), 2, "{}", sentences(&outcome));
    for finding in &lagging {
        assert_eq!((finding.severity, finding.place.as_deref()), (Severity::State, Some("cold")));
    }
    assert_eq!((lagging[0].sequence, lagging[0].last_sequence), (Some(21), Some(25)));
    assert_eq!(world.known(&chain), Some(26), "the other store is vouched for");

    world.clock.advance(GRACE + MINUTE);
    let outcome = world.run();
    let faults = [(Missing, "acme", 21, 25, "cold"), (ChainMissing, "new", 0, 2, "cold")];
    found(&outcome, &faults);
    world.archive();
    let outcome = world.run_intact();
    assert_eq!(outcome.report.findings, [], "it has caught up");
}

/// What is old by its own date has had its time already, also for a job that looks for the first time.
#[test]
fn what_a_store_has_lacked_for_long_is_missing_at_the_first_look() {
    let world = World::new();
    world.write("acme", 5);
    world.clock.advance(GRACE + MINUTE);
    found(&world.run(), &[(Missing, "acme", 21, 25, "cold")]);
}

/// Records that only one store has, and that somebody put there.
#[test]
fn records_that_were_added_to_one_store_are_named() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    let last = world.cold.records(&chain).pop().unwrap();
    let mut event: Event = last.event().unwrap();
    event.payload = Other::custom("forged").unwrap().into();
    event.event_id = agent_audit_core::id::EventId::new();
    (event.sequence, event.previous_event_hash) = (21, last.event_hash());
    event.content.clear();
    append(&world.cold, &chain, vec![Record::new(event.canonical_bytes().unwrap(), Vec::new())]);
    world.clock.advance(GRACE + MINUTE);
    let outcome = world.run();
    found(&outcome, &[(Missing, "acme", 21, 21, "hot")]);
    assert!(sentences(&outcome).contains("is missing here, or was added elsewhere: cold has 22"));
}

/// A chain that only one store has, and a row that one store has twice.
#[test]
fn a_chain_and_a_row_too_many_in_one_store_are_named() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    let elsewhere = agent_audit_core::memory::MemorySink::new();
    let key = agent_audit_core::key::SigningKey::from_seed(&[9; 32]);
    let forger = super::writer(&world.path("forger"), &world.clock, &elsewhere, key);
    let session = forger.session("acme", "s-1", "support-agent").unwrap();
    session.record_blocking(Other::custom("note").unwrap()).unwrap();
    forger.close_blocking(std::time::Duration::from_secs(60)).unwrap();
    let forged = elsewhere.chains().remove(0);
    append(&world.cold, &forged, elsewhere.records(&forged));
    world.cold.tamper().duplicate(&chain, 7);
    world.clock.advance(GRACE + MINUTE);
    let outcome = world.run_whole();
    let mut faults = super::faults(&outcome);
    faults.sort();
    let expected = [
        (Duplicated, "acme".to_owned(), 7, 7, "cold".to_owned()),
        (ChainMissing, "acme".to_owned(), 0, 2, "hot".to_owned()),
    ];
    assert_eq!(faults, expected, "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("are missing here, or were added elsewhere"));
}

/// A row that is gone, and one that was changed, in one store: chain, position and store are named.
#[test]
fn missing_and_changed_rows_are_named_with_their_store() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    world.cold.tamper().remove(&chain, 9);
    world.hot.tamper().replace_text(&chain, 5, "support-agent", "another-agent");
    let outcome = world.run_whole();
    found(&outcome, &[(Tampered, "acme", 5, 5, "hot"), (Missing, "acme", 9, 9, "cold")]);
    // Each copy by itself is as it was again, and so is the whole.
    let (hot, cold) = (world.hot.records(&chain), world.cold.records(&chain));
    world.hot.tamper().replace(&chain, 5, |_| cold[5].clone());
    world.cold.tamper().truncate(&chain, 9);
    append(&world.cold, &chain, hot[9..].to_vec());
    assert_intact(&world.run_whole());
}

/// What is no record at all is found, wherever it stands.
#[test]
fn a_record_that_cannot_be_read_is_tampering() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    world.cold.tamper().edit(&chain, 5, |bytes| bytes.insert(0, b' '));
    let outcome = world.run_whole();
    assert!(kinds(&outcome).iter().all(|kind| *kind == Tampered), "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("holds what is no record"), "{}", sentences(&outcome));
    assert_eq!(outcome.exit_code(), 1);
}

/// A store whose rows are read one by one names the very row.
#[test]
fn a_row_that_cannot_be_read_is_stepped_over_and_named() {
    let world = World::new();
    let spoiled = Spoiled { inner: store("cold", &world.cold), at: 5 };
    let outcome = {
        let mut watch = super::Watch::builder(world.path("other"))
            .with_store(store("hot", &world.hot))
            .with_store(std::sync::Arc::new(spoiled))
            .with_clock(world.clock.clone())
            .open()
            .unwrap();
        pollster::block_on(watch.run()).unwrap()
    };
    let named = outcome.report.findings.iter().find(|finding| finding.sequence == Some(5));
    let named = named.unwrap_or_else(|| panic!("{}", sentences(&outcome)));
    assert_eq!((named.kind, named.place.as_deref()), (Tampered, Some("cold")), "{named}");
    assert_eq!(named.chain.as_ref().map(|chain| chain.tenant_id.as_str()), Some("acme"));
    assert!(named.detail.contains("cannot be read"), "{named}");
}

/// A closed chain stays closed, also in runs that find nothing new in it.
#[test]
fn the_standing_of_a_chain_is_part_of_the_checkpoint() {
    let world = World::new();
    world.run_intact();
    let standing = || {
        let (_, checkpoints) = world.checkpoints("acme");
        checkpoints.state(checkpoints.len() - 1).unwrap().chains[0].state
    };
    assert_eq!(standing(), Standing::Open);
    world.close_log();
    world.archive();
    for _ in 0..2 {
        world.run_intact();
        assert_eq!(standing(), Standing::Closed);
    }
}

/// Every page ends where the next begins, whatever its size, and what stands twice is given twice.
#[test]
fn pages_give_every_row_once() {
    let world = World::new();
    world.write("acme", 300);
    let chain = world.chain("acme");
    let hot = store("hot", &world.hot);
    for from in [0, 1, 99, 100, 101, 320, 321] {
        let mut rows = Rows::new(&*hot, &chain.tenant_id, &chain.chain_id, from);
        let mut read = Vec::new();
        loop {
            match pollster::block_on(rows.next()) {
                super::super::rows::Page::Rows(page) => {
                    read.extend(page.iter().map(Found::sequence));
                }
                super::super::rows::Page::End => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, (from..321).collect::<Vec<_>>());
    }
}

/// A store one of whose rows cannot be read.
#[derive(Debug)]
struct Spoiled {
    inner: std::sync::Arc<dyn EventStore>,
    at: u64,
}

#[async_trait::async_trait]
impl EventStore for Spoiled {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn tenants(&self) -> Result<Vec<agent_audit_core::id::TenantId>, QueryError> {
        self.inner.tenants().await
    }

    async fn chains(
        &self,
        tenant: &agent_audit_core::id::TenantId,
    ) -> Result<Vec<agent_audit_core::id::ChainId>, QueryError> {
        self.inner.chains(tenant).await
    }

    async fn select(
        &self,
        tenant: &agent_audit_core::id::TenantId,
        select: &Select,
    ) -> Result<Vec<Found>, QueryError> {
        let found = self.inner.select(tenant, select).await?;
        match found.iter().any(|row| row.tenant_id() == "acme" && row.sequence() == self.at) {
            true => Err(QueryError::new(QueryErrorKind::Corrupt, "a row is no event")),
            false => Ok(found),
        }
    }

    async fn sessions(
        &self,
        tenant: &agent_audit_core::id::TenantId,
        filter: &Filter,
        after: Option<&agent_audit_core::id::SessionId>,
        limit: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        self.inner.sessions(tenant, filter, after, limit).await
    }
}
