//! Real content: the messages of real agent sessions, where they are at hand.

use std::{env, fs, path::PathBuf};

/// All messages of the sessions in `$AUDIT_DATA`, or a stand-in of the same kind of text.
pub(crate) fn text() -> String {
    let folder = env::var_os("AUDIT_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
    let path = folder.join("airline-sessions.jsonl");
    let found = fs::read_to_string(&path);
    if found.is_err() {
        println!("no real sessions at {}: a stand-in is used", path.display());
    }
    let text = found.unwrap_or_else(|_| {
        "{\"role\":\"user\",\"content\":\"I'd like to change my flight, please.\"}".repeat(4_000)
    });
    text.chars().filter(char::is_ascii).collect()
}

/// Pieces of real text, each of this many bytes.
pub(crate) fn pieces(bytes: usize) -> Vec<String> {
    let text = text();
    text.as_bytes()
        .chunks_exact(bytes)
        .take(512)
        .map(|piece| String::from_utf8(piece.to_vec()).unwrap())
        .collect()
}
