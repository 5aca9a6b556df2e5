//! One test for each attack that only somebody with a memory can see.

use std::num::NonZeroU32;

use agent_audit_core::{
    checkpoint::{Checkpoint, chain_origin},
    content::{AbsentReason, PartBody},
    event::{
        content::ContentPurged,
        key::{KeyDestroyed, KeyScope},
    },
    hash::Hash,
    id::EventId,
    key::SigningKey,
    log::AuditLog,
    record::Record,
    verify::{
        FindingKind::{
            BadSignature, ChainMissing, ClockRegression, ContentMissing, Forked, NotVouched,
            StateRolledBack, Tampered, TenantMissing, Truncated,
        },
        Severity, Verdict,
    },
};

use super::{
    super::{
        log::{Opened, StateLog},
        memory::{Memory, Remembered, Seal},
    },
    MINUTE, World, assert_intact, faults, files, found, kinds, sentences,
};

/// Attack 2: the tail is cut behind the last checkpoint of the writer, and the links still fit.
#[test]
fn truncation_since_the_last_run() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    for sink in [&world.hot, &world.cold] {
        sink.tamper().truncate(&chain, 15);
    }
    found(&world.run(), &[(Truncated, "acme", 15, 20, "hot, cold")]);
    // It is said as long as it is so, and not forgotten.
    found(&world.run(), &[(Truncated, "acme", 15, 20, "hot, cold")]);
    assert_eq!(world.known(&chain), Some(21));
}

/// The same in one of two stores: at once, however little time has passed.
#[test]
fn truncation_of_one_store_is_no_lag() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    world.hot.tamper().truncate(&chain, 20);
    found(&world.run(), &[(Truncated, "acme", 20, 20, "hot")]);
}

/// Cut, and written on with other records that fit: the last one is no longer what it was.
#[test]
fn a_tail_that_was_rewritten_is_found_where_it_was_rewritten() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    for sink in [&world.hot, &world.cold] {
        sink.tamper().replace(&chain, 20, another);
    }
    let outcome = world.run();
    assert_eq!(kinds(&outcome), [Tampered], "{}", sentences(&outcome));
    assert!(
        sentences(&outcome).contains("records 0 to 20 were rewritten, all or the last of them")
    );
    assert_eq!(outcome.exit_code(), 1);
}

/// Attack 5: two readers are shown two histories, each of which fits.
#[test]
fn a_fork_shown_to_two_readers() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    world.write("acme", 2);
    world.archive();
    world.cold.tamper().replace(&chain, 22, another);
    let outcome = world.run();
    found(&outcome, &[(Forked, "acme", 22, 22, "hot, cold")]);
    assert_eq!(world.known(&chain), Some(21), "neither of them is vouched for");
    // Mended, it goes on.
    let right = world.hot.records(&chain).remove(22);
    world.cold.tamper().replace(&chain, 22, |_| right);
    world.run_intact();
    assert_eq!(world.known(&chain), Some(23));
}

