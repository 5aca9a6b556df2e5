//! The `agent-audit` command as a person or a script meets it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod asking;
mod evidence;

use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agent_audit_core::log::AuditLog;
use serde_json::Value;
use tempfile::TempDir;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/transcripts.jsonl");

/// What a run of the command left behind.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    /// Standard output, one JSON value a line.
    #[track_caller]
    fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The kinds of the findings of `verify --json`, and the positions that they name.
    #[track_caller]
    fn findings(&self) -> Vec<(String, Option<u64>)> {
        let report = &self.json()[0];
        let findings = report["findings"].as_array().unwrap();
        let tampering = findings.iter().filter(|finding| finding["severity"] == "tampering");
        tampering
            .map(|f| (f["kind"].as_str().unwrap().to_owned(), f["sequence"].as_u64()))
            .collect()
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-audit"));
    command.env_remove("AGENT_AUDIT_SIGNING_KEY").stdin(Stdio::null());
    command
}

fn finish(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ran {
    finish(command().args(args))
}

/// A directory for one test.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    /// A log with the sessions of the fixture.
    fn log(&self, more: &[&str]) -> String {
        let dir = self.path("log");
        import(FIXTURE, "acme", &dir, more).expect(0);
        dir
    }

    /// A copy of a log, to tamper with.
    fn copy(&self, log: &str, name: &str) -> String {
        let to = self.path(name);
        copy_dir(Path::new(log), Path::new(&to));
        to
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let to = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_dir(&item.path(), &to);
        } else {
            fs::copy(item.path(), to).unwrap();
        }
    }
}

fn import(file: &str, tenant: &str, dir: &str, more: &[&str]) -> Ran {
    let args = ["import", file, "--format", "openai-chat", "--tenant", tenant, "--dir", dir];
    run(&[&args, more].concat())
}

fn verify(dir: &str) -> Ran {
    run(&["verify", dir, "--json"])
}

fn show(dir: &str, more: &[&str]) -> Ran {
    run(&[&["show", dir], more].concat())
}

fn values(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn database(log: &str) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(format!("{log}/sqlite/acme.sqlite3")).unwrap();
    conn.execute_batch("PRAGMA foreign_keys = OFF").unwrap();
    let triggers: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for trigger in triggers {
        conn.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
    }
    conn
}

/// The one segment of a small journal.
fn segment(log: &str) -> PathBuf {
    let files = fs::read_dir(format!("{log}/journal")).unwrap().map(|item| item.unwrap().path());
    files.into_iter().find(|path| path.extension().is_some_and(|e| e == "journal")).unwrap()
}

#[test]
fn transcripts_go_in_whole_and_come_out_whole() {
    let place = Place::new();
    for more in [&[][..], &["--sqlite"]] {
        let dir = place.path(if more.is_empty() { "journal" } else { "sqlite" });
        let imported = import(FIXTURE, "acme", &dir, more).expect(0);
        assert!(
            imported.out.starts_with("imported 4 sessions of tenant acme: 23 events, durable in")
        );
        assert!(imported.err.is_empty(), "no progress bar where there is no terminal");

        let verified = run(&["verify", &dir]).expect(0);
        let first = verified.out.lines().next().unwrap();
        assert!(first.starts_with("INTACT — 25 events in 1 chain of 1 tenant"), "{first}");

        let input = values(&fs::read_to_string(FIXTURE).unwrap());
        let all = ["--tenant", "acme", "--format", "openai-chat"];
        assert_eq!(show(&dir, &all).expect(0).json(), input);
        for line in &input {
            let id = line["session_id"].as_str().unwrap();
            let one = show(&dir, &[&all[..], &["--session", id]].concat()).expect(0);
            assert_eq!(one.json(), std::slice::from_ref(line));
        }
    }
}

