//! Writing canonical JSON with serde.

use std::fmt;

use serde::ser::{self, Impossible, Serialize};

use super::{MAX_DEPTH, MAX_INTEGER, NUMBER, RESERVED, key::TextOnly, plain::plain_prefix};

/// The canonical bytes of a value.
///
/// # Errors
/// [`CanonicalError`] where the value holds something that does not occur under a hash.
///
/// ```
/// use std::collections::HashMap;
/// let map = HashMap::from([("b", 2), ("a", 1)]);
/// assert_eq!(agent_audit_core::canonical::to_vec(&map)?, br#"{"a":1,"b":2}"#);
/// let error = agent_audit_core::canonical::to_vec(&HashMap::from([("cost", 0.1)])).unwrap_err();
/// assert!(error.to_string().starts_with("field cost: "));
/// # Ok::<(), agent_audit_core::canonical::CanonicalError>(())
/// ```
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(512);
    append(value, &mut out)?;
    Ok(out)
}

/// Appends the canonical bytes of a value to a buffer.
///
/// # Errors
/// As [`to_vec`]; the buffer then holds what it held before.
///
/// ```
/// let mut out = b"x".to_vec();
/// agent_audit_core::canonical::append("y", &mut out)?;
/// assert_eq!(out, b"x\"y\"");
/// # Ok::<(), agent_audit_core::canonical::CanonicalError>(())
/// ```
pub fn append<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    let before = out.len();
    let mut writer = Writer { out, entries: Vec::with_capacity(16), depth: 0 };
    value.serialize(&mut writer).inspect_err(|_| out.truncate(before))
}

/// A value that cannot be written under a hash.
///
/// ```
/// let error = agent_audit_core::canonical::to_vec(&u64::MAX).unwrap_err();
/// assert!(error.to_string().contains("2^53"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalError {
    path: Vec<String>,
    reason: Reason,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    Float,
    Null,
    Integer,
    Key,
    DuplicateKey,
    Depth,
    ReservedKey,
    Unsupported(&'static str),
    Custom(String),
}

impl CanonicalError {
    pub(super) fn new(reason: Reason) -> Self {
        Self { path: Vec::new(), reason }
    }

    fn within(mut self, key: &[u8]) -> Self {
        self.path.push(String::from_utf8_lossy(key).into_owned());
        self
    }
}

impl fmt::Display for CanonicalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            f.write_str("field ")?;
            for (at, key) in self.path.iter().rev().enumerate() {
                write!(f, "{}{key}", if at == 0 { "" } else { "." })?;
            }
            f.write_str(": ")?;
        }
        match &self.reason {
            Reason::Float => f.write_str("a float cannot be hashed; write it as a string"),
            Reason::Null => f.write_str("null cannot be hashed; leave the field out"),
            Reason::Integer => {
                f.write_str("an integer beyond 2^53-1 cannot be hashed; write it as a string")
            }
            Reason::Key => {
                f.write_str("a key must be printable ASCII without quotation mark and backslash")
            }
            Reason::ReservedKey => write!(f, "a key must not begin with {RESERVED}"),
            Reason::DuplicateKey => f.write_str("the key occurs twice"),
            Reason::Depth => write!(f, "nested deeper than {MAX_DEPTH} levels"),
            Reason::Unsupported(what) => write!(f, "{what} cannot be hashed"),
            Reason::Custom(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for CanonicalError {}

impl ser::Error for CanonicalError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Reason::Custom(message.to_string()))
    }
}

/// Appends a JSON string with the escapes of RFC 8785 section 3.2.2.2.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let plain = plain_prefix(&bytes[from..]);
        out.extend_from_slice(&bytes[from..from + plain]);
        let Some(&byte) = bytes.get(from + plain) else { break };
        from += plain + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            _ => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.push(b'"');
}