/// Attack 10, without the writer's key: the ledger of a tenant is gone from every store.
#[test]
fn a_whole_tenant_removed() {
    let world = World::new();
    world.run_intact();
    World::remove_tenant(&world.hot, "acme");
    World::remove_tenant(&world.cold, "acme");
    let outcome = world.run();
    assert_eq!(kinds(&outcome), [TenantMissing], "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("tenant acme: the whole ledger is gone, 1 chain with 21"));
    assert_eq!(outcome.exit_code(), 1);
    // Of one store alone it is gone as well.
    let other = World::new();
    other.run_intact();
    World::remove_tenant(&other.cold, "acme");
    let outcome = other.run();
    assert_eq!(kinds(&outcome), [TenantMissing], "{}", sentences(&outcome));
    assert_eq!(faults(&outcome)[0].4, "cold");
}

/// Attack 10, with the checkpoints of the tenant removed, too; then also with what the job remembers.
#[test]
fn a_whole_tenant_removed_with_its_checkpoints() {
    let world = World::new();
    world.run_intact();
    World::remove_tenant(&world.hot, "acme");
    World::remove_tenant(&world.cold, "acme");
    world.remove_files("kept", "acme");
    let outcome = world.run();
    let mut expected = vec![TenantMissing, StateRolledBack];
    assert_eq!(kinds(&outcome), expected, "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("tenant acme: its checkpoints in"));

    world.remove_files("kept", "acme");
    world.remove_files("integrity/tenants", "acme");
    std::fs::remove_file(world.path("integrity/tenants.json")).unwrap();
    let outcome = world.run();
    expected.push(StateRolledBack);
    assert_eq!(kinds(&outcome), expected, "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("1 chain with 21 records"), "{}", sentences(&outcome));
}

/// Attack 10, with everything that the job keeps: its reports in the other store know.
#[test]
fn a_whole_tenant_removed_with_all_that_the_job_keeps() {
    let world = World::new();
    world.run_intact();
    World::remove_tenant(&world.hot, "acme");
    World::remove_tenant(&world.cold, "acme");
    for dir in ["integrity", "kept"] {
        std::fs::remove_dir_all(world.path(dir)).unwrap();
    }
    let outcome = world.run();
    let kinds = kinds(&outcome);
    assert!(kinds.contains(&TenantMissing) && kinds.contains(&StateRolledBack), "{kinds:?}");
    assert!(sentences(&outcome).contains("tenant acme: the whole ledger is gone, 1 chain with 21"));
    assert_eq!(outcome.exit_code(), 1);
    // The next run knows it as well: what was recorded was taken over.
    let outcome = world.run();
    assert_eq!(super::kinds(&outcome), [TenantMissing], "{}", sentences(&outcome));
}

/// Attack 10, with and without the writer's key: another ledger stands in the place of the one that
/// was removed.
#[test]
fn a_whole_tenant_replaced_by_another_ledger() {
    for (name, seed, with_key) in [("stolen", 1, true), ("made up", 9, false)] {
        let world = World::new();
        let chain = world.chain("acme");
        let writers = |builder: super::WatchBuilder| {
            let key = SigningKey::from_seed(&[1; 32]).verifying_key();
            builder
                .with_writer_checkpoints(world.path("log/checkpoints"), [key])
                .with_writer_checkpoints(world.path("forged"), [])
        };
        std::fs::create_dir_all(world.path("forged")).unwrap();
        world.wait_for_checkpoints(2);
        assert_intact(&world.run_with(writers));
        World::remove_tenant(&world.hot, "acme");
        World::remove_tenant(&world.cold, "acme");
        let forger = world.other_writer(name, SigningKey::from_seed(&[seed; 32]));
        forge(&forger);
        if with_key {
            std::fs::rename(world.path(name).join("checkpoints"), world.path("forged/checkpoints"))
                .unwrap();
        }
        world.archive();
        world.clock.advance(2 * super::GRACE);
        let outcome = world.run_with(writers);
        let known = faults(&outcome).into_iter().filter(|fault| fault.0 == ChainMissing);
        assert_eq!(known.count(), 1, "{name}: {}", sentences(&outcome));
        let text = sentences(&outcome);
        assert!(text.contains(&format!("{chain}: the whole chain is gone")), "{name}: {text}");
        let nobodys = kinds(&outcome).contains(&NotVouched);
        assert_eq!(nobodys, !with_key, "{name}: {text}");
        assert_eq!(outcome.exit_code(), 1);
    }
}

fn forge(log: &AuditLog) {
    use agent_audit_core::event::Other;
    let session = log.session("acme", "s-1", "support-agent").unwrap();
    session.record_blocking(Other::custom("note").unwrap()).unwrap();
    log.close_blocking(std::time::Duration::from_secs(60)).unwrap();
}

/// Attack 2, before the job looked for the first time: the writer's checkpoints know, when the store
/// has had its time.
#[test]
fn truncation_behind_the_writers_checkpoints() {
    let world = World::new();
    let chain = world.chain("acme");
    world.wait_for_checkpoints(2);
    world.wait_for_size(&chain, 21);
    for sink in [&world.hot, &world.cold] {
        sink.tamper().truncate(&chain, 15);
    }
    let run = || {
        let key = SigningKey::from_seed(&[1; 32]).verifying_key();
        world.run_with(|builder| {
            builder.with_writer_checkpoints(world.path("log/checkpoints"), [key])
        })
    };
    let outcome = run();
    assert_eq!(outcome.exit_code(), 0, "it may lag: {}", sentences(&outcome));
    world.clock.advance(super::GRACE + MINUTE);
    let outcome = run();
    found(&outcome, &[(Truncated, "acme", 15, 20, "hot, cold")]);
    assert!(sentences(&outcome).contains("a signed checkpoint of the writer states 21 records"));
}

/// A whole chain of several is gone, with everything that spoke of it in the stores.
#[test]
fn a_whole_chain_removed() {
    let world = World::new();
    let other = world.other_writer("second", SigningKey::from_seed(&[4; 32]));
    forge(&other);
    world.archive();
    world.run_intact();
    let chains = world.hot.chains();
    let chain = chains.iter().find(|chain| world.hot.records(chain).len() == 3).unwrap();
    for sink in [&world.hot, &world.cold] {
        sink.tamper().remove_chain(chain);
    }
    let outcome = world.run();
    assert_eq!(kinds(&outcome), [ChainMissing], "{}", sentences(&outcome));
    assert_eq!(outcome.report.findings[0].chain.as_ref(), Some(chain));
    assert_eq!(outcome.report.findings[0].place.as_deref(), Some("hot, cold"));
}

/// Attack 20, in the checkpoint: its root is of the records, and its head of another history.
#[test]
fn a_gap_between_chain_and_tree_in_a_tenant_checkpoint() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    // By somebody with the job's key, so that everything is signed.
    let (path, _) = world.checkpoints("acme");
    let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
    let keys = [world.key.verifying_key()];
    let seal = Seal { key: &world.key, keys: &keys };
    let memory_path = world.path("integrity/tenants").join(format!("{id}.json"));
    let Remembered::Memory(mut memory) = Memory::load(&memory_path, &seal).unwrap() else {
        panic!("there is no memory");
    };
    let Opened::Log(log) = StateLog::open(path).unwrap() else { panic!("there is no log") };
    let (_, checkpoints) = world.checkpoints("acme");
    let mut state = checkpoints.state(0).unwrap().clone();
    let last = state.hash();
    state.chains[0].head = Hash::ZERO;
    let state = state.behind(0, last);
    log.append(&mut memory.tail, &state.canonical_bytes(), &world.key).unwrap();
    let known = memory.chains.get_mut(&chain.chain_id).unwrap().known.as_mut().unwrap();
    known.head = Hash::ZERO;
    memory.save(&memory_path, &seal).unwrap();

    let outcome = world.run();
    let faults = faults(&outcome);
    assert!(
        faults.contains(&(Forked, "acme".to_owned(), 20, 20, "tenant checkpoints".to_owned())),
        "{}",
        sentences(&outcome)
    );
    assert!(sentences(&outcome).contains("root and head are of two histories"));
}

/// Attack 20, in the writer's checkpoint: the chain's links fit, and the signed tree is of others.
#[test]
fn a_gap_between_chain_and_tree_in_a_writers_checkpoint() {
    let world = World::new();
    let chain = world.chain("acme");
    let key = SigningKey::from_seed(&[1; 32]);
    let origin = chain_origin(chain.chain_id.as_str());
    let note = Checkpoint::new(origin, 21, Hash::ZERO).sign(&key).unwrap().to_string();
    let line = serde_json::json!({
        "chain_id": chain.chain_id, "note": note, "tenant_id": chain.tenant_id,
    });
    std::fs::write(world.path("writer.ndjson"), format!("{line}\n")).unwrap();
    let outcome = world.run_with(|builder| {
        builder.with_writer_checkpoints(world.path("writer.ndjson"), [key.verifying_key()])
    });
    found(&outcome, &[(Tampered, "acme", 0, 20, "hot, cold")]);
    assert!(world.known(&chain).is_none(), "it is not vouched for");
}

/// Attack 25: content is deleted, and nothing says why.
#[test]
fn erasure_used_as_a_cover_up_without_any_reason() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    for sink in [&world.hot, &world.cold] {
        sink.tamper()
            .replace(&chain, 7, |record| without_content(record, AbsentReason::Erased, None));
    }
    let outcome = world.run_whole();
    found(&outcome, &[(ContentMissing, "acme", 7, 7, "hot, cold")]);
    assert!(sentences(&outcome).contains("an earlier run found it there"));
}

/// Attack 25: an erasure that happened is named for content that it did not erase.
#[test]
fn erasure_used_as_a_cover_up_under_another_erasures_name() {
    let erased = KeyDestroyed::new("key-1", KeyScope::Subject, "dpo-1", "GDPR Art. 17");
    let erased =
        erased.with_subject_id("person-9".parse::<agent_audit_core::id::SubjectId>().unwrap());
    let signing = KeyDestroyed::new("key-2", KeyScope::Signing, "dpo-1", "rotation");
    let purged = ContentPurged::new("hot", "retention", "policy-90d").with_before(
        "2020-01-01T00:00:00.000000000Z".parse::<agent_audit_core::timestamp::Timestamp>().unwrap(),
    );
    let world = World::new();
    let chain = world.chain("acme");
    let someone = world.record("acme", erased);
    let key = world.record("acme", signing);
    let old = world.record("acme", purged);
    let foreign = world.record("globex", KeyDestroyed::new("k", KeyScope::Tenant, "dpo-1", "GDPR"));
    world.archive();
    world.run_intact();
    let cases = [
        (7, AbsentReason::Erased, someone, "erased the content about another person"),
        (8, AbsentReason::Erased, key, "destroyed a key that seals nothing"),
        (9, AbsentReason::Purged, old, "let go of older content only"),
        (10, AbsentReason::Erased, old, "is no key.destroyed"),
        (11, AbsentReason::Erased, foreign, "the tenant has no event"),
        (12, AbsentReason::Erased, EventId::new(), "the tenant has no event"),
    ];
    for (at, reason, evidence, _) in cases {
        for sink in [&world.hot, &world.cold] {
            sink.tamper()
                .replace(&chain, at, |record| without_content(record, reason, Some(evidence)));
        }
    }
    let outcome = world.run_whole();
    let expected = cases.map(|(at, ..)| (ContentMissing, "acme", at, at, "hot, cold"));
    found(&outcome, &expected);
    for (_, _, _, why) in cases {
        assert!(sentences(&outcome).contains(why), "{why}: {}", sentences(&outcome));
    }
}

/// The other side of attack 25: what is erased for a recorded reason is no fault, also where another
/// process of the tenant recorded it in a chain of its own.
#[test]
fn content_that_went_for_a_recorded_reason_is_no_fault() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    let other = world.other_writer("eraser", SigningKey::from_seed(&[5; 32]));
    let session = other.session("acme", "s-2", "eraser").unwrap();
    let erased = KeyDestroyed::new("key-1", KeyScope::Tenant, "dpo-1", "GDPR Art. 17");
    let evidence = session.record_blocking(erased).unwrap().event_id;
    world.archive();
    for sink in [&world.hot, &world.cold] {
        let change =
            |record: &Record| without_content(record, AbsentReason::Erased, Some(evidence));
        sink.tamper().replace(&chain, 7, change);
    }
    let outcome = world.run_whole();
    assert_intact(&outcome);
    assert_eq!(outcome.report.counts.erased, 2, "one in each store");
    world.run_intact();
}

