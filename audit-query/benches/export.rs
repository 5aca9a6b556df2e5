//! How long an export and its verification take, and how much memory: `cargo bench -p
//! agent-audit-query --bench export --features parquet -- 1000000`.
//!
//! The store makes its events when they are asked for; how long that takes is measured first and is
//! part of every export, once for the hashes and once for the events.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program that measures")]

#[path = "../tests/bounded/store.rs"]
mod store;

use std::{fs, sync::Arc, time::Instant};

use agent_audit_core::key::SigningKey;
use agent_audit_query::{
    Filter, Ledger, Order,
    export::{ExportVerdict, Exporter, Format, VerifyOptions, verify},
};
use store::Made;

fn main() {
    let events = std::env::args().filter_map(|argument| argument.parse().ok()).next();
    let events: u64 = events.unwrap_or(100_000);
    let key = SigningKey::from_seed(&[1; 32]);
    let store = Arc::new(Made::new(events));
    let checkpoints = store.checkpoints(&key, 100);
    let ledger = Ledger::new(store.clone(), store.tenant());
    let dir = tempfile::tempdir().unwrap();
    let attempts = Filter::new().event_type("tool.attempted");

    let start = Instant::now();
    let everything = Filter::new();
    let all = ledger.each(&everything, Order::Chain, true, |_| Ok(true));
    pollster::block_on(all).unwrap();
    println!(
        "{events} events; reading all of them: {:.1} s, peak {}",
        start.elapsed().as_secs_f64(),
        peak()
    );

    let mut formats = vec![Format::Ndjson];
    if cfg!(feature = "parquet") {
        formats.push(Format::Parquet);
    }
    for format in formats {
        for (name, filter) in [("all", Filter::new()), ("tool.attempted", attempts.clone())] {
            let out = dir.path().join("export");
            let start = Instant::now();
            let exporter = Exporter::new(&ledger, &key, &checkpoints)
                .with_filter(filter)
                .with_format(format)
                .with_content();
            let exported = pollster::block_on(exporter.write(&out)).unwrap();
            let (took, after) = (start.elapsed().as_secs_f64(), peak());
            let proofs = exported.manifest.files.iter().find(|file| file.name == "proofs.ndjson");
            println!(
                "{name} as {}: {} events, {} MB, of it proofs {} MB; export {took:.1} s, peak {after}",
                format.extension(),
                exported.manifest.counts.events,
                exported.bytes / 1_000_000,
                proofs.map_or(0, |file| file.bytes) / 1_000_000,
            );
            let start = Instant::now();
            let options = VerifyOptions::default()
                .with_exporter_keys([key.verifying_key()])
                .with_log_keys([key.verifying_key()]);
            let report = verify(&out, options).unwrap();
            assert_eq!(report.verdict(), ExportVerdict::Intact, "{:?}", report.findings);
            println!("    verification {:.1} s, peak {}", start.elapsed().as_secs_f64(), peak());
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

/// The most memory that the process ever had, in megabytes.
fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.map_or_else(|| "unknown".to_owned(), |kilobytes| format!("{} MB", kilobytes / 1_000))
}
