//! Processes that die anywhere, against a model: the store ends whole, without a hole or a double.

use proptest::prelude::*;

use super::*;

/// What becomes of the cursor between two processes.
#[derive(Debug, Clone, Copy)]
enum CursorFate {
    /// As the process stored it when it was dropped.
    Kept,
    /// As it was when the process began: it died before it stored anything.
    Old,
    Deleted,
    Damaged,
}

/// One process: what it writes, what its sink does, and whether it is killed.
#[derive(Debug, Clone)]
struct Process {
    writes: String,
    script: Vec<Act>,
    failing: Option<(char, Part)>,
    /// The sink hangs on a tenant, and stores its events all the same or does not.
    hanging: Option<(char, bool)>,
    /// Dies in this call of `append`; else at its orderly end.
    dies_in: Option<(usize, bool)>,
    /// Dies wherever it happens to be, and at the latest there.
    abrupt: bool,
    fate: CursorFate,
    trims: bool,
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        (any::<bool>()).prop_map(|applied| Part::Fail { applied, retryable: true }),
        Just(Part::Prefix),
        Just(Part::PrefixBeyond),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Succeed),
        3 => part().prop_map(Act::First),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(applied, retryable)| Act::Fail { applied, retryable }),
        1 => Just(Act::WrongCount),
    ]
}

fn process() -> impl Strategy<Value = Process> {
    let fate = prop_oneof![
        3 => Just(CursorFate::Kept),
        2 => Just(CursorFate::Old),
        1 => Just(CursorFate::Deleted),
        1 => Just(CursorFate::Damaged),
    ];
    (
        "[abcd]{0,24}",
        prop::collection::vec(act(), 0..6),
        prop::option::of((prop::char::range('a', 'd'), part())),
        prop::option::weighted(0.2, (prop::char::range('a', 'd'), any::<bool>())),
        prop::option::of((0_usize..5, any::<bool>())),
        fate,
        any::<[bool; 2]>(),
    )
        .prop_map(|(writes, script, failing, hanging, dies_in, fate, [abrupt, trims])| {
            Process { writes, script, failing, hanging, dies_in, abrupt, fate, trims }
        })
}

fn run(processes: &[Process], heads: bool, most_events: usize) {
    let info = SinkInfo::new("store", "test").with_max_batch(most_events, 1 << 20);
    let sink = Store::with(if heads { info.with_readable_heads() } else { info });
    let mut world = World::new();
    for process in processes {
        let old = std::fs::read(world.cursor_path()).ok();
        {
            let mut state = sink.lock();
            state.calls.clear();
            state.script.clear();
            state.script.extend(process.script.iter().cloned());
            if let Some((call, applied)) = process.dies_in {
                let acts = call.max(state.script.len());
                state.script.resize(acts, Act::Succeed);
                state.script.truncate(call);
                state.script.push_back(Act::Hang { applied });
            }
            state.tenants.clear();
            let failing = process.failing.map(|(tenant, part)| (tenant.to_string(), part));
            state.tenants.extend(failing);
            state.hanging = process.hanging.iter().map(|(t, a)| (t.to_string(), *a)).collect();
        }
        let middle = process.writes.len() / 2;
        world.write_all(&process.writes[..middle]);
        let timeout = match process.hanging {
            Some(_) => Duration::from_millis(10),
            None => options().append_timeout,
        };
        let delivery = world.start_with(&[&sink], options().with_append_timeout(timeout));
        world.write_all(&process.writes[middle..]);
        match process.dies_in {
            Some(_) if process.abrupt => {}
            // It hangs in that call, if it ever makes so many, and is dropped there.
            Some(_) => drop(delivery.close(Duration::from_millis(10))),
            None => {
                sink.lock().tenants.clear();
                sink.lock().hanging.clear();
                assert_eq!(delivery.close(FOREVER), []);
                world.assert_complete(&sink);
            }
        }
        let stored = delivery.trimmable().unwrap();
        drop(delivery);
        match process.fate {
            // What was trimmed must not be needed again, so only then.
            CursorFate::Kept => {
                if process.trims {
                    world.journal.trim(stored).unwrap();
                }
            }
            CursorFate::Old => match old {
                Some(old) => std::fs::write(world.cursor_path(), old).unwrap(),
                None => drop(std::fs::remove_file(world.cursor_path())),
            },
            CursorFate::Deleted => drop(std::fs::remove_file(world.cursor_path())),
            CursorFate::Damaged => {
                if let Ok(mut bytes) = std::fs::read(world.cursor_path()) {
                    let at = bytes.len() / 2;
                    bytes[at] ^= 0x04;
                    std::fs::write(world.cursor_path(), bytes).unwrap();
                }
            }
        }
    }
    {
        let mut state = sink.lock();
        state.script.clear();
        state.tenants.clear();
        state.hanging.clear();
    }
    let delivery = world.start(&[&sink]);
    assert_eq!(delivery.close(FOREVER), []);
    assert_eq!(delivery.health()[0].halted, []);
    assert_eq!(delivery.trimmable(), Some(world.journal.next_index()));
    world.assert_complete(&sink);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_store_ends_whole_without_a_hole_or_a_double(
        processes in prop::collection::vec(process(), 1..5),
        heads in any::<bool>(),
        most_events in prop_oneof![1_usize..6, Just(1_000)],
    ) {
        run(&processes, heads, most_events);
    }
}