/// Whether a key is in the alphabet whose byte order is RFC 8785's order and that needs no escape.
pub(super) fn is_key(key: &[u8]) -> bool {
    !key.is_empty()
        && key.iter().all(|&b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\')
        && !key.starts_with(RESERVED.as_bytes())
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    /// The entries of all objects being written, innermost last: where key and value begin and end.
    entries: Vec<Entry>,
    depth: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Writer<'_> {
    fn integer(&mut self, magnitude: u64, negative: bool) -> Result<(), CanonicalError> {
        if magnitude > MAX_INTEGER {
            return Err(CanonicalError::new(Reason::Integer));
        }
        if negative {
            self.out.push(b'-');
        }
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut rest = magnitude;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit is below ten");
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.out.extend_from_slice(&digits[at..]);
        Ok(())
    }

    fn enter(&mut self, open: u8) -> Result<(), CanonicalError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CanonicalError::new(Reason::Depth));
        }
        self.out.push(open);
        Ok(())
    }

    fn leave(&mut self, close: u8) {
        self.depth -= 1;
        self.out.push(close);
    }
}

struct Sequence<'w, 'o> {
    writer: &'w mut Writer<'o>,
    first: bool,
}

enum Struct<'w, 'o> {
    Object(Object<'w, 'o>),
    /// A number of `serde_json` with `arbitrary_precision`: its text follows as the only field.
    Number(&'w mut Writer<'o>),
}

struct Object<'w, 'o> {
    writer: &'w mut Writer<'o>,
    base: usize,
    start: usize,
    key_start: usize,
}

impl Object<'_, '_> {
    fn key(&mut self, key: &str) -> Result<(), CanonicalError> {
        if !is_key(key.as_bytes()) {
            let reserved = key.starts_with(RESERVED);
            let reason = if reserved { Reason::ReservedKey } else { Reason::Key };
            return Err(CanonicalError::new(reason).within(key.as_bytes()));
        }
        let out = &mut *self.writer.out;
        if out.len() > self.start {
            out.push(b',');
        }
        self.key_start = out.len();
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        Ok(())
    }

    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        let key_end = self.writer.out.len() - 2;
        let start = self.key_start;
        match value.serialize(&mut *self.writer) {
            Ok(()) => {
                let end = self.writer.out.len();
                self.writer.entries.push(Entry { start, key_end, end });
                Ok(())
            }
            Err(error) => Err(error.within(&self.writer.out[start + 1..key_end])),
        }
    }

    fn end(self) -> Result<(), CanonicalError> {
        let Self { writer, base, start, .. } = self;
        let key = |out: &[u8], e: &Entry| -> Vec<u8> { out[e.start + 1..e.key_end].to_vec() };
        let entries = &mut writer.entries[base..];
        let out = &mut *writer.out;
        let sorted = entries.windows(2).all(|pair| {
            out[pair[0].start + 1..pair[0].key_end] < out[pair[1].start + 1..pair[1].key_end]
        });
        if !sorted {
            entries.sort_by(|a, b| out[a.start + 1..a.key_end].cmp(&out[b.start + 1..b.key_end]));
            let twice = entries.windows(2).find(|pair| {
                out[pair[0].start + 1..pair[0].key_end] == out[pair[1].start + 1..pair[1].key_end]
            });
            if let Some(pair) = twice {
                return Err(CanonicalError::new(Reason::DuplicateKey).within(&key(out, &pair[0])));
            }
            let unsorted = out[start..].to_vec();
            out.truncate(start);
            for entry in entries.iter() {
                if out.len() > start {
                    out.push(b',');
                }
                out.extend_from_slice(&unsorted[entry.start - start..entry.end - start]);
            }
        }
        writer.entries.truncate(base);
        writer.leave(b'}');
        Ok(())
    }
}

fn unsupported<T>(what: &'static str) -> Result<T, CanonicalError> {
    Err(CanonicalError::new(Reason::Unsupported(what)))
}

impl<'w, 'o> ser::Serializer for &'w mut Writer<'o> {
    type Ok = ();
    type Error = CanonicalError;
    type SerializeSeq = Sequence<'w, 'o>;
    type SerializeTuple = Sequence<'w, 'o>;
    type SerializeTupleStruct = Impossible<(), CanonicalError>;
    type SerializeTupleVariant = Impossible<(), CanonicalError>;
    type SerializeMap = Object<'w, 'o>;
    type SerializeStruct = Struct<'w, 'o>;
    type SerializeStructVariant = Impossible<(), CanonicalError>;

