//! Time and processor time of each contestant, and their ratios.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// What one contestant needed, sample by sample.
#[derive(Default)]
struct Samples {
    wall: Vec<f64>,
    cpu: Vec<f64>,
}

/// Collects what `measure` saw.
#[derive(Default)]
pub(crate) struct Meter {
    samples: BTreeMap<String, Samples>,
    rows: Vec<(String, String, String)>,
}

impl Meter {
    /// Runs `work` for so many events and keeps time and processor time of each.
    pub(crate) fn measure(&mut self, name: &str, events: u64, work: impl FnOnce()) -> Duration {
        let (cpu, start) = (cpu_now(), Instant::now());
        work();
        let (wall, cpu) = (start.elapsed(), cpu_now() - cpu);
        let samples = self.samples.entry(name.to_owned()).or_default();
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let events = events as f64;
        samples.wall.push(wall.as_secs_f64() / events);
        samples.cpu.push(cpu.as_secs_f64() / events);
        wall
    }

    /// Has the table compare two contestants.
    pub(crate) fn compare(&mut self, row: &str, ours: &str, theirs: &str) {
        self.rows.push((row.to_owned(), ours.to_owned(), theirs.to_owned()));
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<34} {:>11} {:>11} {:>10} {:>7} {:>7}",
            "median per event", "ours", "theirs", "ours/s", "time x", "cpu x"
        );
        for (row, ours, theirs) in &self.rows {
            let (Some(ours), Some(theirs)) = (self.samples.get(ours), self.samples.get(theirs))
            else {
                continue;
            };
            let (wall, other) = (median(&ours.wall), median(&theirs.wall));
            println!(
                "{row:<34} {:>8.2} µs {:>8.2} µs {:>10.0} {:>7.2} {:>7.2}",
                wall * 1e6,
                other * 1e6,
                1.0 / wall,
                wall / other,
                median(&ours.cpu) / median(&theirs.cpu),
            );
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}