/// Attack 15: a clock that is set back, of a writer, shows, and is no tampering.
#[test]
fn clock_set_back() {
    let world = World::new();
    world.run_intact();
    world.clock.set_back(5 * MINUTE);
    world.write("acme", 2);
    world.archive();
    world.clock.advance(6 * MINUTE);
    let outcome = world.run();
    assert_intact(&outcome);
    let back: Vec<_> =
        outcome.report.findings.iter().filter(|f| f.kind == ClockRegression).collect();
    assert_eq!(back.len(), 1, "{}", sentences(&outcome));
    assert_eq!((back[0].sequence, back[0].severity), (Some(21), Severity::Warning));
    // And the clock of the job itself.
    world.clock.set_back(60 * MINUTE);
    let outcome = world.run();
    assert!(
        sentences(&outcome).contains("the clock of the job went back"),
        "{}",
        sentences(&outcome)
    );
    assert_eq!(outcome.report.verdict, Verdict::Intact);
}

/// Entries that are dated back: the checkpoint of that time does not cover them.
#[test]
fn records_dated_before_a_checkpoint_that_does_not_cover_them() {
    let world = World::new();
    world.clock.advance(60 * MINUTE);
    world.run_intact();
    world.clock.set_back(30 * MINUTE);
    let other = world.other_writer("late", SigningKey::from_seed(&[4; 32]));
    forge(&other);
    world.archive();
    world.clock.advance(31 * MINUTE);
    let outcome = world.run();
    let late: Vec<_> =
        outcome.report.findings.iter().filter(|f| f.kind == ClockRegression).collect();
    assert_eq!(late.len(), 1, "{}", sentences(&outcome));
    assert!(late[0].detail.contains("came late, or was dated back (2 more"), "{}", late[0]);
}

