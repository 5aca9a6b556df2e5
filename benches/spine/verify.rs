//! Verification, against SHA-256 over the same bytes, on one core.

use agent_audit::{
    AuditLog, Draft,
    content::{Part, Salt, commitment},
    event::tool::ToolAttempted,
    hash::leaf,
    journal::Scan,
    record::{PartView, RecordView},
    tree::CompactRange,
    verify::{ChainVerifier, Checkpoints},
};
use criterion::{Criterion, Throughput};
use sha2::{Digest as _, Sha256};

use crate::{meter::Meter, sessions};

pub(crate) fn bench(criterion: &mut Criterion, meter: &mut Meter) {
    let real: Vec<String> = sessions::text()
        .split("},{\"role\"")
        .map(str::to_owned)
        .filter(|message| !message.is_empty())
        .collect();
    let ledgers = [
        ("1KB", sessions::pieces(384), 20_000),
        ("32KB", sessions::pieces(32_768 - 640), 1_000),
        ("real", real, 5_000),
    ];
    for (size, contents, events) in ledgers {
        let (chain, records) = ledger(&contents, events);
        let bytes: u64 = records.iter().map(|record| record.len() as u64).sum();
        let mut group = criterion.benchmark_group(format!("verify/{size}"));
        group.throughput(Throughput::Bytes(bytes)).sample_size(10);
        let (ours, floor) = (format!("verify/{size}/ours"), format!("verify/{size}/floor"));
        let prescribed = format!("verify/{size}/prescribed");
        let count = records.len() as u64;
        let stored: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        // In turns within each sample.
        for contestant in ["verifier", "sha256"] {
            group.bench_function(contestant, |bencher| {
                bencher.iter_custom(|rounds| {
                    let mut mine = std::time::Duration::ZERO;
                    for _ in 0..rounds {
                        let verified = meter.measure(&ours, count, || {
                            let mut verifier =
                                ChainVerifier::new(chain.clone(), Checkpoints::none());
                            verifier.push_batch(&stored);
                            let report = verifier.finish();
                            assert_eq!(report.events, count);
                        });
                        let hashed = meter.measure(&floor, count, || {
                            for record in &records {
                                std::hint::black_box(Sha256::digest(record));
                            }
                        });
                        meter.measure(&prescribed, count, || hash_as_prescribed(&records));
                        mine += if contestant == "verifier" { verified } else { hashed };
                    }
                    mine
                });
            });
        }
        group.finish();
        let mean = bytes / count;
        meter.compare(&format!("verify {size} (~{mean} B) vs sha256"), &ours, &floor);
        meter.compare(&format!("verify {size} vs its own hashes"), &ours, &prescribed);
    }
}

/// The hashes that the format prescribes, one after the other: leaves, commitments, tree.
fn hash_as_prescribed(records: &[Vec<u8>]) {
    let mut tree = CompactRange::new();
    for record in records {
        let record = RecordView::parse(record).unwrap();
        tree.push(leaf(record.event_bytes));
        for part in record.part_views() {
            if let PartView::Clear { salt, bytes } = part {
                std::hint::black_box(commitment(&Salt::from_bytes(*salt), bytes));
            }
        }
    }
    std::hint::black_box(tree.root());
}

/// The stored records of a real chain.
fn ledger(contents: &[String], events: usize) -> (agent_audit::chain::ChainRef, Vec<Vec<u8>>) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let log = AuditLog::builder(dir.path())
        .with_durability(agent_audit::Durability::Buffered)
        .open()
        .unwrap();
    let session = log.session("acme", "session-1", "support-agent").unwrap();
    let mut chain = None;
    for content in contents.iter().cycle().take(events) {
        let draft = Draft::new(ToolAttempted::new("update_reservation_flights"))
            .with_part(Part::text("input", content.as_str()));
        chain = Some(session.record_blocking(draft).unwrap().chain);
    }
    drop((session, log));
    let mut scan = Scan::open(dir.path().join("journal")).unwrap();
    let mut records = Vec::new();
    while let Some(entry) = scan.next_entry().unwrap() {
        records.push(entry.bytes[1..].to_vec());
    }
    (chain.unwrap(), records)
}
