//! Files that are not as they were written, and clocks that go back.

use std::{fs, io::Write as _, path::Path, time::Duration};

use agent_audit::{
    AuditErrorKind, AuditLog, AuditLogBuilder, Draft, Part,
    event::{Event, Other, chain::ChainClosed},
    journal::{Journal, JournalOptions, Scan},
    log::{Clock, Layout, entry},
    record::{Record, RecordView},
    timestamp::Timestamp,
    verify::{
        FindingKind, Verdict,
        directory::{VerifyErrorKind, VerifyOptions, verify_directory},
    },
};

use crate::{child, copy_all, in_words, ledger, open};

const DEADLINE: Duration = Duration::from_secs(30);

fn note(text: &str) -> Draft {
    Draft::new(Other::custom("note").unwrap()).with_part(Part::text("note", text))
}

/// A log in which both tenants have a few events, closed.
fn made(dir: &Path, sqlite: bool) {
    go_on(dir, || child::builder(dir, sqlite));
}

fn go_on(dir: &Path, builder: impl Fn() -> AuditLogBuilder) {
    let log = open(builder).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    for tenant in ["acme", "globex"] {
        let session = log.session(tenant, "s", "a").unwrap();
        for at in 0..3 {
            session.record_blocking(note(&format!("{tenant} {at}"))).unwrap();
        }
    }
    let report = log.close_blocking(DEADLINE).unwrap();
    assert!(report.is_complete(), "{report:?}");
}

/// Adds entries to a closed journal, as another program would.
fn append(dir: &Path, entries: &[Vec<u8>]) {
    let (journal, _) =
        Journal::open(Layout::new(dir).journal(), JournalOptions::default()).unwrap();
    for bytes in entries {
        let permit = journal.admit_blocking(bytes.len()).unwrap();
        let ticket = journal.append(permit, &[bytes]).unwrap();
        journal.durable(ticket).wait().unwrap();
    }
    journal.close();
}

fn entry_of(record: &Record) -> Vec<u8> {
    [&[entry::RECORD], record.to_bytes().as_slice()].concat()
}

/// The last event of a tenant in the journal.
fn last_event(dir: &Path, tenant: &str) -> (Event, Record) {
    let mut scan = Scan::open(Layout::new(dir).journal()).unwrap();
    let mut last = None;
    while let Some(found) = scan.next_entry().unwrap() {
        let view = RecordView::parse(&found.bytes[1..]).unwrap();
        let record = Record::new(view.event_bytes.to_vec(), view.parts().unwrap());
        let event = record.event().unwrap();
        if event.tenant_id.as_str() == tenant {
            last = Some((event, record));
        }
    }
    last.unwrap()
}

/// The event that would come next, written by a version to come.
fn from_the_future(dir: &Path, tenant: &str) -> (u64, Vec<u8>) {
    let (last, record) = last_event(dir, tenant);
    let mut next = Event::example(ChainClosed::new("shutdown"));
    next.tenant_id = last.tenant_id;
    next.chain_id = last.chain_id;
    next.writer_id = last.writer_id;
    next.sequence = last.sequence + 1;
    next.timestamp_utc = last.timestamp_utc;
    next.previous_event_hash = record.event_hash();
    let text = String::from_utf8(next.canonical_bytes().unwrap()).unwrap();
    let later = text.replace(r#""schema_version":"1.0""#, r#""schema_version":"2.0""#);
    assert_ne!(later, text);
    (next.sequence, entry_of(&Record::new(later.into_bytes(), Vec::new())))
}

#[test]
fn a_schema_of_the_future_is_named_and_never_called_intact() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), false);
    let (at, later) = from_the_future(dir.path(), "acme");
    append(dir.path(), &[later]);
    let report = ledger::verify(dir.path());
    assert_eq!(report.verdict(), Verdict::Unsure, "{:#?}", report.findings);
    let finding = &report.findings[0];
    assert_eq!(finding.kind, FindingKind::UnknownSchema);
    assert!(finding.is_at(at) && finding.to_string().contains("2.0"), "{finding}");
}

#[test]
fn an_event_whose_version_was_changed_is_not_intact() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    made(dir.path(), false);
    copy_all(dir.path(), copy.path());
    fs::remove_dir_all(Layout::new(copy.path()).journal()).unwrap();
    let mut entries = Vec::new();
    let mut scan = Scan::open(Layout::new(dir.path()).journal()).unwrap();
    while let Some(found) = scan.next_entry().unwrap() {
        entries.push(found.bytes.to_vec());
    }
    let at = entries.len() / 2;
    let edited = String::from_utf8_lossy(&entries[at]).contains("1.0");
    assert!(edited);
    let place = entries[at].windows(20).position(|w| w == br#"schema_version":"1.0"#).unwrap();
    entries[at][place + 17] = b'2';
    append(copy.path(), &entries);
    let report = ledger::verify(copy.path());
    assert_eq!(report.verdict(), Verdict::Tampered, "its hash is another: {:#?}", report.findings);
    assert_eq!(ledger::verify(dir.path()).verdict(), Verdict::Intact);
}