    fn serialize_bool(self, v: bool) -> Result<(), CanonicalError> {
        self.out.extend_from_slice(if v { b"true" } else { b"false" });
        Ok(())
    }
    fn serialize_i8(self, v: i8) -> Result<(), CanonicalError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<(), CanonicalError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<(), CanonicalError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<(), CanonicalError> {
        self.integer(v.unsigned_abs(), v < 0)
    }
    fn serialize_u8(self, v: u8) -> Result<(), CanonicalError> {
        self.integer(v.into(), false)
    }
    fn serialize_u16(self, v: u16) -> Result<(), CanonicalError> {
        self.integer(v.into(), false)
    }
    fn serialize_u32(self, v: u32) -> Result<(), CanonicalError> {
        self.integer(v.into(), false)
    }
    fn serialize_u64(self, v: u64) -> Result<(), CanonicalError> {
        self.integer(v, false)
    }
    fn serialize_f32(self, _: f32) -> Result<(), CanonicalError> {
        Err(CanonicalError::new(Reason::Float))
    }
    fn serialize_f64(self, _: f64) -> Result<(), CanonicalError> {
        Err(CanonicalError::new(Reason::Float))
    }
    fn serialize_char(self, v: char) -> Result<(), CanonicalError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<(), CanonicalError> {
        write_string(self.out, v);
        Ok(())
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), CanonicalError> {
        unsupported("a byte string")
    }
    fn serialize_none(self) -> Result<(), CanonicalError> {
        Err(CanonicalError::new(Reason::Null))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), CanonicalError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), CanonicalError> {
        Err(CanonicalError::new(Reason::Null))
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), CanonicalError> {
        Err(CanonicalError::new(Reason::Null))
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), CanonicalError> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), CanonicalError> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), CanonicalError> {
        let mut object = self.serialize_map(Some(1))?;
        object.key(variant)?;
        object.value(value)?;
        object.end()
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Sequence<'w, 'o>, CanonicalError> {
        self.enter(b'[')?;
        Ok(Sequence { writer: self, first: true })
    }
    fn serialize_tuple(self, len: usize) -> Result<Sequence<'w, 'o>, CanonicalError> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, CanonicalError> {
        unsupported("a tuple struct")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, CanonicalError> {
        unsupported("a tuple variant")
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Object<'w, 'o>, CanonicalError> {
        self.enter(b'{')?;
        let (base, start) = (self.entries.len(), self.out.len());
        Ok(Object { writer: self, base, start, key_start: start })
    }
    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Struct<'w, 'o>, CanonicalError> {
        match name {
            NUMBER => Ok(Struct::Number(self)),
            name if name.starts_with(RESERVED) => unsupported("raw JSON"),
            _ => self.serialize_map(Some(len)).map(Struct::Object),
        }
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, CanonicalError> {
        unsupported("a struct variant")
    }
}

impl ser::SerializeSeq for Sequence<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), CanonicalError> {
        if !std::mem::take(&mut self.first) {
            self.writer.out.push(b',');
        }
        v.serialize(&mut *self.writer)
    }
    fn end(self) -> Result<(), CanonicalError> {
        self.writer.leave(b']');
        Ok(())
    }
}

impl ser::SerializeTuple for Sequence<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), CanonicalError> {
        ser::SerializeSeq::serialize_element(self, v)
    }
    fn end(self) -> Result<(), CanonicalError> {
        ser::SerializeSeq::end(self)
    }
}

impl ser::SerializeMap for Object<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), CanonicalError> {
        key.serialize(TextOnly(|key: &str| self.key(key)))
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), CanonicalError> {
        self.value(value)
    }
    fn end(self) -> Result<(), CanonicalError> {
        Object::end(self)
    }
}

impl ser::SerializeStruct for Struct<'_, '_> {
    type Ok = ();
    type Error = CanonicalError;
    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), CanonicalError> {
        match self {
            Self::Object(object) => {
                object.key(key)?;
                object.value(value)
            }
            Self::Number(writer) => value.serialize(TextOnly(|number: &str| {
                let digits = number.strip_prefix('-').unwrap_or(number);
                let decimal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                if !decimal || number == "-0" {
                    return Err(CanonicalError::new(Reason::Float));
                }
                let magnitude = digits.parse().unwrap_or(u64::MAX);
                writer.integer(magnitude, digits.len() < number.len())
            })),
        }
    }
    fn end(self) -> Result<(), CanonicalError> {
        match self {
            Self::Object(object) => object.end(),
            Self::Number(_) => Ok(()),
        }
    }
}
