//! A segment with what is extracted from its events.

use agent_audit_core::{
    columns::{Columns, Value},
    content::PartBody,
    hash::Hash,
    id::EventId,
    record::Record,
    sink::{ChainRef, Segment, SinkErrorKind},
};

use crate::error::Fault;

/// A segment on its way into a statement.
pub(super) struct Prepared<'a> {
    place: usize,
    segment: &'a Segment,
    previous: Hash,
    rows: Vec<Row<'a>>,
    bytes: usize,
}

/// One event.
pub(super) struct Row<'a> {
    pub(super) hash: &'a Hash,
    pub(super) record: &'a Record,
    pub(super) columns: Columns<'a>,
    pub(super) event_id: EventId,
}

/// The most bytes of one value: the server keeps none that is larger than 1 GiB, with what it puts
/// around it.
const MAX_VALUE: usize = 1_000_000_000;

impl<'a> Prepared<'a> {
    /// Takes a segment apart; its place is where it stands in the batch.
    pub(super) fn new(place: usize, segment: &'a Segment) -> Result<Self, Fault> {
        let refused = |text: String| {
            let text = format!("append to chain {}: {text}", segment.chain());
            Fault::new(SinkErrorKind::Rejected, text)
        };
        let first = segment.records()[0].view().map_err(|error| refused(error.to_string()))?;
        let mut prepared = Self {
            place,
            previous: first.previous_event_hash,
            segment,
            rows: Vec::with_capacity(segment.len()),
            bytes: 0,
        };
        for (sequence, hash, record) in segment.iter() {
            let row = Row::new(hash, record)
                .map_err(|why| refused(format!("event {sequence} cannot be stored: {why}")))?;
            prepared.bytes += 512 + record.event_bytes().len();
            prepared.bytes += record.parts().iter().map(size).sum::<usize>();
            prepared.rows.push(row);
        }
        Ok(prepared)
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn segment(&self) -> &'a Segment {
        self.segment
    }

    pub(super) fn chain(&self) -> &'a ChainRef {
        self.segment.chain()
    }

    /// The hash that the first event names as the one before.
    pub(super) fn previous(&self) -> &Hash {
        &self.previous
    }

    pub(super) fn rows(&self) -> &[Row<'a>] {
        &self.rows
    }

    /// About how many bytes it has in a statement.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<'a> Row<'a> {
    fn new(hash: &'a Hash, record: &'a Record) -> Result<Self, String> {
        let columns = Columns::of(record.event_bytes()).map_err(|error| error.to_string())?;
        let id = match columns.values(hash)[EVENT_ID] {
            Value::Text(id) => id.parse::<EventId>().map_err(|error| error.to_string())?,
            _ => return Err("it has no event id".to_owned()),
        };
        let (named, bodies) = (columns.parts().len(), record.parts().len());
        if named != bodies {
            return Err(format!("it names {named} parts of content and its record has {bodies}"));
        }
        check_size(record.event_bytes().len())?;
        record.parts().iter().try_for_each(|body| check_size(size(body)))?;
        Ok(Self { hash, record, columns, event_id: id })
    }
}

/// Where `event_id` is among the columns.
pub(super) const EVENT_ID: usize = 3;

fn check_size(bytes: usize) -> Result<(), String> {
    if bytes <= MAX_VALUE {
        return Ok(());
    }
    Err(format!("a value has {bytes} bytes, and the database keeps {MAX_VALUE} at most"))
}

fn size(body: &PartBody) -> usize {
    match body {
        PartBody::Clear { bytes, .. } => bytes.len(),
        PartBody::Sealed(sealed) => sealed.ciphertext.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use agent_audit_core::columns::COLUMNS;

    use super::*;

    #[test]
    fn the_event_id_is_where_it_is_looked_for() {
        assert_eq!(COLUMNS[EVENT_ID], "event_id");
    }

    #[test]
    fn a_value_that_is_too_large_is_refused_before_it_is_sent() {
        assert!(check_size(MAX_VALUE).is_ok());
        assert!(check_size(MAX_VALUE + 1).is_err_and(|why| why.contains("1000000001 bytes")));
    }
}
