//! The `.proto`, from the JSON Schema and from the field numbers of the file before it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Map, Value};

use super::json_schema;

const HEADER: &str = "\
// The event of agent-audit, schema 1.0, generated from its Rust types. Do not edit: field numbers are
// kept from this file when it is generated again.
//
// This form is for transport and for code that reads events. The hashed form of an event is its
// canonical JSON and never this one: whatever carries evidence carries those bytes.

syntax = \"proto3\";

package agent_audit.v1;

import \"google/protobuf/struct.proto\";
";

/// The `.proto` of an event.
///
/// Field numbers are kept from `existing`, the text that this function gave before. A new field gets
/// the next free number of its message; the number of a field that went, or that changed its type,
/// becomes `reserved`.
///
/// ```
/// use agent_audit_core::schema::proto;
/// let text = proto(None);
/// assert!(text.contains("message ToolAttempted {"));
/// assert_eq!(proto(Some(&text)), text, "numbers are stable");
/// ```
#[must_use]
pub fn proto(existing: Option<&str>) -> String {
    let mut all = messages(&json_schema());
    all.extend(transport());
    write(&all, &read(existing.unwrap_or_default()))
}

/// Kind, name, and what it is.
type TransportField = (&'static str, &'static str, &'static str);

/// What carries an event from one place to another: each message, what it is, and its fields.
const TRANSPORT: [(&str, &str, &[TransportField]); 5] = [
    (
        "Record",
        "One event on its way, with its content. The other fields repeat what the event says, to be\n\
         found and routed by: whoever relies on them compares them with the event.",
        &[
            ("bytes", "event", "The canonical JSON of the event, verbatim: what is hashed."),
            ("repeated PartBody", "parts", "Body i belongs to part i of the event's content."),
            ("bytes", "event_hash", "SHA-256(0x00 \u{2016} event)."),
            ("string", "tenant_id", "The customer."),
            ("string", "chain_id", "The chain."),
            ("uint64", "sequence", "The position in the chain."),
            ("string", "event_id", "The identity of the event."),
            ("string", "event_type", "The type of the event."),
            ("string", "session_id", "The run of the agent."),
            ("string", "timestamp_utc", "When the event was recorded."),
            ("string", "schema_version", "The schema of the event."),
        ],
    ),
    (
        "PartBody",
        "The body of one part of content: exactly one of the three.",
        &[
            ("optional ClearBody", "clear", "Salt and plaintext."),
            ("optional SealedBody", "sealed", "Both encrypted."),
            ("optional AbsentBody", "absent", "Gone, and why."),
        ],
    ),
    (
        "ClearBody",
        "Content in the clear.",
        &[
            ("bytes", "salt", "The key of the commitment, 32 bytes."),
            ("bytes", "plaintext", "The plaintext, exactly as it was received."),
        ],
    ),
    (
        "SealedBody",
        "Encrypted content.",
        &[
            ("string", "key_id", "The key that opens it, by name."),
            ("uint32", "algorithm", "How it was encrypted; 1 is AES-256-GCM."),
            ("bytes", "nonce", "The nonce."),
            (
                "bytes",
                "ciphertext",
                "The encryption of the 32 salt bytes followed by the plaintext.",
            ),
        ],
    ),
    (
        "AbsentBody",
        "Content that is gone.",
        &[
            ("string", "reason", "Why: erased or purged."),
            ("uint64", "at", "When, in nanoseconds since 1970; 0 is unknown."),
            ("string", "evidence", "The id of the event that records it; empty is unknown."),
        ],
    ),
];

fn transport() -> impl Iterator<Item = Message> {
    TRANSPORT.iter().map(|(name, comment, fields)| Message {
        name: (*name).to_owned(),
        comment: (*comment).to_owned(),
        fields: fields
            .iter()
            .map(|(kind, name, comment)| Field {
                name: (*name).to_owned(),
                comment: (*comment).to_owned(),
                kind: (*kind).to_owned(),
                one_of: false,
            })
            .collect(),
    })
}

struct Message {
    name: String,
    comment: String,
    fields: Vec<Field>,
}

struct Field {
    name: String,
    comment: String,
    /// With its label, as `repeated string`.
    kind: String,
    one_of: bool,
}

/// What a file says of the numbers of one message.
#[derive(Default)]
struct Numbers {
    fields: BTreeMap<String, (String, u32)>,
    reserved: BTreeSet<u32>,
    reserved_names: BTreeSet<String>,
}

fn messages(schema: &Value) -> Vec<Message> {
    let empty = Map::new();
    let defs = schema["$defs"].as_object().unwrap_or(&empty);
    let mut event = message("Event", schema, defs);
    event.fields.retain(|field| field.name != "payload");
    for branch in schema["oneOf"].as_array().into_iter().flatten() {
        let reference = branch["properties"]["payload"]["$ref"].as_str();
        let (name, kind, comment) = match (branch["title"].as_str(), reference) {
            (Some(name), Some(reference)) => {
                (name.replace('.', "_"), target(reference).to_owned(), String::new())
            }
            _ => (
                "other".to_owned(),
                "google.protobuf.Struct".to_owned(),
                "The payload of custom.* and of later event types.".to_owned(),
            ),
        };
        event.fields.push(Field { name, kind, comment, one_of: true });
    }
    let mut messages = vec![event];
    for (name, def) in defs.iter().filter(|(_, def)| def["properties"].is_object()) {
        messages.push(message(name, def, defs));
    }
    messages
}

fn message(name: &str, schema: &Value, defs: &Map<String, Value>) -> Message {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut fields = Vec::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let kind = kind(property, defs);
        let label = if required.contains(&name.as_str()) || kind.starts_with("repeated ") {
            ""
        } else {
            "optional "
        };
        let mut comment = property["description"].as_str().unwrap_or_default().to_owned();
        if let Some(words) = words(property, defs) {
            let _ = write!(comment, "\n{words}, or a word of a later schema.");
        }
        fields.push(Field {
            name: name.clone(),
            comment,
            kind: format!("{label}{kind}"),
            one_of: false,
        });
    }
    if schema["additionalProperties"].is_object() {
        fields.push(Field {
            name: "extra".to_owned(),
            comment: "Fields that a later schema added.".to_owned(),
            kind: "google.protobuf.Struct".to_owned(),
            one_of: false,
        });
    }
    let comment = schema["description"].as_str().unwrap_or_default().to_owned();
    Message { name: name.to_owned(), comment, fields }
}

