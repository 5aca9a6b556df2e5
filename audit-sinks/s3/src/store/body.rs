//! The bodies of objects: records in, bytes out, and back.

use std::io::{BufRead, Write};

use agent_audit_core::{hash::Hash, record::Record, sink::SinkErrorKind};
use bytes::Bytes;

use super::{manifest::digest, piece::Piece};
use crate::{config::ObjectFormat, error::Fault};

/// The bytes of an object and their SHA-256.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) bytes: Bytes,
    pub(crate) sha256: Hash,
}

/// The level of Zstandard: the library's own default.
const LEVEL: i32 = 3;

impl Body {
    /// Writes the records of a piece.
    pub(crate) fn encode(format: ObjectFormat, piece: &Piece) -> Result<Self, Fault> {
        let bytes = match format {
            ObjectFormat::NdjsonZstd => lines(piece),
            #[cfg(feature = "parquet")]
            ObjectFormat::Parquet => super::parquet::encode(piece.records()),
            #[cfg(not(feature = "parquet"))]
            ObjectFormat::Parquet => return Err(no_parquet()),
        };
        let bytes = Bytes::from(bytes.map_err(|what| {
            Fault::new(SinkErrorKind::Rejected, format!("encode events for an object: {what}"))
        })?);
        let sha256 = digest(&bytes);
        Ok(Self { bytes, sha256 })
    }

    /// What the object's key is to say of its form.
    pub(crate) fn media_type(format: ObjectFormat) -> &'static str {
        match format {
            ObjectFormat::NdjsonZstd => "application/zstd",
            ObjectFormat::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Reads records one by one, with the name of a column that does not agree with its record where
    /// there is one, until `each` says that it is enough. An error says what is wrong, without any of
    /// the bytes.
    pub(crate) fn decode(
        format: ObjectFormat,
        bytes: &Bytes,
        each: &mut dyn FnMut(Record, Option<&'static str>) -> bool,
    ) -> Result<(), String> {
        match format {
            ObjectFormat::NdjsonZstd => read_lines(bytes, each),
            #[cfg(feature = "parquet")]
            ObjectFormat::Parquet => super::parquet::decode(bytes, each),
            #[cfg(not(feature = "parquet"))]
            ObjectFormat::Parquet => Err(SWITCH_ON.to_owned()),
        }
    }

    /// Reads all records.
    pub(crate) fn decode_all(format: ObjectFormat, bytes: &Bytes) -> Result<Vec<Record>, String> {
        let mut records = Vec::new();
        Self::decode(format, bytes, &mut |record, _| {
            records.push(record);
            true
        })?;
        Ok(records)
    }
}

#[cfg(not(feature = "parquet"))]
const SWITCH_ON: &str = "this program was built without the feature `parquet`";

#[cfg(not(feature = "parquet"))]
pub(crate) fn no_parquet() -> Fault {
    Fault::new(SinkErrorKind::Misconfigured, format!("write Parquet: {SWITCH_ON}"))
}

fn lines(piece: &Piece) -> Result<Vec<u8>, String> {
    let text = |_| "it could not be compressed".to_owned();
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).map_err(text)?;
    encoder.include_checksum(true).map_err(text)?;
    for (hash, record) in piece.hashes().iter().zip(piece.records()) {
        let mut line = record.to_json_line_with(hash);
        line.push(b'\n');
        encoder.write_all(&line).map_err(text)?;
    }
    encoder.finish().map_err(text)
}

fn read_lines(
    bytes: &Bytes,
    each: &mut dyn FnMut(Record, Option<&'static str>) -> bool,
) -> Result<(), String> {
    let text = |_| "it cannot be decompressed".to_owned();
    let decoder = zstd::Decoder::with_buffer(&bytes[..]).map_err(text)?;
    let mut reader = std::io::BufReader::with_capacity(128 << 10, decoder);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(text)? == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            return Err(format!("line {number} does not end"));
        }
        let record = Record::from_json_line(&line);
        if !each(record.map_err(|error| format!("line {number}: {error}"))?, None) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{conformance::TestChain, content::Part};

    use super::*;

    #[test]
    fn records_come_back_byte_for_byte() {
        let mut chain = TestChain::new();
        chain.extend(20);
        chain.extend_with(vec![Part::new("blob", "x/y", [0, 159, 146, 150, 10]).commit()]);
        let piece = Piece::whole(chain.segment(0..=20));
        let mut formats = vec![ObjectFormat::NdjsonZstd];
        if cfg!(feature = "parquet") {
            formats.push(ObjectFormat::Parquet);
        }
        for format in formats {
            let body = Body::encode(format, &piece).unwrap();
            assert_eq!(Body::decode_all(format, &body.bytes).unwrap(), chain.records());
            let again = Body::encode(format, &piece).unwrap();
            assert_eq!(again.sha256, body.sha256, "the same records have the same bytes");
            let cut = body.bytes.slice(..body.bytes.len() / 2);
            let error = Body::decode_all(format, &cut).unwrap_err();
            assert!(!error.contains("refund"), "{error}");
        }
    }

    #[test]
    fn a_reader_can_stop() {
        let mut chain = TestChain::new();
        let piece = Piece::whole(chain.extend(9));
        let body = Body::encode(ObjectFormat::NdjsonZstd, &piece).unwrap();
        let mut seen = 0;
        Body::decode(ObjectFormat::NdjsonZstd, &body.bytes, &mut |_, _| {
            seen += 1;
            seen < 3
        })
        .unwrap();
        assert_eq!(seen, 3);
    }
}
