//! Several ways to do the same, side by side: for benchmarks that say how a sink compares.

use std::fmt::Write as _;

/// Times of several ways to do the same, of which the first is held against the others.
///
/// Each round goes through all of them, and each of them goes first in its turn, so that none always
/// has what the one before it left: a warm cache, a longer queue.
///
/// ```
/// use agent_audit_test_support::race::Race;
/// let mut race = Race::new(["sink", "client"]);
/// for _ in 0..2 {
///     for way in race.round() {
///         race.took(way, if way == 0 { 2.0 } else { 1.0 });
///     }
/// }
/// let report = race.report(1_000);
/// let words: Vec<&str> = report.split_whitespace().collect();
/// assert_eq!(words[..3], ["sink", "500", "events/s"]);
/// assert_eq!(words[3..].join(" "), "client 1,000 events/s; sink has 0.50 of it");
/// ```
#[derive(Debug)]
pub struct Race<const WAYS: usize> {
    names: [&'static str; WAYS],
    times: [Vec<f64>; WAYS],
    rounds: usize,
}

impl<const WAYS: usize> Race<WAYS> {
    /// Nothing has been timed.
    #[must_use]
    pub fn new(names: [&'static str; WAYS]) -> Self {
        Self { names, times: [const { Vec::new() }; WAYS], rounds: 0 }
    }

    /// The order of the next round.
    pub fn round(&mut self) -> [usize; WAYS] {
        self.rounds += 1;
        std::array::from_fn(|at| (at + self.rounds - 1) % WAYS)
    }

    /// How many seconds a way took in this round.
    pub fn took(&mut self, way: usize, seconds: f64) {
        self.times[way].push(seconds);
    }

    /// Events per second of each, and how much of that the first has: medians of the rounds.
    ///
    /// # Panics
    /// Where a way was not timed in each round.
    #[must_use]
    pub fn report(&self, events: u32) -> String {
        let mut report = String::new();
        for (name, times) in self.names.iter().zip(&self.times) {
            assert_eq!(times.len(), self.rounds, "{name} goes once in each round");
            let rate = f64::from(events) / median(times.iter().copied());
            // Writing to a string cannot fail.
            let _ = write!(report, "  {name:<16} {:>9} events/s", grouped(rate));
            if name != &self.names[0] {
                let ratios = times.iter().zip(&self.times[0]).map(|(other, first)| other / first);
                let _ = write!(report, "; {} has {:.2} of it", self.names[0], median(ratios));
            }
            report.push('\n');
        }
        report
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A number in groups of three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}
