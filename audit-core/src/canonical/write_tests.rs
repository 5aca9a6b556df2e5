//! What [`write`](super::write) gives and refuses.

use proptest::prelude::*;
use serde::{Serialize, ser::SerializeStruct};
use serde_json::{Map, Value, json};

use super::{NUMBER, write::*};
use crate::canonical::MAX_DEPTH;

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\x00-\\x20\"\\\\\u{7f}-\u{9f}\u{2028}]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[ !#-\\[\\]-~]{1,6}", inner), 0..6)
                .prop_map(|entries| Value::from(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    /// The reference is an independent JCS library.
    #[test]
    fn equals_a_jcs_library(value in value()) {
        let expected = serde_json_canonicalizer::to_vec(&value).unwrap();
        prop_assert_eq!(to_vec(&value).unwrap(), expected);
    }

    /// Injectivity: canonical bytes read back as the value they were written from, so two
    /// different values cannot have the same bytes.
    #[test]
    fn reads_back_as_the_same_value(value in value()) {
        let bytes = to_vec(&value).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), value);
    }
}

#[test]
fn refuses_what_does_not_occur_under_a_hash() {
    let refused = [
        (json!({"a": {"b": 1.5}}), "field a.b: a float"),
        (json!({"a": null}), "field a: null"),
        (json!([-9_007_199_254_740_992i64]), "an integer beyond"),
        (json!({"\u{e9}": 1}), "field \u{e9}: a key must be"),
        (json!({"a\"b": 1}), "a key must be"),
        (json!({"": 1}), "a key must be"),
    ];
    for (value, message) in refused {
        let error = to_vec(&value).unwrap_err().to_string();
        assert!(error.contains(message), "{value}: {error}");
    }
    let mut deep = json!(1);
    for _ in 0..=MAX_DEPTH {
        deep = json!([deep]);
    }
    assert!(to_vec(&deep).unwrap_err().to_string().contains("nested deeper"));
}

#[test]
fn refuses_a_key_that_occurs_twice() {
    #[derive(Serialize)]
    struct Doubled {
        name: &'static str,
        #[serde(flatten)]
        extra: Map<String, Value>,
    }
    let extra = Map::from_iter([("name".to_owned(), json!("other"))]);
    let error = to_vec(&Doubled { name: "one", extra }).unwrap_err();
    assert_eq!(error.to_string(), "field name: the key occurs twice");
}

/// What `serde_json` passes on when a foreign crate turns on `arbitrary_precision` (a number) or
/// `raw_value` (raw JSON): a struct of a private name with one field of text.
struct Private(&'static str, &'static str);

impl Serialize for Private {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct(self.0, 1)?;
        fields.serialize_field(self.0, self.1)?;
        fields.end()
    }
}

#[test]
fn a_number_of_arbitrary_precision_is_written_as_an_integer() {
    for number in ["0", "7", "-5", "9007199254740991", "-9007199254740991"] {
        assert_eq!(to_vec(&Private(NUMBER, number)).unwrap(), number.as_bytes());
        let within = to_vec(&std::collections::BTreeMap::from([("n", [Private(NUMBER, number)])]));
        assert_eq!(within.unwrap(), format!("{{\"n\":[{number}]}}").as_bytes());
    }
}

#[test]
fn a_number_of_arbitrary_precision_is_refused_as_any_other() {
    for (number, message) in [
        ("1.0", "a float"),
        ("1e3", "a float"),
        ("-0", "a float"),
        ("", "a float"),
        ("-", "a float"),
        ("9007199254740992", "an integer beyond"),
        ("-9007199254740992", "an integer beyond"),
        ("123456789012345678901234567890", "an integer beyond"),
    ] {
        let error = to_vec(&Private(NUMBER, number)).unwrap_err().to_string();
        assert!(error.contains(message), "{number}: {error}");
    }
}

/// The fixture above says what the library does; this holds it to that.
#[test]
fn the_private_name_is_the_one_that_serde_json_uses() {
    let raw = serde_json::value::RawValue::from_string("[1.5]".to_owned()).unwrap();
    let error = to_vec(&raw).unwrap_err();
    assert_eq!(error.to_string(), "raw JSON cannot be hashed");
    let error = to_vec(&json!({"a": {(NUMBER): "5"}})).unwrap_err().to_string();
    assert!(error.contains("must not begin with $serde_json::private::"), "{error}");
}

#[test]
fn a_refused_value_leaves_the_buffer_as_it_was() {
    let mut out = b"kept".to_vec();
    append(&json!({"a": [1, 2.5]}), &mut out).unwrap_err();
    assert_eq!(out, b"kept");
}
