//! The events of an export, one after the other, whatever somebody has made of them.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead, BufReader, Read},
};

use agent_audit_core::{canonical, hash::Hash, record::Record};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::files::Files;
use crate::{
    QueryError,
    export::{manifest::Format, output::failed},
};

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    name: String,
    line: bool,
    number: u64,
}

impl Place {
    /// The name of the file.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = if self.line { "line" } else { "row" };
        write!(f, "{} {what} {}", self.name, self.number)
    }
}

/// What stands at a place.
pub(super) enum Item {
    /// A record whose event can be read.
    Record(Taken),
    /// Something that is no record, and what is wrong with it.
    Damaged(Place, String),
    /// The beginning of a record, at the end of a file.
    Cut(Place),
    /// From here on a file cannot be read.
    Lost(Place, String),
}

/// A record whose event can be read.
pub(super) struct Taken {
    pub(super) record: Record,
    /// The event hash that stands beside it.
    pub(super) hash: Hash,
    /// What is wrong with it already: the event is not the one of the hash, or a column disagrees.
    pub(super) fault: Option<Fault>,
    pub(super) place: Place,
    /// How many bytes it takes in its file, nearly.
    pub(super) bytes: usize,
}

/// What a line or row says against its own event.
pub(super) enum Fault {
    /// The event does not have the hash beside it.
    Edited,
    /// This column does not say what the event says.
    #[cfg_attr(not(feature = "parquet"), allow(dead_code, reason = "lines have no columns"))]
    Column(&'static str),
    /// The line is not spelt as the specification says.
    Spelling,
}

/// Reads files of events in their order.
pub(super) struct Records<'a> {
    files: &'a Files,
    format: Format,
    /// Whether bodies of content are there.
    content: bool,
    names: VecDeque<String>,
    open: Option<Source>,
    line: Vec<u8>,
}

struct Source {
    place: Place,
    body: Body,
}

enum Body {
    Ndjson(BufReader<File>),
    #[cfg(feature = "parquet")]
    Parquet(Box<agent_audit_parquet::Rows>),
}

impl<'a> Records<'a> {
    pub(super) fn new(
        files: &'a Files,
        format: Format,
        content: bool,
        names: impl IntoIterator<Item = String>,
    ) -> Self {
        let names = names.into_iter().collect();
        Self { files, format, content, names, open: None, line: Vec::new() }
    }

    /// The next record, or what stands in the place of one.
    pub(super) fn next(&mut self) -> Result<Option<Item>, QueryError> {
        loop {
            let Some(source) = &mut self.open else {
                let Some(name) = self.names.pop_front() else { return Ok(None) };
                // That a file is missing was found before.
                let Some(file) = self.files.open(&name)? else { continue };
                match Source::open(name, self.format, self.content, file) {
                    Ok(source) => self.open = Some(source),
                    Err((place, what)) => return Ok(Some(Item::Lost(place, what))),
                }
                continue;
            };
            source.place.number += 1;
            let item = match &mut source.body {
                Body::Ndjson(reader) => {
                    self.line.clear();
                    let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line);
                    read.map_err(|error| failed("read", source.place.name.as_ref(), error))?;
                    (!self.line.is_empty()).then(|| read_line(&self.line, source.place.clone()))
                }
                #[cfg(feature = "parquet")]
                Body::Parquet(rows) => rows.next().map(|row| read_row(row, source.place.clone())),
            };
            let Some(item) = item else {
                self.open = None;
                continue;
            };
            if matches!(item, Item::Lost(..)) {
                self.open = None;
            }
            return Ok(Some(item));
        }
    }
}

/// More than any line that an exporter writes: a record has at most 1 GiB, and an escape six bytes.
const MAX_LINE: u64 = 8 << 30;

impl Source {
    #[cfg_attr(
        not(feature = "parquet"),
        expect(unused_variables, reason = "lines say by themselves whether content is there")
    )]
    fn open(
        name: String,
        format: Format,
        content: bool,
        file: File,
    ) -> Result<Self, (Place, String)> {
        let place = Place { name, line: format == Format::Ndjson, number: 0 };
        let body = match format {
            Format::Ndjson => Body::Ndjson(BufReader::with_capacity(256 << 10, file)),
            #[cfg(feature = "parquet")]
            Format::Parquet => match agent_audit_parquet::Rows::of_file(file) {
                Ok(rows) => {
                    Body::Parquet(Box::new(if content { rows } else { rows.without_content() }))
                }
                Err(error) => return Err((place, error.to_string())),
            },
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => {
                let what = "this program was built without the feature `parquet`";
                return Err((place, what.to_owned()));
            }
        };
        Ok(Self { place, body })
    }
}

/// The beginning of every line, up to the event hash.
const BEGINNING: usize = br#"{"event_hash":""#.len();

fn read_line(text: &[u8], place: Place) -> Item {
    let Some(line) = text.strip_suffix(b"\n") else {
        return Item::Cut(place);
    };
    let bytes = text.len();
    let record = match Record::from_json_line(line) {
        Ok(record) => record,
        Err(error) => return edited(line, bytes, place, &error.to_string()),
    };
    // The reader of lines takes other spellings of the same; here nothing but the one of the
    // specification will do, so that nothing can hide in a line.
    let stated = line.get(BEGINNING..BEGINNING + 64).and_then(|text| str::from_utf8(text).ok());
    let hash = stated.and_then(|text| text.parse().ok()).unwrap_or_else(|| record.event_hash());
    let fault = (record.to_json_line_with(&hash) != line).then_some(Fault::Spelling);
    whole(Taken { record, hash, fault, place, bytes })
}

/// A line that is no record: does it say which event it was?
fn edited(line: &[u8], bytes: usize, place: Place, what: &str) -> Item {
    #[derive(Deserialize)]
    struct Edited<'a> {
        event_hash: Hash,
        #[serde(borrow)]
        event: &'a RawValue,
    }
    let damaged = || format!("the line is no record: {what}");
    let Ok(read) = serde_json::from_slice::<Edited<'_>>(line) else {
        return Item::Damaged(place, damaged());
    };
    let record = Record::new(read.event.get().as_bytes().to_vec(), Vec::new());
    if record.event_hash() == read.event_hash {
        // The event is whole, and something else in the line is not.
        return Item::Damaged(place, damaged());
    }
    whole(Taken { record, hash: read.event_hash, fault: Some(Fault::Edited), place, bytes })
}

#[cfg(feature = "parquet")]
fn read_row(
    row: Result<agent_audit_parquet::Row, agent_audit_parquet::ParquetError>,
    place: Place,
) -> Item {
    match row {
        Ok(row) => {
            let (hash, fault) = (row.record.event_hash(), row.mismatch.map(Fault::Column));
            let bytes = row.record.event_bytes().len();
            whole(Taken { record: row.record, hash, fault, place, bytes })
        }
        Err(error) => Item::Lost(place, error.to_string()),
    }
}

fn whole(read: Taken) -> Item {
    match canonical::scan(read.record.event_bytes()) {
        Ok(_) => Item::Record(read),
        Err(error) => Item::Damaged(read.place, format!("the record was changed: {error}")),
    }
}