#[test]
fn an_idle_tenant_still_gets_checkpoints() {
    let world = World::new();
    for _ in 0..3 {
        world.run_intact();
    }
    let (_, checkpoints) = world.checkpoints("globex");
    assert_eq!(checkpoints.len(), 3);
    for number in 1..3 {
        let (before, state) =
            (checkpoints.state(number - 1).unwrap(), checkpoints.state(number).unwrap());
        assert_eq!(state.previous, before.hash());
        assert_eq!(state.chains, before.chains, "nothing happened");
        assert!(state.at > before.at);
    }
    let root = |number: usize| checkpoints.note(number).unwrap().unverified().root;
    checkpoints.consistency_proof(1, 3).unwrap().verify(&root(0), &root(2)).unwrap();
    let proof = checkpoints.inclusion_proof(1, 3).unwrap();
    proof.verify(&checkpoints.state(1).unwrap().hash(), &root(2)).unwrap();
}

#[test]
fn a_tampered_earlier_tenant_checkpoint() {
    type Attack = fn(&str) -> String;
    let attacks: [(&str, Attack, _); 3] = [
        ("a state", |line| line.replacen("\"size\":21", "\"size\":11", 1), Tampered),
        ("a signature", spoil_signature, BadSignature),
        ("a line", |_| String::new(), Tampered),
    ];
    for (what, attack, kind) in attacks {
        let world = World::new();
        for _ in 0..3 {
            world.run_intact();
        }
        let (path, _) = world.checkpoints("acme");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
        let changed = attack(&lines[2]);
        assert_ne!(lines[2], changed);
        lines[2] = changed;
        std::fs::write(&path, lines.concat()).unwrap();
        let outcome = world.run_whole();
        let found = faults(&outcome);
        let named = found.iter().any(|fault| fault.0 == kind && fault.4 == "tenant checkpoints");
        assert!(named, "{what}: {}", sentences(&outcome));
        assert!(
            sentences(&outcome).contains("tenant acme: state 1 "),
            "{what}: {}",
            sentences(&outcome)
        );
        assert_eq!(outcome.exit_code(), 1, "{what}");
    }
}