#[test]
fn real_sessions_go_in_whole_and_come_out_whole() {
    let dir = std::env::var_os("AUDIT_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")),
        PathBuf::from,
    );
    let file = dir.join("airline-sessions.jsonl");
    let input = match fs::read_to_string(&file) {
        Ok(text) => values(&text),
        Err(error) if std::env::var_os("AUDIT_REQUIRE_DATA").is_none() => {
            // Past the capture of output, so that a skipped test is seen.
            let skipped = format!("skipped: {}: {error}; set AUDIT_DATA\n", file.display());
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            return;
        }
        Err(error) => {
            panic!("{}: {error}; AUDIT_REQUIRE_DATA says that it must be there", file.display())
        }
    };
    let place = Place::new();
    let log = place.path("log");
    let imported = import(file.to_str().unwrap(), "air", &log, &["--sqlite"]).expect(0);
    assert!(imported.out.starts_with("imported 100 sessions of tenant air: 2,573 events"));
    let report = &verify(&log).expect(0).json()[0];
    assert_eq!(report["verdict"], "intact");
    assert_eq!((&report["events"], &report["covered"]), (&2575.into(), &2575.into()));
    let back = show(&log, &["--tenant", "air", "--format", "openai-chat"]).expect(0);
    assert_eq!(back.json(), input);
    for line in &input {
        let id = line["session_id"].as_str().unwrap();
        let shown = show(&log, &["--tenant", "air", "--session", id]).expect(0);
        assert!(shown.out.starts_with(&format!("session {id} · tenant air")), "{}", shown.out);
    }
}

#[test]
fn a_person_is_shown_tenants_sessions_and_a_timeline() {
    let place = Place::new();
    let log = place.log(&[]);
    import(FIXTURE, "globex", &log, &["--agent", "lamp seller"]).expect(0);

    let tenants = show(&log, &[]).expect(0).out;
    assert!(tenants.contains("TENANT") && tenants.contains("acme") && tenants.contains("globex"));

    let sessions = show(&log, &["--tenant", "globex"]).expect(0).out;
    assert!(sessions.starts_with("tenant globex: 4 sessions, 25 events\n"), "{sessions}");
    let row: Vec<_> =
        sessions.lines().find(|line| line.starts_with("order-7")).unwrap().split("  ").collect();
    let row: Vec<_> = row.into_iter().map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(row[1], "lamp seller");
    assert_eq!(row[4..], ["2", "2", "0", "1"], "decisions, tools, reviews, failures");

    let one = ["--tenant", "globex", "--session", "order-7"];
    let timeline = show(&log, &one).expect(0).out;
    for expected in [
        "session order-7 · tenant globex · agent lamp seller",
        "imported",
        "call find_order (call_1), find_parcel (call_2)",
        "tool find_parcel attempted",
        "✗ FAILED, as its result says",
        "It is packed and leaves today.",
    ] {
        assert!(timeline.contains(expected), "{expected}\n{timeline}");
    }
    let events = show(&log, &[&one[..], &["--json"]].concat()).expect(0).json();
    let types: Vec<_> =
        events.iter().map(|event| event["event"]["event_type"].as_str().unwrap()).collect();
    assert_eq!(types.first(), Some(&"session.started"));
    assert_eq!(types.iter().filter(|name| **name == "tool.completed").count(), 2);
    let input = events.iter().find(|event| event["event"]["payload"]["call_id"] == "call_1");
    let input = &input.unwrap()["content"]["input"];
    assert_eq!((&input["text"], &input["authentic"]), (&"{\"order\": 7}".into(), &true.into()));
    let listed = show(&log, &["--tenant", "globex", "--json"]).expect(0).json();
    assert_eq!(listed.len(), 5, "four sessions, and the log itself");
}

#[test]
fn names_that_do_not_exist_are_answered_with_those_that_do() {
    let place = Place::new();
    let log = place.log(&[]);
    let unknown = show(&log, &["--tenant", "nobody"]).expect(2);
    assert!(unknown.err.contains("no tenant `nobody`; there are: acme"), "{}", unknown.err);
    let unknown = show(&log, &["--tenant", "acme", "--session", "none"]).expect(2);
    assert!(unknown.err.contains("no session `none`"), "{}", unknown.err);
    assert!(unknown.err.contains("order-7"), "{}", unknown.err);
    show(&log, &["--session", "order-7"]).expect(2);
}

