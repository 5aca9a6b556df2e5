//! An export, and its verification, take no more memory for many events than for few. A program of
//! its own, because all memory of it is counted.
#![allow(clippy::unwrap_used, reason = "tests")]

mod store;

use std::sync::Arc;

use agent_audit_core::key::SigningKey;
use agent_audit_query::{
    Filter, Ledger,
    export::{ExportVerdict, Exporter, VerifyOptions, verify},
};
use peak_alloc::PeakAlloc;
use store::Made;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// More than an export of this size ever needed, and a fraction of what it writes.
const BOUND: usize = 24 << 20;

#[test]
fn two_hundred_thousand_events_go_through_bounded_memory() {
    let events = 200_000;
    let key = SigningKey::from_seed(&[1; 32]);
    let store = Arc::new(Made::new(events));
    let checkpoints = store.checkpoints(&key, 100);
    let ledger = Ledger::new(store.clone(), store.tenant());
    let dir = tempfile::tempdir().unwrap();

    let attempts = Filter::new().event_type("tool.attempted");
    for (name, filter) in [("all", Filter::new()), ("attempts", attempts)] {
        let out = dir.path().join(name);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        let exporter = Exporter::new(&ledger, &key, &checkpoints)
            .with_filter(filter)
            .with_content()
            .with_file_bytes(32 << 20);
        let exported = pollster::block_on(exporter.write(&out)).unwrap();
        let peak = MEMORY.peak_usage() - before;
        assert!(exported.bytes > 150 << 20, "{} bytes", exported.bytes);
        assert!(peak < BOUND, "the export of {name} took {peak} bytes");

        MEMORY.reset_peak_usage();
        let options = VerifyOptions::default()
            .with_exporter_keys([key.verifying_key()])
            .with_log_keys([key.verifying_key()]);
        let report = verify(&out, options).unwrap();
        let peak = MEMORY.peak_usage() - before;
        assert_eq!(report.verdict(), ExportVerdict::Intact, "{:?}", report.findings);
        assert_eq!(report.events, exported.manifest.counts.events);
        assert!(peak < BOUND, "the verification of {name} took {peak} bytes");
    }
}