fn target(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or_default()
}

fn kind(property: &Value, defs: &Map<String, Value>) -> String {
    if let Some(reference) = property["$ref"].as_str() {
        let name = target(reference);
        return match defs.get(name) {
            Some(def) if def["properties"].is_object() => name.to_owned(),
            Some(def) => kind(def, defs),
            None => "google.protobuf.Value".to_owned(),
        };
    }
    match property["type"].as_str() {
        Some("string") => "string".to_owned(),
        Some("boolean") => "bool".to_owned(),
        Some("integer") if property["minimum"] == 0 => "uint64".to_owned(),
        Some("integer") => "int64".to_owned(),
        Some("array") => format!("repeated {}", kind(&property["items"], defs)),
        Some("object") => "google.protobuf.Struct".to_owned(),
        _ => "google.protobuf.Value".to_owned(),
    }
}

fn words(property: &Value, defs: &Map<String, Value>) -> Option<String> {
    let def = defs.get(target(property["$ref"].as_str()?))?;
    let words: Vec<&str> = def["examples"].as_array()?.iter().filter_map(Value::as_str).collect();
    Some(words.join(", "))
}

/// Reads the numbers of a text that [`write`] made.
fn read(text: &str) -> BTreeMap<String, Numbers> {
    let mut messages: BTreeMap<String, Numbers> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(name) = line.strip_prefix("message ").and_then(|rest| rest.strip_suffix(" {")) {
            name.clone_into(&mut current);
        }
        let Some(statement) = line.strip_suffix(';') else { continue };
        let numbers = messages.entry(current.clone()).or_default();
        if let Some(reserved) = statement.strip_prefix("reserved ") {
            for item in reserved.split(", ") {
                match item.parse() {
                    Ok(number) => numbers.reserved.insert(number),
                    Err(_) => numbers.reserved_names.insert(item.trim_matches('"').to_owned()),
                };
            }
        } else if let Some((declaration, number)) = statement.split_once(" = ")
            && let (Some((kind, name)), Ok(number)) = (declaration.rsplit_once(' '), number.parse())
        {
            numbers.fields.insert(name.to_owned(), (kind.to_owned(), number));
        }
    }
    messages
}

/// Whether the encoding of two kinds is the same: a label of presence does not change it.
fn same_encoding(a: &str, b: &str) -> bool {
    let bare = |kind: &str| kind.strip_prefix("optional ").unwrap_or(kind).to_owned();
    bare(a) == bare(b)
}

