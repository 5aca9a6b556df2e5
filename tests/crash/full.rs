//! A disk that is full: a small file system in memory, in a mount namespace of its own, so that it is
//! gone with the process whatever happens.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditError, AuditErrorKind, AuditLog, AuditLogBuilder, Draft, Part, ToolCall,
    delivery::DeliveryOptions,
    event::Other,
    journal::JournalOptions,
    log::Layout,
    sqlite::SqliteSink,
    verify::{FindingKind, Verdict},
};

use crate::{
    child::{Child, End, Orders, Work, ack_line, say},
    in_words,
    ledger::{self, Ack},
    remark,
};

const DISK: &str = "size=24m";
const DEADLINE: Duration = Duration::from_secs(30);

#[test]
fn a_full_disk_refuses_clearly_loses_nothing_and_is_told_as_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::metadata(dir.path()).unwrap().uid() == 0;
    let namespace: &[&str] =
        if root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let may = |program: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(namespace).args(program).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let place = dir.path().to_str().unwrap();
    if !may(&["mount", "-t", "tmpfs", "-o", DISK, "audit-crash", place]) {
        let why = "a_full_disk: NOT RUN, this user may not mount a file system (`unshare --mount`)";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        return remark(why);
    }
    let mut command = Command::new("unshare");
    command.args(namespace).arg(std::env::current_exe().unwrap());
    let orders = Orders { dir: dir.path().to_owned(), work: Work::FillDisk, sqlite: true, seed: 0 };
    let (said, end) = Child::start_by(command, &orders).wait();
    assert_eq!(end, End::ByItself);
    assert!(said.iter().any(|line| line == "filled"), "{said:?}");
}

fn builder(dir: &Path) -> AuditLogBuilder {
    let journal = JournalOptions::default().with_segment_bytes(128 << 10);
    let delivery = DeliveryOptions::default()
        .with_cursor_interval(Duration::from_millis(5))
        .with_retries(Duration::from_millis(1), Duration::from_millis(50));
    AuditLog::builder(dir)
        .with_journal(journal)
        .with_delivery(delivery)
        .with_checkpoint_every(8, Duration::from_millis(20))
        .with_sink(SqliteSink::open(Layout::new(dir).sqlite()).unwrap())
}

/// The work of the process that has the small disk.
pub(crate) fn fill(disk: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", DISK, "audit-crash"])
        .arg(disk)
        .status()
        .unwrap();
    assert!(mounted.success());
    let (dir, ballast) = (disk.join("log"), disk.join("ballast"));
    let mut acks = Vec::new();

    let refused = full_while_open(&dir, &ballast, &mut acks);
    check(&dir, &acks, refused);
    full_while_opening(&dir, &ballast);
    check(&dir, &acks, refused);
    killed_while_full(&dir, &ballast, &mut acks);
    // A process that is killed while the disk is full takes the count of what it refused with it.
    check(&dir, &acks, refused);
    say("filled");
}

/// Takes all but so many bytes of the disk.
fn leave_free(ballast: &Path, bytes: u64) {
    let mut file = fs::File::create(ballast).unwrap();
    for block in [64 << 10, 4 << 10, 1] {
        while file.write_all(&vec![1; block]).is_ok() {}
    }
    let size = file.metadata().unwrap().len();
    file.set_len(size.checked_sub(bytes).expect("the disk is larger")).unwrap();
}

/// Records until the disk is full and some more, makes room, and goes on. How many were refused.
fn full_while_open(dir: &Path, ballast: &Path, acks: &mut Vec<Ack>) -> u64 {
    leave_free(ballast, 8 << 20);
    let log = builder(dir).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    let other = log.session("globex", "s", "a").unwrap();
    keep(acks, 1, other.record_blocking(note(100)).unwrap());
    let (mut refused, first) = fill_up(&session, 1, acks);
    assert_eq!(first.kind(), AuditErrorKind::Unavailable, "{}", in_words(&first));
    let text = in_words(&first);
    assert!(text.contains("No space left") || text.contains("no room"), "{text}");
    assert!(text.contains(&dir.display().to_string()), "{text}");
    for _ in 0..5 {
        let error = session.record_blocking(note(4_000)).unwrap_err();
        assert!(error.is_unavailable(), "{}", in_words(&error));
        refused += 1;
    }
    // What must be on disk before a tool acts is not, so the tool does not act.
    let attempt = session.attempt_tool_blocking(ToolCall::new("refund").with_part(large()));
    assert!(attempt.unwrap_err().is_unavailable());
    refused += 1;
    fs::remove_file(ballast).unwrap();
    for _ in 0..3 {
        keep(acks, 1, session.record_blocking(note(4_000)).unwrap());
    }
    keep(acks, 1, other.record_blocking(note(100)).unwrap());
    let report = log.close_blocking(DEADLINE).unwrap();
    assert!(report.is_complete(), "{report:?}");
    refused
}

