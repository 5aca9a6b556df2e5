//! One caller: the time to an acknowledgement, against one write and fdatasync of the same bytes.

use std::os::unix::fs::FileExt as _;

use agent_audit::{AuditLog, Draft, content::Part, event::tool::ToolAttempted};
use criterion::Criterion;

use crate::{meter::Meter, sessions};

pub(crate) fn bench(criterion: &mut Criterion, meter: &mut Meter) {
    let pieces = sessions::pieces(384);
    let mut group = criterion.benchmark_group("acknowledge/1KB");
    group.sample_size(20);

    let dir = tempfile::tempdir_in(".").unwrap();
    let log = AuditLog::open(dir.path()).unwrap();
    let session = log.session("acme", "session-1", "support-agent").unwrap();
    let mut at = 0;
    // The floor writes to a file that is preallocated as the journal's segments are.
    let file = std::fs::File::create(dir.path().join("floor")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 256 << 20).unwrap();
    file.sync_all().unwrap();
    let mut offset = 0;
    let bytes = vec![b'x'; 1_024];
    // In turns within each sample, so that both see the same disk.
    for contestant in ["agent-audit", "fdatasync"] {
        group.bench_function(contestant, |bencher| {
            bencher.iter_custom(|events| {
                let mut mine = std::time::Duration::ZERO;
                for _ in 0..events {
                    let ours = meter.measure("acknowledge/agent-audit", 1, || {
                        let part = Part::text("input", pieces[at % pieces.len()].as_str());
                        session
                            .record_blocking(Draft::new(ToolAttempted::new("t")).with_part(part))
                            .unwrap();
                    });
                    at += 1;
                    let theirs = meter.measure("acknowledge/fdatasync", 1, || {
                        file.write_all_at(&bytes, offset % (256 << 20)).unwrap();
                        rustix::fs::fdatasync(&file).unwrap();
                    });
                    offset += 1_024;
                    mine += if contestant == "agent-audit" { ours } else { theirs };
                }
                mine
            });
        });
    }
    group.finish();
    meter.compare(
        "acknowledgement vs one fdatasync",
        "acknowledge/agent-audit",
        "acknowledge/fdatasync",
    );
}
