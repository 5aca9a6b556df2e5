//! The writing process: recording until it is killed, and the handle by which that is done.

use std::{io::Write as _, path::PathBuf, process::Stdio, time::Duration};

use agent_audit_core::{
    conformance::Applies,
    id::{ChainId, TenantId},
    sink::ChainRef,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    OutageHarness,
    scene::{self, Ack, Patience, Scene},
};
use crate::proxy::Behaviour;

const ORDERS: &str = "AUDIT_OUTAGE_ORDERS";

/// What a writing process is told at its start.
#[derive(Debug, Clone)]
pub(super) struct Orders {
    dir: PathBuf,
    through: std::net::SocketAddr,
    tenants: Vec<String>,
    pub(super) handed_down: String,
}

impl Orders {
    /// Those of this process, if it is a writing process.
    pub(super) fn given() -> Option<Self> {
        let json: serde_json::Value =
            serde_json::from_str(&std::env::var(ORDERS).ok()?).expect("orders are written here");
        let text = |name: &str| json[name].as_str().expect("orders are complete").to_owned();
        Some(Self {
            dir: text("dir").into(),
            through: text("through").parse().expect("orders name an address"),
            tenants: text("tenants").split(' ').map(str::to_owned).collect(),
            handed_down: text("handed_down"),
        })
    }

    fn to_json(&self) -> String {
        serde_json::json!({
            "dir": self.dir,
            "through": self.through.to_string(),
            "tenants": self.tenants.join(" "),
            "handed_down": self.handed_down,
        })
        .to_string()
    }
}

/// The process itself. Each line that it reads is how often it shall record for each tenant.
pub(super) async fn run(harness: &dyn OutageHarness, orders: Orders) {
    let sink = harness.sink(orders.through).await;
    let log = scene::open(harness, &orders.dir, sink).await;
    // The test runner may have begun the line.
    say("\nopened");
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(command)) = commands.next_line().await {
        let times: usize = command.parse().expect("a command is a number");
        for _ in 0..times {
            for ack in scene::record(&log, &orders.tenants, 1).await {
                let Ack { chain, sequence, event_hash } = ack;
                say(&format!("ack {} {} {sequence} {event_hash}", chain.tenant_id, chain.chain_id));
            }
        }
        say("done");
    }
    // Nobody is left behind when the parent goes.
    std::process::exit(3);
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write for the line and its end; without anybody to listen there is nothing to do.
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}

/// A writing process that was started.
struct Writer {
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    acks: Vec<Ack>,
    patience: Duration,
}

impl Writer {
    async fn start(scene: &Scene<'_>, test: &str) -> Self {
        let orders = Orders {
            dir: scene.dir.path().to_owned(),
            through: scene.proxy.address(),
            tenants: scene.tenants.clone(),
            handed_down: scene.harness.handed_down(),
        };
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
            .env(ORDERS, orders.to_json())
            .env_remove("AGENT_AUDIT_SIGNING_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let patience = scene.harness.patience();
        let mut writer = Self { process, stdin, lines, acks: Vec::new(), patience };
        writer.wait_for("opened").await;
        writer
    }

    async fn command(&mut self, times: usize) {
        self.stdin.write_all(format!("{times}\n").as_bytes()).await.unwrap();
    }

    async fn record(&mut self, times: usize) {
        self.command(times).await;
        self.wait_for("done").await;
    }

    /// Reads up to a line, and takes the acknowledgements before it.
    async fn wait_for(&mut self, wanted: &str) {
        loop {
            let line = tokio::time::timeout(self.patience, self.lines.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("the writing process never said {wanted}"));
            let Some(line) = line.unwrap() else {
                let status = self.process.wait().await;
                panic!("the writing process ended by itself: {status:?}");
            };
            self.take(&line);
            if line.starts_with(wanted) {
                return;
            }
        }
    }

    fn take(&mut self, line: &str) {
        let Some(words) = line.strip_prefix("ack ") else { return };
        let words: Vec<_> = words.split(' ').collect();
        let [tenant, chain, sequence, event_hash] = words[..] else {
            panic!("a garbled line: {line}")
        };
        self.acks.push(Ack {
            chain: ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new(chain).unwrap()),
            sequence: sequence.parse().unwrap(),
            event_hash: event_hash.parse().unwrap(),
        });
    }

    /// Sends SIGKILL while it is recording, and takes what it had acknowledged.
    async fn kill(mut self) -> Vec<Ack> {
        self.command(1_000_000).await;
        for _ in 0..10 {
            self.wait_for("ack ").await;
        }
        self.process.kill().await.unwrap();
        let mut rest = Vec::new();
        while let Ok(Some(line)) = self.lines.next_line().await {
            rest.push(line);
        }
        // The last line may have been cut by the kill; all before it are whole.
        if let Some((_, whole)) = rest.split_last() {
            for line in whole {
                self.take(line);
            }
        }
        self.acks
    }
}

/// Kills a writing process in the middle of an outage. The next one delivers what it left behind.
pub(super) async fn killed(
    harness: &dyn OutageHarness,
    test: &str,
    behaviour: Behaviour,
) -> Applies {
    const TIMES: usize = 6;
    let mut scene = Scene::new(harness).await;
    let mut writer = Writer::start(&scene, test).await;
    writer.record(TIMES).await;
    scene.stored(&writer.acks).await;

    let before = scene.proxy.bites();
    scene.proxy.set(behaviour);
    writer.record(TIMES).await;
    // A connection that is refused is not seen, one that was open and is reset is.
    let patience = Patience::of(harness);
    while scene.proxy.bites() == before && behaviour != Behaviour::Refuse {
        patience.wait(|| "the outage to meet anything".to_owned()).await;
        writer.record(1).await;
    }
    scene.acks.extend(writer.kill().await);

    scene.proxy.set(Behaviour::Pass);
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}
