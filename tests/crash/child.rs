//! The other side: a process that records until it is killed, and the handle by which that is done.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditLog, AuditLogBuilder, Draft, Durability, ModelAttempt, ModelCall,
    ModelOutcome, Part, Receipt, ToolAttempt, ToolCall, ToolOutcome,
    delivery::DeliveryOptions,
    event::{
        Other,
        model::{Decision, DecisionKind, ModelDecided, ModelStatus, SelectedCall},
        tool::ToolStatus,
    },
    id::CallId,
    journal::JournalOptions,
    log::Layout,
    sqlite::SqliteSink,
};
use serde::{Deserialize, Serialize};

use crate::{Random, full, in_words};

const ORDERS: &str = "AUDIT_CRASH_ORDERS";
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
const TASKS: u64 = 5;

/// What a process is told to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) dir: PathBuf,
    pub(crate) work: Work,
    pub(crate) sqlite: bool,
    pub(crate) seed: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Open, and say how that went.
    Open,
    /// Record until killed.
    Record,
    /// Each task records so many times; then close.
    RecordAndClose(u64),
    /// Fill a disk of its own.
    FillDisk,
    /// Record until that is refused, and wait.
    FillUp,
}

/// A log with everything small, so that in a moment segments roll and go, checkpoints are signed and
/// snapshots written.
pub(crate) fn builder(dir: &Path, sqlite: bool) -> AuditLogBuilder {
    let delivery = DeliveryOptions::default()
        .with_cursor_interval(Duration::from_millis(5))
        .with_retries(Duration::from_millis(1), Duration::from_millis(50));
    let journal = JournalOptions::default().with_segment_bytes(16 << 10);
    let builder = AuditLog::builder(dir)
        .with_delivery(delivery)
        .with_checkpoint_every(8, Duration::from_millis(20));
    if sqlite {
        // Only a bounded journal is trimmed long before it is large.
        let journal = journal.with_max_bytes(192 << 10);
        let sink = SqliteSink::open(Layout::new(dir).sqlite()).unwrap();
        builder.with_journal(journal).with_sink(sink)
    } else {
        builder.with_journal(journal)
    }
}

/// A process that was started.
pub(crate) struct Child {
    process: std::process::Child,
    lines: mpsc::Receiver<String>,
}

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    ByItself,
}

impl Child {
    pub(crate) fn start(orders: &Orders) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), orders)
    }

    /// Starts the process by a command of which this program is the last word.
    pub(crate) fn start_by(mut command: Command, orders: &Orders) -> Self {
        command
            .args(["child_process", "--exact", "--nocapture", "--test-threads=1"])
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .env_remove("AGENT_AUDIT_SIGNING_KEY")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = loop {
            match command.spawn() {
                // A copy of the program that was written a moment ago: a process that another
                // thread has just forked still has it open, until its own exec.
                Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                    std::thread::yield_now();
                }
                process => break process.unwrap(),
            }
        };
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|read| read > 0) {
                // A line without its end was cut by the kill.
                let Some(whole) = line.strip_suffix('\n') else { break };
                if send.send(whole.to_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Self { process, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line; none when the process is gone.
    pub(crate) fn line(&self) -> Option<String> {
        self.lines.recv().ok()
    }

    /// Reads lines up to one that begins like this; all of them, and whether it came.
    pub(crate) fn lines_until(&self, beginning: &str) -> (Vec<String>, bool) {
        let mut lines = Vec::new();
        while let Some(line) = self.line() {
            let found = line.starts_with(beginning);
            lines.push(line);
            if found {
                return (lines, true);
            }
        }
        (lines, false)
    }

    /// Sends SIGKILL, and returns what else it said.
    #[track_caller]
    pub(crate) fn kill(mut self) -> (Vec<String>, End) {
        self.process.kill().unwrap();
        self.wait()
    }

    /// Waits for the end, and returns what else it said.
    #[track_caller]
    pub(crate) fn wait(mut self) -> (Vec<String>, End) {
        // Waiting would close it, which the process takes for the end of this one.
        let _stdin = self.process.stdin.take();
        let status = self.process.wait().unwrap();
        let rest: Vec<String> = self.lines.iter().collect();
        let end = match status.signal() {
            Some(9) => End::Killed,
            _ => {
                assert!(status.success(), "the process failed: {status}\n{}", rest.join("\n"));
                End::ByItself
            }
        };
        (rest, end)
    }
}

/// The process itself; nothing where nobody gave orders.
pub(crate) fn run() {
    let Ok(orders) = std::env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    // Nobody is left behind when the parent goes.
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(3);
    });
    // The test harness may have begun the line.
    say("\nready");
    match orders.work {
        Work::FillDisk => full::fill(&orders.dir),
        Work::FillUp => full::fill_up_and_wait(&orders.dir),
        Work::Open => match builder(&orders.dir, orders.sqlite).open() {
            Err(error) => say(&format!("refused {:?} {}", error.kind(), in_words(&error))),
            Ok(_log) => {
                say("opened");
                std::thread::sleep(Duration::from_secs(3600));
            }
        },
        Work::Record => record(&orders, u64::MAX),
        Work::RecordAndClose(times) => record(&orders, times),
    }
}