#[test]
fn a_malformed_record_stops_the_writer_and_not_the_verifier() {
    let (_, template) = {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), false);
        last_event(dir.path(), "acme")
    };
    let whole = entry_of(&template);
    for (what, bytes) in [
        ("nothing but a kind", vec![entry::RECORD]),
        ("no record", b"\x01garbage".to_vec()),
        ("half a record", whole[..whole.len() / 2].to_vec()),
        ("no event", entry_of(&Record::new(b"{}".to_vec(), Vec::new()))),
        ("no JSON", entry_of(&Record::new(vec![0xff; 40], Vec::new()))),
    ] {
        let dir = tempfile::tempdir().unwrap();
        made(dir.path(), false);
        append(dir.path(), &[bytes]);
        let before = ledger_bytes(dir.path());
        let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Damaged, "{what}: {error}");
        assert!(error.to_string().contains("journal entry 10"), "{what}: {}", in_words(&error));
        assert_eq!(ledger_bytes(dir.path()), before, "{what}: nothing was written");
        let report = ledger::verify(dir.path());
        assert_ne!(report.verdict(), Verdict::Intact, "{what}");
        assert_eq!(report.events, 10, "{what}: the others were read");
    }
}

/// The entries of the journal.
fn ledger_bytes(dir: &Path) -> Vec<Vec<u8>> {
    let mut scan = Scan::open(Layout::new(dir).journal()).unwrap();
    let mut entries = Vec::new();
    while let Some(found) = scan.next_entry().unwrap() {
        entries.push(found.bytes.to_vec());
    }
    entries
}

#[test]
fn an_entry_of_a_later_kind_is_not_taken_for_anything() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), false);
    append(dir.path(), &[b"\x09of a kind to come".to_vec()]);
    let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::UnknownVersion, "{error}");
    assert!(error.to_string().contains("kind 9"), "{error}");
    let report = ledger::verify(dir.path());
    assert_eq!(report.verdict(), Verdict::Unsure);
    assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::UnknownEntry));
}

#[test]
fn a_directory_of_a_later_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), false);
    let path = Layout::new(dir.path()).identity();
    let text = fs::read_to_string(&path).unwrap();
    let later = text.replace(r#""format":1"#, r#""format":2"#);
    fs::write(&path, &later).unwrap();
    let before = ledger_bytes(dir.path());
    let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::UnknownVersion, "{error}");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    assert!(error.to_string().contains("format 2"), "{error}");
    let error = verify_directory(dir.path(), VerifyOptions::default()).unwrap_err();
    assert_eq!(error.kind(), VerifyErrorKind::UnknownFormat, "{error}");
    assert_eq!(ledger_bytes(dir.path()), before);
    assert_eq!(fs::read_to_string(&path).unwrap(), later);

    for (bad, words) in [("", "log.json"), ("{\"format\":", "log.json")] {
        fs::write(&path, bad).unwrap();
        let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Damaged, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    fs::remove_file(&path).unwrap();
    let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::Damaged, "{error}");
    fs::write(&path, text).unwrap();
    go_on(dir.path(), || AuditLog::builder(dir.path()));
    assert_eq!(ledger::verify(dir.path()).verdict(), Verdict::Intact);
}

#[test]
fn a_torn_checkpoint_is_cut_and_a_malformed_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), false);
    let path = Layout::new(dir.path()).checkpoints().join("000001.ndjson");
    let good = fs::read(&path).unwrap();
    let line = good.split_inclusive(|byte| *byte == b'\n').next().unwrap();
    for cut in [1, line.len() / 2, line.len() - 1] {
        let mut torn = fs::OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(&line[..cut]).unwrap();
        go_on(dir.path(), || child::builder(dir.path(), false));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
        assert_eq!(ledger::verify(dir.path()).verdict(), Verdict::Intact);
    }
    let good = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let middle = lines.len() / 2;
    for bad in ["", "{}", &lines[middle][..lines[middle].len() / 2], "\u{0}\u{0}"] {
        if bad.is_empty() {
            continue;
        }
        let mut lines = lines.clone();
        lines[middle] = bad;
        let text = lines.join("\n") + "\n";
        fs::write(&path, &text).unwrap();
        let error = open(|| AuditLog::builder(dir.path())).unwrap_err();
        assert_eq!(error.kind(), AuditErrorKind::Damaged, "{error}");
        let words = format!("line {} of `{}`", middle + 1, path.display());
        assert!(error.to_string().contains(&words), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "evidence is left as it is");
        assert_ne!(ledger::verify(dir.path()).verdict(), Verdict::Intact);
    }
    fs::write(&path, good).unwrap();
    go_on(dir.path(), || AuditLog::builder(dir.path()));
}

