//! Any change at all, tried at random.

use proptest::prelude::*;

use super::*;

/// What somebody without the key does to one record of a ledger that a checkpoint covers whole.
#[derive(Debug, Clone)]
enum Attack {
    Flip { at: prop::sample::Index, byte: prop::sample::Index, bit: u8 },
    Drop(prop::sample::Index),
    Duplicate { at: prop::sample::Index, to: prop::sample::Index },
    Swap(prop::sample::Index, prop::sample::Index),
}

fn attack() -> impl Strategy<Value = Attack> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        6 => (index(), index(), 0u8..8)
            .prop_map(|(at, byte, bit)| Attack::Flip { at, byte, bit }),
        1 => index().prop_map(Attack::Drop),
        1 => (index(), index()).prop_map(|(at, to)| Attack::Duplicate { at, to }),
        1 => (index(), index()).prop_map(|(a, b)| Attack::Swap(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn is_never_intact(attack in attack(), every in 1u64..8) {
        let mut ledger = Ledger::of("acme", "chain-1", 9, every);
        let records = &mut ledger.records;
        let place = match attack {
            Attack::Flip { at, byte, bit } => {
                let at = at.index(records.len());
                let byte = byte.index(records[at].len());
                records[at][byte] ^= 1 << bit;
                at..=at
            }
            Attack::Drop(at) => {
                let at = at.index(records.len());
                records.remove(at);
                at..=at
            }
            Attack::Duplicate { at, to } => {
                let at = at.index(records.len());
                let to = to.index(records.len() + 1);
                let record = records[at].clone();
                records.insert(to, record);
                at.min(to)..=at.max(to)
            }
            Attack::Swap(a, b) => {
                let (a, b) = (a.index(records.len()), b.index(records.len()));
                prop_assume!(a != b);
                records.swap(a, b);
                a.min(b)..=a.max(b)
            }
        };
        let report = ledger.verify();
        prop_assert_eq!(report.verdict(), Verdict::Tampered, "{:#?}", sentences(&report));
        // And some finding names the place.
        let named = place.clone().any(|at| {
            let at = u64::try_from(at).unwrap();
            report.findings.iter().any(|finding| finding.is_at(at))
        });
        prop_assert!(named, "{place:?}: {:#?}", sentences(&report));
    }
}
