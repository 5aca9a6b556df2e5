//! From an event to the disk: against `tracing` writing JSON to a file, and against the floor of
//! serialising, hashing and writing without any promise.

use std::{fs::File, io::Write as _, sync::Arc, sync::Mutex};

use agent_audit::{
    AuditContext, AuditLog, Draft,
    content::Part,
    event::{
        Event,
        tool::{ToolCompleted, ToolStatus},
    },
    id::{CallId, EventId},
};
use criterion::{Criterion, Throughput};
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};

use crate::{meter::Meter, sessions};

/// What an event has beside its content: the rest of a kilobyte.
const ENVELOPE: usize = 640;

pub(crate) fn bench(criterion: &mut Criterion, meter: &mut Meter) {
    for (size, bytes) in [("1KB", 1_024), ("32KB", 32_768)] {
        let pieces = Arc::new(sessions::pieces(bytes - ENVELOPE));
        for callers in [1_usize, 16, 64, 256] {
            let mut group = criterion.benchmark_group(format!("record/{size}/{callers}"));
            group.throughput(Throughput::Elements(1)).sample_size(10);
            let name = |who: &str| format!("record/{size}/{callers}/{who}");
            let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();

            let ours = name("agent-audit");
            let dir = tempfile::tempdir_in(".").unwrap();
            let log = AuditLog::open(dir.path()).unwrap();
            let session = log.session("acme", "session-1", "support-agent").unwrap();
            group.bench_function("agent-audit", |bencher| {
                bencher.iter_custom(|events| {
                    meter.measure(&ours, events, || {
                        record(&runtime, &session, &pieces, callers, events)
                    })
                });
            });
            let stats = log.journal_stats();
            #[expect(clippy::cast_precision_loss, reason = "figures for people")]
            let batch = stats.next_index as f64 / stats.batches.max(1) as f64;
            println!("record/{size}/{callers}: {batch:.1} events for one fdatasync");
            drop((log, session, dir));

            let tracing = name("tracing");
            let dir = tempfile::tempdir_in(".").unwrap();
            let file = File::create(dir.path().join("log.json")).unwrap();
            let subscriber =
                tracing_subscriber::fmt().json().with_writer(Mutex::new(file)).finish();
            let dispatch = tracing::Dispatch::new(subscriber);
            group.bench_function("tracing-json", |bencher| {
                bencher.iter_custom(|events| {
                    meter.measure(&tracing, events, || {
                        trace(&runtime, &dispatch, &pieces, callers, events)
                    })
                });
            });
            drop((dispatch, dir));

            let floor = name("floor");
            let dir = tempfile::tempdir_in(".").unwrap();
            let mut file = File::create(dir.path().join("events.json")).unwrap();
            group.bench_function("serialise-sha256-write", |bencher| {
                bencher.iter_custom(|events| {
                    meter.measure(&floor, events, || {
                        serialise_hash_write(&mut file, &pieces, events)
                    })
                });
            });
            group.finish();

            let row = format!("record {size}, {callers} callers vs");
            meter.compare(&format!("{row} tracing"), &ours, &tracing);
            meter.compare(&format!("{row} floor"), &ours, &floor);
        }
    }
}

fn draft(pieces: &[String], at: u64) -> Draft {
    let attempt =
        EventId::from_bytes(*b"\x01\x93\x57\x9b\xe2\x00\x70\x00\x80\0\0\0\0\0\0\x01").unwrap();
    let completed = ToolCompleted::new("update_reservation_flights", attempt, ToolStatus::Ok)
        .with_call_id(CallId::new("call_8ZqR2mWmXy0nT3cV").unwrap())
        .with_duration_us(at);
    Draft::new(completed).with_part(Part::text("output", piece(pieces, at)))
}

fn piece(pieces: &[String], at: u64) -> &str {
    &pieces[usize::try_from(at).unwrap() % pieces.len()]
}

fn record(
    runtime: &Runtime,
    session: &AuditContext,
    pieces: &Arc<Vec<String>>,
    callers: usize,
    events: u64,
) {
    spread(runtime, callers, events, |from, to| {
        let (session, pieces) = (session.clone(), Arc::clone(pieces));
        async move {
            for at in from..to {
                session.record(draft(&pieces, at)).await.unwrap();
            }
        }
    });
}

fn trace(
    runtime: &Runtime,
    dispatch: &tracing::Dispatch,
    pieces: &Arc<Vec<String>>,
    callers: usize,
    events: u64,
) {
    spread(runtime, callers, events, |from, to| {
        let (dispatch, pieces) = (dispatch.clone(), Arc::clone(pieces));
        async move {
            for at in from..to {
                tracing::dispatcher::with_default(&dispatch, || {
                    tracing::info!(
                        tenant_id = "acme",
                        session_id = "session-1",
                        agent_id = "support-agent",
                        event_type = "tool.completed",
                        tool_name = "update_reservation_flights",
                        attempt_event_id = "0193579b-e200-7000-8000-000000000001",
                        status = "ok",
                        call_id = "call_8ZqR2mWmXy0nT3cV",
                        duration_us = at,
                        output = piece(&pieces, at),
                    );
                });
                if at % 64 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
    });
}

fn serialise_hash_write(file: &mut File, pieces: &[String], events: u64) {
    for at in 0..events {
        let (payload, parts) = (draft(pieces, at), piece(pieces, at));
        let event = Event::example(payload.payload().clone());
        let mut bytes = serde_json::to_vec(&event).unwrap();
        bytes.extend_from_slice(parts.as_bytes());
        bytes.extend_from_slice(&Sha256::digest(&bytes));
        file.write_all(&bytes).unwrap();
    }
}

/// Divides the events among so many tasks and waits for all of them.
fn spread<F, W>(runtime: &Runtime, callers: usize, events: u64, work: W)
where
    F: Future<Output = ()> + Send + 'static,
    W: Fn(u64, u64) -> F,
{
    let callers = u64::try_from(callers).unwrap();
    runtime.block_on(async {
        let share = |caller: u64| events * caller / callers;
        let tasks: Vec<_> = (0..callers)
            .map(|caller| tokio::spawn(work(share(caller), share(caller + 1))))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}