#[test]
fn names_cannot_draw_on_the_terminal() {
    let place = Place::new();
    let log = place.path("log");
    let file = place.write(
        "evil.jsonl",
        "{\"session_id\":\"a\u{202e}b\",\"messages\":[{\"role\":\"assistant\",\"content\":\"\\u001b[2Jx\"}]}\n",
    );
    import(&file, "acme", &log, &[]).expect(0);
    let outputs = [
        show(&log, &["--tenant", "acme"]).expect(0).out,
        show(&log, &["--tenant", "acme", "--session", "a\u{202e}b"]).expect(0).out,
        show(&log, &["--tenant", "acme", "--session", "x\u{202e}y"]).expect(2).err,
        import(&file, "acme", &log, &[]).expect(2).err,
        import(&place.path("no\u{1b}[2Jfile"), "acme", &log, &[]).expect(2).err,
    ];
    for output in outputs {
        assert!(!output.contains(['\u{202e}', '\u{1b}']), "{output:?}");
        assert!(output.contains("\\u{"), "{output}");
    }
}

#[test]
fn a_changed_byte_of_the_journal_is_found_wherever_it_is() {
    let place = Place::new();
    let log = place.log(&[]);
    let bytes = fs::read(segment(&log)).unwrap();
    let find = |text: &str| bytes.windows(text.len()).position(|w| w == text.as_bytes()).unwrap();
    for (nth, text) in
        ["find_parcel", "Where is my order", "previous_event_hash"].iter().enumerate()
    {
        let copy = place.copy(&log, &format!("copy-{nth}"));
        let mut changed = bytes.clone();
        changed[find(text)] ^= 1;
        fs::write(segment(&copy), changed).unwrap();
        let report = verify(&copy).expect(1);
        assert_eq!(report.json()[0]["verdict"], "tampered");
        assert!(!report.findings().is_empty());
        let told = run(&["verify", &copy]).expect(1).out;
        assert!(told.starts_with("TAMPERED — "), "{told}");
        assert!(told.contains("What is wrong:"), "{told}");
        assert!(!told.contains("rests on"), "what nobody can rest on: {told}");
        // Showing says that it is not all.
        let shown = show(&copy, &["--tenant", "acme"]);
        assert!(shown.err.contains("agent-audit verify"), "{shown:?}");
    }
    verify(&log).expect(0);
}

#[test]
fn a_journal_cut_short_is_found() {
    let place = Place::new();
    let log = place.log(&[]);
    let bytes = fs::read(segment(&log)).unwrap();
    for (nth, keep) in [0, 40, bytes.len() / 2, bytes.len() - 1].into_iter().enumerate() {
        let copy = place.copy(&log, &format!("copy-{nth}"));
        fs::write(segment(&copy), &bytes[..keep]).unwrap();
        let report = verify(&copy).expect(1);
        assert!(!report.findings().is_empty(), "cut at {keep}: {}", report.out);
    }
    let copy = place.copy(&log, "no-journal");
    fs::remove_dir_all(format!("{copy}/journal")).unwrap();
    verify(&copy).expect(1);
}

#[test]
fn what_was_changed_in_the_embedded_store_is_named() {
    let place = Place::new();
    let log = place.log(&["--sqlite"]);
    let changes = [
        // A column alone: the record is as it was, and a query would lie.
        ("UPDATE events SET tool_name = 'x' WHERE sequence = 5", "column_mismatch", 5),
        ("UPDATE events SET timestamp_utc = 1 WHERE sequence = 3", "column_mismatch", 3),
        (
            "UPDATE content SET bytes = X'7B7D' WHERE event_row = (SELECT event_row FROM events WHERE sequence = 2) AND ordinal = 0",
            "content_mismatch",
            2,
        ),
        (
            "UPDATE events SET event = CAST(replace(CAST(event AS TEXT), 'find_order', 'find_xrder') AS BLOB) WHERE sequence = 6",
            "tampered",
            6,
        ),
        ("DELETE FROM events WHERE sequence = 7", "missing", 7),
    ];
    for (nth, (sql, kind, sequence)) in changes.into_iter().enumerate() {
        let copy = place.copy(&log, &format!("copy-{nth}"));
        let changed = database(&copy).execute(sql, []).unwrap();
        assert_eq!(changed, 1, "{sql}");
        let report = verify(&copy).expect(1);
        let expected = (kind.to_owned(), Some(sequence));
        assert!(report.findings().contains(&expected), "{sql}: {:?}", report.findings());
        let told = run(&["verify", &copy]).expect(1).out;
        assert!(told.contains(&format!("record {sequence} ")), "{told}");
        assert!(told.contains("acme.sqlite3"), "the copy that was changed is named: {told}");
    }
    verify(&log).expect(0);
}

