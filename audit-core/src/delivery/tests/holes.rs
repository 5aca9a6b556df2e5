//! Optional sinks and refusals against a model: what a sink does not have is declared, always.

use proptest::prelude::*;

use super::*;

/// One process: what it writes, how the optional sink behaves, and how it ends.
#[derive(Debug, Clone)]
struct Process {
    writes: String,
    script: Vec<Act>,
    /// The sink takes nothing at all, hanging or failing.
    outage: Option<Act>,
    refused: Vec<(char, u64, bool)>,
    /// The sink is required this time.
    required: bool,
    trims: bool,
    dies: bool,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Succeed),
        2 => any::<bool>().prop_map(|applied| Act::Fail { applied, retryable: true }),
        1 => Just(Act::First(Part::Prefix)),
        1 => any::<bool>().prop_map(|applied| {
            Act::First(Part::Fail { applied, retryable: true })
        }),
    ]
}

fn outage() -> impl Strategy<Value = Act> {
    prop_oneof![
        any::<bool>().prop_map(|applied| Act::Fail { applied, retryable: true }),
        any::<bool>().prop_map(|applied| Act::Hang { applied }),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    (
        "[abc]{0,40}",
        prop::collection::vec(act(), 0..6),
        prop::option::of(outage()),
        prop::collection::vec((prop::char::range('a', 'c'), 0_u64..40, any::<bool>()), 0..3),
        any::<[bool; 2]>(),
        prop::bool::weighted(0.25),
    )
        .prop_map(|(writes, script, outage, refused, [trims, dies], required)| Process {
            writes,
            script,
            outage,
            refused,
            required,
            trims,
            dies,
        })
}

fn bounds() -> DeliveryOptions {
    options()
        .with_append_timeout(Duration::from_millis(20))
        .with_on_rejected(OnRejected::Quarantine)
        .with_optional_bounds(8, u64::MAX, Duration::from_secs(86_400))
}

fn run(processes: &[Process], nature: Nature) {
    let info = SinkInfo::new("late", "test").with_max_batch(5, 1 << 20);
    let late = Store::with(match nature {
        Nature::Gaps => info.with_gaps(),
        Nature::Heads => info.with_readable_heads(),
        Nature::Neither => info,
    });
    let store = Store::new();
    let mut world = World::new();
    for process in processes {
        {
            let mut state = late.lock();
            state.script = process.script.iter().cloned().collect();
            state.refused.extend(
                process
                    .refused
                    .iter()
                    .map(|(tenant, sequence, applied)| ((tenant.to_string(), *sequence), *applied)),
            );
            match &process.outage {
                Some(Act::Hang { applied }) => {
                    state.hanging = "abc".chars().map(|t| (t.to_string(), *applied)).collect();
                }
                Some(act) => state.script.extend(vec![act.clone(); 10_000]),
                None => {}
            }
        }
        let role = if process.required { Role::Required } else { Role::Optional };
        let sinks = [(Role::Required, &store), (role, &late)];
        let sinks = sinks.map(|(role, sink)| (role, Arc::clone(sink) as Arc<dyn Sink>));
        let delivery = world.try_start(sinks, bounds()).unwrap();
        world.write_all(&process.writes);
        store.wait_until("it has everything", |state| state.chains == world.written);
        if process.trims {
            delivery.relieve();
            until("it lets go of what is over the bounds", || {
                let trimmable = delivery.trimmable().unwrap();
                world.journal.trim(trimmable).unwrap();
                trimmable >= *delivery.lanes[1].floor.borrow()
            });
        }
        {
            let mut state = late.lock();
            state.script.clear();
            state.hanging.clear();
        }
        if !process.dies {
            delivery.close(FOREVER);
        }
        drop(delivery);
    }

    let delivery = world.start_both(&store, &late, bounds());
    delivery.close(FOREVER);
    let health = delivery.health().remove(1);
    world.assert_complete(&store);
    let state = late.lock();
    assert_eq!(state.faults, Vec::<String>::new());
    for (tenant, written) in &world.written {
        let held = state.chains.get(tenant).cloned().unwrap_or_default();
        let declared: BTreeSet<u64> = health
            .missing
            .iter()
            .filter(|hole| hole.chain.tenant_id.as_str() == tenant)
            .flat_map(|hole| hole.first..=hole.last)
            .collect();
        let halted = health.halted.iter().find(|h| h.chain.tenant_id.as_str() == tenant);
        for (at, hash) in written.iter().enumerate() {
            let sequence = u64::try_from(at).unwrap();
            // Where a chain is halted, everything from there on is known not to be sent.
            let known = declared.contains(&sequence)
                || halted.is_some_and(|halted| sequence >= halted.sequence);
            let there = held.get(at) == Some(hash);
            assert!(there || known, "{tenant} {sequence} is missing and nobody knows: {health:?}");
            assert!(there || held.get(at).is_none_or(|held| *held == Hash::ZERO));
        }
        if !matches!(nature, Nature::Gaps) {
            assert!(!held.contains(&Hash::ZERO), "a hole: {tenant}");
        }
    }
    for event in &health.quarantined {
        let (_, record) = read_quarantined(&event.path).unwrap();
        let at = usize::try_from(event.sequence).unwrap();
        assert_eq!(record.event_hash(), world.written[event.chain.tenant_id.as_str()][at]);
    }
}

#[derive(Debug, Clone, Copy)]
enum Nature {
    Gaps,
    Heads,
    Neither,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_an_optional_sink_does_not_have_is_declared(
        processes in prop::collection::vec(process(), 1..5),
        nature in prop_oneof![Just(Nature::Gaps), Just(Nature::Heads), Just(Nature::Neither)],
    ) {
        run(&processes, nature);
    }
}
