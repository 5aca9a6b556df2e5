//! The files of events: as many as it takes, each of a bounded size.

use agent_audit_core::{hash::Hash, record::Record};

use super::{
    manifest::{EVENTS, Format},
    output::{Output, Writing},
};
use crate::{QueryError, QueryErrorKind};

/// Writes events into files, one after the other.
pub(super) struct EventFiles {
    format: Format,
    /// A file that has reached this many bytes is the last but one.
    limit: u64,
    number: u64,
    open: Option<Open>,
    written: u64,
}

struct Open {
    body: Body,
    events: u64,
}

enum Body {
    Ndjson(Writing),
    #[cfg(feature = "parquet")]
    Parquet(Box<agent_audit_parquet::Writer<Writing>>),
}

impl EventFiles {
    pub(super) fn new(format: Format, limit: u64) -> Result<Self, QueryError> {
        if format == Format::Parquet && cfg!(not(feature = "parquet")) {
            return Err(no_parquet());
        }
        Ok(Self { format, limit, number: 0, open: None, written: 0 })
    }

    pub(super) fn push(
        &mut self,
        output: &mut Output,
        record: &Record,
        hash: &Hash,
    ) -> Result<(), QueryError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(output)?,
        };
        let bytes = open.body.push(record, hash)?;
        open.events += 1;
        self.written += 1;
        if bytes >= self.limit { open.finish(output) } else { self.keep(open) }
    }

    /// How many events were written.
    pub(super) fn events(&self) -> u64 {
        self.written
    }

    /// About how many bytes the file has that is not whole yet.
    pub(super) fn open_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.body.bytes())
    }

    pub(super) fn finish(mut self, output: &mut Output) -> Result<u64, QueryError> {
        if let Some(open) = self.open.take() {
            open.finish(output)?;
        }
        Ok(self.written)
    }

    fn keep(&mut self, open: Open) -> Result<(), QueryError> {
        self.open = Some(open);
        Ok(())
    }

    fn begin(&mut self, output: &Output) -> Result<Open, QueryError> {
        self.number += 1;
        let name = format!("{EVENTS}{:06}.{}", self.number, self.format.extension());
        let writing = output.begin(name)?;
        let body = match self.format {
            Format::Ndjson => Body::Ndjson(writing),
            #[cfg(feature = "parquet")]
            Format::Parquet => {
                Body::Parquet(Box::new(agent_audit_parquet::Writer::new(writing).map_err(parquet)?))
            }
            #[cfg(not(feature = "parquet"))]
            Format::Parquet => return Err(no_parquet()),
        };
        Ok(Open { body, events: 0 })
    }
}

impl Open {
    fn finish(self, output: &mut Output) -> Result<(), QueryError> {
        let writing = match self.body {
            Body::Ndjson(writing) => writing,
            #[cfg(feature = "parquet")]
            Body::Parquet(writer) => writer.finish().map_err(parquet)?,
        };
        output.commit(writing, Some(self.events))
    }
}

impl Body {
    /// Adds an event; returns about how many bytes there are now.
    fn push(&mut self, record: &Record, hash: &Hash) -> Result<u64, QueryError> {
        match self {
            Self::Ndjson(writing) => {
                let mut line = record.to_json_line_with(hash);
                line.push(b'\n');
                writing.put(&line)?;
            }
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.push(record).map_err(parquet)?,
        }
        Ok(self.bytes())
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Ndjson(writing) => writing.bytes(),
            #[cfg(feature = "parquet")]
            Self::Parquet(writer) => writer.len(),
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(error: agent_audit_parquet::ParquetError) -> QueryError {
    QueryError::new(QueryErrorKind::Other, "cannot write a file of events").with_source(error)
}

fn no_parquet() -> QueryError {
    QueryError::new(
        QueryErrorKind::Unsupported,
        "cannot write Parquet: this program was built without the feature `parquet`",
    )
}
