//! Who may use a log directory: one process at a time, and only with permission.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use agent_audit::{AuditErrorKind, AuditLog, log::Layout};

use crate::{
    child::{Child, Orders, Work, builder},
    in_words,
    ledger::{Ack, Attempts, check},
    open,
};

const NOBODY: u32 = 65_534;

#[test]
fn a_second_process_is_told_who_has_the_log_and_gets_it_when_that_one_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let orders = Orders { dir: dir.path().to_owned(), work: Work::Open, sqlite: false, seed: 0 };
    let first = Child::start(&orders);
    assert!(first.lines_until("opened").1);
    let error = AuditLog::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), AuditErrorKind::Locked);
    let text = error.to_string();
    assert!(text.contains(&dir.path().display().to_string()), "{text}");
    assert!(text.contains(&format!("process {}", first.id())), "{text}");
    let (said, _) = Child::start(&orders).wait();
    assert!(said.iter().any(|line| line == &format!("refused Locked {text}")), "{said:?}");
    first.kill();
    let next = Child::start(&orders);
    assert!(next.lines_until("opened").1, "the lock goes with the process");
    next.kill();
}

/// A process without the rights of root, from a place where it can be read.
struct Stranger {
    place: tempfile::TempDir,
    program: PathBuf,
    root: bool,
}

impl Stranger {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        mode(place.path(), 0o755);
        let program = place.path().join("stranger");
        fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        mode(&program, 0o755);
        let root = fs::metadata(place.path()).unwrap().uid() == 0;
        Self { place, program, root }
    }

    /// A directory that belongs to the stranger.
    fn own_directory(&self, name: &str) -> PathBuf {
        let dir = self.place.path().join(name);
        fs::create_dir(&dir).unwrap();
        if self.root {
            chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        dir
    }

    fn start(&self, dir: &Path, work: Work) -> Child {
        let mut command = Command::new(&self.program);
        if self.root {
            command.uid(NOBODY).gid(NOBODY);
        }
        let orders = Orders { dir: dir.to_owned(), work, sqlite: false, seed: 7 };
        Child::start_by(command, &orders)
    }

    /// What opening a log says; none where it succeeds.
    fn refusal(&self, dir: &Path) -> Option<String> {
        let child = self.start(dir, Work::Open);
        loop {
            let line = child.line().expect("the process says how it went");
            if line == "opened" {
                child.kill();
                return None;
            }
            if let Some(refusal) = line.strip_prefix("refused ") {
                child.wait();
                return Some(refusal.to_owned());
            }
        }
    }
}

#[track_caller]
fn assert_refused(refusal: Option<String>, kind: &str, words: &[&str]) {
    let refusal = refusal.expect("it is refused");
    assert!(refusal.starts_with(&format!("{kind} ")), "{refusal}");
    for word in words {
        assert!(refusal.contains(word), "{refusal:?} does not say {word:?}");
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_without_permission_is_named() {
    let stranger = Stranger::new();
    // Of somebody else, where there is somebody else; in any case closed.
    let dir = stranger.place.path().join("private");
    fs::create_dir(&dir).unwrap();
    mode(&dir, if stranger.root { 0o700 } else { 0o000 });
    let name = dir.display().to_string();
    assert_refused(stranger.refusal(&dir), "PermissionDenied", &[&name]);
    assert_refused(stranger.refusal(&dir.join("below")), "PermissionDenied", &[&name]);
    mode(&dir, 0o700);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "and nothing was made in it");

    let readable = stranger.own_directory("readable");
    mode(&readable, 0o500);
    let name = readable.display().to_string();
    assert_refused(stranger.refusal(&readable), "PermissionDenied", &[&name]);
    mode(&readable, 0o700);
}

#[test]
fn a_read_only_journal_file_is_named_and_costs_nothing() {
    let stranger = Stranger::new();
    let dir = stranger.own_directory("log");
    let child = stranger.start(&dir, Work::Record);
    let mut lines = Vec::new();
    for _ in 0..40 {
        lines.extend(child.lines_until("ack ").0);
    }
    lines.extend(child.kill().0);
    let acks: Vec<_> = lines.iter().filter_map(|line| Ack::read(1, line)).collect();
    let mut segments: Vec<_> = fs::read_dir(Layout::new(&dir).journal())
        .unwrap()
        .map(|item| item.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    segments.sort();
    // The newest, which is not sealed yet: the next process has to write its end.
    let newest = segments.last().unwrap();
    mode(newest, 0o400);
    let name = newest.display().to_string();
    assert_refused(stranger.refusal(&dir), "PermissionDenied", &[&name]);
    check(&dir, &acks, Attempts::MayBeOpen);
    mode(newest, 0o600);
    assert_eq!(stranger.refusal(&dir), None);
    // Sealed ones are only read.
    for segment in &segments {
        mode(segment, 0o400);
    }
    assert_eq!(stranger.refusal(&dir), None);
    check(&dir, &acks, Attempts::AreClosed);
}

#[test]
fn a_signing_key_that_others_can_read_is_refused_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    open(|| builder(dir.path(), false)).unwrap().close_blocking(Duration::from_secs(10)).unwrap();
    let key = Layout::new(dir.path()).keys().join("signing.key");
    mode(&key, 0o644);
    let error = open(|| builder(dir.path(), false)).unwrap_err();
    let text = in_words(&error);
    assert!(text.contains(&format!("chmod 600 {}", key.display())), "{text}");
    mode(&key, 0o600);
    drop(open(|| builder(dir.path(), false)).unwrap());
}
