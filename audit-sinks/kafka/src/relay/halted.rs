//! The file that says which chains were halted at which sinks.
//!
//! It lies beside the quarantine, because it is there that offsets pass what a sink refused: without
//! a quarantine a relay that starts again reads the refused event again.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use agent_audit_core::sink::ChainRef;
use serde::{Deserialize, Serialize};

const NAME: &str = "halted.ndjson";

/// A chain was halted at a sink, or goes on there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HaltNote {
    pub(super) sink: String,
    pub(super) chain: ChainRef,
    /// Why; where it is absent, the chain goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) halted: Option<String>,
}

/// The notes in a directory, the last one about a chain and a sink being the one that counts. A line
/// that is none, as a crash leaves it, is passed over: a chain that is not known to be halted waits,
/// and is halted then.
pub(super) fn read(directory: &Path) -> io::Result<Vec<HaltNote>> {
    let file = match File::open(directory.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut notes = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        notes.extend(serde_json::from_slice(&line?).ok());
    }
    Ok(notes)
}

/// Adds notes; they are on disk when this returns.
pub(super) fn add(directory: &Path, notes: &[HaltNote]) -> io::Result<()> {
    if notes.is_empty() {
        return Ok(());
    }
    // What a crash left of a line ends with it.
    let mut lines = vec![b'\n'];
    for note in notes {
        serde_json::to_writer(&mut lines, note).map_err(io::Error::other)?;
        lines.push(b'\n');
    }
    let path = directory.join(NAME);
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(&lines)?;
    file.sync_data()?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    #[test]
    fn notes_are_found_again_and_half_a_line_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), []);
        let chain = TestChain::new().chain().clone();
        let note = |halted: Option<&str>| HaltNote {
            sink: "a".to_owned(),
            chain: chain.clone(),
            halted: halted.map(str::to_owned),
        };
        add(dir.path(), &[note(Some("no")), note(None)]).unwrap();
        let mut file = OpenOptions::new().append(true).open(dir.path().join(NAME)).unwrap();
        file.write_all(br#"{"sink":"a","cha"#).unwrap();
        add(dir.path(), &[note(Some("again"))]).unwrap();
        let found = read(dir.path()).unwrap();
        assert_eq!(found, [note(Some("no")), note(None), note(Some("again"))]);
    }
}
