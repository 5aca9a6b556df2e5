//! Exports, stores that are verified alone, and the integrity job.

use std::fs;

use serde_json::Value;

use super::{FIXTURE, Place, Ran, command, finish, import, run};

fn log(place: &Place) -> String {
    let dir = place.path("log");
    import(FIXTURE, "acme", &dir, &["--sqlite"]).expect(0);
    dir
}

/// Exports as a user with a home of its own.
fn export(place: &Place, dir: &str, more: &[&str]) -> Ran {
    let mut command = command();
    command.env("HOME", place.path("home")).env_remove("XDG_DATA_HOME");
    finish(command.args(["export", dir, "--tenant", "acme"]).args(more))
}

/// The options that name the keys of a log, and of the record of its reads.
fn keys(dir: &str) -> Vec<String> {
    let out = run(&["keys", dir]).expect(0).out;
    let lines = out.lines().take_while(|line| !line.starts_with("Private"));
    let words = lines.flat_map(str::split_whitespace).filter(|word| word.starts_with("ed25519:"));
    words.flat_map(|key| ["--key".to_owned(), key.to_owned()]).collect()
}

#[test]
fn an_export_proves_itself_and_what_is_done_to_it_is_named() {
    let place = Place::new();
    let log = log(&place);
    for format in ["ndjson", "parquet"] {
        let out = place.path(format);
        let told =
            export(&place, &log, &["--out", &out, "--format", format, "--content"]).expect(0).out;
        assert!(told.contains("all proved against signed checkpoints"), "{told}");
        let exporter = told.split_whitespace().find(|word| word.starts_with("ed25519:")).unwrap();
        let mut args = vec!["verify".to_owned(), out.clone()];
        args.extend(["--exporter-key".to_owned(), exporter.to_owned()]);
        args.extend(keys(&log));
        let verified = run(&args).expect(0).out;
        assert!(verified.starts_with("INTACT — export of "), "{verified}");

        let other = place.path(&format!("{format}-other"));
        let again = export(&place, &log, &["--out", &other, "--format", format]).expect(0);
        assert!(again.out.contains(exporter), "the same key again");

        // One byte of an events file.
        let file = fs::read_dir(&out).unwrap().map(|item| item.unwrap().path());
        let file = file
            .into_iter()
            .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("events-"))
            .unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        fs::write(&file, bytes).unwrap();
        let tampered = run(&args).expect(1).out;
        assert!(tampered.contains("TAMPERED") && tampered.contains("events-"), "{tampered}");
    }
    // A directory that is not empty is not written into.
    assert!(export(&place, &log, &["--out", &log]).expect(2).err.contains("empty"));
}

#[test]
fn an_export_of_one_session_proves_that_nothing_was_left_out() {
    let place = Place::new();
    let log = log(&place);
    let sessions = run(&["sessions", &log, "--tenant", "acme", "--json"]).expect(0);
    let sessions: Value = serde_json::from_str(&sessions.out).unwrap();
    let imported = |row: &&Value| row["agent_id"] == "imported-agent";
    let session =
        sessions.as_array().unwrap().iter().find(imported).unwrap()["session_id"].as_str().unwrap();
    let out = place.path("evidence");
    export(&place, &log, &["--session", session, "--out", &out]).expect(0);
    let report = run(&["verify", &out, "--json"]).expect(0);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["completeness"], "proven", "{report}");
    // And one of a filter without an index says that it cannot.
    let out = place.path("by-tool");
    export(&place, &log, &["--status", "ok", "--out", &out]).expect(0);
    let report = run(&["verify", &out, "--json"]).expect(0);
    let report: Value = serde_json::from_str(&report.out).unwrap();
    assert_eq!(report["completeness"], "not_provable", "{report}");
}

#[test]
fn a_store_is_verified_alone() {
    let place = Place::new();
    let log = log(&place);
    let store = format!("sqlite:{log}/sqlite");
    let told = run(&["verify", &store]).expect(0).out;
    assert!(told.contains("intact"), "{told}");
    let conn = super::database(&log);
    conn.execute("DELETE FROM events WHERE sequence = 3", []).unwrap();
    drop(conn);
    let told = run(&["verify", &store, "--json"]).expect(1);
    let report: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(report["verdict"], "tampered", "{report}");
}

#[test]
fn the_integrity_job_remembers_what_is_gone_afterwards() {
    let place = Place::new();
    let log = log(&place);
    let store = format!("sqlite:{log}/sqlite");
    let (state, record) = (place.path("state"), place.path("record"));
    let args = ["watch", &store, "--state", &state, "--record", &record];
    let first = run(&args).expect(0).out;
    assert!(first.contains("intact"), "{first}");
    // The whole tenant goes, with its database.
    for item in fs::read_dir(format!("{log}/sqlite")).unwrap() {
        fs::remove_file(item.unwrap().path()).unwrap();
    }
    let second = run(&[&args[..], &["--json"]].concat()).expect(1);
    let signed: Value = serde_json::from_str(&second.out).unwrap();
    let findings = signed["report"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["kind"] == "tenant_missing"), "{findings:?}");
    let runs =
        run(&["events", &record, "--tenant", "integrity", "--type", "integrity.*", "--json"])
            .expect(0);
    let runs: Value = serde_json::from_str(&runs.out).unwrap();
    let kinds: Vec<&str> = runs["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["event"]["event_type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["integrity.verified", "integrity.failed"]);
}