fn write(messages: &[Message], before: &BTreeMap<String, Numbers>) -> String {
    let mut text = HEADER.to_owned();
    let none = Numbers::default();
    for message in messages {
        let before = before.get(&message.name).unwrap_or(&none);
        let kept: BTreeMap<&str, u32> = message
            .fields
            .iter()
            .filter_map(|field| {
                let (kind, number) = before.fields.get(&field.name)?;
                same_encoding(kind, &field.kind).then_some((field.name.as_str(), *number))
            })
            .collect();
        let mut reserved = before.reserved.clone();
        let mut reserved_names = before.reserved_names.clone();
        for (name, (_, number)) in &before.fields {
            if kept.get(name.as_str()) != Some(number) {
                reserved.insert(*number);
                reserved_names.insert(name.clone());
            }
        }
        reserved_names.retain(|name| message.fields.iter().all(|field| field.name != *name));
        let highest = kept.values().chain(&reserved).max().copied().unwrap_or(0);
        let mut fresh = highest + 1..;
        let numbers: Vec<u32> = message
            .fields
            .iter()
            .map(|field| {
                kept.get(field.name.as_str()).copied().or_else(|| fresh.next()).unwrap_or(0)
            })
            .collect();

        text.push('\n');
        comment(&mut text, "", &message.comment);
        let _ = writeln!(text, "message {} {{", message.name);
        if !reserved.is_empty() {
            let list: Vec<String> = reserved.iter().map(u32::to_string).collect();
            let _ = writeln!(text, "  reserved {};", list.join(", "));
        }
        if !reserved_names.is_empty() {
            let list: Vec<String> =
                reserved_names.iter().map(|name| format!("\"{name}\"")).collect();
            let _ = writeln!(text, "  reserved {};", list.join(", "));
        }
        let mut one_of = false;
        for (field, number) in message.fields.iter().zip(&numbers) {
            if field.one_of && !one_of {
                one_of = true;
                text.push_str("  // What happened; event_type names it.\n  oneof payload {\n");
            }
            let indent = if field.one_of { "    " } else { "  " };
            comment(&mut text, indent, &field.comment);
            let _ = writeln!(text, "{indent}{} {} = {number};", field.kind, field.name);
        }
        text.push_str(if one_of { "  }\n}\n" } else { "}\n" });
    }
    text
}

fn comment(text: &mut String, indent: &str, comment: &str) {
    for line in comment.lines() {
        let _ = writeln!(text, "{indent}// {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(&str, &str)]) -> Vec<Message> {
        let fields = fields.iter().map(|(kind, name)| Field {
            name: (*name).to_owned(),
            comment: "A field.\nstring fake = 9;".to_owned(),
            kind: (*kind).to_owned(),
            one_of: false,
        });
        vec![Message { name: "Thing".to_owned(), comment: String::new(), fields: fields.collect() }]
    }

    fn again(text: &str, fields: &[(&str, &str)]) -> String {
        write(&message(fields), &read(text))
    }

    #[test]
    fn numbers_are_kept_and_never_given_twice() {
        let first = again("", &[("string", "a"), ("uint64", "b"), ("bool", "c")]);
        assert!(first.contains("string a = 1;") && first.contains("bool c = 3;"), "{first}");

        let added = again(
            &first,
            &[("string", "_first"), ("string", "a"), ("optional uint64", "b"), ("bool", "c")],
        );
        assert!(added.contains("string _first = 4;"), "{added}");
        assert!(added.contains("optional uint64 b = 2;"), "{added}");

        let removed = again(&added, &[("string", "a"), ("uint64", "b")]);
        assert!(removed.contains("reserved 3, 4;"), "{removed}");
        assert!(removed.contains("reserved \"_first\", \"c\";"), "{removed}");

        let back = again(&removed, &[("string", "a"), ("uint64", "b"), ("bool", "c")]);
        assert!(back.contains("bool c = 5;") && back.contains("reserved 3, 4;"), "{back}");
        assert!(back.contains("reserved \"_first\";"), "{back}");

        let retyped = again(&back, &[("string", "a"), ("string", "b"), ("bool", "c")]);
        assert!(retyped.contains("string b = 6;"), "{retyped}");
        assert!(retyped.contains("reserved 2, 3, 4;"), "{retyped}");
        assert_eq!(again(&retyped, &[("string", "a"), ("string", "b"), ("bool", "c")]), retyped);
    }
}
