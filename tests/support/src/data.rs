//! Real data that lies beside the repository and not in it.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

/// Where the data is looked for where nothing else is said, from the root of the repository.
const USUAL: &str = "../shared/data";

/// The folder of the data: the one that `AUDIT_DATA` names, or the usual one beside the repository.
///
/// ```
/// assert!(agent_audit_test_support::data::folder().is_absolute());
/// ```
///
/// # Panics
/// Where the folder that a test runs in is gone.
#[must_use]
pub fn folder() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(USUAL);
    let folder = std::env::var_os("AUDIT_DATA").map_or_else(usual, PathBuf::from);
    std::path::absolute(folder).unwrap()
}

/// What a file of the data holds; none where it is not at hand, which is said past the capture of the
/// test runner, so that a skipped test is seen.
///
/// ```
/// use agent_audit_test_support::data;
/// # if std::env::var_os("AUDIT_REQUIRE_DATA").is_some() { return }
/// let Some(sessions) = data::text("no-such-sessions.jsonl") else { return };
/// # unreachable!("{sessions}");
/// ```
///
/// # Panics
/// Where it is not at hand and `AUDIT_REQUIRE_DATA` says that it must be.
#[track_caller]
#[must_use]
pub fn text(name: &str) -> Option<String> {
    let file = folder().join(name);
    match fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if std::env::var_os("AUDIT_REQUIRE_DATA").is_none() => {
            let skipped = format!("skipped: {}: {error}; set AUDIT_DATA\n", file.display());
            std::io::stderr().write_all(skipped.as_bytes()).unwrap();
            None
        }
        Err(error) => {
            panic!("{}: {error}; AUDIT_REQUIRE_DATA says that it must be there", file.display())
        }
    }
}