#[test]
fn a_damaged_cursor_costs_no_event_and_repeats_none() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), true);
    let path = Layout::new(dir.path()).cursors().join("sqlite.json");
    let good = fs::read(&path).unwrap();
    let later =
        String::from_utf8(good.clone()).unwrap().replace(r#""position":"#, r#""position":9"#);
    for bad in [Vec::new(), b"{}".to_vec(), good[..good.len() / 2].to_vec(), later.into_bytes()] {
        fs::write(&path, bad).unwrap();
        go_on(dir.path(), || child::builder(dir.path(), true));
        assert!(ledger::sqlite(dir.path()) == ledger::whole(dir.path()));
    }
    fs::remove_file(&path).unwrap();
    go_on(dir.path(), || child::builder(dir.path(), true));
    let report = ledger::verify(dir.path());
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", report.findings);
    assert!(ledger::sqlite(dir.path()) == ledger::whole(dir.path()));
}

#[test]
fn a_damaged_database_holds_up_its_own_tenant_alone() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), true);
    let path = Layout::new(dir.path()).sqlite().join("acme.sqlite3");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[..4096].fill(0xa5);
    fs::write(&path, &bad).unwrap();

    let log = open(|| child::builder(dir.path(), true)).unwrap();
    let mut last = Vec::new();
    for tenant in ["acme", "globex"] {
        let session = log.session(tenant, "s", "a").unwrap();
        last.push(session.record_blocking(note("while acme's database is damaged")).unwrap());
    }
    let report = log.close_blocking(Duration::from_secs(2)).unwrap();
    let [left] = &report.undelivered[..] else { panic!("{report:?}") };
    assert_eq!((left.sink.as_str(), left.chains), ("sqlite", 1), "{left}");
    assert_eq!(fs::read(&path).unwrap(), bad, "what is damaged is left as it is");
    let journal = ledger::journal(dir.path());
    let (chain, acme) = ledger::chain_of(&journal, "acme");
    assert_eq!(acme[&last[0].sequence].hash, last[0].event_hash, "the journal keeps it");
    let report = ledger::verify(dir.path());
    assert_eq!(report.verdict(), Verdict::Unsure, "{:#?}", report.findings);
    let store = &report.findings[0];
    assert_eq!(store.kind, FindingKind::StoreUnreadable, "{store}");
    assert!(store.to_string().contains("acme.sqlite3"), "{store}");

    // Meanwhile the other tenant has everything; and once it is mended, so has this one.
    fs::write(&path, good).unwrap();
    let stored = ledger::sqlite(dir.path());
    let (_, globex) = ledger::chain_of(&stored, "globex");
    assert_eq!(globex[&last[1].sequence].hash, last[1].event_hash);
    go_on(dir.path(), || child::builder(dir.path(), true));
    let stored = ledger::sqlite(dir.path());
    assert_eq!(ledger::chain_of(&stored, "acme").0, chain);
    assert!(stored == ledger::whole(dir.path()));
    assert_eq!(ledger::verify(dir.path()).verdict(), Verdict::Intact);
}

#[derive(Debug)]
struct Fixed(u64);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0)
    }
}

#[test]
fn a_clock_that_was_set_back_between_two_processes_is_recorded_and_reported() {
    const HOUR: u64 = 3_600_000_000_000;
    let dir = tempfile::tempdir().unwrap();
    for (hour, sqlite) in [(10, true), (9, true), (11, false)] {
        let clock = 500_000 * HOUR + hour * HOUR;
        go_on(dir.path(), || child::builder(dir.path(), sqlite).with_clock(Fixed(clock)));
    }
    let report = ledger::verify(dir.path());
    assert_eq!(report.verdict(), Verdict::Intact, "{:#?}", report.findings);
    let back: Vec<_> = report
        .findings
        .iter()
        .filter(|finding| finding.kind == FindingKind::ClockRegression)
        .collect();
    assert_eq!(back.len(), 2, "once for each chain: {:#?}", report.findings);
    // chain.opened, three notes, chain.closed: the next process begins at position 5.
    assert!(back.iter().all(|finding| finding.is_at(5)), "{back:#?}");
    let (_, acme) = ledger::chain_of(&ledger::whole(dir.path()), "acme");
    assert_eq!(acme[&5].event_type, "chain.resumed");
}