fn spoil_signature(line: &str) -> String {
    let at = line.find("— ").unwrap();
    let end = at + line[at..].find("\\n").unwrap() - 10;
    let other = if line.as_bytes()[end] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &line[..end], &line[end + 1..])
}

/// The newest checkpoints are cut off: what the job remembers is further.
#[test]
fn tenant_checkpoints_that_were_cut_are_found_and_not_gone_on_with() {
    let world = World::new();
    for _ in 0..3 {
        world.run_intact();
    }
    let (path, before) = world.checkpoints("acme");
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: String = text.split_inclusive('\n').take(2).collect();
    std::fs::write(&path, &kept).unwrap();
    let outcome = world.run();
    assert!(kinds(&outcome).iter().all(|kind| *kind == StateRolledBack), "{}", sentences(&outcome));
    assert_eq!(outcome.exit_code(), 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept, "no number is signed twice");
    let (new_path, after) = world.checkpoints("acme");
    assert_ne!((new_path, after.origin()), (path, before.origin()));
    assert_eq!(after.state(0).unwrap().chains, before.state(2).unwrap().chains, "and all is known");
    world.run_intact();
}

/// The job's state, its checkpoints with it, is an older copy: the recorded runs are further.
#[test]
fn job_state_rolled_back_to_an_older_copy() {
    let world = World::new();
    let chain = world.chain("acme");
    world.run_intact();
    let copy = world.copy_state();
    world.write("acme", 4);
    world.archive();
    world.run_intact();
    world.run_intact();
    // Why somebody would: what came since then is taken away with it.
    for sink in [&world.hot, &world.cold] {
        sink.tamper().truncate(&chain, 21);
    }
    world.restore_state(&copy);
    let outcome = world.run();
    let text = sentences(&outcome);
    assert!(text.contains("an older copy was put in its place"), "{text}");
    assert!(
        faults(&outcome).contains(&(Truncated, "acme".into(), 21, 24, "hot, cold".into())),
        "{text}"
    );
    assert_eq!(outcome.exit_code(), 1);
    // The rest of it is not found once and forgotten.
    found(&world.run(), &[(Truncated, "acme", 21, 24, "hot, cold")]);
}

