//! The values that occur under a hash, and their reading without any JSON library's options.
//!
//! Cargo unifies features: a foreign crate that turns on `arbitrary_precision` in `serde_json`
//! changes how that library reads numbers for everyone. Event bytes are therefore read into
//! [`Value`] by code of our own and typed from there.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, IntoDeserializer, MapAccess, SeqAccess, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
};

use crate::canonical::{MAX_INTEGER, NUMBER};

/// A value of the subset of JSON that occurs under a hash: no float, no null, integers within
/// ±(2^53−1).
///
/// ```
/// use agent_audit_core::event::Value;
/// let value: Value = serde_json::from_str(r#"{"attempts": 3, "dry_run": false}"#)?;
/// assert_eq!(value.field("attempts"), Some(&Value::Integer(3)));
/// assert!(serde_json::from_str::<Value>("1.5").is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the subset is fixed by the format of the hashed bytes"
)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// An integer within ±(2^53−1).
    Integer(i64),
    /// Text.
    Text(String),
    /// An array.
    List(Vec<Value>),
    /// An object.
    Object(Object),
}

/// Fields by name, in the order of the canonical bytes.
///
/// ```
/// use agent_audit_core::event::{Object, Value};
/// let object = Object::from([("region".to_owned(), Value::from("eu"))]);
/// assert_eq!(object["region"].as_text(), Some("eu"));
/// ```
pub type Object = BTreeMap<String, Value>;

/// Fields that this version does not know: written by a later one, kept and written again.
///
/// ```
/// assert!(agent_audit_core::event::Extra::new().is_empty());
/// ```
pub type Extra = Object;

impl Value {
    /// The text, where it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The field of an object.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Object(object) => object.get(name),
            _ => None,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::List(values)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Integer(value) => serializer.serialize_i64(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::List(values) => serializer.collect_seq(values),
            Self::Object(object) => serializer.collect_map(object),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Read)
    }
}

struct Read;

