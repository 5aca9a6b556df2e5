//! What the record costs, side by side with what it is compared to, in one run.
//!
//! `cargo bench --bench spine` prints Criterion's figures and, at the end, a table of ratios: the
//! machines are noisy, ratios of one run are not. Nothing here is asserted.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints and stops")]

mod acknowledge;
mod meter;
mod record;
mod sessions;
mod verify;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut meter = meter::Meter::default();
    record::bench(&mut criterion, &mut meter);
    acknowledge::bench(&mut criterion, &mut meter);
    verify::bench(&mut criterion, &mut meter);
    criterion.final_summary();
    meter.print();
}
