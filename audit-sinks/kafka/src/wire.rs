//! The Protobuf form: the messages `Record` and `PartBody` of `docs/schema/agent-audit-1.0.proto`.

use agent_audit_core::{
    canonical::EventView,
    content::{AbsentReason, PartBody, Salt, Sealed},
    hash::Hash,
    id::EventId,
    record::Record,
    timestamp::Timestamp,
};
use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct WireRecord {
    #[prost(bytes = "vec", tag = "1")]
    event: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    parts: Vec<WirePart>,
    #[prost(bytes = "vec", tag = "3")]
    event_hash: Vec<u8>,
    #[prost(string, tag = "4")]
    tenant_id: String,
    #[prost(string, tag = "5")]
    chain_id: String,
    #[prost(uint64, tag = "6")]
    sequence: u64,
    #[prost(string, tag = "7")]
    event_id: String,
    #[prost(string, tag = "8")]
    event_type: String,
    #[prost(string, tag = "9")]
    session_id: String,
    #[prost(string, tag = "10")]
    timestamp_utc: String,
    #[prost(string, tag = "11")]
    schema_version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePart {
    #[prost(message, optional, tag = "1")]
    clear: Option<WireClear>,
    #[prost(message, optional, tag = "2")]
    sealed: Option<WireSealed>,
    #[prost(message, optional, tag = "3")]
    absent: Option<WireAbsent>,
}

// `Debug` would show content.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
struct WireClear {
    #[prost(bytes = "vec", tag = "1")]
    salt: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    plaintext: Vec<u8>,
}

impl std::fmt::Debug for WireClear {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WireClear").finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireSealed {
    #[prost(string, tag = "1")]
    key_id: String,
    #[prost(uint32, tag = "2")]
    algorithm: u32,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    ciphertext: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WireAbsent {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(uint64, tag = "2")]
    at: u64,
    #[prost(string, tag = "3")]
    evidence: String,
}

/// Writes a record whose hash is known.
pub(crate) fn encode(
    record: &Record,
    view: &EventView<'_>,
    hash: &Hash,
) -> Result<Vec<u8>, &'static str> {
    // Text in a view is as it stands in the JSON; where it holds escapes, the event itself tells.
    let plain = !view.session_id.contains('\\');
    let session_id = if plain {
        view.session_id.to_owned()
    } else {
        let event = record.event().map_err(|_| "its event is of no schema known here")?;
        event.session_id.as_str().to_owned()
    };
    let parts = record.parts().iter().map(part).collect::<Result<_, _>>()?;
    Ok(WireRecord {
        event: record.event_bytes().to_vec(),
        parts,
        event_hash: hash.as_bytes().to_vec(),
        tenant_id: view.tenant_id.to_owned(),
        chain_id: view.chain_id.to_owned(),
        sequence: view.sequence,
        event_id: view.event_id.to_owned(),
        event_type: view.event_type.to_owned(),
        session_id,
        timestamp_utc: view.timestamp_utc.to_owned(),
        schema_version: view.schema_version.to_owned(),
    }
    .encode_to_vec())
}

/// Reads a record. What is said beside the event must agree with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, &'static str> {
    let wire = WireRecord::decode(bytes).map_err(|_| "it is not a Protobuf record")?;
    let parts = wire.parts.into_iter().map(body).collect::<Result<_, _>>()?;
    let record = Record::new(wire.event, parts);
    if record.event_hash().as_bytes()[..] != wire.event_hash {
        return Err("its event does not have the hash beside it");
    }
    let view = record.view().map_err(|_| "its event is not canonical")?;
    let same = view.tenant_id == wire.tenant_id
        && view.chain_id == wire.chain_id
        && view.sequence == wire.sequence
        && view.event_id == wire.event_id
        && view.event_type == wire.event_type
        && view.timestamp_utc == wire.timestamp_utc
        && view.schema_version == wire.schema_version;
    if same { Ok(record) } else { Err("what is said beside its event is not what the event says") }
}