fn record(orders: &Orders, times: u64) {
    let log = builder(&orders.dir, orders.sqlite).open().unwrap();
    say("opened");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let open = runtime.block_on(async {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let tenant = TENANTS[usize::try_from(task).unwrap() % TENANTS.len()];
                let session = log.session(tenant, &*format!("s-{task}"), "agent").unwrap();
                let random = Random(orders.seed ^ task.wrapping_mul(0x1234_5678_9abc_def1));
                tokio::spawn(work(session, random, times))
            })
            .collect();
        let mut open = Vec::new();
        for task in tasks {
            open.push(task.await.unwrap());
        }
        open
    });
    say("closing");
    log.close_blocking(Duration::from_secs(20)).unwrap();
    say("closed");
    // In flight to the end: nobody can record what became of them.
    drop(open);
}

type Open = (Vec<ToolAttempt>, Vec<ModelAttempt>);

/// One agent at work: everything that can be acknowledged or be in flight when the process dies.
async fn work(session: AuditContext, mut random: Random, times: u64) -> Open {
    let mut open = Open::default();
    for turn in 0..times {
        match random.below(12) {
            0..=2 => {
                let receipt = session.record(note(&mut random)).await.unwrap();
                acknowledged("custom.note", &receipt);
            }
            3 => {
                // Promised nothing, so it says nothing.
                session.record_with(note(&mut random), Durability::Buffered).await.unwrap();
            }
            4..=5 => {
                let call = CallId::new(format!("call-{turn}")).unwrap();
                let asked = session.attempt_model(ModelCall::new("openai", "m")).await.unwrap();
                let selected = SelectedCall::new(call.clone(), "refund");
                let decision = Decision::new(DecisionKind::Tools).with_tool_calls([selected]);
                let decided = ModelDecided::new("", "", ModelStatus::Ok).with_decision(decision);
                let outcome = ModelOutcome::decided(decided).with_part(Part::text("output", "yes"));
                acknowledged("model.decided", &asked.complete(outcome).await.unwrap());
                let tool = ToolCall::new("refund").with_call_id(call);
                let attempt = session.attempt_tool(tool).await.unwrap();
                acknowledged("tool.attempted", attempt.receipt());
                let done = attempt.complete(ToolOutcome::new(ToolStatus::Ok)).await.unwrap();
                acknowledged("tool.completed", &done);
            }
            6..=8 => {
                let attempt = session.attempt_tool(ToolCall::new("search")).await.unwrap();
                acknowledged("tool.attempted", attempt.receipt());
                tokio::task::yield_now().await;
                let outcome = ToolOutcome::new(ToolStatus::Error).with_error_code("timeout");
                acknowledged("tool.completed", &attempt.complete(outcome).await.unwrap());
            }
            9 => {
                let attempt = session.attempt_tool(ToolCall::new("dropped")).await.unwrap();
                acknowledged("tool.attempted", attempt.receipt());
                drop(attempt);
            }
            10 if open.0.len() < 4 => {
                let attempt = session.attempt_tool(ToolCall::new("slow")).await.unwrap();
                acknowledged("tool.attempted", attempt.receipt());
                open.0.push(attempt);
            }
            _ if open.1.len() < 4 => {
                let call = ModelCall::new("openai", "slow");
                open.1.push(session.attempt_model(call).await.unwrap());
            }
            _ => {}
        }
        tokio::task::yield_now().await;
    }
    open
}

fn note(random: &mut Random) -> Draft {
    // Now and then one that is larger than a segment.
    let bytes = if random.below(50) == 0 { 20 << 10 } else { random.below(1200) };
    let text = "x".repeat(usize::try_from(bytes).unwrap());
    Draft::new(Other::custom("note").unwrap()).with_part(Part::text("note", text))
}

/// Tells the parent: from here on this must never be missing.
fn acknowledged(event_type: &str, receipt: &Receipt) {
    say(&ack_line(event_type, receipt));
}

pub(crate) fn ack_line(event_type: &str, receipt: &Receipt) -> String {
    let Receipt { event_id, chain, sequence, event_hash, .. } = receipt;
    let (tenant, chain) = (&chain.tenant_id, &chain.chain_id);
    format!("ack {event_type} {tenant} {chain} {sequence} {event_id} {event_hash}")
}

pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    // One write for the line and its end; without anybody to listen there is nothing to do.
    if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(3);
    }
}
