//! The line of JSON of a record whose hash is known: what [`Record::to_json_line`] gives, without
//! hashing and parsing the event again. This is the main work of the sink.

use agent_audit_core::{
    content::{AbsentReason, PartBody},
    hash::Hash,
    record::Record,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

/// Writes the line. The event MUST be canonical: it is copied as it is.
pub(crate) fn encode(record: &Record, hash: &Hash) -> Result<Vec<u8>, &'static str> {
    let content: usize = record.parts().iter().map(room).sum();
    let mut out = Vec::with_capacity(record.event_bytes().len() + content + 110);
    let mut hex = [0; 64];
    hash.write_hex(&mut hex);
    out.extend_from_slice(br#"{"event_hash":""#);
    out.extend_from_slice(&hex);
    out.extend_from_slice(br#"","event":"#);
    out.extend_from_slice(record.event_bytes());
    out.extend_from_slice(br#","content":["#);
    for (at, part) in record.parts().iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        body(&mut out, part)?;
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}

/// About how many bytes a body takes.
fn room(part: &PartBody) -> usize {
    match part {
        PartBody::Clear { bytes, .. } => 100 + bytes.len() * 4 / 3,
        PartBody::Sealed(sealed) => 150 + sealed.ciphertext.len() * 4 / 3,
        _ => 120,
    }
}

fn body(out: &mut Vec<u8>, part: &PartBody) -> Result<(), &'static str> {
    match part {
        PartBody::Clear { salt, bytes } => {
            out.extend_from_slice(br#"{"state":"clear","salt":"#);
            base64(out, salt.as_bytes());
            if let Ok(text) = std::str::from_utf8(bytes) {
                out.extend_from_slice(br#","text":"#);
                json(out, text)?;
            } else {
                out.extend_from_slice(br#","base64":"#);
                base64(out, bytes);
            }
        }
        PartBody::Sealed(sealed) => {
            out.extend_from_slice(br#"{"state":"sealed","key_id":"#);
            json(out, &*sealed.key_id)?;
            out.extend_from_slice(br#","algorithm":"#);
            json(out, &sealed.algorithm)?;
            out.extend_from_slice(br#","nonce":"#);
            base64(out, &sealed.nonce);
            out.extend_from_slice(br#","base64":"#);
            base64(out, &sealed.ciphertext);
        }
        PartBody::Absent { reason, at, evidence } => {
            out.extend_from_slice(br#"{"state":"absent","reason":"#);
            out.extend_from_slice(match reason {
                AbsentReason::Erased => br#""erased""#,
                AbsentReason::Purged => br#""purged""#,
                _ => return Err("it says a reason of absence that is not known here"),
            });
            if let Some(at) = at {
                out.extend_from_slice(br#","at":"#);
                json(out, at)?;
            }
            if let Some(evidence) = evidence {
                out.extend_from_slice(br#","evidence":"#);
                json(out, evidence)?;
            }
        }
        _ => return Err("it has a form of content that is not known here"),
    }
    out.push(b'}');
    Ok(())
}

fn json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), &'static str> {
    serde_json::to_writer(out, value).map_err(|_| "a part of it cannot be written as JSON")
}

fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let from = out.len() + 1;
    let len = base64::encoded_len(bytes.len(), true).unwrap_or_default();
    out.push(b'"');
    out.resize(from + len, 0);
    // There is room for exactly as many characters as there are.
    let written = STANDARD.encode_slice(bytes, &mut out[from..]).unwrap_or_default();
    out.truncate(from + written);
    out.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{
        conformance::TestChain,
        content::{Part, Sealed},
        id::EventId,
        timestamp::Timestamp,
    };

    use super::*;

    #[test]
    fn it_is_the_line_of_the_record_byte_for_byte() {
        let clear = |bytes: &[u8]| Part::new("x", "text/plain", bytes).commit().1;
        let absent = |reason, at, evidence| PartBody::Absent { reason, at, evidence };
        let parts = vec![
            clear(b""),
            clear("quote \" ' backslash \\ \u{0}\u{1f}\u{7f}\u{2028} 監査 🔏\r\n\t/".as_bytes()),
            clear(&(0..=255).collect::<Vec<u8>>()),
            clear(&[0xff; 1]),
            clear(&[0xff; 2]),
            PartBody::Sealed(Sealed::new("key \"1\"", 1, vec![7; 12], vec![9; 80])),
            PartBody::Sealed(Sealed::new("", 255, Vec::new(), Vec::new())),
            absent(AbsentReason::Erased, None, None),
            absent(AbsentReason::Purged, Some(Timestamp::from_nanos(5)), Some(EventId::new())),
            absent(AbsentReason::Erased, Some(Timestamp::now()), None),
        ];
        let mut chain = TestChain::new();
        for record in chain.extend(20).records() {
            for parts in [record.parts().to_vec(), parts.clone()] {
                let record = Record::new(record.event_bytes().to_vec(), parts);
                let line = encode(&record, &record.event_hash()).unwrap();
                assert_eq!(String::from_utf8(line).unwrap(), record.to_json_line().unwrap());
            }
        }
    }
}