#[test]
fn a_row_that_cannot_be_is_tampering_and_hides_nothing_behind_it() {
    let place = Place::new();
    let log = place.log(&["--sqlite"]);
    let conn = database(&log);
    conn.execute_batch("PRAGMA ignore_check_constraints = ON").unwrap();
    let row = "(SELECT event_row FROM events WHERE sequence = 2)";
    let changed = conn
        .execute(&format!("UPDATE content SET salt = X'00' WHERE event_row = {row}"), [])
        .unwrap();
    assert!(changed > 0);
    drop(conn);
    let report = verify(&log).expect(1);
    assert!(report.findings().iter().any(|(_, at)| *at == Some(2)), "{:?}", report.findings());
}

#[test]
fn what_cannot_be_told_is_said_with_the_way_out() {
    let place = Place::new();
    let missing = place.path("missing");
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let file = place.write("file", "");
    for dir in [&missing, &empty, &file] {
        for args in [vec!["verify", dir], vec!["show", dir], vec!["keys", dir]] {
            let ran = run(&args).expect(2);
            assert!(ran.err.contains(dir.as_str()), "{args:?}: {}", ran.err);
            assert!(ran.out.is_empty(), "{args:?}");
        }
    }
    let ran = verify(&missing).expect(2);
    assert_eq!(ran.json()[0]["verdict"], "unsure");
    assert!(ran.json()[0]["error"].as_str().unwrap().contains(&missing));
    // A log in which nothing was recorded is not intact.
    let log = place.path("log");
    drop(AuditLog::open(&log).unwrap());
    let ran = run(&["verify", &log]).expect(2);
    assert!(ran.out.starts_with("COULD NOT TELL"), "{}", ran.out);
    run(&["verify"]).expect(2);
    run(&["no-such-command"]).expect(2);
    run(&["show", &log, "--tenant", "../x"]).expect(2);
}