fn part(part: &PartBody) -> Result<WirePart, &'static str> {
    Ok(match part {
        PartBody::Clear { salt, bytes } => WirePart {
            clear: Some(WireClear { salt: salt.as_bytes().to_vec(), plaintext: bytes.clone() }),
            ..WirePart::default()
        },
        PartBody::Sealed(Sealed { key_id, algorithm, nonce, ciphertext, .. }) => WirePart {
            sealed: Some(WireSealed {
                key_id: key_id.clone(),
                algorithm: u32::from(*algorithm),
                nonce: nonce.clone(),
                ciphertext: ciphertext.clone(),
            }),
            ..WirePart::default()
        },
        PartBody::Absent { reason, at, evidence } => WirePart {
            absent: Some(WireAbsent {
                reason: match reason {
                    AbsentReason::Erased => "erased",
                    AbsentReason::Purged => "purged",
                    _ => return Err("it says a reason of absence that is not known here"),
                }
                .to_owned(),
                at: at.map_or(0, Timestamp::as_nanos),
                evidence: evidence.map_or_else(String::new, |id| id.to_string()),
            }),
            ..WirePart::default()
        },
        _ => return Err("it has a form of content that is not known here"),
    })
}

fn body(part: WirePart) -> Result<PartBody, &'static str> {
    match (part.clear, part.sealed, part.absent) {
        (Some(clear), None, None) => {
            let salt = <[u8; 32]>::try_from(clear.salt).map_err(|_| "a salt is not 32 bytes")?;
            Ok(PartBody::Clear { salt: Salt::from_bytes(salt), bytes: clear.plaintext })
        }
        (None, Some(WireSealed { key_id, algorithm, nonce, ciphertext }), None) => {
            let algorithm = u8::try_from(algorithm).map_err(|_| "an algorithm is not known")?;
            if u16::try_from(key_id.len()).is_err() || u8::try_from(nonce.len()).is_err() {
                return Err("a key id or a nonce is too long");
            }
            Ok(PartBody::Sealed(Sealed::new(key_id, algorithm, nonce, ciphertext)))
        }
        (None, None, Some(WireAbsent { reason, at, evidence })) => Ok(PartBody::Absent {
            reason: match reason.as_str() {
                "erased" => AbsentReason::Erased,
                "purged" => AbsentReason::Purged,
                _ => return Err("a reason of absence is not known"),
            },
            at: (at != 0).then(|| Timestamp::from_nanos(at)),
            evidence: match evidence.as_str() {
                "" => None,
                id => Some(id.parse::<EventId>().map_err(|_| "an evidence is not an event id")?),
            },
        }),
        _ => Err("a part is not in exactly one form"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use agent_audit_core::conformance::TestChain;

    use super::*;

    /// The fields of a message of the schema file: number and kind by name.
    fn declared(message: &str) -> BTreeMap<String, (u32, String)> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/agent-audit-1.0.proto");
        let text = std::fs::read_to_string(file).unwrap();
        let from = text.find(&format!("message {message} {{")).unwrap();
        let body = &text[from..from + text[from..].find("\n}").unwrap()];
        let fields = body.lines().filter_map(|line| {
            let (declaration, number) = line.trim().strip_suffix(';')?.split_once(" = ")?;
            let (kind, name) = declaration.rsplit_once(' ')?;
            Some((name.to_owned(), (number.parse().ok()?, kind.to_owned())))
        });
        fields.collect()
    }

    /// Field number and wire type of what an encoded message holds, in order.
    fn fields(mut bytes: &[u8]) -> Vec<(u32, &'static str)> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let key = prost::encoding::decode_varint(&mut bytes).unwrap();
            let value = prost::encoding::decode_varint(&mut bytes).unwrap();
            let kind = match key & 7 {
                0 => "varint",
                2 => {
                    bytes = &bytes[usize::try_from(value).unwrap()..];
                    "length"
                }
                _ => "other",
            };
            found.push((u32::try_from(key >> 3).unwrap(), kind));
        }
        found
    }

    /// Every field of the schema file has its number and its wire type, and there is no other.
    fn agree(message: &str, encoded: &[u8]) {
        let expected: BTreeMap<u32, &str> = declared(message)
            .into_values()
            .map(|(number, kind)| {
                (number, if kind.starts_with("uint") { "varint" } else { "length" })
            })
            .collect();
        let found: BTreeMap<u32, &str> = fields(encoded).into_iter().collect();
        assert_eq!(found, expected, "{message}");
    }

    #[test]
    fn the_numbers_are_those_of_the_schema_file() {
        let text = || "x".to_owned();
        let clear = WireClear { salt: vec![1], plaintext: vec![1] };
        let sealed =
            WireSealed { key_id: text(), algorithm: 1, nonce: vec![1], ciphertext: vec![1] };
        let absent = WireAbsent { reason: text(), at: 1, evidence: text() };
        agree("ClearBody", &clear.encode_to_vec());
        agree("SealedBody", &sealed.encode_to_vec());
        agree("AbsentBody", &absent.encode_to_vec());
        let part = WirePart { clear: Some(clear), sealed: Some(sealed), absent: Some(absent) };
        agree("PartBody", &part.encode_to_vec());
        let record = WireRecord {
            event: vec![1],
            parts: vec![part],
            event_hash: vec![1],
            tenant_id: text(),
            chain_id: text(),
            sequence: 1,
            event_id: text(),
            event_type: text(),
            session_id: text(),
            timestamp_utc: text(),
            schema_version: text(),
        };
        agree("Record", &record.encode_to_vec());
    }

    #[test]
    fn each_field_stands_under_its_name() {
        // Decoded by the names of the schema file alone.
        let mut chain = TestChain::new();
        let record = chain.extend(3).records()[2].clone();
        let view = record.view().unwrap();
        let encoded = encode(&record, &view, &record.event_hash()).unwrap();
        let named = declared("Record");
        let mut rest = &encoded[..];
        let mut texts = BTreeMap::new();
        while !rest.is_empty() {
            let key = prost::encoding::decode_varint(&mut rest).unwrap();
            let value = prost::encoding::decode_varint(&mut rest).unwrap();
            let number = u32::try_from(key >> 3).unwrap();
            let name = named.iter().find(|(_, (n, _))| *n == number).unwrap().0.clone();
            if key & 7 == 2 {
                let (bytes, after) = rest.split_at(usize::try_from(value).unwrap());
                texts.entry(name).or_insert_with(|| bytes.to_vec());
                rest = after;
            } else {
                texts.insert(name, value.to_string().into_bytes());
            }
        }
        assert_eq!(texts["event"], record.event_bytes());
        assert_eq!(texts["event_hash"], record.event_hash().as_bytes());
        assert_eq!(texts["sequence"], b"2");
        for (name, value) in [
            ("tenant_id", view.tenant_id),
            ("chain_id", view.chain_id),
            ("event_id", view.event_id),
            ("event_type", view.event_type),
            ("session_id", view.session_id),
            ("timestamp_utc", view.timestamp_utc),
            ("schema_version", view.schema_version),
        ] {
            assert_eq!(texts[name], value.as_bytes(), "{name}");
        }
    }

    #[test]
    fn what_is_said_beside_the_event_must_agree_with_it() {
        let record = TestChain::new().extend(1).records()[0].clone();
        let sound = WireRecord::decode(
            &encode(&record, &record.view().unwrap(), &record.event_hash()).unwrap()[..],
        )
        .unwrap();
        let changes: [fn(&mut WireRecord); 6] = [
            |wire| wire.tenant_id.push('x'),
            |wire| wire.chain_id.push('x'),
            |wire| wire.sequence += 1,
            |wire| wire.event_type.push('x'),
            |wire| wire.event_hash[0] ^= 1,
            |wire| wire.event[0] ^= 1,
        ];
        for change in changes {
            let mut wire = sound.clone();
            change(&mut wire);
            assert!(decode(&wire.encode_to_vec()).is_err());
        }
        assert_eq!(decode(&sound.encode_to_vec()).unwrap(), record);
    }
}