fn full_while_opening(dir: &Path, ballast: &Path) {
    leave_free(ballast, 0);
    match builder(dir).open() {
        Err(error) => {
            let text = in_words(&error);
            assert_eq!(error.kind(), AuditErrorKind::Unavailable, "{text}");
            assert!(text.contains(&dir.display().to_string()), "{text}");
        }
        // Everything was there already; then it is the first event that finds no room.
        Ok(log) => {
            let session = log.session("acme", "s", "a").unwrap();
            let error = session.record_blocking(note(4_000)).unwrap_err();
            assert_eq!(error.kind(), AuditErrorKind::Unavailable, "{}", in_words(&error));
        }
    }
    fs::remove_file(ballast).unwrap();
    builder(dir).open().unwrap().close_blocking(DEADLINE).unwrap();
}

fn killed_while_full(dir: &Path, ballast: &Path, acks: &mut Vec<Ack>) {
    leave_free(ballast, 3 << 20);
    let orders = Orders { dir: dir.to_owned(), work: Work::FillUp, sqlite: true, seed: 0 };
    let child = Child::start(&orders);
    let (mut said, full) = child.lines_until("full");
    assert!(full, "{said:?}");
    said.extend(child.kill().0);
    acks.extend(said.iter().filter_map(|line| Ack::read(2, line)));
    // Still full: nothing can be opened, and nothing is broken by the attempt.
    drop(builder(dir).open());
    fs::remove_file(ballast).unwrap();
    let report = builder(dir).open().unwrap().close_blocking(DEADLINE).unwrap();
    assert!(report.is_complete(), "{report:?}");
}

/// The work of the process that is killed on a full disk.
pub(crate) fn fill_up_and_wait(dir: &Path) {
    let log = builder(dir).open().unwrap();
    let session = log.session("acme", "s", "a").unwrap();
    let mut acks = Vec::new();
    let (_, error) = fill_up(&session, 2, &mut acks);
    assert!(error.is_unavailable(), "{}", in_words(&error));
    for ack in acks {
        let Ack { event_type, tenant, chain, sequence, event_id, hash, .. } = ack;
        say(&format!("ack {event_type} {tenant} {chain} {sequence} {event_id} {hash}"));
    }
    say("full");
    std::thread::sleep(Duration::from_secs(3600));
}

/// Records until the disk is full; how many were refused, and how.
fn fill_up(session: &AuditContext, round: u64, acks: &mut Vec<Ack>) -> (u64, AuditError) {
    for _ in 0..4_000 {
        match session.record_blocking(note(4_000)) {
            Ok(receipt) => keep(acks, round, receipt),
            Err(error) => return (1, error),
        }
    }
    panic!("the disk is never full")
}

fn check(dir: &Path, acks: &[Ack], refused: u64) {
    let whole = ledger::whole(dir);
    let stored = ledger::sqlite(dir);
    for ack in acks {
        let chain = (ack.tenant.clone(), ack.chain.clone());
        let place = whole.get(&chain).and_then(|places| places.get(&ack.sequence));
        assert_eq!(place.map(|place| place.hash), Some(ack.hash), "{ack:?}");
        assert_eq!(stored[&chain].get(&ack.sequence), place);
    }
    let (_, acme) = ledger::chain_of(&whole, "acme");
    let told: Vec<u64> = acme
        .values()
        .filter(|place| place.event_type == "chain.gap")
        .map(|place| {
            let payload: serde_json::Value = serde_json::from_slice(&place.payload).unwrap();
            assert_eq!(payload["reason"], "journal_failed");
            payload["lost_events"].as_u64().unwrap()
        })
        .collect();
    // A gap is small, and may find room where what follows it does not: then there are several.
    assert_eq!(told.iter().sum::<u64>(), refused, "{told:?}");
    let (_, globex) = ledger::chain_of(&whole, "globex");
    assert!(globex.values().all(|place| place.event_type != "chain.gap"));
    let report = ledger::verify(dir);
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", report.findings);
    let found = report.findings.iter().filter(|finding| finding.kind == FindingKind::Gap).count();
    assert_eq!(found, told.len());
}

fn keep(acks: &mut Vec<Ack>, round: u64, receipt: agent_audit::Receipt) {
    acks.extend(Ack::read(round, &ack_line("custom.note", &receipt)));
}

fn note(bytes: usize) -> Draft {
    Draft::new(Other::custom("note").unwrap()).with_part(Part::text("note", "x".repeat(bytes)))
}

fn large() -> Part {
    Part::text("input", "x".repeat(4_000))
}