#[test]
fn without_permission_it_says_so() {
    let place = Place::new();
    let log = place.log(&[]);
    // For the tests of a root user: another user, and a copy of the command that it can run.
    fs::set_permissions(place.0.path(), Permissions::from_mode(0o755)).unwrap();
    let binary = place.path("agent-audit");
    fs::copy(env!("CARGO_BIN_EXE_agent-audit"), &binary).unwrap();
    let root =
        fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if !root {
        fs::set_permissions(&log, Permissions::from_mode(0o000)).unwrap();
    }
    for args in [vec!["verify", &log], vec!["show", &log], vec!["keys", &log]] {
        let mut command = Command::new(&binary);
        command.args(&args).current_dir("/");
        if root {
            command.uid(65_534).gid(65_534);
        }
        let ran = finish(&mut command).expect(2);
        assert!(
            ran.err.contains(&log) && ran.err.contains("ermission") || ran.err.contains("may not"),
            "{}",
            ran.err
        );
    }
    fs::set_permissions(&log, Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_log_in_use_can_be_read_and_not_written() {
    let place = Place::new();
    let dir = place.path("log");
    let log = AuditLog::open(&dir).unwrap();
    let session = log.session("acme", "live", "agent").unwrap();
    let note = agent_audit_core::event::Other::custom("note").unwrap();
    session.record_blocking(note).unwrap();

    let refused = import(FIXTURE, "acme", &dir, &[]).expect(2);
    assert!(refused.err.contains("is in use by process"), "{}", refused.err);
    assert!(
        show(&dir, &["--tenant", "acme", "--session", "live"])
            .expect(0)
            .out
            .contains("custom.note")
    );
    let verified = verify(&dir).expect(0);
    assert_eq!(verified.json()[0]["events"], 2);
    let left_out =
        show(&dir, &["--tenant", "acme", "--session", "live", "--format", "openai-chat"]);
    assert!(left_out.expect(2).err.contains("was not imported"));
}

#[test]
fn a_line_that_is_no_transcript_stops_the_import_and_loses_nothing() {
    let place = Place::new();
    let log = place.path("log");
    let good = |id: &str| format!("{{\"session_id\":\"{id}\",\"messages\":[]}}\n");
    let file = place.write(
        "bad.jsonl",
        &[&good("a"), "\n", &good("b"), "{\"messages\":[]}\n", &good("c")].concat(),
    );
    let ran = import(&file, "acme", &log, &[]).expect(2);
    assert!(ran.err.contains("bad.jsonl, line 4: `session_id` is missing"), "{}", ran.err);
    assert!(ran.err.contains("2 sessions before it are recorded"), "{}", ran.err);
    verify(&log).expect(0);

    let mended =
        place.write("good.jsonl", &[&*good("a"), &good("b"), &good("x"), &good("c")].concat());
    let again = import(&mended, "acme", &log, &[]).expect(2);
    assert!(again.err.contains("line 1: tenant acme already has a session `a`"), "{}", again.err);
    assert!(again.err.contains("--skip-existing"), "{}", again.err);
    let skipped = import(&mended, "acme", &log, &["--skip-existing"]).expect(0).out;
    assert!(skipped.starts_with("imported 2 sessions"), "{skipped}");
    assert!(skipped.contains("skipped 2 sessions"), "{skipped}");
    // Another tenant's sessions are another tenant's.
    import(&mended, "globex", &log, &[]).expect(0);
    assert_eq!(
        show(&log, &["--tenant", "acme", "--format", "openai-chat"]).expect(0).json().len(),
        4
    );
    let twice = place.write("twice.jsonl", &[&*good("t"), &good("t")].concat());
    assert!(import(&twice, "acme", &log, &[]).expect(2).err.contains("line 2: "));
    verify(&log).expect(0);
}

#[test]
fn a_session_that_was_not_imported_to_its_end_is_not_taken_for_whole() {
    let place = Place::new();
    let dir = place.path("log");
    let log = AuditLog::open(&dir).unwrap();
    let text = br#"{"session_id":"half","messages":[{"role":"assistant","content":"x"}]}"#;
    let transcript = agent_audit_core::openai_chat::Transcript::parse(text).unwrap();
    let session = log.session("acme", "half", "agent").unwrap();
    for event in transcript.events().into_iter().take(2) {
        session.record_blocking(agent_audit_core::log::Draft::from(event)).unwrap();
    }
    drop((session, log));
    let file = place.write("half.jsonl", str::from_utf8(text).unwrap());
    let ran = import(&file, "acme", &dir, &["--skip-existing"]).expect(2);
    assert!(ran.err.contains("did not come to its end"), "{}", ran.err);
    let ran = show(&dir, &["--tenant", "acme", "--format", "openai-chat"]).expect(2);
    assert!(ran.err.contains("not imported to its end"), "{}", ran.err);
}

#[test]
fn keys_are_shown_and_secrets_are_not() {
    let place = Place::new();
    let log = place.log(&[]);
    let seed = fs::read_to_string(format!("{log}/keys/signing.key")).unwrap();
    let seed = seed.split_whitespace().last().unwrap();
    let shown = run(&["keys", &log]).expect(0).out;
    assert!(!shown.contains(seed));
    assert!(shown.contains("(signed the latest checkpoint)"), "{shown}");
    assert!(shown.contains("signing.key (mode 0600: its owner alone can read it)"), "{shown}");
    let key = shown.split_whitespace().find(|word| word.starts_with("ed25519:")).unwrap();

    // With the key from elsewhere, the verdict rests on more.
    let basis = |args: &[&str]| {
        let report = run(&[&["verify", &log, "--json"], args].concat()).expect(0).json().remove(0);
        report["basis"].as_str().unwrap().to_owned()
    };
    assert_eq!(basis(&[]), "own_key");
    assert_eq!(basis(&["--key", key]), "own_checkpoint");
    let file = place.write("auditor.pub", &format!("{key}\n"));
    assert_eq!(basis(&["--key", &file]), "own_checkpoint");
    let verifiers = run(&["keys", &log, "--verifiers"]).expect(0).out;
    let verifier = verifiers.lines().next().unwrap();
    assert!(verifier.starts_with("agent-audit/chain/"), "{verifier}");
    assert_eq!(basis(&["--key", verifier]), "own_checkpoint");
    let elsewhere = place.copy(&format!("{log}/checkpoints"), "elsewhere");
    assert_eq!(basis(&["--key", key, "--checkpoints", &elsewhere]), "separate_checkpoint");

    // Under a key that signed nothing here, nobody can tell.
    let new = place.path("new.key");
    let made = run(&["keys", "generate", &new]).expect(0).out;
    assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
    let seed = fs::read_to_string(&new).unwrap();
    assert!(!made.contains(seed.split_whitespace().last().unwrap()));
    let other = made.split_whitespace().find(|word| word.starts_with("ed25519:")).unwrap();
    run(&["verify", &log, "--key", other]).expect(2);
    let again = run(&["keys", "generate", &new]).expect(2);
    assert!(again.err.contains("not replaced"), "{}", again.err);
    assert_eq!(fs::read_to_string(&new).unwrap(), seed);
    run(&["verify", &log, "--key", "ed25519:AAAA"]).expect(2);
    run(&["verify", &log, "--checkpoints", &place.path("nowhere")]).expect(2);
}

#[test]
fn with_a_key_given_a_log_whose_checkpoints_are_gone_is_not_intact() {
    let place = Place::new();
    let log = place.log(&[]);
    let shown = run(&["keys", &log]).expect(0).out;
    let key = shown.split_whitespace().find(|word| word.starts_with("ed25519:")).unwrap();
    run(&["verify", &log, "--key", key]).expect(0);
    let empty = place.write("empty.ndjson", "");
    let told = run(&["verify", &log, "--key", key, "--checkpoints", &empty]).expect(2).out;
    assert!(told.contains("not_vouched"), "{told}");
    fs::remove_dir_all(format!("{log}/checkpoints")).unwrap();
    let told = run(&["verify", &log, "--key", key]).expect(2).out;
    assert!(told.starts_with("COULD NOT TELL") && told.contains("not_vouched"), "{told}");
    // Without a key nothing was demanded, and the report says what it rests on.
    let told = run(&["verify", &log]).expect(0).out;
    assert!(told.contains("rests on the links of the chain alone"), "{told}");
}

#[test]
fn a_history_rewritten_with_the_key_does_not_fit_a_checkpoint_kept_elsewhere() {
    let place = Place::new();
    let log = place.log(&[]);
    let elsewhere = place.copy(&format!("{log}/checkpoints"), "elsewhere");
    // Everything anew, under the same key, and checkpoints to match.
    let key = fs::read(format!("{log}/keys/signing.key")).unwrap();
    fs::remove_dir_all(&log).unwrap();
    fs::create_dir_all(format!("{log}/keys")).unwrap();
    fs::write(format!("{log}/keys/signing.key"), key).unwrap();
    fs::set_permissions(format!("{log}/keys/signing.key"), Permissions::from_mode(0o600)).unwrap();
    place.log(&[]);
    verify(&log).expect(0);
    let report = run(&["verify", &log, "--json", "--checkpoints", &elsewhere]).expect(1);
    assert!(report.findings().iter().any(|(kind, _)| kind == "chain_missing"), "{}", report.out);
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let place = Place::new();
    let log = place.path("log");
    let long = "x".repeat(200_000);
    let text: String = (0..20)
        .map(|n| format!("{{\"session_id\":\"s-{n}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{long}\"}}]}}\n"))
        .collect();
    let file = place.write("long.jsonl", &text);
    import(&file, "acme", &log, &[]).expect(0);
    for args in [
        vec!["show", &log, "--tenant", "acme", "--format", "openai-chat"],
        vec!["show", &log, "--tenant", "acme", "--session", "s-1", "--json"],
        vec!["verify", &log],
        vec!["--help"],
    ] {
        let mut child =
            command().args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn help_explains_and_gives_examples() {
    for (args, expected) in [
        (&["--help"][..], "agent-audit verify DIR"),
        (&["verify", "--help"], "0 intact, 1 tampered or incomplete, 2 could not tell"),
        (&["show", "--help"], "--tenant acme --session s-1"),
        (&["import", "--help"], "--format openai-chat --tenant acme --dir ./audit"),
        (&["keys", "--help"], "agent-audit keys generate signing.key"),
    ] {
        let help = run(args).expect(0).out;
        assert!(help.contains(expected), "{args:?}\n{help}");
        assert!(args.len() < 2 || help.contains("Examples:"), "{args:?}");
    }
    let version = run(&["--version"]).expect(0).out;
    assert_eq!(version.trim(), concat!("agent-audit ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn standard_input_can_be_imported() {
    let place = Place::new();
    let log = place.path("log");
    let mut command = command();
    command.args(["import", "-", "--format", "openai-chat", "--tenant", "acme", "--dir", &log]);
    command.stdin(fs::File::open(FIXTURE).unwrap());
    assert!(finish(&mut command).expect(0).out.starts_with("imported 4 sessions"));
}

#[test]
fn long_content_is_shown_whole_when_asked_for() {
    let place = Place::new();
    let log = place.path("log");
    let long = "lamp ".repeat(1_000);
    let message = format!("{{\"role\":\"assistant\",\"content\":\"{long}\"}}");
    let text = format!("{{\"session_id\":\"s\",\"messages\":[{message}]}}");
    import(&place.write("long.jsonl", &text), "acme", &log, &[]).expect(0);
    let one = ["--tenant", "acme", "--session", "s"];
    let begun = show(&log, &one).expect(0).out;
    assert!(begun.contains("lamp lamp") && !begun.contains(&long), "{begun}");
    assert!(show(&log, &[&one[..], &["--full"]].concat()).expect(0).out.contains(&long));
}

#[test]
fn a_session_is_shown_with_those_of_its_sub_agents() {
    let place = Place::new();
    let dir = place.path("log");
    let log = AuditLog::open(&dir).unwrap();
    let started = agent_audit_core::event::session::SessionStarted::new;
    let session = log.session("acme", "outer", "planner").unwrap();
    session.record_blocking(started()).unwrap();
    let other = log.session("acme", "unrelated", "planner").unwrap();
    other.record_blocking(started()).unwrap();
    let inner = log.session("acme", "inner", "worker").unwrap();
    inner.record_blocking(started().with_parent_session_id(session.session_id().clone())).unwrap();
    drop((session, other, inner, log));

    let outer = show(&dir, &["--tenant", "acme", "--session", "outer"]).expect(0).out;
    assert!(outer.contains("session inner · agent worker"), "{outer}");
    assert!(!outer.contains("unrelated"), "{outer}");
    let inner = show(&dir, &["--tenant", "acme", "--session", "inner"]).expect(0).out;
    assert!(!inner.contains("outer"), "a sub-agent's session alone: {inner}");
}

#[test]
fn an_import_can_go_on_into_a_store_that_is_there() {
    let place = Place::new();
    let log = place.log(&["--sqlite"]);
    let more =
        "{\"session_id\":\"later\",\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}";
    import(&place.write("more.jsonl", more), "acme", &log, &[]).expect(0);
    let held: u64 = database(&log)
        .query_row("SELECT count(*) FROM events WHERE session_id = 'later'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(held, 3);
    verify(&log).expect(0);
    // And what the journal no longer has is read from the store.
    let listed = show(&log, &["--tenant", "acme"]).expect(0).out;
    assert!(listed.contains("5 sessions"), "{listed}");
}
