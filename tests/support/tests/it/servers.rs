//! The scripts that start servers, with one that is no more than a process that can be asked.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use agent_audit_test_support::servers::Instance;
use tempfile::TempDir;

/// A copy of the scripts with other servers beside them.
struct Scripts(TempDir);

/// Stays until it is told to end; whether it runs is all there is to know.
const SERVER: &str = r#"
install() { echo "installing, says a chatty tool"; touch "$(cache_dir fake)/installed"; }
start() {
  echo "starting, says a chatty tool"
  local port
  port=$(keep_port "$1" main)
  spawn "$1/pid" sleep 1000
  wait_for_server "$1/pid" 10 alive "$1/pid"
  echo "$port" >>"$1/starts"
  export_variable AUDIT_TEST_FAKE "it's on $port"
}
stop() { stop_pid "$1/pid" "$2"; }
serve "$@"
"#;

impl Scripts {
    fn new() -> Self {
        let originals = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../servers");
        let scripts = Self(tempfile::tempdir().unwrap());
        for name in ["lib.sh", "with"] {
            fs::copy(originals.join(name), scripts.0.path().join(name)).unwrap();
        }
        scripts.add("fake", SERVER);
        scripts.add("uninstallable", &SERVER.replace("touch", "false; touch"));
        // It dies at once, and nobody would ever hear from it.
        let dead = SERVER.replace("sleep 1000", "false").replace("10 alive \"$1/pid\"", "10 false");
        scripts.add("dead", &dead);
        scripts
    }

    fn add(&self, name: &str, body: &str) {
        let path = self.0.path().join(name);
        let head = "#!/usr/bin/env bash\nsource \"$(dirname \"${BASH_SOURCE[0]}\")/lib.sh\"\n";
        fs::write(&path, format!("{head}{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// `with` and its arguments, with nothing from the outside.
    fn with(&self, arguments: &[&str]) -> Command {
        // Run by the shell and not by itself: another test may just be forking, with the copy open.
        // And with SIGINT as a terminal gives it: whoever runs the tests in the background ignores it.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT", "bash"])
            .arg(self.0.path().join("with"))
            .args(arguments)
            .env("AUDIT_SERVERS_CACHE", self.cache())
            .env("TMPDIR", self.0.path())
            .env_remove("AUDIT_TEST_FAKE")
            .env_remove("AUDIT_SERVERS_KEEP")
            .stdin(Stdio::null());
        command
    }

    fn cache(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    /// Nothing is left of what `with` started.
    fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("agent-audit-servers"))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[track_caller]
fn ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

/// Whether a process runs; one that is dead and was not waited for does not.
fn runs(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn a_command_has_its_servers_and_its_exit_code() {
    let scripts = Scripts::new();
    let pid = scripts.0.path().join("pid-of-server");
    let command = format!(
        "head -n 1 \"$TMPDIR\"/agent-audit-servers.*/fake/pid > {}; echo \"$AUDIT_TEST_FAKE\"; exit 7",
        pid.display()
    );
    let output = scripts.with(&["fake", "--", "bash", "-c", &command]).output().unwrap();
    ended(&output, 7);
    assert!(text(&output.stdout).starts_with("it's on "), "{output:?}");
    assert!(scripts.cache().join("fake/installed").exists());
    assert!(!runs(fs::read_to_string(pid).unwrap().trim()), "the server has been stopped");
    scripts.assert_clean();
}

#[test]
fn a_server_that_the_environment_names_is_not_started() {
    let scripts = Scripts::new();
    let output = scripts
        .with(&["fake", "--", "printenv", "AUDIT_TEST_FAKE"])
        .env("AUDIT_TEST_FAKE", "mine")
        .output()
        .unwrap();
    ended(&output, 0);
    assert_eq!(text(&output.stdout), "mine\n");
    assert!(!scripts.cache().exists(), "nor is it installed");
}

#[test]
fn a_server_that_fails_is_named_and_the_others_are_used() {
    for broken in ["uninstallable", "dead"] {
        let scripts = Scripts::new();
        let command = ["fake", broken, "fake", "--", "printenv", "AUDIT_TEST_FAKE"];
        let output = scripts.with(&command).output().unwrap();
        ended(&output, 1);
        assert!(text(&output.stdout).starts_with("it's on "), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains(&format!("{broken} COULD NOT BE STARTED")), "{said}");
        scripts.assert_clean();
    }
}

#[test]
fn an_unknown_server_and_a_missing_command_are_refused() {
    let scripts = Scripts::new();
    for arguments in [&["nosuch", "--", "true"][..], &["fake"], &["fake", "--"], &["--", "true"]] {
        let output = scripts.with(arguments).output().unwrap();
        ended(&output, 1);
        let said = text(&output.stderr);
        assert!(said.contains("names are: dead fake uninstallable"), "{said}");
    }
}

#[test]
fn a_signal_ends_the_command_and_the_servers() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let scripts = Scripts::new();
        let note = scripts.0.path().join("started");
        let command = format!(
            "head -n 1 \"$TMPDIR\"/agent-audit-servers.*/fake/pid > {0}.new; mv {0}.new {0}; \
             exec sleep 1000",
            note.display()
        );
        let child = scripts
            .with(&["fake", "--", "bash", "-c", &command])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let since = Instant::now();
        while !note.exists() {
            assert!(since.elapsed() < Duration::from_secs(60), "the command never began");
            std::thread::yield_now();
        }
        let pid = fs::read_to_string(&note).unwrap();
        assert!(runs(pid.trim()));
        let kill = format!("kill -s {signal} {}", child.id());
        assert!(Command::new("bash").args(["-c", &kill]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        ended(&output, code);
        assert!(!runs(pid.trim()), "the server has been stopped");
        scripts.assert_clean();
    }
}

#[test]
fn it_works_without_a_stdin() {
    let scripts = Scripts::new();
    let with = scripts.0.path().join("with");
    let line = format!("bash {} fake -- cat <&-", with.display());
    let output = Command::new("bash")
        .args(["-c", &line])
        .env("AUDIT_SERVERS_CACHE", scripts.cache())
        .env("TMPDIR", scripts.0.path())
        .env_remove("AUDIT_TEST_FAKE")
        .output()
        .unwrap();
    ended(&output, 0);
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn an_instance_comes_back_on_the_same_port_however_it_went() {
    let scripts = Scripts::new();
    let instance = Instance::start_by(&scripts.0.path().join("fake"));
    let port = instance.variable("AUDIT_TEST_FAKE").strip_prefix("it's on ").unwrap().to_owned();
    let pid = || {
        let file = fs::read_to_string(instance.directory().join("pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    };
    let first = pid();
    assert!(runs(&first));
    instance.kill();
    assert!(!runs(&first));
    instance.restart();
    let second = pid();
    instance.stop();
    assert!(!runs(&second));
    instance.restart();
    // Without having been stopped.
    instance.restart();
    let starts = fs::read_to_string(instance.directory().join("starts")).unwrap();
    assert_eq!(starts.lines().collect::<Vec<_>>(), vec![&*port; 4]);
    let last = pid();
    assert!(runs(&last));
    drop(instance);
    assert!(!runs(&last), "dropped and stopped");
}
