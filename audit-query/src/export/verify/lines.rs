//! The lines of a file that has one JSON object a line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    marker::PhantomData,
};

use agent_audit_core::verify::FindingKind;
use serde::{Serialize, de::DeserializeOwned};

use super::{files::Files, report::Draft};
use crate::{
    QueryError,
    export::{line::canonical_line, output::failed},
};

/// Reads one value a line. What is none becomes a finding.
pub(super) struct Lines<T> {
    name: &'static str,
    reader: Option<BufReader<File>>,
    number: u64,
    line: Vec<u8>,
    of: PhantomData<T>,
}

/// More than any line of a proof or a checkpoint.
const MAX_LINE: u64 = 1 << 30;

impl<T: DeserializeOwned + Serialize> Lines<T> {
    /// The lines of a file of the manifest; none where it is not there.
    pub(super) fn open(files: &Files, name: &'static str) -> Result<Self, QueryError> {
        let reader = files.open(name)?.map(BufReader::new);
        Ok(Self { name, reader, number: 0, line: Vec::new(), of: PhantomData })
    }

    /// The next value and where it stands.
    pub(super) fn next(&mut self, draft: &mut Draft) -> Result<Option<(String, T)>, QueryError> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        loop {
            self.line.clear();
            self.number += 1;
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
            read.map_err(|error| failed("read", self.name.as_ref(), error))?;
            if self.line.is_empty() {
                return Ok(None);
            }
            let place = format!("{} line {}", self.name, self.number);
            let Some(line) = self.line.strip_suffix(b"\n") else {
                draft.find(
                    FindingKind::Truncated,
                    &place,
                    "the line does not end: the file was cut",
                );
                return Ok(None);
            };
            // One spelling alone, so that nothing can hide in a line.
            let value = serde_json::from_slice::<T>(line).ok();
            match value.filter(|value| canonical_line(value).is_ok_and(|bytes| bytes == line)) {
                Some(value) => return Ok(Some((place, value))),
                None => {
                    draft.find(
                        FindingKind::Tampered,
                        &place,
                        "the line was changed and cannot be read",
                    );
                }
            }
        }
    }
}
