//! `agent-audit relay` as a service manager meets it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    io::Read as _,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use agent_audit_core::{
    conformance::TestChain,
    id::ChainId,
    record::Record,
    sink::{Batch, SegmentOutcome, Sink as _},
};
use agent_audit_kafka::{KafkaConfig, KafkaSink};
use agent_audit_sqlite::SqliteStore;
use agent_audit_test_support::servers::required;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

fn relay(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-audit"));
    command.arg("relay").args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AGENT_AUDIT_")) {
        command.env_remove(name);
    }
    command
}

#[test]
fn what_is_wrong_is_said_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", dir.path().display());
    let cases: [(&[&str], &str); 4] = [
        (&["--group", "g", "--to", "nowhere"], "the sink `nowhere` is not known"),
        (&["--group", "g", "--to", "postgres:secret"], "comes from the environment"),
        (&["--group", "g", "--to", &sqlite], "AGENT_AUDIT_KAFKA_BROKERS is not set"),
        (&["--brokers", "b:1", "--topic", "a b", "--group", "g", "--to", &sqlite], "\"a b\""),
    ];
    for (arguments, expected) in cases {
        let output = relay(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains("secret"), "{said}");
    }
}

async fn topic(brokers: &str) -> String {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let name = format!("audit-cli-{}", ChainId::random());
    let topic = NewTopic::new(&name, 2, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    admin.create_topics([&topic], &options).await.unwrap().remove(0).unwrap();
    name
}

fn ends(mut process: Child, signal: &str) -> (Option<i32>, String) {
    let killed = Command::new("kill").arg(signal).arg(process.id().to_string()).status().unwrap();
    assert!(killed.success());
    let mut said = String::new();
    process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    (process.wait().unwrap().code(), said)
}

#[test]
#[ignore = "needs AUDIT_TEST_KAFKA: servers/with kafka -- cargo test -- --include-ignored"]
fn events_reach_the_store_and_a_signal_ends_it_in_order() {
    let brokers = required("AUDIT_TEST_KAFKA");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut chain, mut topic_name) = (TestChain::new(), String::new());
    let sink = runtime.block_on(async {
        topic_name = topic(&brokers).await;
        Arc::new(KafkaSink::new(KafkaConfig::new(&brokers).with_topic(&topic_name)).unwrap())
    });
    let dir = tempfile::tempdir().unwrap();
    let to = format!("sqlite:{}", dir.path().display());
    let stored = |chain: &TestChain| -> Vec<Record> {
        let Ok(store) = SqliteStore::open_read_only(dir.path()) else { return Vec::new() };
        let records = store.records(chain.chain(), 0).map(|found| found.collect::<Vec<_>>());
        records.unwrap_or_default().into_iter().map(|item| item.unwrap().1).collect()
    };
    for signal in ["-TERM", "-INT"] {
        let batch = Batch::new(vec![chain.extend(25)]);
        let ack = runtime.block_on(sink.append(&batch)).unwrap();
        assert!(matches!(ack.outcomes[..], [SegmentOutcome::Accepted]), "{ack:?}");
        let arguments =
            ["--brokers", &brokers, "--topic", &topic_name, "--group", "audit-cli", "--to", &to];
        let mut command = relay(&arguments);
        let process =
            command.args(["--json", "--every", "1"]).stdout(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while stored(&chain) != chain.records() {
            assert!(Instant::now() < deadline, "the store has {} events", stored(&chain).len());
            std::thread::sleep(Duration::from_millis(50));
        }
        let (code, said) = ends(process, signal);
        assert_eq!(code, Some(0), "{said}");
        let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&last["relayed"], &last["problems"]), (&25.into(), &0.into()), "{said}");
        // The second one begins where the first ended.
        assert_eq!(last["read"], 25, "{said}");
        assert_eq!(last["sinks"][0]["acknowledged"], 25, "{said}");
    }
}