impl<'de> Visitor<'de> for Read {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a boolean, an integer within 2^53-1, an array or an object")
    }

    fn visit_bool<E: de::Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E: de::Error>(self, v: i64) -> Result<Value, E> {
        if v.unsigned_abs() > MAX_INTEGER {
            return Err(E::invalid_value(de::Unexpected::Signed(v), &self));
        }
        Ok(Value::Integer(v))
    }

    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Value, E> {
        match i64::try_from(v) {
            Ok(v) => self.visit_i64(v),
            Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(v), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::Text(v.to_owned()))
    }

    fn visit_string<E: de::Error>(self, v: String) -> Result<Value, E> {
        Ok(Value::Text(v))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Object::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == NUMBER {
                // A number of `serde_json` with `arbitrary_precision`. Event bytes never hold this
                // key, so that nothing under a hash is read in two ways.
                let number: String = map.next_value()?;
                return match number.parse() {
                    Ok(integer) => self.visit_i64(integer),
                    Err(_) => Err(de::Error::invalid_value(de::Unexpected::Other(&number), &self)),
                };
            }
            let value = map.next_value()?;
            if object.insert(key, value).is_some() {
                return Err(de::Error::custom("a key occurs twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// A [`Value`] that does not have the shape of the type that is read from it.
///
/// ```
/// use agent_audit_core::event::Value;
/// use serde::Deserialize;
/// let error = u32::deserialize(Value::from("three")).unwrap_err();
/// assert!(error.to_string().contains("expected u32"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mistyped(pub(super) String);

impl de::Error for Mistyped {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'de> IntoDeserializer<'de, Mistyped> for Value {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = Mistyped;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistyped> {
        match self {
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Integer(value) => match u64::try_from(value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(value),
            },
            Self::Text(value) => visitor.visit_string(value),
            Self::List(values) => {
                let mut seq = SeqDeserializer::new(values.into_iter());
                let value = visitor.visit_seq(&mut seq)?;
                seq.end()?;
                Ok(value)
            }
            Self::Object(object) => {
                let mut map = MapDeserializer::new(object.into_iter());
                let value = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mistyped> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mistyped> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistyped> {
        match self {
            Self::Text(variant) => visitor.visit_enum(variant.into_deserializer()),
            Self::Object(object) if object.len() == 1 => visitor.visit_enum(
                de::value::MapAccessDeserializer::new(MapDeserializer::new(object.into_iter())),
            ),
            _ => Err(de::Error::custom("expected a name")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Reads canonical bytes that [`crate::canonical::scan`] has accepted.
///
/// The grammar is already known to hold, so this reader only decodes; anything unexpected is still
/// an error and never a panic.
pub(super) fn read_canonical(text: &str) -> Result<Value, Mistyped> {
    let mut reader = Reader { text, at: 0 };
    let value = reader.value()?;
    if reader.at == text.len() { Ok(value) } else { Err(reader.error()) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn error(&self) -> Mistyped {
        Mistyped(format!("unexpected byte at {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    fn value(&mut self) -> Result<Value, Mistyped> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::Text),
            Some(b'{') => self.object(),
            Some(b'[') => self.list(),
            Some(b't' | b'f') => {
                let value = self.peek() == Some(b't');
                self.at += if value { 4 } else { 5 };
                Ok(Value::Bool(value))
            }
            _ => self.integer(),
        }
    }

    fn object(&mut self) -> Result<Value, Mistyped> {
        self.at += 1;
        let mut object = Object::new();
        while !self.eat(b'}') {
            self.eat(b',');
            let key = self.string()?;
            if !self.eat(b':') {
                return Err(self.error());
            }
            let value = self.value()?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn list(&mut self) -> Result<Value, Mistyped> {
        self.at += 1;
        let mut values = Vec::new();
        while !self.eat(b']') {
            self.eat(b',');
            values.push(self.value()?);
        }
        Ok(Value::List(values))
    }

    fn integer(&mut self) -> Result<Value, Mistyped> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
        let value = rest[..len].parse().map_err(|_| self.error())?;
        self.at += len;
        Ok(Value::Integer(value))
    }

    fn string(&mut self) -> Result<String, Mistyped> {
        if !self.eat(b'"') {
            return Err(self.error());
        }
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let len = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or(self.error())?;
            text.push_str(&rest[..len]);
            self.at += len;
            if self.eat(b'"') {
                return Ok(text);
            }
            let escape = self.text.as_bytes().get(self.at + 1).copied();
            self.at += 2;
            text.push(match escape {
                Some(b'b') => '\u{8}',
                Some(b't') => '\t',
                Some(b'n') => '\n',
                Some(b'f') => '\u{c}',
                Some(b'r') => '\r',
                Some(other @ (b'"' | b'\\')) => char::from(other),
                Some(b'u') => {
                    let digits = self.text.get(self.at..self.at + 4).ok_or(self.error())?;
                    self.at += 4;
                    u32::from_str_radix(digits, 16)
                        .ok()
                        .and_then(char::from_u32)
                        .ok_or(self.error())?
                }
                _ => return Err(self.error()),
            });
        }
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let value = generator.subschema_for::<Self>();
        schemars::json_schema!({
            "description": "A value of a field that this schema does not name: no float, no null.",
            "anyOf": [
                { "type": "string" },
                { "type": "boolean" },
                { "type": "integer", "minimum": -9_007_199_254_740_991i64, "maximum": MAX_INTEGER },
                { "type": "array", "items": value },
                { "type": "object", "additionalProperties": value },
            ],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::canonical;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::Integer),
            any::<String>().prop_map(Value::Text),
            "[\\x00-\\x20\"\\\\]{0,6}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(5, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map("[ !#-\\[\\]-~]{1,6}", inner, 0..5)
                    .prop_map(Value::Object),
            ]
        })
    }

    /// As `serde_json` with `arbitrary_precision` hands numbers over.
    #[test]
    fn a_number_of_arbitrary_precision_is_an_integer() {
        let read = |number: &str| {
            let entries = [(canonical::NUMBER.to_owned(), number.to_owned())];
            let map = MapDeserializer::<_, de::value::Error>::new(entries.into_iter());
            Value::deserialize(de::value::MapAccessDeserializer::new(map))
        };
        assert_eq!(read("-5").unwrap(), Value::Integer(-5));
        for number in ["1.5", "1e3", "9007199254740992", "123456789012345678901234567890"] {
            assert!(read(number).is_err(), "{number}");
        }
    }

    proptest! {
        #[test]
        fn canonical_bytes_read_back(value in value()) {
            let bytes = canonical::to_vec(&value).unwrap();
            let text = std::str::from_utf8(&bytes).unwrap();
            prop_assert_eq!(&read_canonical(text).unwrap(), &value);
            prop_assert_eq!(Value::deserialize(value.clone()).unwrap(), value);
        }
    }
}