/// What the job remembers of one tenant is an older copy, or was changed.
#[test]
fn what_the_job_remembers_was_changed_or_rolled_back() {
    let world = World::new();
    world.run_intact();
    let copy = files(&world.path("integrity/tenants"));
    world.run_intact();
    world.run_intact();
    for (path, bytes) in &copy {
        std::fs::write(path, bytes).unwrap();
    }
    let outcome = world.run();
    assert!(kinds(&outcome).iter().all(|kind| *kind == StateRolledBack), "{}", sentences(&outcome));
    assert_eq!(outcome.exit_code(), 1);
    world.run_intact();

    for (path, bytes) in files(&world.path("integrity/tenants")) {
        let text = String::from_utf8(bytes).unwrap();
        std::fs::write(path, text.replacen("\"closed\":false", "\"closed\":true", 1)).unwrap();
    }
    let outcome = world.run();
    assert!(kinds(&outcome).contains(&StateRolledBack), "{}", sentences(&outcome));
    assert!(sentences(&outcome).contains("its signature is of another content"));
    world.run_intact();
}

/// The recorded runs are cut: the job knows that they were there, and verifies them like a tenant.
#[test]
fn recorded_runs_that_are_gone() {
    let world = World::new();
    for _ in 0..3 {
        world.run_intact();
    }
    let chain = world.records.chains().remove(0);
    let held = world.records.records(&chain).len() as u64;
    world.records.tamper().truncate(&chain, held - 2);
    world.clock.advance(2 * super::GRACE);
    let outcome = world.run();
    let of_runs = faults(&outcome).into_iter().filter(|fault| fault.0 == Truncated);
    let places: Vec<_> = of_runs.map(|fault| (fault.1, fault.4)).collect();
    assert!(places.contains(&(String::new(), "records".to_owned())), "{}", sentences(&outcome));
    assert!(
        places.contains(&("integrity".to_owned(), "records".to_owned())),
        "{}",
        sentences(&outcome)
    );
}

/// Every fourth run reads everything, and a share in each: what no run reads again goes unseen until
/// then, and not longer.
#[test]
fn an_old_record_that_was_changed_is_found_by_the_next_run_from_the_beginning() {
    let world = World::new();
    let chain = world.chain("acme");
    let fourth =
        |builder: super::WatchBuilder| builder.with_whole_every(NonZeroU32::new(4).unwrap());
    assert_intact(&world.run_with(fourth));
    for sink in [&world.hot, &world.cold] {
        sink.tamper().replace_text(&chain, 5, "support-agent", "another-agent");
    }
    for _ in 1..4 {
        assert_intact(&world.run_with(fourth));
    }
    found(&world.run_with(fourth), &[(Tampered, "acme", 5, 5, "hot, cold")]);
}

/// Another record in the same place, which fits the one before.
fn another(record: &Record) -> Record {
    let mut event = record.event().unwrap();
    event.event_id = EventId::new();
    Record::new(event.canonical_bytes().unwrap(), record.parts().to_vec())
}

fn without_content(record: &Record, reason: AbsentReason, evidence: Option<EventId>) -> Record {
    let parts = record.parts().iter().map(|_| PartBody::Absent { reason, at: None, evidence });
    Record::new(record.event_bytes().to_vec(), parts.collect())
}
