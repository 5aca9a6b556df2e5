//! A list of attributes that grows.

use std::fmt::Display;

use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};

#[derive(Debug)]
pub(super) struct Attributes(Vec<KeyValue>);

impl Attributes {
    pub(super) fn with_capacity(attributes: usize) -> Self {
        Self(Vec::with_capacity(attributes))
    }

    pub(super) fn into_vec(self) -> Vec<KeyValue> {
        self.0
    }

    pub(super) fn text(&mut self, name: &str, value: impl Into<String>) {
        self.0.push(pair(name, Value::StringValue(value.into())));
    }

    /// Text, where there is some: what is absent is not empty.
    pub(super) fn optional<T: Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.text(name, value.to_string());
        }
    }

    pub(super) fn integer(&mut self, name: &str, value: u64) {
        self.0.push(pair(name, int(value)));
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
            self.0.push(pair(name, list(values)));
        }
    }

    pub(super) fn value(&mut self, name: impl Into<String>, value: Option<Value>) {
        if let Some(value) = value {
            self.0.push(pair(name, value));
        }
    }
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
