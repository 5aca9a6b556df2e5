//! Where messages are kept that belong nowhere.

use std::{
    collections::HashMap,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    halted::{self, HaltNote},
    state::{Refusal, Refused},
};

/// One file for each partition, one line for each message and reason.
#[derive(Debug)]
pub(super) struct Quarantine {
    directory: PathBuf,
    files: HashMap<(String, i32), File>,
}

#[derive(Serialize)]
struct Line<'a> {
    kind: String,
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<&'a str>,
    reason: &'a str,
    /// The event with its content, in the form that a message has it in JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Quarantine {
    /// A quarantine in a directory, for its owner alone.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, files: HashMap::new() })
    }

    /// Keeps messages, and which chains were halted; they are on disk when this returns.
    pub(super) fn keep(&mut self, refusals: &[Refusal], notes: &[HaltNote]) -> io::Result<()> {
        halted::add(&self.directory, notes)?;
        let mut written: HashMap<(String, i32), Vec<u8>> = HashMap::new();
        for refusal in refusals {
            let place = (refusal.problem.topic.clone(), refusal.problem.partition);
            let lines = written.entry(place).or_default();
            serde_json::to_writer(&mut *lines, &line(refusal)).map_err(io::Error::other)?;
            lines.push(b'\n');
        }
        for (place, lines) in written {
            let file = self.file(&place)?;
            // After a failure the file may end in half a line; the next attempt begins a new one.
            if let Err(error) = file.write_all(&lines).and_then(|()| file.sync_data()) {
                let _ = file.write_all(b"\n");
                self.files.remove(&place);
                return Err(error);
            }
        }
        Ok(())
    }

    fn file(&mut self, place: &(String, i32)) -> io::Result<&mut File> {
        if !self.files.contains_key(place) {
            let path = self.directory.join(format!("{}-{}.ndjson", place.0, place.1));
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
            File::open(&self.directory)?.sync_all()?;
            self.files.insert(place.clone(), file);
        }
        self.files.get_mut(place).ok_or_else(|| io::Error::other("the file was just opened"))
    }
}

fn line(refusal: &Refusal) -> Line<'_> {
    let problem = &refusal.problem;
    let mut line = Line {
        kind: problem.kind.to_string(),
        topic: &problem.topic,
        partition: problem.partition,
        offset: problem.offset,
        chain: problem.event.as_ref().map(|(chain, _)| chain.to_string()),
        sequence: problem.event.as_ref().map(|(_, sequence)| *sequence),
        sink: problem.sink.as_deref(),
        reason: &problem.message,
        record: None,
        key_base64: None,
        value_base64: None,
    };
    match &refusal.content {
        Refused::Event(record) => {
            let text = record.to_json_line().ok().and_then(|line| RawValue::from_string(line).ok());
            if text.is_none() {
                line.value_base64 = Some(STANDARD.encode(record.to_bytes()));
            }
            line.record = text;
        }
        Refused::Raw { key, value } => {
            line.key_base64 = key.as_ref().map(|key| STANDARD.encode(key));
            line.value_base64 = value.as_ref().map(|value| STANDARD.encode(value));
        }
    }
    line
}
