//! A list of attributes that grows.

use std::fmt::{Display, Write};

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};
use prost::{
    Message,
    encoding::{encode_varint, encoded_len_varint},
};

/// Attributes of a log record, encoded as they come: an event has some thirty of them, and most are
/// short texts that are at hand.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    encoded: Vec<u8>,
    scratch: String,
}

/// The field `attributes` of `LogRecord`, `key` and `value` of `KeyValue`, `string_value` and
/// `int_value` of `AnyValue`: their numbers with the types that they have on the wire.
const ATTRIBUTE: u8 = 6 << 3 | 2;
const KEY: u8 = 1 << 3 | 2;
const VALUE: u8 = 2 << 3 | 2;
const STRING: u8 = 1 << 3 | 2;
const INT: u8 = 3 << 3;

impl Attributes {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { encoded: Vec::with_capacity(bytes), scratch: String::new() }
    }

    /// The attributes as they are on the wire inside of a log record.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    pub(super) fn text(&mut self, name: &str, value: impl AsRef<str>) {
        let value = value.as_ref();
        self.begin(name, framed(value.len()));
        self.put(STRING, value.as_bytes());
    }

    /// What is written in text, without making a string of it.
    pub(super) fn display(&mut self, name: &str, value: impl Display) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        // Writing to a string does not fail.
        let _ = write!(scratch, "{value}");
        self.text(name, &scratch);
        self.scratch = scratch;
    }

    /// Text, where there is some: what is absent is not empty.
    pub(super) fn optional<T: Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.display(name, value);
        }
    }

    pub(super) fn integer(&mut self, name: &str, value: u64) {
        // OpenTelemetry has signed integers only.
        let value = value.min(i64::MAX.unsigned_abs());
        self.begin(name, 1 + encoded_len_varint(value));
        self.encoded.push(INT);
        encode_varint(value, &mut self.encoded);
    }

    pub(super) fn optional_integer(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.integer(name, value);
        }
    }

    /// A number that the event holds as decimal text; where it is none, nothing.
    pub(super) fn decimal(&mut self, name: &str, value: Option<&String>) {
        let number = value.and_then(|value| value.parse().ok()).filter(|n: &f64| n.is_finite());
        self.value(name, number.map(Value::DoubleValue));
    }

    pub(super) fn flag(&mut self, name: &str, value: Option<bool>) {
        self.value(name, value.map(Value::BoolValue));
    }

    /// A list, where it is not empty.
    pub(super) fn list(&mut self, name: &str, values: impl IntoIterator<Item = Value>) {
        let mut values = values.into_iter().peekable();
        if values.peek().is_some() {
            self.value(name, Some(list(values)));
        }
    }

    pub(super) fn value(&mut self, name: &str, value: Option<Value>) {
        if value.is_some() {
            let value = AnyValue { value };
            self.begin(name, value.encoded_len());
            value.encode_raw(&mut self.encoded);
        }
    }

    /// Everything of an attribute up to its value, which has so many bytes.
    fn begin(&mut self, name: &str, value: usize) {
        self.encoded.push(ATTRIBUTE);
        encode_varint(wide(framed(name.len()) + framed(value)), &mut self.encoded);
        self.put(KEY, name.as_bytes());
        self.encoded.push(VALUE);
        encode_varint(wide(value), &mut self.encoded);
    }

    fn put(&mut self, field: u8, bytes: &[u8]) {
        self.encoded.push(field);
        encode_varint(wide(bytes.len()), &mut self.encoded);
        self.encoded.extend_from_slice(bytes);
    }
}

/// How many bytes a field has with its number and length.
fn framed(len: usize) -> usize {
    1 + encoded_len_varint(wide(len)) + len
}

fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

pub(super) fn pair(name: impl Into<String>, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: name.into(), value, ..KeyValue::default() }
}

pub(super) fn text(value: impl Into<String>) -> Value {
    Value::StringValue(value.into())
}

/// A count; OpenTelemetry has signed ones only.
pub(super) fn int(value: u64) -> Value {
    Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX))
}

pub(super) fn list(values: impl IntoIterator<Item = Value>) -> Value {
    let values = values.into_iter().map(|value| AnyValue { value: Some(value) }).collect();
    Value::ArrayValue(ArrayValue { values })
}

/// An object with these fields, without those that are absent.
pub(super) fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) -> Value {
    let fields = fields.into_iter().filter_map(|(name, value)| Some(pair(name, value?)));
    Value::KvlistValue(KeyValueList { values: fields.collect() })
}
