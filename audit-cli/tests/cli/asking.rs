//! Questions as a person or a script puts them.

use agent_audit_query::conformance::Input;
use agent_audit_sqlite::SqliteSink;
use serde_json::Value;

use super::{FIXTURE, Place, Ran, command, finish, import, run};

/// The input of the suite of questions in an embedded store; tenants `cli-acme`, `cli-Acme`, `cli-globex`.
fn store(place: &Place) -> String {
    let dir = place.path("store");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let input = Input::new("cli-").await;
        input.load(&SqliteSink::open(&dir).unwrap()).await;
    });
    format!("sqlite:{dir}")
}

fn ask(question: &str, store: &str, more: &[&str]) -> Ran {
    run(&[&[question, store, "--tenant", "cli-acme"], more].concat())
}

fn json(question: &str, store: &str, more: &[&str]) -> Value {
    let ran = ask(question, store, &[more, &["--json"]].concat()).expect(0);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn every_question_has_an_answer_for_a_person_and_for_a_program() {
    let place = Place::new();
    let store = store(&place);

    let sessions = json("sessions", &store, &[]);
    let names: Vec<&str> = sessions
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["session_id"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"session-01") && names.contains(&"session-01/research"), "{names:?}");
    let told = ask("sessions", &store, &[]).expect(0).out;
    assert!(told.contains("session-01/research") && told.contains("SESSION"), "{told}");

    let story = json("session", &store, &["session-01"]);
    assert_eq!(story["sessions"], serde_json::json!(["session-01", "session-01/research"]));
    let told = ask("session", &store, &["session-01"]).expect(0).out;
    assert!(told.contains("refund") && told.contains("reviewer-1"), "{told}");

    let calls = json(
        "events",
        &store,
        &["--tool", "refund", "--type", "tool.attempted", "--session", "session-01"],
    );
    let refund = calls["events"][0]["event"]["event_id"].as_str().unwrap();
    let why = json("why", &store, &[refund]);
    let types = |walk: &Value| -> Vec<String> {
        let events = walk["events"].as_array().unwrap();
        events.iter().map(|e| e["event"]["event_type"].as_str().unwrap().to_owned()).collect()
    };
    for cause in [
        "session.started",
        "model.requested",
        "model.decided",
        "review.decided",
        "review.presented",
    ] {
        assert!(types(&why).iter().any(|found| found == cause), "{cause} in {:?}", types(&why));
    }
    let told = ask("why", &store, &[refund, "--utc"]).expect(0).out;
    assert!(
        told.contains("← ") && told.contains("approval") && told.contains("tool refund attempted"),
        "{told}"
    );
    let effects = json("effects", &store, &[refund]);
    assert_eq!(types(&effects), ["tool.attempted", "tool.completed"]);

    let overrides = json("overrides", &store, &["--session", "session-01", "--human"]);
    assert_eq!(overrides["overrides"][0]["decision"], "modify");
    let told = ask("overrides", &store, &["--session", "session-01"]).expect(0).out;
    assert!(told.contains("modify of refund by reviewer-1") && told.contains("replace"), "{told}");

    let model = json("model", &store, &["--model-version", "2026-08-06"]);
    assert!(!model["decisions"].as_array().unwrap().is_empty());
    assert!(ask("model", &store, &[]).expect(2).err.contains("--model-version"));

    let anomalies = json("anomalies", &store, &["--session", "session-odd"]);
    let kinds: Vec<&str> =
        anomalies.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    for kind in
        ["hasty_streak", "never_presented", "action_mismatch", "approval_expired", "no_outcome"]
    {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    assert!(
        ask("anomalies", &store, &[]).expect(0).out.contains("approved hastily 6 times in a row")
    );

    let prices = place.write(
        "prices.json",
        r#"{"gpt-4o": {"input": 2500000, "cache_read": 0, "cache_write": 0, "output": 10000000}}"#,
    );
    let usage = json("usage", &store, &["--by", "model", "--prices", &prices]);
    let row =
        usage.as_array().unwrap().iter().find(|row| row["key"] == "gpt-4o-2026-08-06").unwrap();
    assert!(row["cost_micros"].as_u64().unwrap() > 0);
    assert!(ask("usage", &store, &["--by", "day"]).expect(0).out.contains("DAY (UTC)"));
}

#[test]
fn pages_lead_on_and_back() {
    let place = Place::new();
    let store = store(&place);
    let first = json("events", &store, &["--type", "tool.*", "--limit", "5"]);
    let next = first["next"].as_str().unwrap();
    let second = json("events", &store, &["--type", "tool.*", "--limit", "5", "--after", next]);
    let previous = second["previous"].as_str().unwrap();
    let back = json("events", &store, &["--type", "tool.*", "--limit", "5", "--before", previous]);
    assert_eq!(back["events"], first["events"]);
    assert_ne!(second["events"], first["events"]);
    let told = ask("events", &store, &["--limit", "5"]).expect(0).out;
    assert!(told.contains("there are more: --after "), "{told}");
}

#[test]
fn a_question_that_makes_no_sense_is_refused_with_the_way_out() {
    let place = Place::new();
    let store = store(&place);
    for (question, more, says) in [
        ("sessions", &["--since", "2026-02-01", "--until", "2026-01-01"][..], "turned round"),
        ("sessions", &["--since", "yesterday"], "is no time"),
        ("events", &["--after", "nonsense"], "not a cursor"),
        ("events", &["--type", "tool.*", "--type", "x"], "one by one"),
        ("why", &["123"], "not a lower-case UUID"),
        ("why", &["01935a7b-0000-7000-8000-000000000000"], "has no event"),
        ("session", &["no-such"], "no session `no-such`"),
        ("session", &["a\u{1b}[2Jb"], "session id"),
        ("usage", &["--prices", "/no/such/file"], "cannot read the prices"),
    ] {
        let ran = ask(question, &store, more).expect(2);
        assert!(ran.err.contains(says), "{question} {more:?}: {}", ran.err);
        assert!(ran.out.is_empty(), "{}", ran.out);
    }
    let unknown = run(&["sessions", &store, "--tenant", "cli-nobody"]).expect(2);
    assert!(unknown.err.contains("cli-acme"), "{}", unknown.err);
    for (store, says) in [
        ("oracle:", "not known"),
        ("postgres:secret@host", "environment"),
        ("/no/such/dir", "cannot read"),
        ("sqlite:/no/such/dir", "/no/such/dir"),
    ] {
        let ran = run(&["sessions", store, "--tenant", "cli-acme"]).expect(2);
        assert!(ran.err.contains(says), "{store}: {}", ran.err);
        assert!(!ran.err.contains("secret"), "{}", ran.err);
    }
}

#[test]
fn a_tenant_never_sees_another_one() {
    let place = Place::new();
    let store = store(&place);
    let theirs =
        run(&["events", &store, "--tenant", "cli-globex", "--limit", "1", "--json"]).expect(0);
    let theirs: Value = serde_json::from_str(&theirs.out).unwrap();
    let id = theirs["events"][0]["event"]["event_id"].as_str().unwrap();
    for question in ["why", "effects"] {
        assert!(ask(question, &store, &[id]).expect(2).err.contains("has no event"));
    }
    let mine = json("events", &store, &["--event", id]);
    assert_eq!(mine["events"], serde_json::json!([]));
}

#[test]
fn the_directory_of_a_log_is_asked_with_what_its_store_lacks_and_reads_are_recorded() {
    let place = Place::new();
    for more in [&[][..], &["--sqlite"]] {
        let dir = place.path(&format!("log-{}", more.len()));
        import(FIXTURE, "acme", &dir, more).expect(0);
        let ask = |question: &[&str]| {
            let mut command = command();
            command.args(question).args([&*dir, "--tenant", "acme", "--json"]);
            command
                .args(["--as", "alice", "--purpose", "yearly audit"])
                .env_remove("AGENT_AUDIT_ACCESS_LOG");
            let ran = finish(&mut command).expect(0);
            assert_eq!(ran.err, "", "nothing to complain about");
            serde_json::from_str::<Value>(&ran.out).unwrap()
        };
        let sessions = ask(&["sessions"]);
        let own = |row: &&Value| row["agent_id"] != "agent-audit";
        let count = sessions.as_array().unwrap().iter().filter(own).count();
        assert!(count >= 2, "{sessions}");
        let reads = ask(&["events", "--type", "access.queried", "--content"]);
        let read = &reads["events"][0];
        assert_eq!(read["event"]["payload"]["actor"], "alice");
        assert_eq!(read["event"]["payload"]["purpose"], "yearly audit");
        let rows = &read["event"]["payload"]["rows"];
        assert!(rows.is_string() || rows.is_number(), "{read}");
        assert!(read["content"]["query"]["text"].as_str().unwrap().contains("sessions"), "{read}");
    }
}

#[test]
fn an_answer_is_withheld_where_its_reading_cannot_be_recorded() {
    let place = Place::new();
    let store = store(&place);
    let nowhere = place.write("file", "no directory");
    let ran = ask("sessions", &store, &["--access-log", &nowhere]).expect(2);
    assert_eq!(ran.out, "");
    // Unless nobody asked for a record: then it is said that there is none.
    let ran = ask("sessions", &store, &[]).expect(0);
    assert!(ran.err.contains("not recorded"), "{}", ran.err);
}

#[test]
fn recorded_text_cannot_draw_on_the_terminal() {
    let place = Place::new();
    let evil = r#"{"session_id":"evil\u202egpj.exe","model":"m\u001b[31mred","messages":[{"role":"user","content":"\u001b[2K\rall good"},{"role":"assistant","content":null,"tool_calls":[{"id":"call\u001b]0;x\u0007","type":"function","function":{"name":"to\u001b[1Aol","arguments":"{}"}}]},{"role":"tool","tool_call_id":"call\u001b]0;x\u0007","content":"\u009b2Jdone"}]}"#;
    let file = place.write("evil.jsonl", evil);
    let dir = place.path("log");
    let imported = import(&file, "acme", &dir, &["--sqlite"]);
    if imported.code != Some(0) {
        // Ids with control characters are refused; the texts come in without them.
        let tame = evil.replace(r"call\u001b]0;x\u0007", "call-1");
        let file = place.write("tame.jsonl", &tame);
        import(&file, "acme", &place.path("tame"), &["--sqlite"]).expect(0);
    }
    let dir = if imported.code == Some(0) { dir } else { place.path("tame") };
    let events = run(&["events", &dir, "--tenant", "acme", "--json"]).expect(0);
    let events: Value = serde_json::from_str(&events.out).unwrap();
    let last =
        events["events"].as_array().unwrap().last().unwrap()["event"]["event_id"].as_str().unwrap();
    let session = "evil\u{202e}gpj.exe";
    for question in [
        vec!["sessions", &*dir],
        vec!["events", &dir],
        vec!["session", &dir, session],
        vec!["why", &dir, last],
        vec!["usage", &dir],
        vec!["anomalies", &dir],
        vec!["model", &dir, "--provider", "unknown"],
    ] {
        let ran = run(&[&question[..], &["--tenant", "acme"]].concat());
        for text in [&ran.out, &ran.err] {
            let drawing = text.chars().find(|c| {
                (c.is_control() && *c != '\n')
                    || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            });
            assert_eq!(drawing, None, "{question:?}: {text:?}");
        }
    }
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).expect(0).out.contains("overrides"));
    }
}
