//! Real servers for tests.
//!
//! `servers/NAME` in the root of the repository installs, starts and stops a server. A test takes
//! the server that the environment names ([`required`]); one that has to kill, restart or fill its
//! server starts an [`Instance`] of its own.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use tempfile::TempDir;

use crate::disk::SmallDisk;

/// The value of an environment variable that names a server.
///
/// # Panics
/// Where it is not set, with the way to set it: a test that was asked for and cannot run has failed.
///
/// ```
/// let home = agent_audit_test_support::servers::required("PATH");
/// assert!(!home.is_empty());
/// ```
#[track_caller]
#[must_use]
pub fn required(variable: &str) -> String {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => value,
        _ => panic!(
            "{variable} is not set: run the tests as `servers/with {} -- cargo test -- \
             --include-ignored`, or set it to a server of your own",
            server_of(variable)
        ),
    }
}

/// The name of the script that sets a variable.
fn server_of(variable: &str) -> String {
    let name = variable.strip_prefix("AUDIT_TEST_").unwrap_or(variable);
    name.split('_').next().unwrap_or(name).to_lowercase()
}

/// A server of one test alone, with its data in a temporary directory. Stops when it is dropped.
///
/// ```no_run
/// use agent_audit_test_support::servers::Instance;
/// let postgres = Instance::start("postgres");
/// let address = postgres.variable("AUDIT_TEST_POSTGRES");
/// postgres.kill();
/// postgres.restart();
/// assert_eq!(postgres.variable("AUDIT_TEST_POSTGRES"), address);
/// ```
#[derive(Debug)]
pub struct Instance {
    script: PathBuf,
    /// Before the directory that it lies over.
    disk: OnceLock<SmallDisk>,
    state: TempDir,
    variables: BTreeMap<String, String>,
}

impl Instance {
    /// Installs the server, if it is not there yet, and starts one.
    ///
    /// # Panics
    /// Where there is no such server, or it does not start.
    #[track_caller]
    #[must_use]
    pub fn start(name: &str) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../servers");
        Self::start_by(&scripts.join(name))
    }

    /// Starts a server by a script that has the verbs of those in `servers/`.
    ///
    /// # Panics
    /// Where it does not start.
    #[track_caller]
    #[must_use]
    pub fn start_by(script: &Path) -> Self {
        // Two tests that start at the same moment install one after the other.
        static INSTALLING: Mutex<()> = Mutex::new(());
        assert!(script.is_file(), "no server is started by {}", script.display());
        let state = tempfile::tempdir().unwrap();
        // A server may run as a user of its own.
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (disk, variables) = (OnceLock::new(), BTreeMap::default());
        let mut instance = Self { script: script.to_owned(), disk, state, variables };
        {
            let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
            instance.run(&[OsStr::new("install")]);
        }
        instance.variables = instance.up();
        instance
    }

    /// What `start` said: the environment variables that name this server.
    #[must_use]
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// One of the variables.
    ///
    /// # Panics
    /// Where `start` did not set it.
    #[track_caller]
    #[must_use]
    pub fn variable(&self, name: &str) -> &str {
        self.variables.get(name).unwrap_or_else(|| {
            panic!("{} start set no {name}, but {:?}", self.script.display(), self.variables)
        })
    }

    /// Where the server keeps its state.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.state.path()
    }

    /// Stops the server in an orderly way; its data stays.
    #[track_caller]
    pub fn stop(&self) {
        self.run(&[OsStr::new("stop"), self.directory().as_os_str()]);
    }

    /// Kills the server with SIGKILL; its data is what it had made durable.
    #[track_caller]
    pub fn kill(&self) {
        self.run(&[OsStr::new("stop"), self.directory().as_os_str(), OsStr::new("KILL")]);
    }

    /// Starts the server again on the same data and the same ports.
    ///
    /// # Panics
    /// Where it does not come back, or under another name.
    #[track_caller]
    pub fn restart(&self) {
        assert_eq!(self.up(), self.variables, "it came back under another name");
    }

    /// Moves the state of the server to a small disk, with so many bytes to spare. None where this
    /// user may not mount one.
    ///
    /// # Panics
    /// Where it was moved before, or does not come back.
    #[track_caller]
    pub fn move_to_small_disk(&self, spare: u64) -> Option<&SmallDisk> {
        self.stop();
        if let Some(disk) = SmallDisk::over(self.directory(), spare) {
            assert!(self.disk.set(disk).is_ok(), "it was moved before");
        }
        self.restart();
        self.disk.get()
    }

    #[track_caller]
    fn up(&self) -> BTreeMap<String, String> {
        let said = self.run(&[OsStr::new("start"), self.directory().as_os_str()]);
        said.lines()
            .map(|line| parse(line).unwrap_or_else(|| panic!("no variable: {line}")))
            .collect()
    }

    /// Runs the script, and returns what it said on stdout.
    ///
    /// By way of files, because a daemon that keeps a pipe open would keep this waiting.
    #[track_caller]
    fn run(&self, arguments: &[&OsStr]) -> String {
        let file = |name: &str| {
            let path = tempfile::Builder::new().prefix(name).tempfile().unwrap();
            let handle = path.reopen().unwrap();
            (path, handle)
        };
        let ((out, stdout), (err, stderr)) = (file("stdout"), file("stderr"));
        let status = Command::new(&self.script)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .status()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.script.display()));
        assert!(
            status.success(),
            "{} {:?}: {status}\n{}",
            self.script.display(),
            arguments,
            fs::read_to_string(err.path()).unwrap_or_default()
        );
        fs::read_to_string(out.path()).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What went wrong is often in the log of the server, and the directory goes.
            let log = fs::read_to_string(self.directory().join("log")).unwrap_or_default();
            let lines: Vec<_> = log.lines().rev().take(40).collect();
            for line in lines.iter().rev() {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "server: {line}");
            }
            // A second panic would abort the whole binary.
            let _ = Command::new(&self.script)
                .args([OsStr::new("stop"), self.directory().as_os_str(), OsStr::new("KILL")])
                .stdin(Stdio::null())
                .status();
            return;
        }
        self.stop();
    }
}

/// `export NAME='value'`, with the quotes of a shell.
fn parse(line: &str) -> Option<(String, String)> {
    let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
    let value = value.strip_prefix('\'')?.strip_suffix('\'')?.replace("'\\''", "'");
    Some((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_a_shell_reads_them() {
        let read = parse(r"export AUDIT_TEST_X='host=a password='\''b'\'''");
        assert_eq!(read, Some(("AUDIT_TEST_X".to_owned(), "host=a password='b'".to_owned())));
        assert_eq!(parse("chatter"), None);
    }

    #[test]
    fn a_variable_that_is_missing_names_the_way_out() {
        let missing = std::panic::catch_unwind(|| required("AUDIT_TEST_NOSUCH_KEY")).unwrap_err();
        let message = missing.downcast_ref::<String>().unwrap();
        assert!(message.contains("AUDIT_TEST_NOSUCH_KEY"), "{message}");
        assert!(message.contains("servers/with nosuch --"), "{message}");
    }
}
