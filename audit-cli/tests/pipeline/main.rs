//! From an agent's process to two stores: journal, Kafka, the relay, ClickHouse and the archive in S3,
//! on real servers and with real sessions, while the relay is killed in the middle.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod place;

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agent_audit_core::{
    chain::ChainRef,
    journal::Scan,
    log::{AuditLog, Draft, Layout, entry},
    openai_chat::Transcript,
    record::Record,
    verify::{
        ChainVerifier, Checkpoints, Report, Verdict,
        directory::{VerifyOptions, verify_directory},
    },
};
use agent_audit_kafka::{KafkaConfig, KafkaSink};

use place::Place;

const TENANTS: usize = 10;
/// How often the relay is killed before it may finish.
const KILLS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(240);

type Ledger = BTreeMap<ChainRef, Vec<Record>>;

/// The real sessions, one a line; or none where they are not at hand and need not be.
fn sessions() -> Option<String> {
    let folder = std::env::var_os("AUDIT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let file = folder.join("airline-sessions.jsonl");
    match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if std::env::var_os("AUDIT_REQUIRE_DATA").is_none() => {
            // Past the capture of output, so that a skipped test is seen.
            let skipped = format!("skipped: {}: {error}; set AUDIT_DATA\n", file.display());
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            None
        }
        Err(error) => {
            panic!("{}: {error}; AUDIT_REQUIRE_DATA says that it must be there", file.display())
        }
    }
}

/// Records the sessions for ten tenants through a log that delivers to Kafka alone.
async fn record(sessions: &str, dir: &Path, kafka: KafkaConfig) {
    let log = AuditLog::builder(dir).with_sink(KafkaSink::new(kafka).unwrap()).open().unwrap();
    for (at, line) in sessions.lines().enumerate() {
        let transcript = Transcript::parse(line.as_bytes()).unwrap();
        let tenant = format!("tenant-{}", at % TENANTS);
        let session =
            log.session(tenant.as_str(), transcript.session_id().as_str(), "airline").unwrap();
        for event in transcript.events() {
            session.record(Draft::from(event)).await.unwrap();
        }
    }
    let report = log.close(DEADLINE).await.unwrap();
    assert!(report.is_complete(), "{report:?}");
}

/// What the journal holds: the truth that the stores are held against.
fn journal(dir: &Path) -> Ledger {
    let mut ledger = Ledger::new();
    let mut scan = Scan::open(Layout::new(dir).journal()).unwrap();
    while let Some(found) = scan.next_entry().unwrap() {
        let (&entry::RECORD, bytes) = found.bytes.split_first().unwrap() else {
            panic!("entry {} is no record", found.index)
        };
        let record = Record::from_bytes(bytes).unwrap();
        let event = record.event().unwrap();
        ledger.entry(ChainRef::new(event.tenant_id, event.chain_id)).or_default().push(record);
    }
    ledger
}

fn count(ledger: &Ledger) -> usize {
    ledger.values().map(Vec::len).sum()
}

/// A store holds exactly what the journal holds, and verifies.
#[track_caller]
fn assert_same(store: &str, expected: &Ledger, stored: &Ledger) {
    assert_eq!(stored.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{store}");
    let mut reports = Vec::new();
    for (chain, records) in stored {
        assert!(*records == expected[chain], "{store}: the records of {chain} differ");
        let mut verifier = ChainVerifier::new(chain.clone(), Checkpoints::none());
        for record in records {
            verifier.push(&record.to_bytes());
        }
        reports.push(verifier.finish());
    }
    let report = Report::from_chains(reports);
    assert_eq!(report.verdict(), Verdict::Intact, "{store}: {:?}", report.findings);
    assert_eq!(report.events, u64::try_from(count(expected)).unwrap(), "{store}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs AUDIT_TEST_KAFKA, AUDIT_TEST_CLICKHOUSE and AUDIT_TEST_S3: servers/with kafka clickhouse s3 -- cargo test -- --include-ignored"]
async fn real_sessions_reach_both_stores_once_although_the_relay_is_killed() {
    let Some(sessions) = sessions() else { return };
    let place = Place::new().await;
    let dir = tempfile::tempdir().unwrap();
    record(&sessions, dir.path(), place.kafka()).await;
    let truth = journal(dir.path());
    let total = count(&truth);
    assert!(truth.len() == TENANTS && total > 2_500, "{} chains, {total} events", truth.len());

    // Killed when it has brought a part, with more of it under way; each time it starts again.
    for kill in 1..=KILLS {
        let mut relay = place.relay();
        let goal = total * kill / (KILLS + 2);
        until("some progress", || async { place.rows().await >= goal }).await;
        relay.kill().unwrap();
        relay.wait().unwrap();
    }
    assert!(place.rows().await < total, "the relay was killed before it was done");

    let mut relay = place.relay();
    until("both stores to be whole", || async {
        place.rows().await >= total && count(&place.archived().await) >= total
    })
    .await;
    relay.kill().unwrap();
    relay.wait().unwrap();

    assert_same("clickhouse", &truth, &place.stored().await);
    assert_same("s3", &truth, &place.archived().await);

    // And as an auditor verifies them: with the checkpoints that the agent's process signed.
    let (log, stores) = (dir.path().to_owned(), place.record_stores().await);
    let verify = move || {
        let mut options = VerifyOptions::default();
        options.stores = stores;
        verify_directory(&log, options).unwrap()
    };
    let report = tokio::task::spawn_blocking(verify).await.unwrap();
    assert_eq!(report.verdict(), Verdict::Intact, "{:?}", report.findings);
}

async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::task::yield_now().await;
    }
}
