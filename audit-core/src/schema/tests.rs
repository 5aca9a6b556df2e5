use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

use super::*;
use crate::event::{EventType, golden};

const AGAIN: &str =
    "run: cargo run -p agent-audit-core --example generate_schema --features schema";

fn file(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; {AGAIN}", path.display()))
}

#[test]
fn the_json_schema_file_is_what_the_types_say() {
    let same = file("agent-audit-1.0.schema.json") == json_schema_text();
    assert!(same, "docs/schema/agent-audit-1.0.schema.json has drifted from the types; {AGAIN}");
}

#[test]
fn the_proto_file_is_what_the_types_say() {
    let file = file("agent-audit-1.0.proto");
    assert!(
        file == proto(Some(&file)),
        "docs/schema/agent-audit-1.0.proto has drifted from the types; {AGAIN}"
    );
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The golden events fill every field, so what they write is what the schema must name: no more
/// and no less, at every depth.
fn assert_same_fields(schema: &Value, root: &Value, value: &Value, at: &str) {
    match (schema["$ref"].as_str(), value) {
        (Some(reference), _) => {
            let def = &root["$defs"][reference.rsplit('/').next().unwrap()];
            assert_same_fields(def, root, value, at);
        }
        (None, Value::Object(_)) => {
            assert_eq!(keys(&schema["properties"]), keys(value), "{at}");
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(value[required.as_str().unwrap()] != Value::Null, "{at}: {required}");
            }
            for (name, value) in value.as_object().unwrap() {
                let property = &schema["properties"][name];
                assert!(property["description"].is_string(), "{at}.{name} has no description");
                assert_same_fields(property, root, value, &format!("{at}.{name}"));
            }
        }
        (None, Value::Array(values)) => {
            assert_eq!(schema["type"], "array", "{at}");
            for value in values {
                assert_same_fields(&schema["items"], root, value, at);
            }
        }
        (None, Value::String(_)) => assert_eq!(schema["type"], "string", "{at}"),
        (None, Value::Number(_)) => assert_eq!(schema["type"], "integer", "{at}"),
        (None, Value::Bool(_)) => assert_eq!(schema["type"], "boolean", "{at}"),
        (None, Value::Null) => panic!("{at} is null"),
    }
}

#[test]
fn the_schema_names_exactly_the_fields_of_the_golden_events() {
    let schema = json_schema();
    for event_type in EventType::ALL {
        let name = event_type.as_str();
        let event: Value = serde_json::from_slice(&golden::frozen(name)).unwrap();
        assert_eq!(
            keys(&schema["properties"])
                .into_iter()
                .filter(|key| *key != "content")
                .collect::<Vec<_>>(),
            keys(&event).into_iter().filter(|key| *key != "content").collect::<Vec<_>>(),
            "{name}"
        );
        let branches = schema["oneOf"].as_array().unwrap();
        let branch = branches.iter().find(|branch| branch["title"] == name).unwrap();
        assert_eq!(branch["properties"]["event_type"]["const"], name);
        assert_same_fields(&branch["properties"]["payload"], &schema, &event["payload"], name);
        if let Some(content) = event.get("content") {
            assert_same_fields(&schema["properties"]["content"], &schema, content, "content");
        }
    }
}

#[test]
fn null_and_unbounded_integers_are_not_in_the_schema() {
    let text = json_schema_text();
    for word in ["\"null\"", "uint64", "\"number\"", "\"default\""] {
        assert!(!text.contains(word), "{word}");
    }
}
